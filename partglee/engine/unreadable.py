"""Images that could not be read: counted over all processes, and over all parts of a run that was resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from accelerate.utils import gather_object

from partglee.engine.step import Batch

_SHOWN = 20


class UnreadableImages:
    """Each image that others took the place of, once, whichever processes met it.

    All processes hold the same after `add`, so that all stop in the same step.

    Args:
        limit: so many do not stop a run.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}  # file -> why

    def __len__(self) -> int:
        return len(self.reasons)

    def new_in(self, batches: Iterable[Batch]) -> dict[str, str]:
        """Those of this process's batches that are not known yet."""
        found = (pair for batch in batches for pair in batch.unreadable)
        return {file: reason for file, reason in found if file not in self.reasons}

    def add(self, found: Mapping[str, str], *, processes: int = 1) -> list[str]:
        """Count what any process has found; with several, all must call this in the same step.

        Returns:
            A sentence for each image that is new.

        Raises:
            ValueError: when there are more than `limit`, with their names.
        """
        pairs = list(found.items())
        if processes > 1:
            pairs = gather_object(pairs)
        told = []
        for file, reason in pairs:
            if file not in self.reasons:
                self.reasons[file] = reason
                told.append(
                    f"image {len(self)} of at most {self.limit} that cannot be read: {_line(file, reason)}; another of "
                    "its data set took its place"
                )
        if len(self) > self.limit:
            listed = "; ".join(_line(file, reason) for file, reason in list(self.reasons.items())[-_SHOWN:])
            raise ValueError(
                f"{len(self)} images cannot be read, more than DATALOADER.MAX_CORRUPT {self.limit}; mend or remove "
                f"them, or raise it: {listed}{f' and {len(self) - _SHOWN} before' if len(self) > _SHOWN else ''}"
            )
        return told


def _line(file: str, reason: str) -> str:
    return reason if file in reason else f"{file}: {reason}"
