"""The model, stage by stage, and what its output means in the pixels of an image."""

from partglee.modeling.build import build_backbone, build_model, build_pixel_decoder
from partglee.modeling.folding import fold_norms, ready_for_prediction
from partglee.modeling.frame import Frame
from partglee.modeling.fused_convolution import fuse_convolutions
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.part_maps import part_map
from partglee.modeling.partglee import PartGLEE
from partglee.modeling.photo_model import PhotoModel, SentenceModel
from partglee.modeling.postprocess import PostprocessOptions, postprocess
from partglee.text import build_text_encoder

__all__ = [
    "Frame",
    "MultiLabel",
    "PartGLEE",
    "PhotoModel",
    "PostprocessOptions",
    "SentenceModel",
    "build_backbone",
    "build_model",
    "build_pixel_decoder",
    "build_text_encoder",
    "fold_norms",
    "fuse_convolutions",
    "part_map",
    "postprocess",
    "ready_for_prediction",
]
