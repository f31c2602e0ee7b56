"""Masks from boxes, by any segmenter that takes boxes as prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.annotate.masks import encode
from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Pixels, Sample
from partglee.annotate.stage import Stage


class Segmenter(Protocol):
    """Boxes as prompts."""

    def __call__(self, pixels: Pixels, boxes: NDArray[np.float64]) -> Sequence[NDArray[np.bool_]]:
        """(H, W, 3) and (N, 4) xyxy -> N masks (H, W); a mask may be empty."""
        ...


class Masks(Stage):
    """Gives the regions that have a box and no mask one. A region whose mask comes out empty is dropped.

    Args:
        segmenter: "onnx" (`encoder.onnx` and `sam.onnx` in the folder `weights`), "transformers" (a folder or name of a
            SAM of any kind), or `module:attribute` that is called with `weights` and gives a `Segmenter`.
        weights: of the segmenter.
        stability: also measure `region.scores.stability`: the IoU of the masks of the box as it is and of the box grown
            and shrunk by this share of its sides, the lesser of the two. 0 = do not (it asks for each box thrice).
        replace: also regions that have a mask get a new one.
    """

    inputs = ("image", "region.box")

    def __init__(self, *, segmenter: str, weights: str = "", stability: float = 0.0, replace: bool = False) -> None:
        if not 0 <= stability < 0.5:
            raise ValueError(f"stability must be in 0..0.5 (exclusive), got {stability}")
        self.segmenter, self.weights, self.stability, self.replace = segmenter, weights, stability, replace
        self._segment: Any = None

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.inputs, ("region.mask", *(("region.scores.stability",) if self.stability else ()))

    def weight_files(self) -> Sequence[Path]:
        place = Path(self.weights)
        if place.is_file():
            return (place,)
        return (
            sorted(f for f in place.glob("*") if f.suffix in (".onnx", ".safetensors", ".json")) if self.weights else ()
        )

    def open(self) -> None:
        self._segment = resolve(self.segmenter, SEGMENTERS, "segmenter")(self.weights)

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            assert sample.image is not None
            wanted = [region for _, region in sample.kept() if region.mask is None or self.replace or self.stability]
            boxes = np.array([region.box for region in wanted], np.float64).reshape(-1, 4)
            masks = self._segment(sample.image, boxes) if len(boxes) else []
            steady = self._stability(sample.image, boxes, masks) if self.stability and len(boxes) else []
            for number, (region, mask) in enumerate(zip(wanted, masks, strict=True)):
                if region.mask is None or self.replace:
                    region.mask = encode(np.asarray(mask, bool))
                if self.stability:
                    region.scores["stability"] = steady[number]
                if not np.any(mask):
                    region.dropped = f"{self.name}: its box has an empty mask"

    def _stability(self, image: Pixels, boxes: NDArray[np.float64], masks: Sequence[NDArray[np.bool_]]) -> list[float]:
        sides = np.concatenate([boxes[:, 2:] - boxes[:, :2]] * 2, 1) * np.array([-1, -1, 1, 1]) * self.stability
        least = np.ones(len(boxes))
        for moved in (boxes + sides, boxes - sides):
            height, width = image.shape[:2]
            other = self._segment(image, moved.clip(0, [width, height, width, height]))
            least = np.minimum(least, [_iou(one, two) for one, two in zip(masks, other, strict=True)])
        return [float(value) for value in least]


def _iou(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    union = np.logical_or(one, two).sum()
    return float(np.logical_and(one, two).sum() / union) if union else 0.0


# -- segmenters ------------------------------------------------------------------------------------------------------


def onnx_pair(weights: str) -> Segmenter:
    """A small Segment Anything model as an ONNX pair, see `partglee.data.prepare.teachers.BoxSegmenter`."""
    from partglee.data.prepare.teachers import BoxSegmenter

    return BoxSegmenter(Path(weights))


def transformers_sam(weights: str) -> Segmenter:
    """SAM, SAM-HQ, SAM 2 and their kin, as the library transformers has them.

    Args:
        weights: folder with model and processor, or a name on the hub.

    Raises:
        ValueError: without transformers, or for a model that it does not load.
    """
    try:
        import torch
        from transformers import AutoModelForMaskGeneration, AutoProcessor
    except ImportError as error:
        raise ValueError(f"this segmenter needs transformers ({error}): pip install 'partglee[bert]'") from error
    try:
        processor = AutoProcessor.from_pretrained(weights)
        model = AutoModelForMaskGeneration.from_pretrained(weights).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"transformers does not load the segmenter {weights!r}: {error}") from error
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def segment(pixels: Pixels, boxes: NDArray[np.float64]) -> list[NDArray[np.bool_]]:
        # A picture: of an array with 1, 3 or 4 rows the processor takes these for the channels
        inputs = processor(images=Image.fromarray(pixels), input_boxes=[boxes.tolist()], return_tensors="pt").to(
            model.device
        )
        with torch.no_grad():
            output = model(**inputs, multimask_output=False)
        sizes = {"original_sizes": inputs["original_sizes"].cpu()}
        if "reshaped_input_sizes" in inputs:  # SAM pads; SAM 2 does not
            sizes["reshaped_input_sizes"] = inputs["reshaped_input_sizes"].cpu()
        masks = processor.post_process_masks(output.pred_masks.cpu(), **sizes)[0]  # (N, 1, H, W)
        return [np.asarray(mask[0], bool) for mask in masks]

    return segment


SEGMENTERS: Mapping[str, Callable[[str], Segmenter]] = {"onnx": onnx_pair, "transformers": transformers_sam}
