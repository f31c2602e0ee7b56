"""The model, stage by stage."""

from partglee.modeling.build import build_backbone, build_model
from partglee.modeling.partglee import PartGLEE
from partglee.text import build_text_encoder

__all__ = ["PartGLEE", "build_backbone", "build_model", "build_text_encoder"]
