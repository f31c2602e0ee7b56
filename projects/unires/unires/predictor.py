"""From a photo and sentences to masks of objects and of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode as CN

from partglee.engine.expression_predictor import EncodedExpressionImage, ExpressionPredictor, FindsObjects
from partglee.engine.image_input import ImageInput
from partglee.engine.precision import precision_of
from partglee.ops.masks import masks_to_image
from partglee.structures import ImageBatch, MaskAnswer
from unires.config import CONFIGS
from unires.image_side import ImageSide
from unires.model import UniRES


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How the model's numbers become an answer.

    Args:
        threshold: of a pixel's probability (paper: 0.35).
        min_pixels: a mask of fewer pixels of the image means that nothing is meant, and is emptied.
    """

    threshold: float = 0.35
    min_pixels: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or self.min_pixels < 0:
            raise ValueError(
                f"threshold must be in [0, 1] and min_pixels at least 0, got {self.threshold} and {self.min_pixels}"
            )


class Predictor(ExpressionPredictor[UniRES, AnswerOptions]):
    """A model with everything around it that photos and sentences need; see `ExpressionPredictor`.

    >>> predictor = Predictor.from_pretrained("unires_toy.safetensors")  # doctest: +SKIP
    >>> arm, man = predictor("photo.jpg", ["left arm of the man in red", "the man in red"])  # doctest: +SKIP
    >>> arm.mask.sum(), arm.no_target  # doctest: +SKIP
    """

    recipe_name = "unires"
    configs = CONFIGS

    @classmethod
    def around(
        cls, model: UniRES, cfg: CN, *, precision: str | None = None, objects: FindsObjects | None = None
    ) -> Predictor:
        return cls(
            model=model,
            image_input=ImageInput(
                short_side=cfg.INPUT.TEST.SHORT_SIDE,
                max_side=cfg.INPUT.TEST.MAX_SIDE,
                precision=precision or precision_of(cfg),
            ),
            options=AnswerOptions(threshold=cfg.TEST.MASK_THRESHOLD, min_pixels=cfg.TEST.MIN_PIXELS),
            expressions_at_once=cfg.TEST.EXPRESSIONS_AT_ONCE,
            objects=objects,
        )

    def _encode(self, images: ImageBatch) -> ImageSide:
        return self.model.encode_image(images)

    @torch.no_grad()
    def _answers(
        self, encoded: EncodedExpressionImage, expressions: list[str], options: AnswerOptions
    ) -> Sequence[MaskAnswer]:
        device, frame = self.model.device, encoded.frame
        with self.input.autocast(device):
            image_of = torch.zeros(len(expressions), dtype=torch.long, device=device)
            small = self.model.decode(encoded.features, self.model.read(expressions), image_of).float()
        answers = []
        cut = torch.tensor(options.threshold).logit()
        for row, text in enumerate(expressions):
            logits = masks_to_image(
                small[row : row + 1], canvas=frame.canvas, padded_from=frame.resized, image_size=frame.original
            )
            shown = logits[0].cpu()
            mask = shown > cut
            best = float(shown.max().sigmoid())
            pixels = int(mask.count_nonzero())
            confidence = float((shown.sigmoid_() * mask).sum()) / max(pixels, 1)
            nothing = pixels < options.min_pixels
            if nothing:
                mask, confidence = torch.zeros_like(mask), 0.0
            answers.append(
                MaskAnswer(
                    expression=text,
                    mask=mask,
                    no_target=nothing,
                    no_target_score=1 - best,
                    confidence=confidence,
                    pixels=encoded.image.pixels,
                    file_name=encoded.image.file_name,
                    find_objects=self.objects,
                )
            )
        return answers
