"""From a photo and expressions to one mask each, or the answer that nothing is meant."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.checkpoint import load_weights, read_metadata
from partglee.config import config_from_text
from partglee.data.images import MAX_PIXELS, ImageSource
from partglee.engine.image_input import ImageInput, InputImage, frames, usable_device
from partglee.engine.weight_files import CONFIG_TEXT, find_weights
from partglee.modeling.frame import Frame, mask_confidence
from partglee.ops.masks import masks_to_image
from partglee.structures import Prediction
from rela.answer import Answer
from rela.config import build_model, load_config, rela_defaults
from rela.fusion import Words
from rela.model import EncodedImages, ReLA
from rela.region_decoder import RegionOutput
from rela.words import WORDS_TEXT

NO_TARGET_RULES = ("classifier", "pixels", "either")
FindsObjects = Callable[[NDArray[np.uint8]], Prediction]
# glibc's malloc keeps what is smaller for the next tensor; what is larger goes back to the system and returns page by
# page, which costs more than the arithmetic on it.
_KEPT_BYTES = 2**25
_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How the model's numbers become an answer.

    Args:
        no_target: "classifier": the model's own answer; "pixels": a mask of fewer than `min_pixels` (paper, table 6);
            "either".
        min_pixels: of the image as it is.
        threshold: probability above which the classifier says that nothing is meant (released: 0.5).
        clear: nothing meant = an empty mask; False keeps the raw one, as released.
    """

    no_target: str = "classifier"
    min_pixels: int = 50
    clear: bool = True
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.no_target not in NO_TARGET_RULES or self.min_pixels < 0 or not 0 <= self.threshold <= 1:
            raise ValueError(
                f"no_target must be one of {', '.join(NO_TARGET_RULES)}, min_pixels at least 0, threshold in [0, 1], "
                f"got {self.no_target!r}, {self.min_pixels} and {self.threshold}"
            )

    def rejects(self, none: float, num_pixels: int) -> bool:
        """Whether nothing is meant, from the classifier's probability of that and the size of the mask."""
        few, says_none = num_pixels < self.min_pixels, none > self.threshold
        return {"classifier": says_none, "pixels": few, "either": says_none or few}[self.no_target]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """An image after everything that all expressions share; of `Predictor.encode_image`."""

    image: InputImage
    frame: Frame
    features: EncodedImages


