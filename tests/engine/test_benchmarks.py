"""Every file of configs/eval runs as its command says, on a miniature of the data set, with a small random model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_samples import SMALL

from partglee.checkpoint import write_weights
from partglee.cli import main
from partglee.config import config_dir, load_config
from partglee.data import get_dataset
from partglee.data.prepare.open_images import main as openimages_main
from partglee.data.prepare.partimagenet import main as partimagenet_main
from partglee.data.prepare.pascal_part_93 import main as pascal_part_93_main
from partglee.data.prepare.refer import main as refcoco_main
from partglee.engine.build import build_initial_model
from partglee.testing import write_name_table
from partglee.testing.miniatures import MINIATURES

TINY_TOWER = {
    "embed_dim": 16, "quick_gelu": True, "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
PREPARE: dict[str, Callable[[list[str]], int]] = {
    "openimages": openimages_main, "partimagenet": partimagenet_main, "pascal_part": pascal_part_93_main,
    "refcoco": refcoco_main,
}  # fmt: skip
# Config without its model -> miniature, and the number that its table quotes for each data set.
ROWS = {
    "coco": ("coco", ("segm/AP", "bbox/AP")),
    "lvis": ("lvis", ("segm/AP", "bbox/AP")),
    "openimages": ("openimages", ("object/box/AP", "part/box/AP")),
    "paco": ("paco_lvis", ("segm/AP", "segm/APobj", "segm/APopart")),
    "partimagenet": ("partimagenet", ("part/mask/AP", "part/box/AP")),
    "partimagenet_cross_dataset": ("partimagenet", ("segm/AP", "segm/AP-Quadruped Head")),
    "pascal_part": ("pascal_part", ("part/mask/AP", "part/box/AP")),
    "pascal_part_cross_category": ("pascal_part", ("segm/AP", "segm/AP-base", "segm/AP-novel", "segm/AP50-dog:head")),
    "pascal_part_116_oracle_obj": ("pascal_part_116", ("A/hIoU", "B/hIoU")),
    "pascal_part_116_pred_all": ("pascal_part_116", ("B/hIoU",)),
    "ade20k_part_234_oracle_obj": ("ade20k_part_234", ("A/hIoU",)),
    "ade20k_part_234_pred_all": ("ade20k_part_234", ("B/hIoU",)),
    "refcoco": ("refcoco", ("box/P@0.5", "mask/oIoU")),
    "refcocom_partglee": ("refcocom", ("part/mIoU", "object&part/mIoU")),
}
IMAGES = {"pascal_part": 4, "pascal_part_116": 6}  # until base and novel objects are among them
CONFIGS = sorted(file.stem for file in (config_dir() / "eval").glob("*.yaml"))


def test_every_config_has_a_row() -> None:
    assert {name.rpartition("_")[0] for name in CONFIGS} == set(ROWS)
    for name in CONFIGS:
        size = name.rpartition("_")[2]
        cfg = load_config(f"eval/{name}")
        assert cfg.MODEL.BACKBONE.NAME.startswith({"r50": "resnet50", "swinL": "swin_large"}[size])
        assert cfg.SOLVER.PRECISION == "no" and cfg.MODEL.TEXT.MODE == "frozen"
        assert (cfg.INPUT.TEST.SHORT_SIDE, cfg.INPUT.TEST.MAX_SIDE) == (800, 1333)
        for dataset in cfg.DATASETS.TEST:
            assert get_dataset(dataset).evaluator


def small_config(name: str, folder: Path) -> Path:
    """The file with a small model and small images in place of its own; everything else is its own."""
    tiny = yaml.safe_load((config_dir() / "tiny.yaml").read_text())
    tiny["_BASE_"] = str(config_dir() / "eval" / f"{name}.yaml")
    tiny["MODEL"]["BACKBONE"]["OPTIONS"] = {}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(tiny))
    return file


def small_text(names: list[str], folder: Path, *, sentences: bool) -> list[Any]:
    """A table of the names; where sentences are read, a thin random text tower, which open_clip then knows."""
    if not sentences:
        return ["MODEL.TEXT.TABLE.FILE", write_name_table(folder / "names.npz", names, width=16)]
    import open_clip

    file = folder / "partglee-tiny-text.json"
    file.write_text(json.dumps(TINY_TOWER))
    open_clip.add_model_config(file)
    return ["MODEL.TEXT.BACKEND", "clip", "MODEL.TEXT.ARCH", file.stem]


@pytest.mark.parametrize("row", sorted(ROWS))
def test_the_command_of_a_row(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    miniature, wanted = ROWS[row]
    MINIATURES[miniature](tmp_path, num_images=IMAGES.get(miniature, 2), seed=0)
    if miniature in PREPARE:
        assert PREPARE[miniature]([]) == 0
    name = next(name for name in CONFIGS if name.rpartition("_")[0] == row)
    cfg = load_config(f"eval/{name}")
    datasets = list(cfg.DATASETS.TEST)
    names: list[str] = []
    for dataset in datasets:
        vocabulary = get_dataset(dataset).read().vocabulary
        names += [*vocabulary.object_prompts, *vocabulary.part_prompts]
    values = [*SMALL, "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 96, "OUTPUT_DIR", tmp_path / "run"]
    values += small_text(list(dict.fromkeys(names)), tmp_path, sentences=row.startswith("refcoco"))
    config = small_config(name, tmp_path)
    write_weights(build_initial_model(load_config(config, values)).state_dict(), tmp_path / "random.safetensors", {})
    values += ["MODEL.WEIGHTS", tmp_path / "random.safetensors"]
    command = ["train", "--eval-only", "--num-gpus", "0", "--config-file", str(config)]
    assert main([*command, *map(str, values)]) == 0
    for dataset in datasets:
        lines = tmp_path / "run" / "predictions" / f"{dataset}.jsonl"
        found = lines if lines.is_file() else lines.with_suffix("")
        out = tmp_path / "numbers.json"
        assert main(["eval", "--predictions", str(found), "--dataset", dataset, "--json", str(out)]) == 0
        results = json.loads(out.read_text())["results"]
        for key in wanted:
            assert key in results, sorted(results)
            assert results[key] is None or 0 <= results[key] <= 100
        assert any(results[key] is not None and math.isfinite(results[key]) for key in wanted)
