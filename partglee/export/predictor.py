"""An exported file with everything around it that images need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from partglee.data.images import ImageSource
from partglee.engine import Predictor
from partglee.engine.image_input import ImageInput, InputImage
from partglee.export.card import Card
from partglee.export.sessions import Session, open_session
from partglee.modeling.frame import Frame
from partglee.ops.masks import image_masks
from partglee.structures import Prediction, Vocabulary, VocabularyLike

_PIXELS_PER_PASS = 32_000_000


class Names:
    """A vocabulary with the embeddings of its names, for graphs that take names as inputs.

    Args:
        objects, parts: (Co, D) and (Cp, D) float32, in the order of the vocabulary's columns.
    """

    def __init__(self, *, vocabulary: Vocabulary, objects: NDArray[np.float32], parts: NDArray[np.float32]) -> None:
        expected = len(vocabulary.object_names), len(vocabulary.part_names)
        if (len(objects), len(parts)) != expected or objects.ndim != 2 or parts.ndim != 2:
            raise ValueError(
                f"expected a row for each of {expected[0]} objects and {expected[1]} parts, got embeddings "
                f"{objects.shape} and {parts.shape}"
            )
        self.vocabulary = vocabulary
        self.objects = objects
        self.parts = parts

    @classmethod
    def of(cls, predictor: Predictor, vocabulary: VocabularyLike) -> Names:
        """As a predictor of the same weights reads them; names that its table lacks as in its call."""
        names = predictor.words(vocabulary).warn()
        text = predictor.model.embed(names)
        objects, parts = text.objects.float().cpu().numpy(), text.parts.float().cpu().numpy()
        return cls(vocabulary=names, objects=objects, parts=parts)


class ExportedPredictor:
    """Images to predictions by a graph that `partglee export --format onnx | pt2 | openvino` wrote.

    >>> predictor = ExportedPredictor.open("tiny.onnx")  # doctest: +SKIP
    >>> predictor("street.jpg").save("found.jpg")  # doctest: +SKIP

    A `Predictor` gives the same rows, boxes and masks; scores may differ in the third digit where an image is resized,
    since a graph measures a mask's confidence on its input and a `Predictor` on the image.

    Args:
        session: an opened file.
    """

    def __init__(self, *, session: Session) -> None:
        self.session = session
        self.input = ImageInput(short_side=session.card.short_side, max_side=session.card.max_side)

    @classmethod
    def open(cls, file: str | Path, *, threads: int | None = None) -> ExportedPredictor:
        """Open a file in its runtime.

        Raises:
            ValueError: for a file that is not there, of another ending, damaged, or without the runtime.
        """
        return cls(session=open_session(file, threads=threads))

    @property
    def card(self) -> Card:
        """What the file says of itself."""
        return self.session.card

    @overload
    def __call__(self, image: ImageSource | InputImage, names: Names | None = None) -> Prediction: ...
    @overload
    def __call__(self, image: list[ImageSource | InputImage], names: Names | None = None) -> list[Prediction]: ...

    def __call__(
        self, image: ImageSource | InputImage | list[ImageSource | InputImage], names: Names | None = None
    ) -> Prediction | list[Prediction]:
        """Find the objects and parts of one image, or of each of a list.

        Args:
            image: whatever a `Predictor` takes.
            names: for a graph that takes names as inputs (`Names`); None for one with a fixed vocabulary.

        Raises:
            ValueError: for names where the vocabulary is fixed, none where it is not, or an image that cannot be read.
        """
        if isinstance(image, list):
            return [self._predict(self.input.read(one), names) for one in image]
        return self._predict(self.input.read(image), names)

    def inputs(self, image: InputImage, names: Names | None = None) -> dict[str, NDArray[Any]]:
        """What the graph is given for an image.

        Raises:
            ValueError: for names where the vocabulary is fixed, or none where it is not.
        """
        return self._inputs(self._resized(image), names)

    def _inputs(self, resized: NDArray[np.uint8], names: Names | None) -> dict[str, NDArray[Any]]:
        card = self.card
        if (names is None) == (card.vocabulary is None):
            wanted = "has a fixed vocabulary; ask without names" if names else "takes names as inputs; pass Names(...)"
            raise ValueError(f"the graph {wanted}")
        inputs = {"image": pad(resized, divisibility=card.divisibility, mean=card.pixel_mean, size=card.size)}
        if names is not None:
            allowed = names.vocabulary.allowed.numpy()
            inputs |= {"object_names": names.objects, "part_names": names.parts, "allowed": allowed}
        return inputs

    def _resized(self, image: InputImage) -> NDArray[np.uint8]:
        return image.resized.numpy() if self.card.size is None else fit(image.pixels, self.card.size)

    def _predict(self, image: InputImage, names: Names | None) -> Prediction:
        resized = self._resized(image)
        inputs = self._inputs(resized, names)
        vocabulary, box = self.card.vocabulary if names is None else names.vocabulary, self.card.mask_box
        assert vocabulary is not None
        found = {name: torch.from_numpy(value) for name, value in self.session.run(inputs).items()}
        _, height, width = resized.shape
        canvas = inputs["image"].shape
        frame = Frame((canvas[2], canvas[3]), (height, width), image.size)
        listed = (vocabulary.object_names, vocabulary.part_names)
        levels = zip(found["level"].tolist(), found["labels"].tolist(), strict=True)
        scale = torch.tensor([image.size[1] / width, image.size[0] / height] * 2)
        limit = torch.tensor([image.size[1], image.size[0]] * 2)
        boxes = torch.minimum(found["boxes"] * scale, limit)
        return Prediction(
            boxes=boxes,
            scores=found["scores"],
            labels=found["labels"],
            names=[listed[level][label] for level, label in levels],
            level=found["level"],
            parent=found["parent"],
            image_size=image.size,
            masks=_masks(found["masks"], frame, None if box is None else frame.windows(boxes, box)),
            vocabulary=vocabulary,
            image=image.pixels,
            file_name=image.file_name,
        )


def fit(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB -> (3, h, w), as large as `size` (height, width) has room for in its own ratio."""
    height, width = pixels.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    wanted = min(size[1], max(1, int(width * scale + 0.5))), min(size[0], max(1, int(height * scale + 0.5)))
    if wanted != (width, height):
        pixels = np.asarray(Image.fromarray(pixels).resize(wanted, Image.Resampling.BILINEAR))
    return pixels.transpose(2, 0, 1)


