"""Small configurations and batches for the tests of training, without data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode as CN

from partglee.config import load_config
from partglee.engine.build import build_accelerator, build_trainer
from partglee.engine.partglee_recipe import PARTGLEE
from partglee.engine.recipe import Recipe
from partglee.engine.trainer import Hook, Trainer, endless
from partglee.structures import BatchNames, HierarchicalTargets, LevelTargets, Supervision, TrainingBatch
from partglee.testing import write_name_table

OBJECTS = ("dog", "person", "cat")
PARTS = ("dog head", "dog tail", "person arm", "person lower leg")
SMALL = [
    "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.EARLY_FUSION.INNER_DIM", 16,
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.PART_DECODER.NUM_LAYERS", 1,
    "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 10, "MODEL.OBJECT_DECODER.NUM_PARSED", 4,
    "MODEL.QFORMER.NUM_QUERIES", 3, "MODEL.DENOISING.NUM_QUERIES", 6, "CRITERION.NUM_POINTS", 64,
    "MODEL.TEXT.TABLE.WIDTH", 16, "MODEL.BACKBONE.NAME", "test_efficientnet",
    "SOLVER.BATCH_SIZE", 2, "SOLVER.MAX_ITER", 4, "SOLVER.BASE_LR", 1e-3, "SOLVER.WARMUP_ITERS", 2,
    "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.LOG_PERIOD", 1, "SOLVER.CLIP_GRADIENTS", 1.0, "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip


def small_config(folder: Path, overrides: Sequence[Any] = ()) -> CN:
    """`tiny` made smaller still, with a name table and an output folder under `folder`."""
    table = folder / "names.npz"
    if not table.is_file():
        write_name_table(table, [*OBJECTS, *PARTS], width=16)
    places = ["MODEL.TEXT.TABLE.FILE", table, "OUTPUT_DIR", folder / "run"]
    return load_config("tiny", [*SMALL, *places, *overrides])


def level(count: int, names: int, size: tuple[int, int], generator: torch.Generator) -> LevelTargets:
    labels = torch.randint(names, (count,), generator=generator)
    boxes = torch.rand(count, 4, generator=generator) * 0.4 + 0.2
    return LevelTargets(labels, boxes, torch.rand(count, *size, generator=generator) < 0.5)


def make_batch(
    seed: int = 0, *, counts: Sequence[tuple[int, int]] = ((2, 3), (1, 0)), size: tuple[int, int] = (64, 96)
) -> TrainingBatch:
    """Random images with (objects, parts) random targets each."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for objects, parts in counts:
        parent = torch.arange(parts) % objects if objects else torch.full((parts,), -1)
        targets.append(
            HierarchicalTargets(level(objects, 3, size, generator), level(parts, 4, size, generator), parent)
        )
    images = tuple(torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator) for _ in counts)
    return TrainingBatch(
        images=images,
        canvas=size,
        targets=tuple(targets),
        supervision=Supervision(),
        names=BatchNames(OBJECTS, PARTS),
        source=f"toy{seed}",
        files=tuple(f"image_{seed}_{i}.jpg" for i in range(len(counts))),
    )


def run_small(
    cfg: CN,
    batches: Sequence[TrainingBatch] = (),
    *,
    resume: bool = False,
    hooks: Sequence[Hook] = (),
    recipe: Recipe = PARTGLEE,
) -> Trainer:
    """Train on the CPU, over and over on a few batches."""
    batches = batches or [make_batch(seed) for seed in range(3)]
    accelerator = build_accelerator(cfg, cpu=True)
    trainer = build_trainer(
        cfg,
        accelerator,
        endless(batches, accumulate=cfg.SOLVER.ACCUMULATE),
        recipe=recipe,
        resume=resume,
        extra_hooks=hooks,
    )
    trainer.train()
    return trainer


def losses(folder: Path) -> dict[int, dict[str, float]]:
    """Iteration -> losses and gradient norm of `metrics.jsonl`."""
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return {
        line["iteration"]: {k: v for k, v in line.items() if k.startswith(("loss/", "gradient_norm"))} for line in lines
    }
