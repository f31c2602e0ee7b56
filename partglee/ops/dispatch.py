"""Which way multi-scale deformable attention is computed: the one place that decides, and the switch that forces it.

``PARTGLEE_OPS`` (read once, at import) and ``use_ops`` take

- ``auto``: the compiled operator where its library has kernels for the device, plain PyTorch otherwise;
- ``native``: the compiled operator, an error where it is missing;
- ``reference``: plain PyTorch through ``grid_sample``, the definition the others are tested against.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from . import native

MODES = ("auto", "native", "reference")
# Ways of computing; `use_ops` takes `embedding_bag` too, so that tests and benchmarks can force each of them.
BACKENDS = ("native", "embedding_bag", "grid_sample")


def _mode_from_environment() -> str:
    mode = os.environ.get("PARTGLEE_OPS", "") or "auto"
    if mode not in MODES:
        raise ValueError(f"PARTGLEE_OPS must be one of {', '.join(MODES)}, got {mode!r}; unset it for auto")
    return mode


_mode = _mode_from_environment()


@contextmanager
def use_ops(mode: str) -> Iterator[None]:
    """Force a way of computing inside a ``with`` block, for this process: a mode, or ``embedding_bag``.

    Raises:
        ValueError: another word.
    """
    global _mode
    if mode not in (*MODES, "embedding_bag"):
        raise ValueError(f"mode must be one of {', '.join(MODES)} or embedding_bag, got {mode!r}; use auto if unsure")
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


def choose(value: Tensor, *, sizes_known: bool) -> str:
    """One of ``BACKENDS`` for these values.

    Args:
        value: only device and type are looked at.
        sizes_known: whether the level sizes are known as integers without looking into a traced tensor.

    Raises:
        RuntimeError: ``native`` is asked for and there is no compiled operator for the device.
    """
    device = value.device.type
    if _mode == "reference":
        return "grid_sample"
    if _mode == "embedding_bag":
        return "embedding_bag"
    library = native.library_for(device)
    if _mode == "native":
        if library is None:
            raise RuntimeError(
                f"PARTGLEE_OPS=native, but there are no compiled operators for device type {device!r}; "
                "use PARTGLEE_OPS=auto, or a CPU or CUDA tensor"
            )
        if not library.loaded:
            raise RuntimeError(
                f"PARTGLEE_OPS=native, but the compiled operators for {device} are missing: "
                f"{library.path.name}: {library.problem}; {native.BUILD_HINT}"
            )
        return "native"
    # ONNX has no such operator; it has GridSample.
    if torch.onnx.is_in_onnx_export():
        return "grid_sample" if sizes_known else "embedding_bag"
    if library is not None and library.loaded:
        return "native"
    # On CPU it is several times faster forward, and 1.3 to 1.9 times with gradients (docs/benchmarks.md).
    if device == "cpu":
        return "embedding_bag"
    return "grid_sample" if sizes_known else "embedding_bag"


def native_masks(logits: Tensor) -> bool:
    """Whether these mask logits are enlarged by the compiled operator: on a processor, where nobody asks for gradients
    or draws a graph."""
    return _eager("enlarge_masks", logits) and not (logits.requires_grad and torch.is_grad_enabled())


def native_sampling_points(offsets: Tensor, logits: Tensor, reference: Tensor) -> bool:
    """Whether places and weights of samples come from the compiled operator: float32 on a processor, no graph drawn."""
    return _eager("sampling_points", offsets) and all(
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in (offsets, logits, reference)
    )


def _eager(operator: str, tensor: Tensor) -> bool:
    return (
        _mode in ("auto", "native")
        and tensor.device.type == "cpu"
        and native.CPU.loaded
        and hasattr(native.OPERATORS, operator)  # a library that was built earlier lacks it
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )


def native_run_lengths() -> bool:
    """Whether compressed run lengths are read by the compiled operators, which an earlier library lacks."""
    return _mode in ("auto", "native") and native.CPU.loaded and hasattr(native.OPERATORS, "run_length_ious")


def missing(device: str) -> str:
    """A line for users where PyTorch does the work of operators that were not built; "" where nothing is to be told.

    An installation into an environment without PyTorch cannot build them, and pip hides what it says of that.
    """
    library = native.library_for(device)
    if _mode != "auto" or library is None or library.problem != native.NOT_BUILT:
        return ""
    needed = "a C++ compiler" if device == "cpu" else "nvcc"
    return (
        f"no compiled operators for {device} here, so PyTorch does their work, more slowly; where {needed} is, "
        "`python setup.py build_ops` builds them in a checkout, "
        f"or `pip install --no-build-isolation` of {native.PACKAGE} again"
    )


def status() -> dict[str, str]:
    """What is there and what would be used, as short lines for ``partglee info``."""
    report = {"mode": _mode}
    for device, library in (("cpu", native.CPU), ("cuda", native.CUDA)):
        report[f"{device} library"] = str(library.path) if library.loaded else library.problem
        if library.loaded or _mode == "reference":
            chosen = "grid_sample" if _mode == "reference" else "native"
        elif _mode == "native":
            chosen = f"error; {native.BUILD_HINT}"
        elif device == "cpu":
            chosen = "embedding_bag"
        else:
            chosen = "grid_sample"
        report[f"{device} path"] = chosen
    report["cpu instruction set"] = native.cpu_instruction_set() or "-"
    return report
