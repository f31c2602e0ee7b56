"""One training step's input, after which no data set name and no category id is left.

B images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from partglee.structures.dense import DenseScores
from partglee.structures.supervision import Supervision
from partglee.structures.targets import HierarchicalTargets


class BatchNames(NamedTuple):
    """The names of a batch as the text encoder reads them; labels of the targets are positions in these."""

    object_prompts: tuple[str, ...]  # Co
    part_prompts: tuple[str, ...] = ()  # Cp, "car wheel"
    part_names: tuple[str, ...] = ()  # Cp, "wheel", for a name table without the prompt; () = prompts alone


class TrainingBatch(NamedTuple):
    """B images of one data set on one canvas.

    Exactly one of `names` and `expressions` is given. With expressions, targets have one object name (label 0).
    """

    images: tuple[Tensor, ...]  # B x (3, h, w) uint8 RGB, before padding; `PartGLEE.batch(images, canvas)` takes them
    canvas: tuple[int, int]  # (H, W) that target boxes and masks are relative to
    targets: tuple[HierarchicalTargets, ...]
    supervision: Supervision
    names: BatchNames | None
    expressions: tuple[str, ...] | None = None  # one for each image
    source: str = ""  # data set name, for logs alone
    files: tuple[str, ...] = ()  # of the images, for logs and error messages alone
    dense: DenseScores | None = None  # of a teacher that knows some of the names
    unreadable: tuple[tuple[str, str], ...] = ()  # (file, reason) of images that others took the place of

    def plain(self) -> dict[str, Any]:
        """What a file about a failed step says of the batch."""
        return {
            "source": self.source,
            "files": list(self.files),
            "canvas": self.canvas,
            "images": list(self.images),
            "objects": None if self.names is None else list(self.names.object_prompts),
            "parts": None if self.names is None else list(self.names.part_prompts),
            "expressions": None if self.expressions is None else list(self.expressions),
            "dense": None if self.dense is None else [self.dense.columns, *self.dense.maps],
            "targets": [
                {
                    "objects": [t.objects.labels, t.objects.boxes, t.objects.masks],
                    "parts": [t.parts.labels, t.parts.boxes, t.parts.masks],
                    "part_parent": t.part_parent,
                }
                for t in self.targets
            ],
        }
