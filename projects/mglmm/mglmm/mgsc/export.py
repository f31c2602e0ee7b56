"""A job of the annotation engine with descriptions -> a file of USCDF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mglmm.data.hierarchy import records_of
from mglmm.data.record import Record, write_uscdf
from partglee.annotate import open_job
from partglee.annotate.export import samples


class Exported(NamedTuple):
    """What was written."""

    records: int
    images: int  # with at least one
    left_out: Counter[str]  # why -> how many images


def export_uscdf(job: str | Path, target: str | Path) -> Exported:
    """Root and subtree descriptions of a job as records. Each phrase has a mask and every span lies in its text, or the
    image is left out and counted.

    Raises:
        ValueError: for a folder that is no job, or one without a single description.
    """
    left_out: Counter[str] = Counter()
    images = 0

    def records() -> Iterator[Record]:
        nonlocal images
        for sample in samples(open_job(Path(job))):
            if not sample.descriptions:
                left_out["no description"] += 1
                continue
            try:
                made = records_of(sample)
            except ValueError as error:
                left_out[str(error).partition(": ")[2][:60] or "a description that does not fit"] += 1
                continue
            images += 1
            yield from made

    listed = list(records())
    if not listed:
        told = ", ".join(f"{count} images: {why}" for why, count in left_out.most_common()) or "no image is finished"
        raise ValueError(f"job {job} has no description to write ({told}); its recipe needs a stage `describe`")
    return Exported(write_uscdf(listed, target), images, left_out)