def pad(
    image: NDArray[np.uint8], *, divisibility: int, mean: Sequence[float], size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """(3, h, w) RGB in 0..255 -> (1, 3, H, W) float32: right and below the mean colour, which the network sees as zero.

    Args:
        size: (H, W); None = the next multiples of `divisibility`.
    """
    _, height, width = image.shape
    rows, columns = size or (-(-height // divisibility) * divisibility, -(-width // divisibility) * divisibility)
    padded = np.empty((1, 3, rows, columns), dtype=np.float32)
    padded[:] = np.asarray(mean, dtype=np.float32).reshape(1, 3, 1, 1)
    padded[0, :, :height, :width] = image
    return padded


def _masks(logits: torch.Tensor, frame: Frame, windows: torch.Tensor | None) -> torch.Tensor:
    """(N, h, w) logits of the canvas -> (N, H, W) bool of the image, which end at (N, 4) `windows`; a few at a time."""
    masks = torch.zeros(len(logits), *frame.original, dtype=torch.bool)
    step = max(1, _PIXELS_PER_PASS // max(1, frame.original[0] * frame.original[1]))
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        inside = image_masks(
            logits[rows], canvas=frame.canvas, padded_from=frame.resized, image_size=frame.original, inside=True,
            windows=None if windows is None else windows[rows],
        ).inside  # fmt: skip
        assert inside is not None
        masks[rows] = inside
    return masks
