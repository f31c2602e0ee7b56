"""The CUDA operator beside the classic kernel, plain `grid_sample`, and `deformops` where it is installed.

    python tools/benchmark_ops_cuda.py
    python tools/benchmark_ops_cuda.py --workloads enc4-b1 --rounds 20 --json out.json

Every candidate is checked on fresh inputs of each round against float64 on the processor. Times are of CUDA events,
medians of rounds in turns; the table gives ratios against the classic kernel in the same type.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark_model import commit_here
from benchmark_ops import WORKLOADS, Inputs, make_inputs, plain_grid_sample
from torch import Tensor

from partglee.basics.arguments import ArgumentParser
from partglee.ops import ms_deform_attn, native, use_ops

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 5e-3}  # of the largest value
Operator = Callable[[Tensor, Inputs], Tensor]  # values of one type, and the rest


def ours(value: Tensor, given: Inputs) -> Tensor:
    with use_ops("native"):
        return ms_deform_attn(value, given.shapes, None, given.locations, given.weights)


def yardstick(value: Tensor, given: Inputs) -> Tensor:
    found = plain_grid_sample(value.float(), given.shapes, None, given.locations, given.weights)
    return found.to(value.dtype)  # half locations are pixels off


class _Classic(torch.autograd.Function):
    """The kernel of Deformable DETR's kind that this library was measured against."""

    @staticmethod
    def forward(ctx, value, shapes, starts, locations, weights):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(value, shapes, starts, locations, weights)
        return native.OPERATORS.ms_deform_attn_classic(value, shapes, starts, locations, weights)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        found = native.OPERATORS.ms_deform_attn_classic_backward(grad.contiguous(), *ctx.saved_tensors)
        return found[0], None, None, found[1], found[2]


def levels(given: Inputs) -> tuple[Tensor, Tensor]:
    """(L, 2) sizes and (L,) first rows, on the device."""
    sizes = torch.tensor(given.shapes, device=given.value.device)
    areas = sizes.prod(1)
    return sizes, areas.cumsum(0) - areas


def classic(value: Tensor, given: Inputs) -> Tensor:
    found: Tensor = _Classic.apply(value.float(), *levels(given), given.locations, given.weights)
    return found.to(value.dtype)  # it knows float32 alone


def deformops() -> dict[str, Operator]:
    """Its operator, Triton's or CUDA's, whichever the installed version offers; nothing without it."""
    try:
        package = importlib.import_module("deformops")
    except ImportError:
        return {}
    found: dict[str, Operator] = {}
    for name in ("ms_deform_attn", "multi_scale_deformable_attention", "deformable_attention"):
        if callable(function := getattr(package, name, None)):
            found[f"deformops.{name}"] = lambda value, given, call=function: call(
                value, *levels(given), given.locations.to(value.dtype), given.weights.to(value.dtype)
            )
    if not found:
        print(f"deformops {getattr(package, '__version__', '?')} is installed; none of its names is known here")
    return found


def error(operator: Operator, given: Inputs, kind: torch.dtype) -> float:
    """Largest difference from float64 on the processor, relative to the largest value."""
    host = Inputs(*(part.double().cpu() if isinstance(part, Tensor) else part for part in given))
    wanted = plain_grid_sample(host.value, host.shapes, None, host.locations, host.weights)
    found = operator(given.value.to(kind), given).double().cpu()
    return float((found - wanted).abs().max() / wanted.abs().max())


def timed(operator: Operator, given: Inputs, kind: torch.dtype, *, backward: bool, calls: int) -> float:
    """Milliseconds of one call."""
    value = given.value.to(kind).requires_grad_(backward)
    some = given._replace(
        locations=given.locations.detach().requires_grad_(backward),
        weights=given.weights.detach().requires_grad_(backward),
    )
    gradient = torch.randn_like(operator(value, some))
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        out = operator(value, some)
        if backward:
            torch.autograd.grad(out, (value, some.locations, some.weights), gradient)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / calls


def main() -> None:
    """Print the tables."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=tuple(WORKLOADS), default=["enc4-b1", "enc4-b2", "dec300-b1"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="calls of a sample")
    parser.add_argument("--json", type=Path, help="write everything here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() or not native.CUDA.loaded:
        parser.error(f"this needs a GPU and the CUDA library ({native.CUDA.problem or 'no GPU was found'})")
    known: dict[str, Operator] = {"classic": classic, "ours": ours, "grid_sample": yardstick, **deformops()}
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}, Python {platform.python_version()}, "
          f"commit {commit_here()}; ms, median of {arguments.rounds} rounds, (max - min) / median")  # fmt: skip
    kept: dict[str, list[float]] = defaultdict(list)
    for work in arguments.workloads:
        for kind_name, kind in TYPES.items():
            usable = dict(known)
            for backward in (False, True):
                samples: dict[str, list[float]] = defaultdict(list)
                for seed in range(arguments.rounds + 1):
                    given = make_inputs(WORKLOADS[work], seed)
                    given = Inputs(*(part.cuda() if isinstance(part, Tensor) else part for part in given))
                    for name, operator in list(usable.items()):
                        try:
                            off = error(operator, given, kind)
                            sample = timed(operator, given, kind, backward=backward, calls=arguments.calls)
                        except (RuntimeError, TypeError, ValueError) as problem:
                            print(f"{work} {kind_name} {name}: left out: {str(problem).splitlines()[0]}")
                            del usable[name]
                            continue
                        if off > TOLERANCE[kind_name]:
                            print(f"{work} {kind_name} {name}: WRONG by {off:.1e} of the largest value, seed {seed}")
                        if seed:  # the first warms up
                            samples[name].append(sample)
                base = statistics.median(samples["classic"]) if samples.get("classic") else float("nan")
                for name, values in samples.items():
                    middle = statistics.median(values)
                    spread = (max(values) - min(values)) / middle
                    what = "fwd+bwd" if backward else "fwd"
                    print(f"{work:<10} {what:<8} {kind_name:<9} {name:<28} {middle:9.4f} ({spread:4.0%}) "
                          f"{base / middle:6.2f}x")  # fmt: skip
                    kept[f"{work} {what} {kind_name} {name}"] = values
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"hardware": torch.cuda.get_device_name(), "commit": commit_here(), **kept})
        )


if __name__ == "__main__":
    main()
