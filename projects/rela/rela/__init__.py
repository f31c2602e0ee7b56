"""ReLA (GRES, CVPR 2023, arXiv 2306.00968): segmentation of anything, any number of things or nothing by a sentence.

>>> predictor = rela.Predictor.from_pretrained("rela_swint.safetensors")  # doctest: +SKIP
>>> answers = predictor("photo.jpg", ["the two dogs", "a zebra"])  # doctest: +SKIP

Importing this makes the recipe `rela` known to every command of partglee.
"""

from rela.answer import Answer
from rela.config import build_model, list_configs, load_config
from rela.model import ReLA
from rela.predictor import AnswerOptions, Predictor
from rela.recipe import RELA

__all__ = [
    "RELA",
    "Answer",
    "AnswerOptions",
    "Predictor",
    "ReLA",
    "build_model",
    "list_configs",
    "load_config",
]