class Predictor:
    """A model with everything around it that photos and sentences need.

    >>> predictor = Predictor.from_pretrained("rela_swint.safetensors")  # doctest: +SKIP
    >>> dogs, zebra = predictor("photo.jpg", ["the two dogs", "a zebra"])  # doctest: +SKIP
    >>> dogs.mask.sum(), len(dogs.instances), zebra.no_target  # doctest: +SKIP

    Args:
        model: put into evaluation mode.
        squash: (h, w) that the network sees, whatever the image's proportions; None = `short_side` and `max_side`.
        precision: `float32`, or `bfloat16` / `float16` for autocast.
        options: how answers are made; the call's defaults.
        expressions_at_once: of one image, through the decoders together; fewer take less memory.
        objects: (H, W, 3) pixels -> a `Prediction`; the objects that it finds split the masks of answers into
            instances, in place of connected pixels: `functools.partial(partglee.Predictor(...), vocabulary="dog")`.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        *,
        model: ReLA,
        squash: tuple[int, int] | None = (480, 480),
        short_side: int = 480,
        max_side: int = 800,
        precision: str = "float32",
        options: AnswerOptions | None = None,
        expressions_at_once: int = 16,
        objects: FindsObjects | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if expressions_at_once < 1:
            raise ValueError(f"expressions_at_once must be at least 1, got {expressions_at_once}")
        self.model = model.eval()
        self.input = ImageInput(
            short_side=short_side, max_side=max_side, squash=squash, precision=precision, max_pixels=max_pixels
        )
        self.options = options or AnswerOptions()
        self.expressions_at_once = expressions_at_once
        self.objects = objects

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        weights: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[Any] = (),
        objects: FindsObjects | None = None,
    ) -> Predictor:
        """Build a model of a configuration (a name such as `rela_swint`, or a YAML file) and load weights into it.

        Args:
            weights: a `.safetensors` file in our format; None leaves the weights random and warns.
            device: None = a GPU when there is one.
            overrides: `[KEY, VALUE, ...]` on top of the configuration.
            objects: as for the class.

        Raises:
            ValueError: for a configuration or weights that cannot be read or do not fit.
        """
        if weights is None:
            warnings.warn(f"{config} without weights: answers will be random; pass weights=", stacklevel=2)
        cfg = load_config(config, overrides)
        return cls.from_cfg(cfg, weights, device=device, precision=precision, objects=objects)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        overrides: Sequence[Any] = (),
        objects: FindsObjects | None = None,
    ) -> Predictor:
        """Load weights that know their configuration: of `python -m rela convert`, `export` or training.

        Raises:
            ValueError: for a file that is missing, is of another program, or does not say its configuration.
        """
        file = find_weights(name)
        metadata = read_metadata(file)
        if CONFIG_TEXT not in metadata:
            raise ValueError(
                f"{file} does not say which configuration it belongs to; convert released weights with "
                "`python -m rela convert`, or use Predictor.from_config(CONFIG, weights=...)"
            )
        cfg = config_from_text(metadata[CONFIG_TEXT], overrides, source=str(file), defaults=rela_defaults)
        return cls.from_cfg(cfg, file, device=device, precision=precision, objects=objects)

    @classmethod
    def from_cfg(
        cls,
        cfg: CN,
        weights: str | Path | None,
        *,
        device: str | torch.device | None = None,
        precision: str = "float32",
        objects: FindsObjects | None = None,
    ) -> Predictor:
        """The same from a configuration at hand."""
        target = usable_device(device)
        words = read_metadata(weights).get(WORDS_TEXT) if weights is not None else None
        model = _build_with_words(cfg, words)
        if weights is not None:
            load_weights(model, weights)
        return cls.around(model.to(target), cfg, precision=precision, objects=objects)

    @classmethod
    def around(
        cls, model: ReLA, cfg: CN, *, precision: str | None = None, objects: FindsObjects | None = None
    ) -> Predictor:
        """A model with the settings of `INPUT.TEST` and `TEST`; precision None = that of `SOLVER`."""
        size = cfg.INPUT.TEST.SIZE
        return cls(
            model=model,
            squash=(size[0], size[1]) if cfg.INPUT.TEST.MODE == "squash" else None,
            short_side=cfg.INPUT.TEST.SHORT_SIDE,
            max_side=cfg.INPUT.TEST.MAX_SIDE,
            precision=precision or _PRECISIONS[cfg.SOLVER.PRECISION],
            options=AnswerOptions(
                no_target=cfg.TEST.NO_TARGET,
                min_pixels=cfg.TEST.MIN_PIXELS,
                clear=cfg.TEST.CLEAR,
                threshold=cfg.TEST.NO_TARGET_THRESHOLD,
            ),
            expressions_at_once=cfg.TEST.EXPRESSIONS_AT_ONCE,
            objects=objects,
        )

    # ------------------------------------------------------------------ prediction

    def __call__(
        self, image: ImageSource | InputImage | EncodedImage, expressions: str | Sequence[str], **options: Any
    ) -> Any:
        """Find what expressions mean ("the two dogs", "everyone but the blue shirt", "a zebra" where there is none).

        Args:
            image: a path, PIL image, array (H, W, 3) uint8 RGB or tensor (3, H, W); or what `encode_image` gave.
            expressions: one, or a list; the image is encoded once for all of them.
            options: fields of `AnswerOptions` in place of the predictor's own.

        Returns:
            One `Answer`; for a list of expressions a list.

        Raises:
            ValueError: for an image that cannot be read, an expression without a word, or an unknown option.
        """
        asked = [expressions] if isinstance(expressions, str) else list(expressions)
        check_expressions(asked)
        chosen = self._chosen(options)
        encoded = self.encode_image(image)
        answers = []
        for first in range(0, len(asked), self.expressions_at_once):
            answers += self._answers(encoded, asked[first : first + self.expressions_at_once], chosen)
        return answers[0] if isinstance(expressions, str) else answers

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Answer]:
        """The same under the name by which evaluation asks (`partglee.engine.answers.AnswersExpressions`)."""
        return list(self(image, list(expressions))) if len(expressions) else []

    def read(self, source: ImageSource | InputImage) -> InputImage:
        """Read and resize an image, to be handed to the other methods in its place."""
        return self.input.read(source)

    @torch.no_grad()
    def encode_image(self, image: ImageSource | InputImage | EncodedImage) -> EncodedImage:
        """Everything of an image that its expressions share, run once: hand the result over in place of the image."""
        if isinstance(image, EncodedImage):
            return image
        read = self.read(image)
        batch = self.model.batch([read.resized])
        with self.input.autocast(self.model.device):
            features = self.model.encode_image(batch)
        return EncodedImage(read, frames([read], batch)[0], features)

    # ------------------------------------------------------------------ internals

    def _chosen(self, options: dict[str, Any]) -> AnswerOptions:
        try:
            return replace(self.options, **options)
        except TypeError as error:
            known = ", ".join(field.name for field in fields(AnswerOptions))
            raise ValueError(f"unknown option among {', '.join(options)}; there are {known}") from error

    @torch.no_grad()
    def _answers(self, encoded: EncodedImage, expressions: list[str], options: AnswerOptions) -> list[Answer]:
        """Words are read together, then decoded in pieces."""
        device = self.model.device
        with self.input.autocast(device):
            words = self.model.read(expressions)
        piece = self._piece(encoded.frame)
        answers = []
        for first in range(0, len(expressions), piece):
            some = slice(first, first + piece)
            with self.input.autocast(device):
                image_of = torch.zeros(len(expressions[some]), dtype=torch.long, device=device)
                output = self.model.decode(encoded.features, Words(words.states[some], words.mask[some]), image_of)
            answers += self._said(output, encoded, expressions[some], options)
        return answers

    def _piece(self, frame: Frame) -> int:
        """Expressions that are decoded together: on a CPU so few that no map of stride 4 is too large to be kept."""
        if self.model.device.type != "cpu" or self.model.fused == "none":
            return self.expressions_at_once
        height, width = frame.canvas
        size = height // 4 * (width // 4) * self.model.region_decoder.content[0].nbytes
        return min(self.expressions_at_once, max(1, _KEPT_BYTES // size))

    def _said(
        self, output: RegionOutput, encoded: EncodedImage, expressions: list[str], options: AnswerOptions
    ) -> list[Answer]:
        frame = encoded.frame
        # Target against background, which is what an argmax over the two compares.
        small = output.mask_logits(output.merged_embed[:, 1:] - output.merged_embed[:, :1]).float()
        none = output.no_target.float().softmax(dim=-1)[:, 1].tolist()
        cells = self.model.region_decoder.num_regions
        minimaps = output.minimap.float().softmax(dim=-1)[..., 1].unflatten(1, (cells, cells)).cpu()
        answers = []
        for row, text in enumerate(expressions):
            logits = masks_to_image(
                small[row], canvas=frame.canvas, padded_from=frame.resized, image_size=frame.original
            ).cpu()
            mask = logits[0] > 0
            count = int(mask.count_nonzero())
            rejected = options.rejects(none[row], count)
            cleared = rejected and options.clear
            answers.append(
                Answer(
                    expression=text,
                    mask=torch.zeros_like(mask) if cleared else mask,
                    no_target=rejected,
                    no_target_score=none[row],
                    confidence=float(mask_confidence(logits)) if count and not cleared else 0.0,
                    minimap=minimaps[row],
                    pixels=encoded.image.pixels,
                    file_name=encoded.image.file_name,
                    find_objects=self.objects,
                )
            )
        return answers


def check_expressions(expressions: Sequence[str]) -> None:
    """Raises ValueError for none at all, or one without a letter or digit."""
    if not expressions:
        raise ValueError("expected at least one expression, got none")
    for place, text in enumerate(expressions):
        if not isinstance(text, str) or not any(sign.isalnum() for sign in text):
            raise ValueError(f"expression {place} is {text!r}; write what to look for, such as 'the two dogs'")


def _build_with_words(cfg: CN, words: str | None) -> ReLA:
    """The model of a configuration; the vocabulary that its weights carry goes before the file of the configuration."""
    if words is None:
        return build_model(cfg)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(words, encoding="utf-8")
        carried = cfg.clone()
        carried.MODEL.TEXT.BERT.VOCABULARY, carried.MODEL.TEXT.BERT.PRETRAINED = str(file), ""
        return build_model(carried)
