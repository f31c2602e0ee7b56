"""Weights: read, write, load with a report, convert from upstream. Works on modules and dicts; imports no model."""

from partglee.checkpoint.convert import ConversionReport, apply_rules, convert_checkpoint, convert_state_dict
from partglee.checkpoint.detectron2 import convert_trained, read_detectron2_resnet
from partglee.checkpoint.files import CONFIG_NAME, read_metadata, read_weights, write_weights
from partglee.checkpoint.load import LoadReport, load_weights

__all__ = [
    "CONFIG_NAME",
    "ConversionReport",
    "LoadReport",
    "apply_rules",
    "convert_checkpoint",
    "convert_state_dict",
    "convert_trained",
    "load_weights",
    "read_detectron2_resnet",
    "read_metadata",
    "read_weights",
    "write_weights",
]
