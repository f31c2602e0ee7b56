"""Building blocks without knowledge of the task."""

from partglee.layers.blocks import MLP, ConvNorm, FeedForward, MultiheadAttention, SeparableConvNorm
from partglee.layers.ms_deform_attn import MSDeformAttn
from partglee.layers.position import (
    at_least_float32,
    inverse_sigmoid,
    pixel_centres,
    sine_position_boxes,
    sine_position_map,
)

__all__ = [
    "MLP",
    "ConvNorm",
    "FeedForward",
    "MSDeformAttn",
    "MultiheadAttention",
    "SeparableConvNorm",
    "at_least_float32",
    "inverse_sigmoid",
    "pixel_centres",
    "sine_position_boxes",
    "sine_position_map",
]
