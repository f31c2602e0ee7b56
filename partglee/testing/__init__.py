"""Test aids that ship: name tables, tiny models, filled weights, toy scenes."""

from partglee.ops.native import use_cpu_instruction_set
from partglee.testing.tiny import fill_weights, tiny_model, tiny_predictor, write_name_table
from partglee.testing.toy import TOY_VOCABULARY, ToyRecords, register_toy, write_toy_dataset
from partglee.testing.toy_referring import referring_scene, register_toy_referring
from partglee.testing.toy_scene import toy_scene

__all__ = [
    "TOY_VOCABULARY",
    "ToyRecords",
    "fill_weights",
    "referring_scene",
    "register_toy",
    "register_toy_referring",
    "tiny_model",
    "tiny_predictor",
    "toy_scene",
    "use_cpu_instruction_set",
    "write_name_table",
    "write_toy_dataset",
]
