"""The library's own model as a recipe: everything that a run knows of PartGLEE."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from pathlib import Path

import torch
from fvcore.common.config import CfgNode as CN
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from partglee.checkpoint import convert_state_dict, convert_trained, read_metadata
from partglee.checkpoint.convert import SOURCES
from partglee.config import config_from_text, get_cfg
from partglee.criterion import HierarchicalCriterion, build_criterion, summarise, total
from partglee.data.catalog import DataSets
from partglee.data.teaching import build_taught_loader, check_teacher
from partglee.engine.logging import LOGGER
from partglee.engine.partglee_answers import partglee_answerer
from partglee.engine.recipe import Recipe, backbone_and_rest, register_recipe, train_batches
from partglee.engine.step import StepOutput
from partglee.engine.weight_files import CONFIG_TEXT, TABLE_NAMES, find_table, find_weights
from partglee.engine.weights import load_initial_weights
from partglee.modeling import PartGLEE, build_model
from partglee.structures import BatchNames, TextTokens, TrainingBatch
from partglee.text import backend_kind

_NAMES_KEPT = 64


def build(cfg: CN) -> PartGLEE:
    """The model of the configuration; its name table is looked for where the configuration leaves it open."""
    if backend_kind(cfg).reads_table:
        _find_names(cfg)
    return build_model(cfg)


class TrainingStep(nn.Module):
    """The model and its criterion, from a batch to one number to minimise.

    What data-parallel wrappers see is the loss itself, so they know the parameters that no loss reaches, whatever the
    batch supervises.

    Args:
        model: in training mode.
        criterion: of `build_criterion`.
    """

    def __init__(self, *, model: PartGLEE, criterion: HierarchicalCriterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self._tokens: OrderedDict[BatchNames, TextTokens] = OrderedDict()

    def forward(self, batch: TrainingBatch) -> StepOutput:
        """Loss of one batch; everything in it may still be on the CPU."""
        losses = self.losses(batch)
        loss = total(losses.values()) if losses else self.nothing()
        return StepOutput(loss, summarise(losses))

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The weighted terms of one batch with their gradients, for loops that add them up by themselves.

        Returns:
            `level/term/prediction set` -> (), see `HierarchicalCriterion`; `sum_terms` makes fewer of them. Their sum
            is the loss. Empty where the batch supervises nothing.
        """
        device = self.model.device
        targets = [target.to(device) for target in batch.targets]
        supervision, dense = tree_map(
            lambda x: x.to(device) if isinstance(x, Tensor) else x, (batch.supervision, batch.dense)
        )
        images = self.model.batch(batch.images, batch.canvas)
        output = self.model(images, self.tokens(batch), targets)
        return self.criterion(output, targets, supervision, dense)

    def tokens(self, batch: TrainingBatch) -> TextTokens:
        """The batch's names or expressions, tokenised; a vocabulary that comes again is looked up."""
        encoder = self.model.text_encoder
        if batch.expressions is not None:
            return encoder.tokenize_expressions(batch.expressions)
        if batch.names is None:
            raise ValueError(f"a batch of {batch.source or 'unknown source'} has neither names nor expressions")
        if batch.names not in self._tokens:
            self._tokens[batch.names] = encoder.tokenize(batch.names)
            if len(self._tokens) > _NAMES_KEPT:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(batch.names)
        return self._tokens[batch.names]

    def nothing(self) -> Tensor:
        """Zero, connected to one weight: a process without a loss still takes part in averaging the gradients."""
        return torch.zeros((), device=self.model.device) * self.model.object_decoder.heads.class_proj.sum()


def build_step(cfg: CN, model: PartGLEE) -> TrainingStep:
    """The model with its criterion."""
    return TrainingStep(model=model, criterion=build_criterion(cfg))


def group_of(cfg: CN, name: str) -> tuple[str, float]:
    """The text tower has a rate of its own; the projection of its output learns at the full rate."""
    return (
        ("text", cfg.SOLVER.TEXT_MULTIPLIER)
        if name.startswith("text_encoder.backend.")
        else backbone_and_rest(cfg, name)
    )


def load_weights(cfg: CN, model: PartGLEE, complete: bool = False) -> None:
    """As `load_initial_weights`; a text tower that nothing is loaded into is warned of."""
    load_initial_weights(cfg, model, complete)
    if not cfg.MODEL.WEIGHTS and backend_kind(cfg).is_random(cfg.MODEL.TEXT):
        LOGGER.warning(
            f"MODEL.WEIGHTS is empty: the {cfg.MODEL.TEXT.MODE} text tower is random: names mean nothing to it; "
            "start from weights that hold one (MODEL_ZOO.md), or use MODEL.TEXT.BACKEND table"
        )


def check_names(cfg: CN, model: PartGLEE, train: bool = True, data: DataSets | None = None) -> None:
    """Every name of every data set can be encoded, and a dense teacher can teach.

    Args:
        train: False: only what evaluation needs.
        data: what the run has read.

    Raises:
        ValueError: for a name that the model's table lacks, with the data set and the nearest known names; as of
            `check_teacher`.
    """
    data = data or DataSets()
    for name in dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)):
        records = data.records(name)
        sentences = [expression.text for expression in records[0].expressions] if len(records) else []
        try:
            model.text_encoder.tokenize(records.vocabulary)
            if sentences:
                model.text_encoder.tokenize_expressions(sentences[:1])
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error
    if train:
        check_teacher(cfg, {name: data.records(name).vocabulary for name in cfg.DATASETS.TRAIN})


def _find_names(cfg: CN) -> None:
    """The name table of the configuration, else the one that exported weights carry or that a run was trained with."""
    table = cfg.MODEL.TEXT.TABLE
    if table.FILE:
        table.FILE = str(find_table(table.FILE))
    elif cfg.MODEL.WEIGHTS:
        file = find_weights(cfg.MODEL.WEIGHTS)
        metadata = read_metadata(file)
        if CONFIG_TEXT not in metadata:
            return
        trained = config_from_text(metadata[CONFIG_TEXT], source=str(file)).MODEL.TEXT.TABLE
        source = file if TABLE_NAMES in metadata else Path(trained.FILE)
        if source.is_file():
            table.FILE, table.WIDTH, table.PROJECTED = str(source), trained.WIDTH, trained.PROJECTED


PARTGLEE = register_recipe(
    Recipe(
        name="partglee",
        defaults=get_cfg,
        build_model=build,
        build_step=build_step,
        train_batches=partial(train_batches, loader=build_taught_loader),
        answerer=partglee_answerer,
        load_weights=load_weights,
        group_of=group_of,
        embeddings=("level_embed", "qformer.content", "qformer.position"),
        check=check_names,
        convert={
            **{source: partial(convert_state_dict, source=source) for source in SOURCES},
            "detectron2": convert_trained,  # what its trainer saved of our model
        },
    )
)
