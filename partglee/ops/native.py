"""The compiled operators: where their libraries lie, whether they loaded, what PyTorch is told about them.

This folder is the ``ops`` of two packages, partglee and partglee_msda (projects/msda). Each has libraries of its own,
whose operators PyTorch knows under the package's name, so that both may be imported.

There are two libraries because a PyTorch without CUDA cannot load the second one. They use PyTorch's stable ABI and no
Python symbols, so one file serves every Python from 3.10 and every PyTorch from 2.10.
"""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

PACKAGE = __name__.partition(".")[0]
LIBRARY_DIR = Path(__file__).absolute().parent.parent / "_lib"  # links stay: one of the two has this folder by a link
BUILD_HINT = (
    f"build it with `make ops` or install {PACKAGE} again (a C++ compiler is needed, for CUDA also nvcc), "
    "or set PARTGLEE_OPS=auto to run without it"
)
NOT_BUILT = "not built"
# What the libraries hold, as PyTorch hands it out.
OPERATORS = getattr(torch.ops, PACKAGE)


class NativeLibrary(NamedTuple):
    """One compiled library. ``problem`` is empty where it is loaded."""

    path: Path
    problem: str

    @property
    def loaded(self) -> bool:
        return not self.problem


def load_library(name: str) -> NativeLibrary:
    """Load ``name`` from beside the package and keep the reason if that fails.

    A library that is not there is normal. One that is there and does not load is worth a warning: most often it was
    built against a PyTorch that has been replaced since.
    """
    path = LIBRARY_DIR / name
    if not path.is_file():
        return NativeLibrary(path, NOT_BUILT)
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        problem = f"does not load: {error}"
        warnings.warn(f"{PACKAGE}: {path} {problem}; {BUILD_HINT}", RuntimeWarning, stacklevel=2)
        return NativeLibrary(path, problem)
    return NativeLibrary(path, "")


@cache
def _c_library() -> ctypes.CDLL:
    """Opened once: each CDLL makes a class, which only Python's garbage collector takes away."""
    return ctypes.CDLL(str(CPU.path))


def cpu_instruction_set() -> str | None:
    """The instruction set that the CPU kernels use on this machine: avx512, avx2 or baseline."""
    if not CPU.loaded:
        return None
    function = _c_library().partglee_cpu_instruction_set
    function.restype = ctypes.c_char_p
    name: bytes = function()
    return name.decode()


def use_cpu_instruction_set(name: str) -> bool:
    """Choose another instruction set (tests, benchmarks); False where library or processor lack it."""
    if not CPU.loaded:
        return False
    return bool(_c_library().partglee_use_cpu_instruction_set(name.encode()))


def library_for(device_type: str) -> NativeLibrary | None:
    """The library with kernels for a device type; None where there are none at all."""
    return {"cpu": CPU, "cuda": CUDA}.get(device_type)


def _fake_forward(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


def _fake_backward(
    grad: Tensor, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape),
        locations.new_empty(locations.shape),
        weights.new_empty(weights.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, Tensor, Tensor]:
    value, shapes, starts, locations, weights = ctx.saved_tensors
    if grad.device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        _alert_not_deterministic()
    # `.sum().backward()` sends an expanded tensor; kernels want memory they can walk.
    grads = OPERATORS.ms_deform_attn_backward(grad.contiguous(), value, shapes, starts, locations, weights)
    return grads[0], None, None, grads[1], grads[2]


def _alert_not_deterministic() -> None:
    """What PyTorch's own operators do: the CUDA backward adds with atomics, in no fixed order."""
    message = (
        "ms_deform_attn_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. Use warn_only=True, switch determinism off for this operation, "
        "or train on CPU, where it is deterministic."
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, UserWarning, stacklevel=3)


def _double_backward(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "ms_deform_attn: double backward is not supported by the compiled operator; set PARTGLEE_OPS=reference "
        f"(or {PACKAGE}.ops.use_ops('reference')), whose second derivative PyTorch works out"
    )


def _register() -> None:
    forward, backward = f"{PACKAGE}::ms_deform_attn", f"{PACKAGE}::ms_deform_attn_backward"
    torch.library.register_fake(forward, _fake_forward)
    torch.library.register_fake(backward, _fake_backward)
    torch.library.register_autograd(forward, _backward, setup_context=_save)
    # Without this line a second derivative would be zero, with a warning at most.
    torch.library.register_autograd(backward, _double_backward)


CPU = load_library("libpartglee_ops.so")
# The signatures are in the first library, so the second is of no use without it.
CUDA = (
    load_library("libpartglee_ops_cuda.so")
    if CPU.loaded and torch.version.cuda is not None
    else NativeLibrary(
        LIBRARY_DIR / "libpartglee_ops_cuda.so",
        "this PyTorch has no CUDA" if CPU.loaded else "needs the CPU library, which is missing",
    )
)
if CPU.loaded:
    _register()
