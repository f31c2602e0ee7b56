"""The training objective: objects, parts and what ties them together (PartGLEE Eq. 5).

A prediction sets, B images, Q object queries, P part queries, C names, N targets of one image, M matched pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from partglee.basics.processes import num_processes, sum_over_processes
from partglee.criterion import set_criterion as terms
from partglee.criterion.dense import dense_loss, on_grids_of, taught
from partglee.criterion.losses import RESTRICTION_NORMS, distillation_loss, restriction_loss, restriction_normaliser
from partglee.criterion.matcher import Matcher, Matches, PendingMatches
from partglee.criterion.set_criterion import SetCriterion
from partglee.criterion.stack import (
    PredictionStack,
    TargetBatch,
    batch_targets,
    full_precision,
    layer_names,
    stack_predictions,
)
from partglee.structures import (
    DecoderOutput,
    DenseScores,
    HierarchicalTargets,
    LevelSupervision,
    LevelTargets,
    ModelOutput,
    Supervision,
)

RESTRICTION, DISTILLATION, DENSE = "restriction", "distillation", "dense"
PART_MATCHING = ("global", "within_parent")


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Factors of the loss terms, as in the released code. The paper gives restriction 5 and box terms 2."""

    class_: float = 4.0
    box_l1: float = 5.0
    box_giou: float = 2.0
    mask_bce: float = 5.0
    mask_dice: float = 5.0
    restriction: float = 0.1
    distillation: float = 8.0
    dense: float = 8.0

    def of(self, term: str) -> float:
        """The factor of a term, by its name in the result."""
        return float(getattr(self, "class_" if term == terms.CLASS else term))


class _Level(NamedTuple):
    """One level of a batch, ready for the losses."""

    name: str
    output: DecoderOutput
    predictions: PredictionStack
    targets: TargetBatch
    supervision: LevelSupervision

    @property
    def supervised(self) -> bool:
        """Whether anything in the batch says something about this level."""
        background = self.supervision.background
        return len(self.targets) > 0 or background is None or any(background)


class _Counts(NamedTuple):
    """How many there are in the batches of all processes together: scalars."""

    objects: Tensor  # targets
    object_copies: Tensor  # of targets, as denoising queries
    parts: Tensor
    part_copies: Tensor
    images: Tensor
    taught: Tensor  # of `DenseScores`


