"""What was found in one image, with its ways out: files of other programs, tables, pictures.

N rows (objects and parts together), (H, W) the image size in pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from partglee.basics.files import JSON_ERRORS, whole_file
from partglee.structures import prediction_formats as formats
from partglee.structures.prediction_formats import CocoResult, PredictionLine
from partglee.structures.prediction_rows import PredictionRows

if TYPE_CHECKING:
    import pandas
    import supervision
    from PIL.Image import Image

    from partglee.structures.vocabulary import Vocabulary

_PICTURE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_JPEG_QUALITY = 92


@dataclass(kw_only=True, eq=False, repr=False)
class Prediction(PredictionRows):
    """Objects and parts found in one image. The rows are in no particular order.

    >>> for row in prediction:  # doctest: +SKIP
    ...     print(row.level, row.name, row.score, row.box, row.parent, row.parts)
    >>> prediction.save("found.jpg")  # doctest: +SKIP

    Raises:
        ValueError: when lengths or shapes differ, a part's parent is not an object row, or an object has a parent.
    """

    @classmethod
    def empty(cls, *, image_size: tuple[int, int], file_name: str | None = None) -> Prediction:
        """A prediction without rows."""
        none = torch.zeros(0, dtype=torch.long)
        return cls(
            boxes=torch.zeros(0, 4),
            masks=torch.zeros(0, *image_size, dtype=torch.bool),
            scores=torch.zeros(0),
            labels=none,
            names=[],
            level=none,
            parent=none,
            image_size=image_size,
            file_name=file_name,
        )

    # -- other formats -------------------------------------------------------------------------------------------

    def to_coco(
        self,
        *,
        image_id: int | str = 0,
        object_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        part_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        first_id: int = 1,
        ids_per_level: bool = False,
    ) -> list[CocoResult]:
        """COCO results, one dict for each row, in row order.

        Besides COCO's `image_id`, `category_id`, `bbox` (xywh), `score` and `segmentation` (RLE, text counts) each has
        `id`, `parent_id` (the `id` of its object, None without), `level` ("object" or "part"), `name` and `label` (the
        column in the vocabulary's objects or parts).

        Args:
            object_category_ids, part_category_ids: category id of each label; None = the one id space of
                `categories`: object names from 0 on, part names after them.
            first_id: what is added to `ids`, which begin at 1, is this less 1. COCO tools take 0 for "no annotation".
            ids_per_level: objects and parts are both numbered from 0, as before 0.2. Deprecated.
        """
        return formats.to_coco(
            self, image_id=image_id, object_ids=object_category_ids, part_ids=part_category_ids, first_id=first_id,
            ids_per_level=ids_per_level,
        )  # fmt: skip

    def categories(self) -> list[formats.CocoCategory]:
        """COCO categories of `to_coco`: objects, then parts ("car:wheel", whose supercategory is "car").

        Raises:
            ValueError: for a prediction that does not know its vocabulary.
        """
        return formats.categories(self)

    @classmethod
    def from_coco(
        cls,
        rows: Iterable[Mapping[str, object]],
        *,
        image_size: tuple[int, int],
        file_name: str | None = None,
        image: NDArray[np.uint8] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> Prediction:
        """Read what `to_coco` wrote without category ids.

        Args:
            vocabulary: the one that the rows were found with, which results do not say.

        Raises:
            ValueError: for a row without a needed key, or a parent id that no row has.
        """
        columns = formats.columns_of_coco(list(rows), image_size=image_size)
        return Prediction(**columns, image_size=image_size, image=image, file_name=file_name, vocabulary=vocabulary)

    def to_dict(self, *, image_id: int | str | None = None) -> PredictionLine:
        """`file_name`, `height`, `width` and the `results` of `to_coco`; the image itself is not part of it.

        Args:
            image_id: of each result; None = the file name, or 0 without one.
        """
        height, width = self.image_size
        results = self.to_coco(image_id=self.file_name or 0 if image_id is None else image_id)
        return {"file_name": self.file_name, "height": height, "width": width, "results": results}

    def to_json(self) -> str:
        """One line of a JSON Lines file: `to_dict` as text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, line: str, *, vocabulary: Vocabulary | None = None) -> Prediction:
        """Read a line written by `to_json`; ValueError when it is not one."""
        try:
            entry = json.loads(line)
            size = (entry["height"], entry["width"])
            results, file_name = entry["results"], entry["file_name"]
        except (*JSON_ERRORS, KeyError, TypeError) as error:
            raise ValueError(f"expected a line written by Prediction.to_json(), got {line!r:.80} ({error})") from error
        return cls.from_coco(results, image_size=size, file_name=file_name, vocabulary=vocabulary)

    def to_supervision(self, *, ids_per_level: bool = False) -> supervision.Detections:
        """As `supervision.Detections`.

        `class_id` says `class_name` and nothing else: names of objects are numbered, then names of parts, so rows of
        one name get one colour, and a part never that of an object. `data` has `class_name`, `level`, `label` (the
        column of the vocabulary), `id`, `parent_id` (0 without) and `parent` (a row; true until rows are taken out).

        Args:
            ids_per_level: `class_id` is the label, which counts objects and parts separately, as before 0.2.
                Deprecated.
        """
        return formats.to_supervision(self, ids_per_level=ids_per_level)

    def to_pandas(self) -> pandas.DataFrame:
        """One line for each row: `id`, `level`, `name`, `score`, `xmin`, `ymin`, `xmax`, `ymax`, `area` (pixels of the
        mask), `parent_id`, `parent_name`; the last three are missing values where there is none.

        Raises:
            ImportError: without pandas.
        """
        return formats.to_pandas(self)

    # -- pictures ------------------------------------------------------------------------------------------------

    def draw(
        self,
        image: NDArray[np.uint8] | Image | None = None,
        *,
        panel: bool = False,
        caption: str | None = None,
        masks: bool = True,
        boxes: bool = True,
        labels: bool = True,
        scores: bool = True,
        scale: float | None = 1.0,
        font_path: str | None = None,
    ) -> Image:
        """Draw the objects and their parts, in the size of the image.

        Args:
            image: (H, W, 3) uint8 RGB or a PIL image; None = the prediction's own `image`.
            panel: put the tree of objects and parts, with scores, at the right.
            caption: text for a strip below the picture.
            masks: fill and outline masks, where the prediction has them.
            boxes: draw boxes of objects, and of parts when no masks are drawn.
            labels: write names.
            scores: write scores beside the names (those of parts are left to the panel when there is one).
            scale: picture pixels for one image pixel; None = 1, and more for images with a long side below 1000 pixels,
                whose labels are larger than what they name.
            font_path: a TrueType file that is tried first; others are looked for where it lacks letters of a name.

        Raises:
            ValueError: when there is no image, it has another size than the prediction, or `scale` is not positive.
        """
        # The one import upwards: people who want a picture hold a Prediction only.
        from partglee.visualization import draw_prediction

        return draw_prediction(
            self, image, panel=panel, caption=caption, masks=masks, boxes=boxes, labels=labels, scores=scores,
            scale=scale, font_path=font_path,
        )  # fmt: skip

    def save(self, file: str | Path, *, panel: bool = False, scale: float | None = 1.0) -> Path:
        """Write the picture of `draw` (`.jpg`, `.png`, `.webp`), or the line of `to_json` (`.json`); folders are made.

        Args:
            panel, scale: of `draw`.

        Returns:
            The file.

        Raises:
            ValueError: for another suffix, or a picture without an image to draw on.
        """
        path = Path(file)
        suffix = path.suffix.lower()
        if suffix not in (*_PICTURE_FORMATS, ".json"):
            raise ValueError(
                f"cannot save a prediction as '{path}': use {', '.join(_PICTURE_FORMATS)} for a picture, .json for data"
            )
        if suffix == ".json":
            with whole_file(path) as beside:
                beside.write_text(self.to_json() + "\n", encoding="utf-8")
            return path
        picture = self.draw(panel=panel, scale=scale)
        with whole_file(path) as beside:
            picture.save(beside, format=_PICTURE_FORMATS[suffix], quality=_JPEG_QUALITY)
        return path

    def show(self, *, panel: bool = False, scale: float | None = 1.0) -> None:
        """Open the picture of `draw` in the viewer of the system; a notebook shows a prediction by itself."""
        self.draw(panel=panel, scale=scale).show()

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows in place of `repr`; None without an image."""
        if self.image is None:
            return None
        stream = io.BytesIO()
        self.draw().save(stream, format="PNG")
        return stream.getvalue()

    def crop(self, row: int, *, margin: float = 0.0, cut_out: bool = False) -> Image:
        """The image inside a row's box.

        Args:
            row: its number.
            margin: how much more of the image at each side, in shares of the box.
            cut_out: what the mask leaves out is transparent (RGBA).

        Raises:
            IndexError: when there is no such row.
            ValueError: without an image, or to cut out without masks, or for a box outside of the image.
        """
        return formats.crop(self, self[row].index, margin=margin, cut_out=cut_out)
