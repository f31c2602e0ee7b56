"""Sources as data sets of the library: its mixtures, workers, resuming and unreadable images are theirs too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from mglmm.chat import Conversation, Turn, without_marks
from mglmm.data.record import Record
from mglmm.data.source import Source
from partglee.data import DatasetSpec, register
from partglee.data.augmentation import Augmentation
from partglee.data.build import build_train_loader
from partglee.data.images import read_image
from partglee.data.records import ImageRecord, Records
from partglee.structures import Vocabulary

_TRIES = 8  # rows that are drawn in place of one that has nothing to say
_NAMES = Vocabulary.parse("anything")  # data sets of the library have names; these speak for themselves


class Sample(NamedTuple):
    """One conversation with its true masks."""

    conversation: Conversation
    masks: NDArray[np.bool_]  # (n, H, W), in the order in which answers announce them


class ConversationBatch(NamedTuple):
    """B conversations of one source; nothing is resized yet."""

    samples: tuple[Sample, ...]
    source: str = ""
    files: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


class SourceRecords:
    """A source, seen as records of the library: each row says its number and no more."""

    vocabulary = _NAMES

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ImageRecord:
        return ImageRecord(file=Path(f"{self.source.name}/{index}"), height=0, width=0, image_id=index)

    def size(self, index: int) -> tuple[int, int]:
        """Not known before a record is drawn."""
        return 0, 0

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """None."""
        return frozenset(), frozenset()

    def rows_with_expressions(self) -> list[int]:
        """None: what is said of an image is known when it is drawn."""
        return []


def register_source(
    name: str,
    opened: Callable[[], Source],
    *,
    needs: Sequence[str] = (),
    protocol: str = "",
    replace: bool = False,
) -> DatasetSpec:
    """Make a source known by a name of `DATASETS.TRAIN` and `DATASETS.TEST`.

    Args:
        opened: a function of a module, or a `functools.partial` of one; called when the source is read.
        needs: files and folders under the root of data sets, which are looked for before a run starts.
        protocol: of `mglmm.evaluation.PROTOCOLS`, by which answers to it are scored; "" = it is for training alone.
    """
    return register(
        DatasetSpec(
            name=name,
            annotations="",
            images="",
            reader=_read,
            needs=tuple(needs),
            options={"opened": opened, "protocol": protocol},
        ),
        replace=replace,
    )


def _read(spec: DatasetSpec) -> SourceRecords:
    return SourceRecords(spec.options["opened"]())


def conversation_of(record: Record, pixels: NDArray[np.uint8], *, answered: bool = True) -> Conversation:
    """A drawn record as a conversation about its image.

    Args:
        answered: False = without the last answer.
    """
    turns = []
    for place, said in enumerate(record.turns):
        text = said.marked if said.role == "assistant" else without_marks(said.text)
        turns.append(Turn(said.role, text, 1 if place == 0 else 0))
    return Conversation(tuple(turns if answered else turns[:-1]), (pixels,), f"record {record.name!r}")


def pixels_of(record: Record, images: Path | None) -> NDArray[np.uint8]:
    """(H, W, 3).

    Raises:
        ValueError, OSError: for an image that cannot be read, or is not of the size that the record says.
    """
    if record.pixels is not None:
        return record.pixels
    pixels = read_image(record.image if images is None else images / record.image)
    if pixels.shape[:2] != record.size:
        raise ValueError(
            f"record {record.name!r}: image {record.image!r} is of size {pixels.shape[:2]}, its masks of {record.size}"
        )
    return pixels


def true_masks(record: Record, *, last: bool = False) -> NDArray[np.bool_]:
    """(n, H, W), one for each [SEG] of the record's answers.

    Args:
        last: of the last answer alone.
    """
    return masks_of(record, record.announced(last=last))


def masks_of(record: Record, rows: Sequence[int]) -> NDArray[np.bool_]:
    """(n, H, W) of some rows of a record's masks."""
    decoded = {row: record.masks[row].decoded(record.size, f"record {record.name!r}, mask {row}") for row in set(rows)}
    return np.stack([decoded[row] for row in rows]) if rows else np.zeros((0, *record.size), bool)


class DrawConversation:
    """A row of a source to a sample. A row with nothing to say gives way to others."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __call__(self, known: ImageRecord, rng: np.random.Generator) -> Sample:
        record = self.source.draw(known.image_id, rng)
        for _ in range(_TRIES):
            if record is not None:
                break
            record = self.source.draw(int(rng.integers(len(self.source))), rng)
        if record is None:
            raise ValueError(
                f"source {self.source.name!r}: row {known.image_id} and {_TRIES} others have nothing to say"
            )
        pixels = pixels_of(record, self.source.images)
        return Sample(conversation_of(record, pixels), true_masks(record))


def collate_conversations(samples: Sequence[Sample], *, spec: DatasetSpec, **unused: Any) -> ConversationBatch:
    """Samples of one source; sizes differ, so they stay as they are."""
    return ConversationBatch(
        tuple(samples), source=spec.name, files=tuple(sample.conversation.name for sample in samples)
    )


def build_conversation_loader(cfg: CN, **options: Any) -> Iterable[ConversationBatch]:
    """Endless batches of `DATASETS.TRAIN`, mixed by `DATASETS.RATIOS`; see `partglee.data.build.build_train_loader`."""

    def mapper(spec: DatasetSpec, records: Records, augmentation: Augmentation) -> DrawConversation:
        if not isinstance(records, SourceRecords):
            raise ValueError(
                f"data set {spec.name!r} is none of conversations; register it with mglmm.data.loader.register_source "
                "and a way to make records of it (mglmm.data.library_source)"
            )
        return DrawConversation(records.source)

    return build_train_loader(
        cfg, view=lambda spec, records: records, mapper=mapper, collate=partial(collate_conversations), **options
    )
