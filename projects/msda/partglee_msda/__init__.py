"""Multi-scale deformable attention, fast on CPU and CUDA, by itself or inside the models of transformers.

The operator is that of partglee, compiled under this package's own name: both may be imported by one process.
"""

from .ops import ms_deform_attn, status, use_ops
from .patching import Patch, patch, unpatch

__version__ = "0.1.0"
__all__ = ["Patch", "__version__", "ms_deform_attn", "patch", "status", "unpatch", "use_ops"]
