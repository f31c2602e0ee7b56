"""From a photo and expressions to one mask each, or the answer that nothing is meant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode as CN

from partglee.engine.expression_predictor import EncodedExpressionImage, ExpressionPredictor, FindsObjects
from partglee.engine.image_input import ImageInput
from partglee.engine.precision import precision_of
from partglee.modeling.frame import Frame
from partglee.modeling.photo_model import Words
from partglee.ops.masks import mask_confidence, masks_to_image
from partglee.structures import ImageBatch
from rela.answer import Answer
from rela.config import CONFIGS
from rela.model import EncodedImages, ReLA
from rela.region_decoder import RegionOutput

NO_TARGET_RULES = ("classifier", "pixels", "either")
# glibc's malloc keeps what is smaller for the next tensor; what is larger goes back to the system and returns page by
# page, which costs more than the arithmetic on it.
_KEPT_BYTES = 2**25


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


class Predictor(ExpressionPredictor[ReLA, AnswerOptions]):
    """A model with everything around it that photos and sentences need; see `ExpressionPredictor`.

    >>> predictor = Predictor.from_pretrained("rela_swint.safetensors")  # doctest: +SKIP
    >>> dogs, zebra = predictor("photo.jpg", ["the two dogs", "a zebra"])  # doctest: +SKIP
    >>> dogs.mask.sum(), len(dogs.instances), zebra.no_target  # doctest: +SKIP
    """

    recipe_name = "rela"
    configs = CONFIGS

    @classmethod
    def around(
        cls, model: ReLA, cfg: CN, *, precision: str | None = None, objects: FindsObjects | None = None
    ) -> Predictor:
        size = cfg.INPUT.TEST.SIZE
        return cls(
            model=model,
            image_input=ImageInput(
                squash=(size[0], size[1]) if cfg.INPUT.TEST.MODE == "squash" else None,
                short_side=cfg.INPUT.TEST.SHORT_SIDE,
                max_side=cfg.INPUT.TEST.MAX_SIDE,
                precision=precision or precision_of(cfg),
            ),
            options=AnswerOptions(
                no_target=cfg.TEST.NO_TARGET,
                min_pixels=cfg.TEST.MIN_PIXELS,
                clear=cfg.TEST.CLEAR,
                threshold=cfg.TEST.NO_TARGET_THRESHOLD,
            ),
            expressions_at_once=cfg.TEST.EXPRESSIONS_AT_ONCE,
            objects=objects,
        )

    def _encode(self, images: ImageBatch) -> EncodedImages:
        return self.model.encode_image(images)

    @torch.no_grad()
    def _answers(self, encoded: EncodedExpressionImage, expressions: list[str], options: AnswerOptions) -> list[Answer]:
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
        self, output: RegionOutput, encoded: EncodedExpressionImage, expressions: list[str], options: AnswerOptions
    ) -> list[Answer]:
        frame = encoded.frame
        # Target against background, which is what an argmax over the two compares.
        with self.input.autocast(self.model.device):  # heads keep float32 beside features of half of it
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
