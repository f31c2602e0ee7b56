"""Asking a model the last question of a record, with the turns before it as they truly were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mglmm.answer import Answer
from mglmm.data.record import Record


def ask(model: Any, record: Record, pixels: NDArray[np.uint8], *, teacher_forced: bool = False) -> Answer:
    """The answer of a `SegCap` to the last question of a drawn record.

    Args:
        pixels: (H, W, 3) of the record's image.
        teacher_forced: give it the true answer, so that the masks alone are its own.

    Raises:
        ValueError: for a record of several questions that is to be teacher-forced.
    """
    question, history = record.turns[-2].text, history_of(record, pixels)
    if not teacher_forced:
        answer: Answer = model(pixels, question, history=history) if history else model(pixels, question)
        return answer
    if history:
        raise ValueError(
            f"record {record.name!r} asks {len(history) + 1} questions, and a text can be given as the answer to a "
            "single one; leave teacher forcing out, or make a record of each question"
        )
    forced: Answer = model.teacher_forced(pixels, question, record.turns[-1].marked)
    return forced


def history_of(record: Record, pixels: NDArray[np.uint8]) -> list[Answer]:
    """The true answers before the last one, without masks: a model is told what was said alone."""
    return [
        Answer(
            question=asked.text, text=told.text, said=told.marked, phrases=(), whole=True, well_formed=True,
            pixels=pixels,
        )
        for asked, told in zip(record.turns[:-2:2], record.turns[1:-2:2], strict=True)
    ]  # fmt: skip
