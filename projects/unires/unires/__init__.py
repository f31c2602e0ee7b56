"""UniRES (MRES, CVPR 2024, arXiv 2312.08007): segmentation of an object, or of a part of one, by a sentence.

>>> predictor = unires.Predictor.from_pretrained("unires_toy.safetensors")  # doctest: +SKIP
>>> answers = predictor("photo.jpg", ["left arm of the man in red", "the man in red"])  # doctest: +SKIP

Importing this makes the recipe `unires` known to every command of partglee.
"""

from unires.config import build_model, list_configs, load_config
from unires.model import UniRES
from unires.predictor import AnswerOptions, Predictor
from unires.recipe import UNIRES

__all__ = ["UNIRES", "AnswerOptions", "Predictor", "UniRES", "build_model", "list_configs", "load_config"]
