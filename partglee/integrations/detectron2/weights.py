"""Our weight files through detectron2's `DetectionCheckpointer`: names of the zoo are files, and all is filled or it
is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import NativePathHandler

from partglee.checkpoint import load_weights
from partglee.checkpoint.notes import is_note
from partglee.engine.weight_files import TABLE_KEY, find_weights, named_weights

SCHEME = "partglee://"


class ZooFiles(NativePathHandler):
    """`partglee://NAME`, and the bare NAME of weights that are there when the plug-in is imported, for `PathManager`.

    Other paths that begin like such a name are files as ever.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [SCHEME, *named_weights()]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        if path.startswith(SCHEME) or path in named_weights():
            return str(find_weights(path.removeprefix(SCHEME)))
        return str(super()._get_local_path(path, force=force, **kwargs))


def local_weights(name: str) -> Path:
    """The file of `MODEL.WEIGHTS`, whatever `PathManager` knows.

    Raises:
        ValueError: when there is none.
    """
    if not Path(name).suffix:
        return find_weights(name.removeprefix(SCHEME))
    try:
        file = Path(PathManager.get_local_path(name))
    except OSError as error:  # an address that detectron2 would fetch
        raise ValueError(f"MODEL.WEIGHTS {name} cannot be fetched ({error}); get the file and name it") from error
    if not file.is_file():
        raise ValueError(
            f"MODEL.WEIGHTS {name} does not exist; pass a file, or a name of the zoo such as partglee-tiny"
        )
    return file


def fill(model: Any, state: dict[str, Any]) -> list[str]:
    """Fill the model from a state dict, of ours or of the meta-architecture around it.

    Returns:
        Keys that the model has no place for.

    Raises:
        ValueError: when a weight stays unfilled, with what to do; the model is not changed then.
    """
    ours = {key.removeprefix("module.").removeprefix("model."): v for key, v in state.items() if not is_note(key)}
    report = load_weights(model, ours, ignore=[TABLE_KEY], verbose=False)
    return list(report.unexpected)
