"""Data sets, and the vocabularies that ship with the library."""

from partglee.data.catalog import DatasetSpec, datasets_root, get_dataset, list_datasets, register
from partglee.data.records import ImageRecord, Instance, Records

__all__ = [
    "DatasetSpec",
    "ImageRecord",
    "Instance",
    "Records",
    "datasets_root",
    "get_dataset",
    "list_datasets",
    "register",
]
