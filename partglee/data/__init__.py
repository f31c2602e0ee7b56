"""Data sets, and the vocabularies that ship with the library."""

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DataSets, get_dataset, list_datasets, register
from partglee.data.records import Expression, ImageRecord, Instance, Records
from partglee.data.spec import Counts, DatasetSpec, datasets_root, splits

__all__ = [
    "Counts",
    "DataSets",
    "DatasetSpec",
    "Expression",
    "ImageRecord",
    "Instance",
    "Records",
    "datasets_root",
    "get_dataset",
    "list_datasets",
    "read_coco",
    "register",
    "splits",
]
