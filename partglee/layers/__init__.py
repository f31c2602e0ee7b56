"""Building blocks without knowledge of the task."""

from partglee.layers.attention import MultiheadAttention
from partglee.layers.conv import ConvNorm
from partglee.layers.functional import inverse_sigmoid
from partglee.layers.mlp import MLP, FeedForward
from partglee.layers.ms_deform_attn import MSDeformAttn
from partglee.layers.position import sine_position_boxes, sine_position_map

__all__ = [
    "MLP",
    "ConvNorm",
    "FeedForward",
    "MSDeformAttn",
    "MultiheadAttention",
    "inverse_sigmoid",
    "sine_position_boxes",
    "sine_position_map",
]
