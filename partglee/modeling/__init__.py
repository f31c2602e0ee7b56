"""The model, stage by stage, and what its output means in the pixels of an image."""

from partglee.modeling.build import build_backbone, build_model
from partglee.modeling.frame import Frame
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.part_maps import part_map
from partglee.modeling.partglee import PartGLEE
from partglee.modeling.postprocess import PostprocessOptions, postprocess
from partglee.text import build_text_encoder

__all__ = [
    "Frame",
    "MultiLabel",
    "PartGLEE",
    "PostprocessOptions",
    "build_backbone",
    "build_model",
    "build_text_encoder",
    "part_map",
    "postprocess",
]
