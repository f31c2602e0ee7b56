"""The base of every evaluator: reset, process, evaluate; gathering across processes; printing.

Results are a flat dict `{"<group>/<metric>": number}`. Rates are percentages (0 to 100); keys that end in a count
(`num_...`, `issues/...`) are counts; NaN means "not defined on this data" (no annotated instance) and is
printed as `-`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from partglee.basics.processes import gather
from partglee.evaluation.issues import InputIssues

Results = dict[str, float]


class Evaluator(ABC):
    """Scores predictions against annotations.

    Usage: `reset()`, `process(...)` for each image, `evaluate()`. Each process of a distributed run processes its own
    share; `evaluate()` must be called by all of them and returns the results on rank 0 and an empty dict elsewhere.

    Args:
        strict: bad predictions raise (`PredictionError`); otherwise they are left out and counted.
    """

    name = "evaluator"

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.issues = InputIssues(strict=strict)

    def reset(self) -> None:
        """Forget everything that was processed."""
        self.issues = InputIssues(strict=self.strict)

    @abstractmethod
    def state(self) -> Any:
        """What this process collected; must be picklable."""

    @abstractmethod
    def compute(self, states: list[Any]) -> Results:
        """Results from the states of all processes (rank order)."""

    def metric_names(self) -> tuple[str, ...]:
        """The keys of the results, from a score of nothing."""
        return tuple(self.compute([self.state()]))

    def evaluate(self) -> Results:
        """Gather, compute, warn about what was left out."""
        gathered = gather((self.state(), self.issues))
        if not gathered:
            return {}
        merged = InputIssues(strict=self.strict)
        for _, issues in gathered:
            merged.merge(issues)
        own, self.issues = self.issues, merged
        try:
            results = self.compute([state for state, _ in gathered])
            merged.warn()
        finally:
            self.issues = own
        return {**results, **merged.as_results()}

    def format(self, results: Mapping[str, float]) -> str:
        """The results as a table, see `format_table`."""
        return format_table(results, title=self.name)


def format_table(results: Mapping[str, float], *, title: str = "") -> str:
    """A table with one row for each group ("bbox", "segm", ...) and one column for each metric.

    Groups with the same columns share one table; groups of more than fourteen metrics are listed one to a line.
    """
    groups: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        group, _, metric = key.rpartition("/")
        groups.setdefault(group, {})[metric] = value
    lines = [title] if title else []
    shown: tuple[str, ...] = ()
    for group, row in groups.items():
        if len(row) > 14:
            width = max(map(len, row))
            lines += [group or "results", *(f"  {metric:<{width}} {_number(row[metric]):>10}" for metric in row)]
            shown = ()
            continue
        widths = [max(len(metric), 8) for metric in row]
        if tuple(row) != shown:
            lines.append(" ".join([f"{'':<24}", *(f"{m:>{w}}" for m, w in zip(row, widths, strict=True))]))
            shown = tuple(row)
        lines.append(
            " ".join([f"{group:<24}", *(f"{_number(v):>{w}}" for v, w in zip(row.values(), widths, strict=True))])
        )
    return "\n".join(lines)


def _number(value: float) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "-"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) > 100 else f"{value:.3f}"


def harmonic_mean(first: float, second: float) -> float:
    """2ab / (a + b); 0 when both are 0, NaN when one is NaN."""
    return 2 * first * second / (first + second) if first + second else 0.0
