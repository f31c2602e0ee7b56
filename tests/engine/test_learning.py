"""It learns: objects, parts, and which part belongs to which object, in seconds.

Eight toy scenes are learned by heart with the real trainer. The bars are out of reach when a piece is broken: the slow
tests break each in turn and see it miss its bar.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode as CN

from partglee.config import load_config
from partglee.criterion import hierarchical, matcher
from partglee.data.build import build_train_loader
from partglee.engine.build import build_accelerator, build_trainer
from partglee.engine.predictor import Predictor
from partglee.engine.trainer import Hook, Trainer
from partglee.evaluation import joint_evaluator
from partglee.modeling.part_decoder import QFormer
from partglee.structures import PartQueries
from partglee.testing import TOY_VOCABULARY, ToyRecords, register_toy, write_name_table

SCENES = {"num_images": 8, "size": (64, 64), "kinds": ("car", "boat", "ball")}
RESTRICTION = 4.0
NUM_SETS = 4  # part predictions: before the decoder, initial, two layers
SMALL = [
    "MODEL.EMBED_DIM", 64, "MODEL.NUM_HEADS", 4, "MODEL.FFN_DIM", 128, "MODEL.BACKBONE.NAME", "test_resnet",
    "MODEL.EARLY_FUSION.INNER_DIM", 64, "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 2,
    "MODEL.OBJECT_DECODER.NUM_QUERIES", 20, "MODEL.OBJECT_DECODER.NUM_PARSED", 4, "MODEL.QFORMER.NUM_LAYERS", 1,
    "MODEL.QFORMER.NUM_QUERIES", 6, "MODEL.PART_DECODER.NUM_LAYERS", 2, "MODEL.DENOISING.NUM_QUERIES", 20,
    "MODEL.DENOISING.CONTRASTIVE", False, "CRITERION.NUM_POINTS", 256, "CRITERION.WEIGHT.RESTRICTION", RESTRICTION,
    "INPUT.TRAIN.SIZE", [64, 64], "SOLVER.MAX_ITER", 200, "SOLVER.BASE_LR", 8e-4, "SOLVER.WARMUP_ITERS", 20,
    "SOLVER.EMA_DECAY", 0.0, "SOLVER.SEED", 1, "TEST.BEST", "", "DATASETS.TEST", [], "DATASETS.TRAIN", ["toy_by_heart"],
    "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip


class Outside(Hook):
    """Mean share of matched part boxes outside their parent's, over the last steps."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_step(self, trainer: Trainer) -> None:
        self.values.append(float(trainer.record.terms["part/restriction"]) / RESTRICTION / NUM_SETS)

    @property
    def last(self) -> float:
        return sum(self.values[-10:]) / 10


def learn(folder: Path) -> dict[str, float]:
    """Train, then score the predictions for the same scenes."""
    table = write_name_table(folder / "names.npz", [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts])
    cfg = load_config("toy", [*SMALL, "MODEL.TEXT.TABLE.FILE", table, "OUTPUT_DIR", folder / "run"])
    register_toy("toy_by_heart", **SCENES)  # type: ignore[arg-type]
    outside = Outside()
    trainer = train(cfg, outside)
    records = ToyRecords(**SCENES)  # type: ignore[arg-type]
    predictor = Predictor(model=trainer.model, short_side=64, max_side=64)
    evaluator = joint_evaluator(records)
    evaluator.reset()
    for index in range(len(records)):
        record = records[index]
        evaluator.process(record.image_id, predictor(record.pixels, TOY_VOCABULARY, score_threshold=0.02))
    return {**evaluator.evaluate(), "outside": outside.last}


def train(cfg: CN, hook: Hook) -> Trainer:
    accelerator = build_accelerator(cfg, cpu=True)
    trainer = build_trainer(cfg, accelerator, lambda step: build_train_loader(cfg, start_step=step), extra_hooks=[hook])
    trainer.train()
    return trainer


def missed(found: dict[str, float]) -> list[str]:
    """Bars that were not reached."""
    bars = {"object/mask/AP50": 85, "part/mask/AP50": 75, "hierarchy/mask/hAP50": 75}
    names = [name for name, bar in bars.items() if not found[name] >= bar]
    return names + (["outside"] if not 0 <= found["outside"] < 0.1 else [])


def test_objects_parts_and_parents_are_learned(tmp_path: Path) -> None:
    found = learn(tmp_path)
    assert missed(found) == [], found


# ------------------------------------------------------------------ what a broken piece does


def break_part_branch(patch: pytest.MonkeyPatch) -> None:
    """The Q-Former gives every object the same part queries."""
    forward = QFormer.forward

    def alike(self: QFormer, queries: torch.Tensor, rows: torch.Tensor) -> PartQueries:
        return forward(self, torch.zeros_like(queries), rows)

    patch.setattr(QFormer, "forward", alike)


def break_matcher(patch: pytest.MonkeyPatch) -> None:
    """Costs are compared with those of other queries."""
    original = matcher.assign
    patch.setattr(matcher, "assign", lambda cost: original(cost[::-1]))


def break_restriction(patch: pytest.MonkeyPatch) -> None:
    """The loss is computed, but reaches no box."""
    original = hierarchical.restriction_loss
    patch.setattr(hierarchical, "restriction_loss", lambda parts, parents: original(parts.detach(), parents.detach()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "bar"),
    [(break_part_branch, "part/mask/AP50"), (break_matcher, "object/mask/AP50"), (break_restriction, "outside")],
)
def test_a_broken_piece_misses_its_bar(
    broken: Callable[[pytest.MonkeyPatch], None], bar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    found = learn(tmp_path)
    assert bar in missed(found), found
