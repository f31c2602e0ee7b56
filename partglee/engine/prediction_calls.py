"""What a predictor is called with: images of every kind, and the options of a call by name and type.

B images of one canvas.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from partglee.data.images import ImageSource, list_images
from partglee.data.web import is_url
from partglee.engine.image_input import InputImage
from partglee.engine.inference import EncodedBatch
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import VocabularyLike
from partglee.text.phrases import PhraseParser

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True, eq=False)
class EncodedImage(EncodedBatch):
    """`EncodedBatch` with the images themselves: B of one canvas, most often one."""

    images: Sequence[InputImage]  # B

    def picked(self, rows: Sequence[int]) -> Self:
        return replace(super().picked(rows), images=[self.images[row] for row in rows])

    def __repr__(self) -> str:
        return f"EncodedImage({len(self.images)} of {self.batch.canvas[0]}x{self.batch.canvas[1]})"


OneImage = ImageSource | InputImage | EncodedImage


class PredictOptions(TypedDict, total=False):
    """Options of `Predictor.__call__`, which says what they are."""

    score_threshold: float | None
    part_score_threshold: float | None
    max_objects: int
    max_parts_per_object: int | None
    restrict_parts: bool
    object_overlap: float | None
    across_names: bool
    part_overlap: float | None
    part_inside: float | None
    mask_box: float | None
    masks: bool
    multi_label: MultiLabel | None
    batch_size: int
    workers: int
    strict: bool


def chosen_options(options: Mapping[str, Any], defaults: PostprocessOptions) -> PostprocessOptions:
    """What is kept, of the options of a call.

    Args:
        defaults: threshold and `mask_box` where the call says none.

    Raises:
        TypeError: for an option that there is not, or of a wrong type.
        ValueError: for one out of its range.
    """
    unknown = options.keys() - PredictOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"no option {sorted(unknown)[0]!r}; there are {', '.join(PredictOptions.__annotations__)}")
    known = {field.name for field in fields(PostprocessOptions)}
    chosen = {name: value for name, value in options.items() if name in known}
    for name in ("score_threshold", "mask_box"):
        if chosen.get(name) is None:
            chosen[name] = getattr(defaults, name)
    chosen["mask_box"] = chosen["mask_box"] or None
    return PostprocessOptions(**chosen)


class GroundOptions(TypedDict, total=False):
    """Options of `Predictor.ground`, which says what they are."""

    union: bool
    score_threshold: float | None
    parts: VocabularyLike | None
    parser: PhraseParser


def stands_for_many(source: str | Path) -> str:
    """What a path stands for that is not one image; "" for one."""
    path = Path(source).expanduser()
    if is_url(source) or path.is_file():
        return ""
    if path.is_dir():
        return "a folder"
    return "the files of a pattern" if glob.has_magic(str(source)) else ""


def expanded(images: Iterable[ImageSource | InputImage]) -> Iterator[ImageSource | InputImage]:
    """Folders and patterns become their files.

    Raises:
        FileNotFoundError: for one without any.
    """
    for image in images:
        if isinstance(image, (str, Path)) and stands_for_many(image):
            yield from list_images(image)
        else:
            yield image
