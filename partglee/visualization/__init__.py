"""Predictions as pictures."""

from partglee.visualization.draw import draw_prediction

__all__ = ["draw_prediction"]
