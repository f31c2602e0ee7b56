"""Scores of predictions files: grounded captions, masks that sentences mean, captions; and writing such files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mglmm.data.loader import pixels_of
from mglmm.data.marked import Span
from mglmm.data.record import Record, RegionMask, Said
from mglmm.data.source import Source
from mglmm.evaluation.asking import ask
from mglmm.evaluation.grounded import grounded_captions
from mglmm.evaluation.predictions import Pair, Predicted, by_name, read_predictions, write_predictions
from mglmm.evaluation.segmentation import captions, reasoning, referring

__all__ = [
    "PROTOCOLS",
    "Pair",
    "Predicted",
    "captions",
    "grounded_captions",
    "metric_names",
    "predict",
    "questions",
    "read_predictions",
    "reasoning",
    "referring",
    "score",
    "table",
    "write_predictions",
]

PROTOCOLS: Mapping[str, Callable[..., dict[str, float]]] = {
    "gcg": grounded_captions, "mgsc": grounded_captions, "res": referring, "gres": referring, "reasonseg": reasoning,
    "captions": captions,
}  # fmt: skip


CAPTIONS = ("gcg", "mgsc", "captions")
COUNTS = ("unanswered", "teacher forced", "num_samples", "num_no_target")  # more of them is not better


def questions(source: Source, *, seed: int = 0, most: int | None = None) -> Iterator[Record]:
    """The records of a source as an evaluation asks them: drawn once, the same for the same seed."""
    for index in range(len(source) if most is None else min(most, len(source))):
        record = source.draw(index, np.random.default_rng([seed, index]))
        if record is not None:
            yield record


def predict(
    model: Any, records: Iterable[Record], file: str | Path, *, images: Path | None = None, teacher_forced: bool = False
) -> int:
    """Ask a `SegCap` about records, and write what it says. Returns how many.

    Args:
        records: of several turns the last question is asked, with those before it and their true answers as history.
        images: folder that file names are relative to.
        teacher_forced: give it the true answer, so that the masks alone are its own; the file says so.

    Raises:
        ValueError: for two records of one name, before anything is asked; for a record of several questions that is
            to be teacher-forced.
    """
    known = by_name(records)

    def lines() -> Iterator[tuple[str, dict[str, Any]]]:
        for record in tqdm(known.values(), unit=" answers", disable=None):
            answer = ask(model, record, pixels_of(record, images), teacher_forced=teacher_forced)
            yield record.name, answer.to_dict()

    return write_predictions(lines(), file)


def score(protocol: str, file: str | Path, records: Iterable[Record], *, java: bool = False) -> dict[str, float]:
    """The numbers of a predictions file.

    Args:
        java: of captions, also what exists in Java alone.

    Raises:
        ValueError: for an unknown protocol, a file that does not fit the records, or `java` where it is not asked for
            captions or lacks something.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    pairs = list(read_predictions(file, records))
    if java and protocol not in CAPTIONS:
        raise ValueError(f"{protocol} scores no captions, so Java has nothing to add; it is for {', '.join(CAPTIONS)}")
    results = PROTOCOLS[protocol](pairs, java=True) if java else PROTOCOLS[protocol](pairs)
    forced = sum(pair.said is not None and pair.said.teacher_forced for pair in pairs)
    return {**results, "teacher forced": float(forced)} if forced else results


def metric_names(protocol: str) -> tuple[str, ...]:
    """What the numbers of a protocol are called of which more is better."""
    mask = RegionMask({"size": [1, 1], "counts": "01"}, "dot")
    said = (Said("user", "?"), Said("assistant", "dot", (Span(0, 3, 0),)))
    nothing = Record(name="", image="", size=(1, 1), task="gcg", turns=said, masks=(mask,))
    return tuple(name for name in PROTOCOLS[protocol]([Pair(nothing, None)]) if name not in COUNTS)


def table(title: str, results: Mapping[str, float]) -> str:
    """Markdown; what is measured in two ways stands side by side."""
    forced = " (teacher-forced: the true text was given)" if results.get("teacher forced") else ""
    styles = [style for style in ("reference", "strict") if any(name.startswith(f"{style}/") for name in results)]
    lines = [f"{title}{forced}", ""]
    plain = {name: value for name, value in results.items() if name.partition("/")[0] not in styles}
    if plain:
        lines += ["| measure | |", "|---|---|", *(f"| {name} | {value:.2f} |" for name, value in plain.items()), ""]
    if styles:
        names = dict.fromkeys(name.partition("/")[2] for name in results if name.partition("/")[0] in styles)
        lines += [f"| measure | {' | '.join(styles)} |", f"|---|{'---|' * len(styles)}"]
        for name in names:
            cells = [f"{results[f'{style}/{name}']:.2f}" for style in styles]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines).rstrip() + "\n"
