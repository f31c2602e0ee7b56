"""Building blocks without knowledge of the task."""

from partglee.layers.attention import MultiheadAttention
from partglee.layers.conv import ConvNorm
from partglee.layers.functional import at_least_float32, inverse_sigmoid, pixel_centres
from partglee.layers.mlp import MLP, FeedForward
from partglee.layers.ms_deform_attn import MSDeformAttn
from partglee.layers.position import sine_position_boxes, sine_position_map

__all__ = [
    "MLP",
    "ConvNorm",
    "FeedForward",
    "MSDeformAttn",
    "MultiheadAttention",
    "at_least_float32",
    "inverse_sigmoid",
    "pixel_centres",
    "sine_position_boxes",
    "sine_position_map",
]
