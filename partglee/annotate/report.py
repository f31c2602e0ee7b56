"""What a job made, on one page: counts, histograms, random samples, and what each filter dropped."""

from __future__ import annotations

import base64
import heapq
import html
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from partglee.annotate import masks
from partglee.annotate.export import samples_of
from partglee.annotate.job import Job
from partglee.annotate.sample import Region, Sample
from partglee.annotate.sources import pixels_of
from partglee.basics.files import whole_file

_BINS = 20
_BARS, _WORDS = 40, 80  # that are shown
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}"
    "td.n{text-align:right}figure{display:inline-block;margin:.4em;vertical-align:top;max-width:24em}"
    "figure img{max-width:24em;max-height:20em}figcaption{font-size:85%;color:#555}"
    ".bar{fill:#4a7ebb}text{font:11px system-ui,sans-serif}.cloud span{margin-right:.5em}"
)


@dataclass
class Statistics:
    """Sums over a job, of regions that count where nothing else is said. They grow with names, not with rows."""

    images: int = 0
    without_regions: int = 0
    regions: Counter[str] = field(default_factory=Counter)  # of each level
    expressions: dict[str, Counter[str]] = field(default_factory=lambda: {"object": Counter(), "part": Counter()})
    names: dict[str, Counter[str]] = field(default_factory=lambda: {"object": Counter(), "part": Counter()})
    words: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)  # words of a caption
    sizes: dict[str, Counter[int]] = field(default_factory=lambda: {"object": Counter(), "part": Counter()})
    scores: dict[str, Counter[int]] = field(default_factory=dict)  # histograms of [0, 1], dropped regions too
    dropped: Counter[str] = field(default_factory=Counter)  # by filter
    descriptions: int = 0

    def add(self, sample: Sample) -> None:
        """Count one image."""
        self.images += 1
        self.descriptions += len(sample.descriptions)
        self.without_regions += not any(not region.dropped for region in sample.regions)
        for region in sample.regions:
            for name, value in (("score", region.score), *region.scores.items()):
                if value is not None:
                    bins = self.scores.setdefault(name, Counter())
                    bins[min(max(int(value * _BINS), 0), _BINS - 1)] += 1
            if region.dropped:
                self.dropped[region.dropped.partition(":")[0]] += 1
            else:
                self._add(region, sample)

    def _add(self, region: Region, sample: Sample) -> None:
        level = region.level
        self.regions[level] += 1
        owner = sample.regions[region.parent].name if 0 <= region.parent < len(sample.regions) else ""
        category = f"{owner}:{region.name}" if level == "part" and owner else region.name
        self.names[level][category] += 1
        if region.caption:
            words = region.caption.lower().split()
            self.expressions[level][category] += 1
            self.lengths[len(words)] += 1
            self.words.update(words)
        height, width = sample.size or (1, 1)
        x0, y0, x1, y1 = region.box or (0.0, 0.0, 0.0, 0.0)
        area = float(masks.areas([region.mask])[0]) if region.mask else max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
        share = area / max(height * width, 1)
        self.sizes[level][max(-12, math.floor(math.log2(share))) if share > 0 else -12] += 1

    @property
    def mean_length(self) -> float:
        """Words of a caption."""
        count = sum(self.lengths.values())
        return sum(length * number for length, number in self.lengths.items()) / count if count else 0.0


def write_report(job: Job, target: Path, *, pictures: int = 12, seed: int = 0) -> Statistics:
    """Write the page; images are drawn where their files can still be read.

    Args:
        pictures: of random images, and of each filter's drops.
        seed: which ones.
    """
    statistics = Statistics()
    chosen = _Chosen(pictures, seed)
    for finished in job.markers():
        for sample in samples_of(job, finished.shard):
            statistics.add(sample)
            chosen.offer("", sample, finished.shard)
            for name in sorted({region.dropped.partition(":")[0] for region in sample.regions if region.dropped}):
                chosen.offer(name, sample, finished.shard)
    failures: Counter[tuple[str, str]] = Counter()
    for failure in job.failures():
        failures[failure.stage, failure.reason.partition(":")[0]] += 1
    page = "".join(_page(job, statistics, failures, chosen))
    with whole_file(target) as beside:
        beside.write_text(page, encoding="utf-8")
    return statistics


