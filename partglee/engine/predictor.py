"""From a photo and a vocabulary to objects and their parts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from partglee.checkpoint import load_weights, read_metadata
from partglee.config import config_from_text, load_config
from partglee.data.images import MAX_PIXELS, ImageSource, read_image
from partglee.engine.weight_files import CONFIG_NAME, CONFIG_TEXT, TABLE_KEY, TABLE_NAMES, find_table, find_weights
from partglee.modeling import PartGLEE, build_model
from partglee.modeling.frame import Frame
from partglee.modeling.postprocess import PostprocessOptions, postprocess
from partglee.structures import ModelOutput, Prediction, TextEmbeddings, Vocabulary
from partglee.text import backend_kind

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor:
    """A model with everything around it that images need.

    >>> predictor = Predictor.from_config("joint_r50", weights="partglee_r50.safetensors")  # doctest: +SKIP
    >>> prediction = predictor("street.jpg", "car: wheel, door; person", score_threshold=0.3)  # doctest: +SKIP

    Args:
        model: put into evaluation mode.
        short_side, max_side: images are resized so that the short side has this many pixels, unless the long side would
            pass `max_side`.
        score_threshold: default of the call.
        precision: `float32`, or `bfloat16` / `float16` for autocast.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        *,
        model: PartGLEE,
        short_side: int = 800,
        max_side: int = 1333,
        score_threshold: float = 0.3,
        precision: str = "float32",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if precision not in _PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
        if not 1 <= short_side <= max_side:
            raise ValueError(f"expected 1 <= short_side <= max_side, got {short_side} and {max_side}")
        self.model = model.eval()
        self.short_side = short_side
        self.max_side = max_side
        self.score_threshold = score_threshold
        self.precision = precision
        self.max_pixels = max_pixels

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        weights: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[Any] = (),
    ) -> Predictor:
        """Build a model of the zoo (or of a YAML file) and load weights into it.

        Args:
            weights: a `.safetensors` file in our format; None leaves the weights random and warns.
            device: None = a GPU when there is one.
            overrides: `[KEY, VALUE, ...]` on top of the configuration.
        """
        if weights is None:
            warnings.warn(f"{config} without weights: predictions will be random; pass weights=", stacklevel=2)
        return cls._build(load_config(config, overrides), weights, device=device, precision=precision)

    @classmethod
    def _build(
        cls, cfg: CN, weights: str | Path | None, *, device: str | torch.device | None, precision: str
    ) -> Predictor:
        target = _check_device(device)
        cfg.MODEL.TEXT.MODE = "frozen"  # what training adds to the text tower, such as its teacher, is not needed here
        if backend_kind(cfg).reads_table and cfg.MODEL.TEXT.TABLE.FILE:
            cfg.MODEL.TEXT.TABLE.FILE = str(find_table(cfg.MODEL.TEXT.TABLE.FILE))
        model = build_model(cfg)
        if weights is not None:
            load_weights(model, weights, ignore=[TABLE_KEY])
        return cls(
            model=model.to(target),
            short_side=cfg.INPUT.TEST.SHORT_SIDE,
            max_side=cfg.INPUT.TEST.MAX_SIDE,
            score_threshold=cfg.TEST.SCORE_THRESHOLD,
            precision=precision,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Predictor:
        """Load weights that know their configuration.

        >>> predictor = Predictor.from_pretrained("partglee-tiny")  # ships with the library  # doctest: +SKIP

        Args:
            name: a `.safetensors` file written by `partglee convert`, `partglee export` or training; or the name of a
                model that ships with the library, or whose weights lie in `$PARTGLEE_WEIGHTS` (default
                `~/.cache/partglee`) as `NAME.safetensors`.
            options: as for `from_config`.
        """
        file = find_weights(name)
        metadata = read_metadata(file)
        if CONFIG_TEXT in metadata:
            return cls._from_text(file, metadata, **options)
        config = metadata.get(CONFIG_NAME)
        if config is None:
            raise ValueError(
                f"{file} does not say which configuration it belongs to; "
                "use Predictor.from_config(CONFIG, weights=...) instead"
            )
        return cls.from_config(config, file, **options)

    @classmethod
    def _from_text(
        cls,
        file: Path,
        metadata: Mapping[str, str],
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[Any] = (),
    ) -> Predictor:
        cfg = config_from_text(metadata[CONFIG_TEXT], overrides, source=str(file))
        if TABLE_NAMES in metadata and not cfg.MODEL.TEXT.TABLE.FILE:
            cfg.MODEL.TEXT.TABLE.FILE = str(file)  # exported weights carry their names
        return cls._build(cfg, file, device=device, precision=precision)

    # ------------------------------------------------------------------ prediction

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        vocabulary: Any,
        *,
        score_threshold: float | None = None,
        part_score_threshold: float | None = None,
        max_objects: int = 100,
        max_parts_per_object: int | None = None,
        restrict_parts: bool = True,
        part_overlap: float | None = 0.7,
        masks: bool = True,
    ) -> Any:
        """Find the objects of the vocabulary, and their parts.

        Args:
            images: a path, PIL image, array (H, W, 3) uint8 RGB or tensor (3, H, W); or a list of them.
            vocabulary: whatever `Vocabulary.parse` takes: a dict, a list, "car: wheel, door; person", a file, a name.
            score_threshold: objects below it are dropped with their parts.
            part_score_threshold: for parts; None = as for objects.
            max_parts_per_object: keep the best parts of each object; None = all.
            restrict_parts: a part may only appear under an object that has it in the vocabulary; False lets all part
                names compete for every part, as the released code does.
            part_overlap: of equally named parts of one object whose boxes overlap more than this, keep the best.
            masks: False saves their cost.

        Returns:
            One `Prediction`; for a list of images a list.
        """
        options = PostprocessOptions(
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
            part_score_threshold=part_score_threshold,
            max_objects=max_objects,
            max_parts_per_object=max_parts_per_object,
            restrict_parts=restrict_parts,
            part_overlap=part_overlap,
            masks=masks,
        )
        names = Vocabulary.parse(vocabulary)
        if isinstance(images, (list, tuple)):
            return list(self.stream(images, names, options))
        return next(self.stream([images], names, options))

    def stream(
        self, images: Sequence[ImageSource], vocabulary: Vocabulary, options: PostprocessOptions
    ) -> Iterator[Prediction]:
        """Predict one image after the other; the vocabulary is encoded once."""
        text = self._embed(vocabulary)
        for source in images:
            yield self._predict(source, vocabulary, text, options)

    def ground(self, image: ImageSource, expression: str, *, score_threshold: float = 0.0) -> Prediction:
        """Find the one object that a referring expression means ("the red car on the left")."""
        with torch.no_grad(), self._autocast():
            text = self.model.text_encoder.embed_expressions([expression])
        options = PostprocessOptions(score_threshold=score_threshold, max_objects=1, max_queries=1)
        return self._predict(image, Vocabulary([expression]), text, options)

    def raw(self, image: ImageSource, vocabulary: Vocabulary) -> tuple[ModelOutput, Frame]:
        """What the model says of one image, before any choice, and the way from its canvas back to the image."""
        pixels = read_image(image, max_pixels=self.max_pixels)
        with torch.no_grad():
            batch = self.model.batch([self.resize(pixels)])
            with self._autocast():
                output = self.model(batch, self._embed(vocabulary))
        return output, Frame(batch.canvas, batch.sizes[0], (pixels.shape[0], pixels.shape[1]))

    # ------------------------------------------------------------------ internals

    def _embed(self, vocabulary: Vocabulary) -> TextEmbeddings:
        # Text stays in full precision: it is cached, and shared by every image.
        return self.model.embed(vocabulary)

    def _predict(
        self, source: ImageSource, vocabulary: Vocabulary, text: TextEmbeddings, options: PostprocessOptions
    ) -> Prediction:
        pixels = read_image(source, max_pixels=self.max_pixels)
        # Not inference_mode: the user may change what is returned in place.
        with torch.no_grad():
            batch = self.model.batch([self.resize(pixels)])
            with self._autocast():
                output = self.model(batch, text)
            prediction = postprocess(output, vocabulary, batch, [pixels.shape[:2]], options)[0]
        name = str(source) if isinstance(source, (str, os.PathLike)) else None
        return replace(prediction, image=pixels, file_name=name)

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (3, h, w) uint8 of the size that the network sees."""
        height, width = pixels.shape[:2]
        scale = min(self.short_side / min(height, width), self.max_side / max(height, width))
        size = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
        if size != (width, height):
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _PRECISIONS[self.precision]
        return torch.autocast(self.model.device.type, dtype=dtype) if dtype else nullcontext()


def _check_device(device: str | torch.device | None) -> torch.device:
    """A usable device; a wrong name or a missing GPU is told before a model is built."""
    if device is None:
        return default_device()
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; try cpu, cuda or cuda:0") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device} is not there: {torch.cuda.device_count()} CUDA devices; use cpu")
    return chosen


def default_device() -> torch.device:
    """A GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
