"""Data sets, and the vocabularies that ship with the library."""

from partglee.data.catalog import DataSets, get_dataset, list_datasets, register
from partglee.data.records import Expression, ImageRecord, Instance, Records
from partglee.data.spec import DatasetSpec, datasets_root

__all__ = [
    "DataSets",
    "DatasetSpec",
    "Expression",
    "ImageRecord",
    "Instance",
    "Records",
    "datasets_root",
    "get_dataset",
    "list_datasets",
    "register",
]
