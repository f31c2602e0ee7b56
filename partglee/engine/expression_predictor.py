"""From a photo and sentences to one mask each, with any model that answers expressions: what projects build on.

A project says how its model encodes images and answers, and which of its configuration's keys are settings.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray
from torch import nn

from partglee.checkpoint import load_weights, read_metadata
from partglee.config import config_from_text, project_config
from partglee.data.images import ImageSource
from partglee.engine.expression_weights import build_with_words
from partglee.engine.grounding import sentences
from partglee.engine.image_input import ImageInput, InputImage, frames, usable_device
from partglee.engine.precision import usable_precision
from partglee.engine.recipe import get_recipe
from partglee.engine.weight_files import CONFIG_TEXT, WORDS, find_weights
from partglee.modeling.frame import Frame
from partglee.structures import MaskAnswer, Prediction

if TYPE_CHECKING:
    from typing_extensions import Self

FindsObjects = Callable[[NDArray[np.uint8]], Prediction]
"""(H, W, 3) pixels -> the objects in them."""
Model = TypeVar("Model", bound=nn.Module)
Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, eq=False)
class EncodedExpressionImage:
    """An image after everything that all expressions share; of `ExpressionPredictor.encode_image`."""

    image: InputImage
    frame: Frame
    features: Any  # what the project's model made of it


class ExpressionPredictor(ABC, Generic[Model, Options]):
    """A model for any expression with everything around it that photos and sentences need.

    Args:
        model: put into evaluation mode. It has `device` and `batch(images)`, as `partglee.modeling.PartGLEE` has.
        image_input: how images are read.
        options: a frozen dataclass of what a call may choose; the call's defaults.
        expressions_at_once: of one image, through the model together; fewer take less memory.
        objects: the objects that it finds split the masks of answers into instances, in place of connected pixels:
            `functools.partial(partglee.Predictor(...), vocabulary="dog")`.
    """

    recipe_name: ClassVar[str]
    configs: ClassVar[Path]  # folder of the project's configurations

    def __init__(
        self,
        *,
        model: Model,
        image_input: ImageInput,
        options: Options,
        expressions_at_once: int = 16,
        objects: FindsObjects | None = None,
    ) -> None:
        if expressions_at_once < 1:
            raise ValueError(f"expressions_at_once must be at least 1, got {expressions_at_once}")
        self.model = model.eval()
        self.input = image_input
        self.options = options
        self.expressions_at_once = expressions_at_once
        self.objects = objects

    # ------------------------------------------------------------------ what a project says

    @classmethod
    @abstractmethod
    def around(
        cls, model: Model, cfg: CN, *, precision: str | None = None, objects: FindsObjects | None = None
    ) -> Self:
        """A model with the settings of `INPUT.TEST` and `TEST`; precision None = that of `SOLVER`."""

    @abstractmethod
    def _encode(self, images: Any) -> Any:
        """What the model makes of a batch of one image, whatever is asked of it; autocast and gradients are set."""

    @abstractmethod
    def _answers(
        self, encoded: EncodedExpressionImage, expressions: list[str], options: Options
    ) -> Sequence[MaskAnswer]:
        """An answer for each of a few expressions."""

    # ------------------------------------------------------------------ from weights

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
    ) -> Self:
        """Build a model of a configuration (a name of the project's, or a YAML file) and load weights into it.

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
        cfg = project_config(config, overrides, folder=cls.configs, defaults=get_recipe(cls.recipe_name).defaults)
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
    ) -> Self:
        """Load weights that know their configuration: of the project's `convert` or `export`, or of training.

        Raises:
            ValueError: for a file that is missing, is of another program, or does not say its configuration.
        """
        file = find_weights(name)
        text = read_metadata(file).get(CONFIG_TEXT)
        if text is None:
            raise ValueError(
                f"{file} does not say which configuration it belongs to; convert released weights with "
                f"`python -m {cls.recipe_name} convert`, or use Predictor.from_config(CONFIG, weights=...)"
            )
        defaults = get_recipe(cls.recipe_name).defaults
        cfg = config_from_text(text, overrides, source=str(file), defaults=defaults)
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
    ) -> Self:
        """The same from a configuration at hand."""
        target = usable_device(device)
        words = None if weights is None else read_metadata(weights).get(WORDS)
        model: Any = build_with_words(cfg, words)
        if weights is not None:
            load_weights(model, weights)
        return cls.around(model.to(target), cfg, precision=usable_precision(precision, target), objects=objects)

    # ------------------------------------------------------------------ prediction

    def __call__(
        self,
        image: ImageSource | InputImage | EncodedExpressionImage,
        expressions: str | Sequence[str],
        **options: Any,
    ) -> Any:
        """Find what expressions mean.

        Args:
            image: a path, PIL image, array (H, W, 3) uint8 RGB or tensor (3, H, W); or what `encode_image` gave.
            expressions: one, or a list; the image is encoded once for all of them.
            options: fields of the predictor's options in place of its own.

        Returns:
            One answer; for a list of expressions a list.

        Raises:
            ValueError: for an image that cannot be read, an expression without a word, or an unknown option.
            TypeError: for expressions that are no text and no list of texts, and for options of a wrong type.
        """
        asked = sentences(expressions)
        check_expressions(asked)
        chosen = self.options_with(options)
        encoded = self.encode_image(image)
        answers: list[MaskAnswer] = []
        for first in range(0, len(asked), self.expressions_at_once):
            answers += self._answers(encoded, asked[first : first + self.expressions_at_once], chosen)
        return answers[0] if isinstance(expressions, str) else answers

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Any]:
        """The same under the name by which evaluation asks (`partglee.engine.answerers.AnswersExpressions`)."""
        return list(self(image, list(expressions))) if len(expressions) else []

    def read(self, source: ImageSource | InputImage) -> InputImage:
        """Read and resize an image, to be handed to the other methods in its place."""
        return self.input.read(source)

    @torch.no_grad()
    def encode_image(self, image: ImageSource | InputImage | EncodedExpressionImage) -> EncodedExpressionImage:
        """Everything of an image that its expressions share, run once: hand the result over in place of the image."""
        if isinstance(image, EncodedExpressionImage):
            return image
        model: Any = self.model
        read = self.read(image)
        batch = model.batch([read.resized])
        with self.input.autocast(model.device):
            features = self._encode(batch)
        return EncodedExpressionImage(read, frames([read], batch)[0], features)

    def options_with(self, options: Mapping[str, Any]) -> Options:
        """The predictor's options, some of them replaced.

        Raises:
            ValueError, TypeError: for an option that is not known, or a value that it cannot have.
        """
        own: Any = self.options
        known = [field.name for field in fields(own)]
        if unknown := [name for name in options if name not in known]:
            raise ValueError(f"unknown option among {', '.join(unknown)}; there are {', '.join(known)}")
        try:
            chosen: Options = replace(own, **options)
        except TypeError as error:
            given = ", ".join(f"{name}={value!r:.60}" for name, value in options.items())
            raise TypeError(f"an option is of a type that it cannot be of: {given} ({error})") from error
        return chosen


def check_expressions(expressions: Sequence[str]) -> None:
    """Raises ValueError for none at all, or one without a letter or digit, or with half of a character."""
    if not expressions:
        raise ValueError("expected at least one expression, got none")
    for place, text in enumerate(expressions):
        if not isinstance(text, str) or not any(sign.isalnum() for sign in text):
            raise ValueError(f"expression {place} is {text!r}; write what to look for, such as 'the two dogs'")
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise ValueError(f"expression {place} holds half of a character: {text[:60]!a}")
