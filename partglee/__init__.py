"""Objects and their parts, found in images by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# The public names and where they live; imported on first use, so that `import partglee` stays fast.
_PUBLIC = {
    "Prediction": "partglee.structures",
    "Predictor": "partglee.engine",
    "Vocabulary": "partglee.structures",
    "build_model": "partglee.modeling",
    "get_cfg": "partglee.config",
    "list_models": "partglee.config",
}

__all__ = ["Prediction", "Predictor", "Vocabulary", "__version__", "build_model", "get_cfg", "list_models"]

if TYPE_CHECKING:
    from partglee.config import get_cfg, list_models
    from partglee.engine import Predictor
    from partglee.modeling import build_model
    from partglee.structures import Prediction, Vocabulary


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'partglee' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
