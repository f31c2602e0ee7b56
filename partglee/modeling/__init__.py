"""The model, stage by stage."""

from partglee.modeling.build import build_backbone, build_model, build_text_encoder
from partglee.modeling.partglee import PartGLEE

__all__ = ["PartGLEE", "build_backbone", "build_model", "build_text_encoder"]
