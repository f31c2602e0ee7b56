"""How exactly a network computes: the precision by name, and what a machine is quick at."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from fvcore.common.config import CfgNode as CN

# `mixed`: bfloat16 but for the backbone, whose rounding costs most of the accuracy (docs/benchmarks.md).
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16, "mixed": torch.bfloat16}


def autocast(device: torch.device, precision: str, *, backbone: bool = False) -> AbstractContextManager[Any]:
    """The context to run a network in: `float32`, or `bfloat16` / `float16` / `mixed` where that is enough.

    Args:
        backbone: it is the backbone that runs.

    Raises:
        ValueError: for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    dtype = None if backbone and precision == "mixed" else PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype) if dtype else nullcontext()


def usable_precision(precision: str, device: torch.device) -> str:
    """`auto` is bfloat16 on a GPU and `mixed` on a processor that multiply in bfloat16, otherwise float32, which is
    printed; others stay.

    A processor that only emulates bfloat16 takes many times as long in it as in float32. On one that does not, a
    backbone gains little by it.

    Raises:
        ValueError: for another precision.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be auto or one of {', '.join(PRECISIONS)}, got {precision!r}")
        return precision
    why = has_bfloat16(device)
    chosen = ("mixed" if device.type == "cpu" else "bfloat16") if why else "float32"
    print(f"precision: {chosen} ({why or 'nothing multiplies in bfloat16 here'})")
    return chosen


def has_bfloat16(device: torch.device) -> str:
    """What multiplies in bfloat16 on a device; "" for nothing."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    if device.type != "cpu":
        return ""
    for name, found in (("AMX", "_is_amx_tile_supported"), ("AVX-512 BF16", "_is_avx512_bf16_supported")):
        if getattr(torch.cpu, found, bool)():
            return name
    return ""


def precision_of(cfg: CN) -> str:
    """What `SOLVER.PRECISION` is called here."""
    return {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[cfg.SOLVER.PRECISION]
