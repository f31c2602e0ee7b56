"""Libraries that the model asks for and the metrics do not: imported late, with one message where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

_FOR = {"transformers": "language and mask models", "peft": "low-rank adapters", "tokenizers": "tokenizers of your own"}


def library(name: str) -> Any:
    """The module `transformers`, `peft` or `tokenizers`, typed as nothing in particular.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{_FOR.get(name, 'this')} need {name} ({error}): pip install 'partglee-mglmm[model]'"
        ) from error
