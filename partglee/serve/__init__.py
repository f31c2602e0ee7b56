"""A model behind HTTP: one process, one model, many clients. `docs/serving.md` says how; the extra `serve` has its
packages."""

from partglee.serve.app import create_app
from partglee.serve.limits import Limits
from partglee.serve.run import serve

__all__ = ["Limits", "create_app", "serve"]