@dataclass(kw_only=True)
class HierarchicalCriterion:
    """All losses of a batch.

    Args:
        part_matching: `global`: a part may match any part query (released). `within_parent`: a part whose parent is
            known may only match queries parsed from the object query that its parent matched in the last layer; where
            there is none, the part stays unmatched.
        restriction_norm: `released`: images times matched parts; `paper`: none (Eq. 4); `mean`: matched parts.
    """

    matcher: Matcher
    level: SetCriterion
    weights: LossWeights = field(default_factory=LossWeights)
    part_matching: str = "global"
    restriction_norm: str = "released"

    def __post_init__(self) -> None:
        for name, known in (("part_matching", PART_MATCHING), ("restriction_norm", RESTRICTION_NORMS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def __call__(
        self,
        output: ModelOutput,
        targets: Sequence[HierarchicalTargets],
        supervision: Supervision | None = None,
        dense: DenseScores | None = None,
    ) -> dict[str, Tensor]:
        """Weighted losses; their sum is what to minimise.

        Args:
            output: of a model in training mode (in evaluation mode the last layer alone counts).
            targets: one for each image.
            supervision: what the annotations leave open. Where its `background` is None, a level counts as fully
                annotated when any image of the step, over all processes, has a target on it, else as not annotated.
            dense: what a teacher says of the images, for a model with a dense head.

        Returns:
            `level/term/prediction set` -> scalar, such as `part/mask_dice/final` or `object/class/denoising.layer1`.
            What nothing in the batch supervises is left out, so its parameters get no gradient.
        """
        with torch.autocast(output.mask_features.device.type, enabled=False):
            return self._losses(output, targets, supervision or Supervision(), dense)

    def _losses(
        self,
        output: ModelOutput,
        targets: Sequence[HierarchicalTargets],
        supervision: Supervision,
        dense: DenseScores | None,
    ) -> dict[str, Tensor]:
        if len(targets) != len(output.mask_features):
            raise ValueError(f"expected targets of {len(output.mask_features)} images, got {len(targets)}")
        device = output.mask_features.device
        dense = None if dense is None else on_grids_of(_dense_logits(output), dense)
        active = None if output.text.expressions else output.text.active
        objects = _prepare("object", output.objects, [t.objects for t in targets], supervision.objects, active)
        parts = None
        if output.parts is not None:
            parts = _prepare("part", output.parts, [t.parts for t in targets], supervision.parts, None)
        elif any(len(t.parts) for t in targets):
            raise ValueError("targets hold parts but the model predicted none; does the vocabulary have part names?")
        processes = num_processes()
        summed = sum_over_processes(_counts(objects, parts, len(targets), dense, device))
        counts, normalisers = _Counts(*summed.unbind()), _Counts(*(summed / processes).clamp(min=1).unbind())
        objects = _decide_background(objects, counts.objects, processes)
        parts = None if parts is None else _decide_background(parts, counts.parts, processes)

        # Assignments run on the CPU while the device computes what needs none.
        object_matches = self._start(objects, output.mask_features) if objects.supervised else None
        part_matches = None
        if parts is not None and parts.supervised:
            allowed = None
            if self.part_matching == "within_parent":
                allowed = _allowed_parts(objects, object_matches, output.parent, targets)
            part_matches = self._start(parts, output.mask_features, allowed)
        losses = {}
        if output.text.distill is not None and self.weights.distillation:
            student, teacher = output.text.distill
            loss = distillation_loss(full_precision(student), full_precision(teacher))
            losses[f"text/{DISTILLATION}"] = self.weights.distillation * loss
        if dense is not None and self.weights.dense:
            losses[f"object/{DENSE}/memory"] = (
                self.weights.dense * dense_loss(_dense_logits(output), dense) / normalisers.taught
            )
        losses.update(self._denoising(objects, normalisers.object_copies))
        if parts is not None:
            losses.update(self._denoising(parts, normalisers.part_copies))

        if object_matches is not None:
            matched = object_matches.result()
            losses.update(self._matched(objects, matched, normalisers.objects, output.mask_features))
        matched_parts = None
        if parts is not None and part_matches is not None:
            matched_parts = part_matches.result()
            losses.update(self._matched(parts, matched_parts, normalisers.parts, output.mask_features))
        losses.update(self._restriction(objects, parts, matched_parts, output.parent, counts.images, processes))
        return losses

    def _start(self, level: _Level, mask_features: Tensor, allowed: Sequence[Tensor] | None = None) -> PendingMatches:
        return self.matcher.start(level.predictions, level.targets, mask_features, allowed)

    def _matched(self, level: _Level, matches: Matches, normaliser: Tensor, features: Tensor) -> dict[str, Tensor]:
        values = self.level.losses(
            level.predictions,
            level.targets,
            matches,
            normaliser=normaliser,
            mask_features=features,
            supervision=level.supervision,
        )
        return self._named(level.name, values, level.predictions.names)

    def _denoising(self, level: _Level, normaliser: Tensor) -> dict[str, Tensor]:
        noised, source = level.output.denoising, level.output.denoising_source
        if not noised or source is None or len(level.targets) == 0:
            return {}
        predictions = stack_predictions(noised, layer_names(len(noised)))
        values = self.level.denoising_losses(
            predictions, source, level.targets, normaliser=normaliser, supervision=level.supervision
        )
        return self._named(level.name, values, [f"denoising.{name}" for name in predictions.names])

    def _restriction(
        self,
        objects: _Level,
        parts: _Level | None,
        matches: Matches | None,
        parent: Tensor | None,
        num_images: Tensor,
        processes: int,
    ) -> dict[str, Tensor]:
        """For matched part queries of every prediction set, against the last box of their object query."""
        if not self.weights.restriction:
            return {}
        # Every process takes part in the sum, whatever its own batch holds, be it a vocabulary without parts. All
        # prediction sets have equally many pairs, for the same pairs are allowed in each.
        num_sets = 1 if parts is None else len(parts.predictions.names)
        own = 0 if matches is None else len(matches.layer) // num_sets
        count = sum_over_processes(torch.full_like(num_images, own))
        if parts is None or parent is None or matches is None or len(parts.targets) == 0:
            return {}
        names = parts.predictions.names
        normaliser = restriction_normaliser(
            self.restriction_norm, num_images=num_images, num_matched=count, num_processes=processes
        )
        final = full_precision(objects.output.layers[-1].boxes)
        values = restriction_loss(
            parts.predictions.boxes[matches.layer, matches.image, matches.query],
            final[matches.image, parent[matches.image, matches.query]],
        )
        total = values.new_zeros(len(names)).index_add(0, matches.layer, values)
        return self._named(parts.name, {RESTRICTION: total / normaliser}, names)

    def _named(self, level: str, values: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Weighted scalars with their full names; terms of weight 0 are dropped."""
        return {
            f"{level}/{term}/{name}": loss
            for term, per_layer in values.items()
            if self.weights.of(term)
            for name, loss in zip(names, (self.weights.of(term) * per_layer).unbind(0), strict=True)
        }


def sum_terms(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over prediction sets, `level/term` and `level/denoising_term`, with their gradients.

    Args:
        losses: of the criterion.
    """
    summed: dict[str, Tensor] = {}
    for name, loss in losses.items():
        level, term, *layer = name.split("/")
        noised = bool(layer) and layer[0].startswith("denoising")
        key = f"{level}/denoising_{term}" if noised else f"{level}/{term}"
        summed[key] = summed[key] + loss if key in summed else loss
    return summed


def summarise(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For logs: `sum_terms` and the `total`; detached."""
    summary = {name: loss.detach() for name, loss in sum_terms(losses).items()}
    if losses:
        summary["total"] = total(losses.values()).detach()
    return summary


def total(losses: Iterable[Tensor]) -> Tensor:
    """What to minimise. Raises ValueError when nothing in the batch supervises anything."""
    values = list(losses)
    if not values:
        raise ValueError("no losses: the batch has no targets and no labelled background; skip it")
    return torch.stack(values).sum()


def _prepare(
    name: str,
    output: DecoderOutput,
    targets: Sequence[LevelTargets],
    supervision: LevelSupervision,
    active: Tensor | None,
) -> _Level:
    layers, names = output.layers, layer_names(len(output.layers))
    if output.proposals is not None:
        layers, names = (*layers, output.proposals), (*names, "proposals")
    predictions = stack_predictions(layers, names)
    _, num_images, _, num_names = predictions.logits.shape
    boxes = predictions.boxes
    batch = batch_targets(targets, num_names=num_names, device=boxes.device, dtype=boxes.dtype)
    negatives, background, labelled = supervision
    if negatives is not None and negatives.shape != (num_images, num_names):
        raise ValueError(
            f"{name} negatives must be ({num_images}, {num_names}), one flag for each image and name, "
            f"got {tuple(negatives.shape)}"
        )
    if background is not None and len(background) != num_images:
        raise ValueError(f"{name} background must hold {num_images} flags, one for each image, got {len(background)}")
    if labelled is not None and len(labelled) != num_images:
        raise ValueError(f"{name} labelled must hold {num_images} sets of regions, got {len(labelled)}")
    if active is not None:
        negatives = active if negatives is None else negatives.to(active.device) & active
    return _Level(name, output, predictions, batch, LevelSupervision(negatives, background, labelled))


def _decide_background(level: _Level, num_targets: Tensor, processes: int) -> _Level:
    """Where nothing is said: labelled if any image, on whatever process, has a target of this level."""
    if level.supervision.background is not None:
        return level
    # A process knows its own targets without asking the device.
    annotated = len(level.targets) > 0 or (processes > 1 and float(num_targets) > 0)
    background = (annotated,) * level.predictions.logits.shape[1]
    return level._replace(supervision=level.supervision._replace(background=background))


def _dense_logits(output: ModelOutput) -> tuple[Tensor, ...]:
    if output.objects.dense is None:
        raise ValueError(
            "the batch has scores of a teacher, which only a model in training mode that was built with "
            "MODEL.OBJECT_DECODER.DENSE_HEAD True listens to"
        )
    return output.objects.dense


def _counts(
    objects: _Level, parts: _Level | None, num_images: int, dense: DenseScores | None, device: torch.device
) -> Tensor:
    """(6,) `_Counts` of this process."""
    counts: list[int | Tensor] = []
    for level in (objects, parts):
        source = None if level is None else level.output.denoising_source
        counts += [0 if level is None else len(level.targets), 0 if source is None else (source >= 0).sum()]
    counts += [num_images, taught(dense)]
    return torch.stack([torch.as_tensor(c, dtype=torch.float32).to(device) for c in counts])


def _allowed_parts(
    objects: _Level,
    pending: PendingMatches | None,
    parent: Tensor | None,
    targets: Sequence[HierarchicalTargets],
) -> list[Tensor] | None:
    """For each image (P, N) bool: part queries that were parsed from the match of the part's parent, or any query where
    the parent is unknown."""
    if pending is None or parent is None:
        return None
    matches = pending.result(len(objects.output.layers) - 1)
    bounds = [0, *itertools.accumulate(matches.counts)]
    allowed = []
    for i, target in enumerate(targets):
        rows = slice(bounds[i], bounds[i + 1])
        owner = parent.new_full((len(target.objects) + 1,), -1)  # the last row stands for unknown parents
        owner[matches.target[rows]] = matches.query[rows]
        part_parent = target.part_parent.to(parent.device)
        allowed.append((parent[i][:, None] == owner[part_parent]) | (part_parent < 0))
    return allowed
