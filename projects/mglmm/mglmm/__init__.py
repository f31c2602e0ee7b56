"""MGLMM (arXiv 2409.13407): images described in sentences whose phrases have masks, on partglee and transformers.

>>> model = mglmm.SegCap.from_pretrained("output/mglmm_toy/model_final.safetensors")  # doctest: +SKIP
>>> answer = model("photo.jpg", "Describe the car in detail, with masks.")  # doctest: +SKIP

Importing this makes the recipe `mglmm` and toy scenes with captions known to every command of partglee, and files of
USCDF to `partglee data check`. The model needs the extra `model`, which is asked for when one is built.
"""

from mglmm.answer import Answer, Phrase
from mglmm.config import build_model, list_configs, load_config
from mglmm.model import MGLMM
from mglmm.plugin import register
from mglmm.segcap import Dialogue, SegCap

register()

__all__ = ["MGLMM", "Answer", "Dialogue", "Phrase", "SegCap", "build_model", "list_configs", "load_config"]
