"""Draw the learning curves of one or more runs: losses, and average precision where evaluations were logged.

`python tools/plot_training.py output/my_run/metrics.jsonl --output curves.png`; lines of several files are joined.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from partglee.basics.arguments import ArgumentParser

Curves = dict[str, list[tuple[int, float]]]


def read_curves(files: list[Path]) -> Curves:
    """Name -> (step, value), in order of the steps; of a step that was taken twice, the later entry counts."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
                step = int(entry["iteration"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file}, line {number} is no entry of a metrics.jsonl: {line[:60]!r}") from error
            for name, value in entry.items():
                if isinstance(value, (int, float)):
                    found[name][step] = float(value)
    return {name: sorted(points.items()) for name, points in found.items()}


def smooth(points: list[tuple[int, float]], span: int) -> list[tuple[int, float]]:
    """Mean over the last `span` entries."""
    values = [value for _, value in points]
    return [(step, sum(values[max(0, i + 1 - span) : i + 1]) / min(span, i + 1)) for i, (step, _) in enumerate(points)]


def draw(curves: Curves, output: Path, *, title: str, shown: list[str]) -> None:
    """One panel for each group of losses (object and part, or those of a project's model), one for the metrics in
    `shown` (suffixes of their names)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = {n: p for n, p in curves.items() if n.startswith("eval/") and any(n.endswith(s) for s in shown)}
    groups = sorted({name.split("/")[1] for name in curves if name.startswith("loss/") and name.count("/") > 1})
    count = len(groups) + bool(metrics)
    if not count:
        raise ValueError("nothing to draw: the files have no losses of a group, and none of the metrics asked for")
    figure, panels = pyplot.subplots(1, count, figsize=(5 * count, 3.6), squeeze=False)
    for panel, group in zip(panels[0], groups, strict=False):
        for name, points in sorted(curves.items()):
            if name.startswith(f"loss/{group}/") and "denoising" not in name:
                panel.plot(*zip(*smooth(points, 10), strict=True), label=name.split("/")[-1])
        panel.set(title=f"{group} losses, weighted, all layers", xlabel="step", yscale="log")
        panel.legend(fontsize=7)
    last = panels[0][-1]
    for name, points in sorted(metrics.items()):
        last.plot(*zip(*points, strict=True), marker="o", label=name.removeprefix("eval/"))
    if metrics:
        last.set(title="validation", xlabel="step", ylim=(0, 100))
        last.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    figure.suptitle(title)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


def main() -> None:
    """Read, draw, say where."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", nargs="+", type=Path, help="metrics.jsonl of a run")
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    parser.add_argument("--title", default="")
    parser.add_argument("--metric", action="append", default=[], help="metrics whose names end so (default: mask/AP50)")
    arguments = parser.parse_args()
    shown = arguments.metric or ["object/mask/AP50", "part/mask/AP50"]
    draw(read_curves(arguments.metrics), arguments.output, title=arguments.title, shown=shown)
    print(arguments.output)


if __name__ == "__main__":
    main()
