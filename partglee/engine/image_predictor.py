"""A model with the way that it reads images: how predictors are made, from a configuration or from weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partglee.data.images import MAX_PIXELS, ImageSource
from partglee.engine.image_input import ImageInput, InputImage, usable_device
from partglee.engine.inference import encode_images
from partglee.engine.precision import usable_precision
from partglee.engine.prediction_calls import EncodedImage, OneImage
from partglee.engine.pretrained import Pretrained, load_pretrained, pretrained_config
from partglee.modeling import PartGLEE, build_model
from partglee.modeling.folding import ready_for_prediction
from partglee.modeling.postprocess import PostprocessOptions

if TYPE_CHECKING:
    from typing_extensions import Self


class ImagePredictor:
    """What `Predictor` is before anything is asked: made, and given images.

    Args:
        model: put into evaluation mode.
        short_side, max_side: images are resized so that the short side has this many pixels, unless the long side would
            pass `max_side`.
        score_threshold, mask_box: defaults of the call.
        precision: `float32`, `bfloat16` / `float16` for autocast, or `auto`: bfloat16 where the hardware has it.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        *,
        model: PartGLEE,
        short_side: int = 800,
        max_side: int = 1333,
        score_threshold: float = 0.3,
        mask_box: float | None = None,
        precision: str = "float32",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.model, precision = model.eval(), usable_precision(precision, model.device)
        self.input = ImageInput(short_side=short_side, max_side=max_side, precision=precision, max_pixels=max_pixels)
        self.defaults = PostprocessOptions(score_threshold=score_threshold, mask_box=mask_box)

    @property
    def score_threshold(self) -> float:
        return self.defaults.score_threshold

    @property
    def short_side(self) -> int:
        return self.input.short_side

    @property
    def max_side(self) -> int:
        return self.input.max_side

    @property
    def precision(self) -> str:
        return self.input.precision

    @property
    def max_pixels(self) -> int:
        return self.input.max_pixels

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        weights: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[object] = (),
    ) -> Self:
        """Build a model of the zoo (or of a YAML file) and load weights into it.

        Args:
            weights: a `.safetensors` file in our format; None leaves the weights random and warns.
            device: None = a GPU when there is one.
            overrides: `[KEY, VALUE, ...]` on top of the configuration.
        """
        if weights is not None:
            return cls._of(load_pretrained(weights, overrides, config=config, device=device), precision)
        warnings.warn(f"{config} without weights: predictions will be random; pass weights=", stacklevel=2)
        cfg = pretrained_config(None, overrides, config=config)
        return cls._of(Pretrained(build_model(cfg).to(usable_device(device)), cfg), precision)

    @classmethod
    def _of(cls, pretrained: Pretrained, precision: str) -> Self:
        model, cfg = pretrained
        return cls(
            model=ready_for_prediction(model),  # it is ours alone
            short_side=cfg.INPUT.TEST.SHORT_SIDE,
            max_side=cfg.INPUT.TEST.MAX_SIDE,
            score_threshold=cfg.TEST.SCORE_THRESHOLD,
            mask_box=cfg.TEST.MASK_BOX or None,
            precision=precision,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[object] = (),
    ) -> Self:
        """Load weights that know their configuration.

        Args:
            name: a `.safetensors` file written by `partglee convert`, `partglee export` or training; or the name of a
                model that ships with the library, or whose weights lie in `$PARTGLEE_WEIGHTS` (default
                `~/.cache/partglee`) as `NAME.safetensors`.
            device, precision, overrides: as for `from_config`.

        On a processor the predictor's `model` is for prediction alone: norms of its backbone are in the convolutions.
        `partglee.engine.pretrained.load_pretrained` gives the model as it was trained.
        """
        return cls._of(load_pretrained(name, overrides, device=device), precision)

    # ------------------------------------------------------------------ images

    def read(self, source: ImageSource | InputImage) -> InputImage:
        """Read and resize an image, to be handed to the other methods in its place."""
        return self.input.read(source)

    def encode_image(self, image: OneImage) -> EncodedImage:
        """The image side of the network, run once for many questions: hand the result over in place of the image.

        What it holds does not depend on text: the backbone's maps and, where category names are not fused into the
        pixels (`MODEL.EARLY_FUSION.CATEGORIES` is off), the pixel decoder's output, shared by all vocabularies.
        Expressions, and names where they are fused, run the encoder anew: for them the backbone and its maps at the
        decoder's width are shared.
        """
        return image if isinstance(image, EncodedImage) else self.encode_batch([self.read(image)])

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (3, h, w) uint8 of the size that the network sees."""
        return self.input.resize(pixels)

    def canvas(self, image: InputImage) -> tuple[int, int]:
        """What a read image has in common with those that may share its batch."""
        return image.canvas(self.model.size_divisibility)

    def encode_batch(self, images: Sequence[InputImage]) -> EncodedImage:
        """`encode_image` for read images of one canvas."""
        encoded = encode_images(self.model, [image.resized for image in images], precision=self.precision)
        return EncodedImage(images=images, batch=encoded.batch, maps=encoded.maps)
