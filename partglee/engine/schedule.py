"""The learning rate over a run, as a factor of each group's base rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fvcore.common.config import CfgNode as CN
from fvcore.common.param_scheduler import (
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)

Multiplier = Callable[[int], float]
"""Optimiser step (0 = the first) -> factor of the base rate."""


def build_schedule(cfg: CN) -> Multiplier:
    """Read the `SOLVER` section.

    Raises:
        ValueError: for an unknown schedule, or falls that are not in order or not inside the run.
    """
    s = cfg.SOLVER
    if s.SCHEDULE == "step":
        main = step_schedule(s.STEPS, gamma=s.GAMMA, max_iter=s.MAX_ITER)
    elif s.SCHEDULE == "cosine":
        main = CosineParamScheduler(1.0, s.FINAL_FACTOR)
    else:
        raise ValueError(f"SOLVER.SCHEDULE must be step or cosine, got {s.SCHEDULE!r}")
    return warm_up(main, max_iter=s.MAX_ITER, warmup_iters=s.WARMUP_ITERS, warmup_factor=s.WARMUP_FACTOR)


def step_schedule(steps: Sequence[int], *, gamma: float, max_iter: int) -> ParamScheduler:
    """1, times `gamma` from each of `steps` on. Falls at or after `max_iter` never come."""
    if list(steps) != sorted(set(steps)) or any(step < 1 for step in steps):
        raise ValueError(f"SOLVER.STEPS must rise and be at least 1, got {list(steps)}")
    inside = [step for step in steps if step < max_iter]
    if not inside:
        return ConstantParamScheduler(1.0)
    values = [gamma**i for i in range(len(inside) + 1)]
    return MultiStepParamScheduler(values, num_updates=max_iter, milestones=inside)


def warm_up(main: ParamScheduler, *, max_iter: int, warmup_iters: int, warmup_factor: float) -> Multiplier:
    """Rise in a line from `warmup_factor` to the main schedule over the first `warmup_iters` steps."""
    if max_iter < 1 or warmup_iters < 0:
        raise ValueError(f"expected at least one step and no negative warm-up, got {max_iter} and {warmup_iters}")
    rise = LinearParamScheduler(warmup_factor, 1.0)

    def multiplier(step: int) -> float:
        value = float(main(min(step, max_iter - 1) / max_iter))
        return value * float(rise(step / warmup_iters)) if step < warmup_iters else value

    return multiplier
