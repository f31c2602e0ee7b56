"""The runtimes that exported files run in, behind one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from partglee.export.card import KEY, Card
from partglee.export.extras import needed
from partglee.export.graph import OUTPUTS

Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """An opened file."""

    card: Card

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Inputs by name -> outputs by name."""
        ...


class OnnxSession:
    """onnxruntime on the CPU.

    Args:
        threads: None = as many as onnxruntime takes by itself.
    """

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        onnxruntime = needed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which have no common one
            raise _damaged(file, error) from error
        self.card = Card.from_json(self.session.get_modelmeta().custom_metadata_map.get(KEY), str(file))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return dict(zip(OUTPUTS, self.session.run(list(OUTPUTS), dict(inputs)), strict=True))


class OpenVinoSession:
    """OpenVINO on the CPU, in float32."""

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        openvino = needed("openvino")
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            model = core.read_model(str(file))
            self.compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise _damaged(file, error) from error
        told = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
        self.card = Card.from_json(told, str(file))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = self.compiled(dict(inputs))
        return {name: np.array(found[name]) for name in OUTPUTS}


class ProgramSession:
    """A `.pt2` program in this process's torch."""

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        told = {KEY: ""}
        try:
            self.module = torch.export.load(str(file), extra_files=told).module()
        except Exception as error:  # of zip, of JSON, of torch
            raise _damaged(file, error) from error
        self.card = Card.from_json(told[KEY], str(file))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            found = self.module(
                **{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
            )
        return {name: value.numpy() for name, value in found.items()}


_SESSIONS: Mapping[str, Callable[..., Session]] = {
    ".onnx": OnnxSession,
    ".xml": OpenVinoSession,
    ".pt2": ProgramSession,
}


def open_session(file: str | Path, *, threads: int | None = None) -> Session:
    """The runtime for a file, by its ending.

    Raises:
        ValueError: for a file that is not there, of another ending, damaged, or without the runtime.
    """
    path = Path(file)
    if path.suffix not in _SESSIONS:
        raise ValueError(f"{path} is no exported graph; expected a file that ends in {', '.join(_SESSIONS)}")
    if not path.is_file():
        raise ValueError(f"no file {path}; `partglee export CHECKPOINT {path.name} --format ...` writes one")
    return _SESSIONS[path.suffix](path, threads=threads)


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} cannot be opened: {str(error).strip().splitlines()[0] if str(error) else error!r}; export it again"
    )