class _Chosen:
    """So many images of each kind, by chance, whatever their number and without keeping more."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.chance = count, np.random.default_rng(seed)
        self.kinds: dict[str, list[tuple[float, int, Sample, int]]] = {}
        self.offered = 0

    def offer(self, kind: str, sample: Sample, shard: int) -> None:
        self.offered += 1
        heap = self.kinds.setdefault(kind, [])
        entry = (float(self.chance.random()), self.offered, sample, shard)
        if len(heap) < self.count:
            heapq.heappush(heap, entry)
        elif self.count:
            heapq.heappushpop(heap, entry)

    def of(self, kind: str) -> list[tuple[Sample, int]]:
        """(image, its shard)."""
        return [entry[2:] for entry in sorted(self.kinds.get(kind, ()), key=lambda entry: entry[1])]


# -- the page --------------------------------------------------------------------------------------------------------


def _page(job: Job, statistics: Statistics, failures: Counter[tuple[str, str]], chosen: _Chosen) -> Iterator[str]:
    title = html.escape(f"{job.recipe.name}: {job.folder.name}")
    yield f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
    done = int(job.finished().sum())
    rows: list[tuple[str, Any]] = [
        ("images of the input", job.num_images), ("images in the tables", statistics.images),
        ("finished shards", f"{done} of {job.num_shards}"), ("failed images", sum(failures.values())),
        ("images without a region that counts", statistics.without_regions),
        ("objects", statistics.regions["object"]), ("parts", statistics.regions["part"]),
        ("object categories", len(statistics.names["object"])), ("part categories", len(statistics.names["part"])),
        ("expressions", sum(statistics.lengths.values())),
        ("words of an expression, mean", f"{statistics.mean_length:.2f}"),
        ("different words", len(statistics.words)), ("dense descriptions", statistics.descriptions),
        ("dropped by filters", sum(statistics.dropped.values())),
    ]  # fmt: skip
    yield _table(rows)
    if failures:
        yield "<h2>Failures</h2>" + _table([(f"{stage}: {why}", n) for (stage, why), n in failures.most_common()])
    for level in ("object", "part"):
        counts = statistics.expressions[level] or statistics.names[level]
        what = "Expressions" if statistics.expressions[level] else "Regions"
        if counts:
            yield f"<h2>{what} of each {level} category, log scale</h2>" + _bars(counts.most_common(_BARS), log=True)
            yield _cloud(counts.most_common(_WORDS))
    if statistics.words:
        yield "<h2>Words</h2>" + _cloud(statistics.words.most_common(_WORDS))
        yield "<h2>Words of an expression</h2>" + _bars([(str(k), v) for k, v in sorted(statistics.lengths.items())])
    for level, sizes in statistics.sizes.items():
        if sizes:
            named = [(f"1/{2**-k} to 1/{2 ** -(k + 1)}" if k < -1 else "half or more", sizes[k]) for k in sorted(sizes)]
            yield f"<h2>Sizes of {level}s, share of the image</h2>" + _bars(named)
    for name, bins in sorted(statistics.scores.items()):
        named = [(f"{k / _BINS:.2f}", bins[k]) for k in range(_BINS)]
        yield f"<h2>Score {html.escape(name)}, of all regions</h2>" + _bars(named)
    yield "<h2>Random images</h2>" + "".join(_figure(job, *entry, "") for entry in chosen.of(""))
    for name, count in statistics.dropped.most_common():
        yield f"<h2>Dropped by {html.escape(name)}: {count}</h2>"
        yield "".join(_figure(job, *entry, name) for entry in chosen.of(name))


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    lines = (f"<tr><td>{html.escape(name)}<td class=n>{html.escape(str(value))}" for name, value in rows)
    return f"<table>{''.join(lines)}</table>"


def _bars(counts: Sequence[tuple[str, int]], *, log: bool = False) -> str:
    """Bars to the right, with the number behind."""
    heights = [math.log10(count + 1) if log else count for _, count in counts]
    widest = max(heights, default=1) or 1
    lines = [
        f'<text x="190" y="{16 * row + 12}" text-anchor="end">{html.escape(name[:30])}</text>'
        f'<rect class="bar" x="196" y="{16 * row + 2}" height="12" width="{480 * height / widest:.1f}"/>'
        f'<text x="{200 + 480 * height / widest:.1f}" y="{16 * row + 12}">{count}</text>'
        for row, ((name, count), height) in enumerate(zip(counts, heights, strict=True))
    ]
    return f'<svg width="760" height="{16 * len(counts) + 6}">{"".join(lines)}</svg>'


def _cloud(counts: Sequence[tuple[str, int]]) -> str:
    most = math.log(max((count for _, count in counts), default=1) + 1)
    words = (
        f'<span style="font-size:{70 + 130 * math.log(count + 1) / most:.0f}%" title="{count}">'
        f"{html.escape(word)}</span>"
        for word, count in sorted(counts)
    )
    return f"<p class=cloud>{' '.join(words)}</p>"


def _figure(job: Job, sample: Sample, shard: int, dropped_by: str) -> str:
    """The image with the regions that count, or with those that one filter dropped."""
    shown = [r for r in sample.regions if (r.dropped.partition(":")[0] == dropped_by if dropped_by else not r.dropped)]
    lines = [
        f"{region.caption or region.name}{f' ({region.dropped})' if dropped_by else ''}" for region in shown[:8]
    ] + (["..."] if len(shown) > 8 else [])
    lines += [one.text for one in sample.descriptions] if not dropped_by else []
    text = "<br>".join(html.escape(line) for line in [sample.image_id, *lines])
    picture = _picture(job, sample, shard, shown)
    image = f'<img src="data:image/jpeg;base64,{picture}" alt="">' if picture else "<em>the image cannot be read</em>"
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _picture(job: Job, sample: Sample, shard: int, shown: Sequence[Region]) -> str | None:
    from partglee.structures import Prediction
    from partglee.visualization import draw_prediction

    try:
        item = next(item for _, item in job.items(shard) if item.image_id == sample.image_id)
        pixels = pixels_of(item)
        boxed = [region for region in shown if region.box is not None]
        arrays = [masks.decode(region.mask) if region.mask else _filled(region, pixels.shape[:2]) for region in boxed]
        prediction = Prediction(
            boxes=np.array([region.box for region in boxed], np.float32).reshape(-1, 4),  # type: ignore[arg-type]
            scores=[1.0] * len(boxed), labels=[0] * len(boxed), names=[region.name for region in boxed],  # type: ignore[arg-type]
            level=[int(region.level == "part") for region in boxed], parent=[-1] * len(boxed),  # type: ignore[arg-type]
            image_size=pixels.shape[:2], image=pixels, masks=_stacked(arrays, pixels.shape[:2]),
        )  # fmt: skip
        picture = draw_prediction(prediction, scores=False)
    except (ValueError, OSError):
        return None
    picture.thumbnail((480, 480))
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, format="JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


def _filled(region: Region, size: tuple[int, ...]) -> Any:
    mask = np.zeros(size, bool)
    x0, y0, x1, y1 = (max(0, round(value)) for value in region.box or (0, 0, 0, 0))
    mask[y0:y1, x0:x1] = True
    return mask


def _stacked(arrays: Sequence[Any], size: tuple[int, ...]) -> Any:
    import torch

    return torch.from_numpy(np.stack(arrays) if arrays else np.zeros((0, *size), bool))
