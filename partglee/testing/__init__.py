"""Test aids that ship: name tables, tiny models, filled weights."""

from partglee.testing.tiny import fill_weights, tiny_model, tiny_predictor, write_name_table

__all__ = ["fill_weights", "tiny_model", "tiny_predictor", "write_name_table"]
