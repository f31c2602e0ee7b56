"""A made-up model that is not PartGLEE: it guesses which share of an image its objects cover. For `test_recipe`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN
from torch import Tensor, nn

from partglee.basics.files import whole_file
from partglee.checkpoint import ConversionReport
from partglee.config import run_defaults
from partglee.config.values import COUNT
from partglee.data.build import build_test_loader
from partglee.data.catalog import DataSets
from partglee.data.records import ImageRecord, Records
from partglee.data.spec import DatasetSpec
from partglee.engine.recipe import Recipe, register_recipe
from partglee.engine.step import StepOutput
from partglee.structures import TrainingBatch


class Coverage(nn.Module):
    """(B, 3, 16, 16) -> (B,) share of the image."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        self.drop = nn.Dropout(0.2)  # a random number in every step
        self.place = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.head = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.drop(self.backbone(images) + self.place)
        return self.head(maps.mean(dim=(2, 3))).squeeze(1).sigmoid()


class CoverageStep(nn.Module):
    """Squared error of the share."""

    def __init__(self, model: Coverage) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TrainingBatch) -> StepOutput:
        device = self.model.head.weight.device
        images = torch.stack([small(image.float()) for image in batch.images]).to(device)
        covered = [(t.objects.boxes[:, 2] * t.objects.boxes[:, 3]).sum().clamp(max=1) for t in batch.targets]
        loss = (self.model(images) - torch.stack(covered).to(device)).square().mean()
        return StepOutput(loss, {"coverage/square": loss.detach(), "total": loss.detach()})


def small(image: Tensor) -> Tensor:
    return nn.functional.interpolate(image[None] / 255, size=(16, 16))[0]


def truth(record: ImageRecord) -> float:
    boxes = [instance.box for instance in record.objects]
    return min(1.0, sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) / (record.height * record.width))


def evaluate(
    cfg: CN, model: Coverage, accelerator: Accelerator, *, folder: Path, pictures: int, data: DataSets
) -> tuple[dict[str, float], dict[str, Any]]:
    """A mean, and a file of guesses."""
    results, was_training = {}, model.training
    model.eval()
    for name in cfg.DATASETS.TEST:
        guesses, errors = [], []
        for record, pixels in build_test_loader(cfg, name, data=data):
            with torch.inference_mode():
                guess = float(model(small(torch.tensor(pixels).permute(2, 0, 1).float())[None]))
            guesses.append({"image_id": record.image_id, "coverage": guess})
            errors.append(abs(guess - truth(record)))
        with whole_file(folder / f"{name}.json") as beside:
            beside.write_text(json.dumps(guesses))
        results[f"{name}/right"] = 1 - sum(errors) / len(errors)
    model.train(was_training)
    return results, {}


def defaults() -> CN:
    cfg = run_defaults()
    cfg.RECIPE = "coverage"
    cfg.MODEL.WIDTH = 4
    return cfg


def build_model(cfg: CN) -> Coverage:
    return Coverage(width=cfg.MODEL.WIDTH)


def build_step(cfg: CN, model: Coverage) -> CoverageStep:
    return CoverageStep(model)


def metric_names(spec: DatasetSpec, records: Records) -> tuple[str, ...]:
    return ("right",)


def from_released(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """What somebody else called `net.`."""
    return {key.removeprefix("net."): value for key, value in state.items()}, ConversionReport("netcov", len(state))


RECIPE = register_recipe(
    Recipe(
        name="coverage",
        defaults=defaults,
        build_model=build_model,
        build_step=build_step,
        evaluate=evaluate,
        metric_names=metric_names,
        embeddings=("place",),
        ranges={"MODEL.WIDTH": COUNT},
        convert={"netcov": from_released},
    )
)
