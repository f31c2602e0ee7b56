"""Pure functions on tensors. Nothing here imports the rest of the package."""

from .dispatch import missing, status, use_ops
from .ms_deform_attn import ms_deform_attn

__all__ = ["missing", "ms_deform_attn", "status", "use_ops"]
