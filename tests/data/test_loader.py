"""Loaders from a configuration: repeatable, resumable, and alive when images are not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_files import CATEGORIES, annotation, spec_of, write
from fvcore.common.config import CfgNode

from partglee.config import get_cfg
from partglee.data import catalog, get_dataset, register
from partglee.data.build import build_test_loader, build_train_loader, register_custom
from partglee.data.loader import TrainingLoader
from partglee.structures import TrainingBatch


@pytest.fixture(autouse=True)
def clean_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.list_datasets()  # the library's own are registered once
    monkeypatch.setattr(catalog, "_DATASETS", dict(catalog._DATASETS))


def content(count: int = 12) -> dict:
    """Wide and tall images with one car and one wheel each."""
    sizes = [(40, 60) if i % 3 else (60, 40) for i in range(count)]
    return {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "categories": CATEGORIES,
        "annotations": [
            entry
            for i in range(count)
            for entry in (
                annotation(2 * i + 1, 1, (4, 4, 36 - i, 38), image=i + 1),
                annotation(2 * i + 2, 9, (6, 20, 16, 30), image=i + 1, parent_id=2 * i + 1),
            )
        ],
    }


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    """Two data sets of 12 and 5 images, batches of 3."""
    made = get_cfg()
    for name, count in (("first", 12), ("second", 5)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, content(count))
        register(spec_of(tmp_path / name, name=name))
    made.DATASETS.TRAIN = ["first", "second"]
    made.SOLVER.BATCH_SIZE = 3
    made.DATALOADER.NUM_WORKERS = 0
    made.INPUT.TRAIN.SIZE = [32, 48]
    made.INPUT.TRAIN.COLOR = 0.2
    made.INPUT.TRAIN.SHORT_SIDES = [20, 33]
    return made


def first(cfg: CfgNode, count: int, **options: Any) -> list[TrainingBatch]:
    return list(islice(build_train_loader(cfg, **options), count))


def same(a: TrainingBatch, b: TrainingBatch) -> bool:
    return pickle.dumps(_plain(a)) == pickle.dumps(_plain(b))


def _plain(batch: TrainingBatch) -> list[Any]:
    tensors = [t for target in batch.targets for t in (target.objects.boxes, target.parts.boxes, target.part_parent)]
    masks = [target.parts.masks for target in batch.targets if target.parts.masks is not None]
    return [batch.files, batch.source, batch.names, *(t.numpy().tobytes() for t in (*batch.images, *tensors, *masks))]


def test_batches(cfg: CfgNode) -> None:
    for batch in first(cfg, 10):
        assert batch.source in ("first", "second") and len(batch.files) == 3 and batch.canvas == (32, 64)
        assert batch.names is not None and batch.names.part_prompts == (
            "car left mirror",
            "car right mirror",
            "car wheel",
        )
        for image, target in zip(batch.images, batch.targets, strict=True):
            assert image.dtype == torch.uint8 and image.shape[1] <= 32 and image.shape[2] <= 48
            for level in (target.objects, target.parts):
                assert level.masks is None or level.masks.shape[1:] == (32, 64)
                assert (level.boxes >= 0).all() and (level.boxes <= 1).all() and (level.boxes[:, 2:] > 0).all()


@pytest.mark.parametrize("mode", ["jitter", "resize"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_equals_going_on(cfg: CfgNode, mode: str, accumulate: int) -> None:
    cfg.INPUT.TRAIN.MODE = mode
    cfg.SOLVER.ACCUMULATE = accumulate
    cfg.SOLVER.BATCH_SIZE = 3 * accumulate
    cfg.DATASETS.REPEAT_THRESHOLDS = [0.9, 0.0]
    whole = first(cfg, 12)
    torch.manual_seed(99)  # nothing may hang on the global generator
    rest = first(cfg, 4, start_step=8 // accumulate)
    assert all(same(a, b) for a, b in zip(whole[8:], rest, strict=True))
    assert not same(whole[0], whole[8])


def test_workers_change_nothing(cfg: CfgNode) -> None:
    state = torch.random.get_rng_state()
    alone = first(cfg, 6)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert all(same(a, b) for a, b in zip(alone, first(cfg, 6), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_seeds_and_ranks_differ(cfg: CfgNode) -> None:
    cfg.SOLVER.BATCH_SIZE = 6
    zero, one = (first(cfg, 4, rank=rank, world_size=2) for rank in (0, 1))
    assert [batch.source for batch in zero] == [batch.source for batch in one]
    for a, b in zip(zero, one, strict=True):
        assert len(a.files) == len(b.files) == 3
        assert a.source == "second" or not set(a.files) & set(b.files)
    cfg.SOLVER.SEED = 1
    assert not same(zero[0], first(cfg, 1, world_size=2)[0])
    assert len(first(cfg, 1, images_per_process=2)[0].files) == 2


def test_whole_images_of_one_aspect_ratio(cfg: CfgNode) -> None:
    cfg.INPUT.TRAIN.MODE = "resize"
    cfg.DATASETS.TRAIN = ["first"]
    shapes = [[image.shape[1] > image.shape[2] for image in batch.images] for batch in first(cfg, 32)]
    assert sum(len(set(tall)) > 1 for tall in shapes) <= 2
    batch = first(cfg, 1)[0]
    assert batch.canvas == (
        max(-(-i.shape[1] // 32) * 32 for i in batch.images),
        max(-(-i.shape[2] // 32) * 32 for i in batch.images),
    )


# -- images that cannot be read --------------------------------------------------------------------------------------


def damage(folder: Path) -> None:
    data = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(data[: len(data) // 2])
    (folder / "4.png").unlink()


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_named_and_replaced(cfg: CfgNode, tmp_path: Path, workers: int) -> None:
    cfg.DATASETS.TRAIN = ["first"]
    healthy = first(cfg, 8)
    damage(tmp_path / "first")
    cfg.DATALOADER.NUM_WORKERS = workers
    batches = first(cfg, 8)
    bad = {str(tmp_path / "first" / name) for name in ("2.png", "4.png")}
    told = dict(pair for batch in batches for pair in batch.unreadable)
    assert set(told) == bad and all(file in reason for file, reason in told.items())
    assert "damaged or cut off" in told[min(bad)] and "does not exist" in told[max(bad)]
    for before, batch in zip(healthy, batches, strict=True):
        assert len(batch.files) == 3 and not bad & set(batch.files)
        replaced = [place for place, file in enumerate(before.files) if file in bad]
        assert len(batch.unreadable) >= len({before.files[place] for place in replaced})
        for place in set(range(3)) - set(replaced):
            assert batch.files[place] == before.files[place] and torch.equal(batch.images[place], before.images[place])
    assert all(same(a, b) for a, b in zip(batches, first(cfg, 8), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_image_can_be_read(cfg: CfgNode, tmp_path: Path, workers: int) -> None:
    for file in (tmp_path / "first").glob("*.png"):
        file.unlink()
    cfg.DATASETS.TRAIN = ["first"]
    cfg.DATALOADER.NUM_WORKERS = workers
    with pytest.raises(ValueError, match=r"^data set 'first': 20 images in a row.*png") as error:
        first(cfg, 1)
    assert "Traceback" not in str(error.value)  # also from a worker


def test_batches_cross_to_spawned_workers(cfg: CfgNode) -> None:
    loader = build_train_loader(cfg)
    assert isinstance(loader, TrainingLoader)
    maker = pickle.loads(pickle.dumps(loader.maker))
    draw = next(iter(loader.draws))
    assert same(maker[draw], loader.maker[draw])


# -- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TRAIN", []], "DATASETS.TRAIN is empty"),
        (["DATASETS.TRAIN", ["frist"]], "no data set 'frist'.*first"),
        (["DATASETS.RATIOS", [1.0]], "RATIOS has 1 numbers for 2 data sets"),
        (["DATASETS.RATIOS", [0.0, 0.0]], "not all 0"),
        (["DATASETS.REPEAT_THRESHOLDS", [0.1]], "REPEAT_THRESHOLDS has 1 numbers"),
        (["INPUT.TRAIN.MODE", "crop"], "one of jitter, letterbox, resize, squash, got 'crop'"),
        (["INPUT.TRAIN.SCALE", [2.0, 1.0]], "0 < low <= high"),
        (["INPUT.TRAIN.MODE", "resize", "INPUT.TRAIN.SHORT_SIDES", []], "SHORT_SIDES"),
        (["SOLVER.BATCH_SIZE", 0], "leaves no image"),
    ],
)
def test_settings_that_cannot_work(cfg: CfgNode, overrides: list, message: str) -> None:
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        node, leaf = cfg, key.split(".")
        for part in leaf[:-1]:
            node = node[part]
        node[leaf[-1]] = value
    with pytest.raises(ValueError, match=message):
        build_train_loader(cfg)


def custom(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"NAME": "mine", "ANNOTATIONS": str(folder / "annotations.json"), "IMAGES": str(folder), **fields}


def test_data_sets_of_the_configuration(cfg: CfgNode, tmp_path: Path) -> None:
    entry = custom(tmp_path / "first", SELECT=[0.0, 0.5], Part_Background="inside", VOCABULARY={"car": ["wheel"]})
    cfg.DATASETS.CUSTOM = [entry]
    cfg.DATASETS.TRAIN = ["mine"]
    batch = first(cfg, 1)[0]
    assert batch.source == "mine" and batch.names is not None and batch.names.part_prompts == ("car wheel",)
    assert batch.supervision.parts.labelled is not None and batch.supervision.objects.labelled is None
    assert len(get_dataset("mine").read()) == 6
    cfg.DATASETS.CUSTOM = [{**entry, "SELECT": [0.5, 1.0]}]
    register_custom(cfg)  # a configuration may describe its data sets anew
    assert get_dataset("mine").select == (0.5, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"IMAGE": "a"}, "unknown field IMAGE; the nearest known one is IMAGES"),
        ({"READER": "a"}, "unknown field READER"),
        ({"PART_BACKGROUND": "none"}, "PART_BACKGROUND is one of .*'none'"),
        ({"SUPERVISES_PARTS": "no"}, "SUPERVISES_PARTS must be of type bool, got 'no'"),
        ({"SAMPLED_NAMES": True}, "SAMPLED_NAMES must be of type int"),
        ({"SELECT": 0.9}, r"SELECT must be a share \[FROM, TO\].*0\.9"),
        ({"SELECT": [0.9, 0.1]}, r"SELECT must be a share"),
        ({"NAME": "coco_2017_train"}, "registered already"),
    ],
)
def test_custom_entries_that_cannot_work(cfg: CfgNode, tmp_path: Path, fields: dict, message: str) -> None:
    cfg.DATASETS.CUSTOM = [custom(tmp_path / "first", **fields)]
    with pytest.raises(ValueError, match=message):
        register_custom(cfg)


def test_custom_entries_need_names_and_files(cfg: CfgNode, tmp_path: Path) -> None:
    cfg.DATASETS.CUSTOM = [{"NAME": "mine", "IMAGES": "a"}]
    with pytest.raises(ValueError, match="has no ANNOTATIONS"):
        register_custom(cfg)
    cfg.DATASETS.CUSTOM = ["mine"]
    with pytest.raises(ValueError, match="must be a mapping"):
        register_custom(cfg)
    cfg.DATASETS.CUSTOM = [custom(tmp_path), custom(tmp_path)]
    with pytest.raises(ValueError, match="mine twice"):
        register_custom(cfg)


# -- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_every_image_once_at_full_size(cfg: CfgNode, workers: int) -> None:
    cfg.DATALOADER.NUM_WORKERS = workers
    pairs = list(build_test_loader(cfg, "first"))
    assert [record.file.name for record, _ in pairs] == [f"{i}.png" for i in range(12)]
    assert all(pixels.shape == (record.height, record.width, 3) for record, pixels in pairs)
    assert all(record.parts[0].parent == 0 for record, _ in pairs)
    shares = [build_test_loader(cfg, "first", rank=rank, world_size=5) for rank in range(5)]
    assert sorted(r.image_id for share in shares for r, _ in share) == list(range(1, 13))
    assert [len(share) for share in shares] == [3, 3, 2, 2, 2]


def test_evaluation_does_not_skip_images(cfg: CfgNode, tmp_path: Path) -> None:
    damage(tmp_path / "first")
    with pytest.raises(ValueError, match=r"2\.png"):
        list(build_test_loader(cfg, "first"))


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_of_a_large_file(tmp_path: Path) -> None:
    """A twentieth of LVIS: parsing takes a small multiple of the columns, not of the Python objects."""
    import subprocess
    import sys

    path = tmp_path / "large.json"
    ring = [coordinate for i in range(30) for coordinate in (round(100 + 3.17 * i, 2), round(90 + (i % 7) * 1.3, 2))]
    path.write_text(json.dumps({**content(0), **_large(5000, 12, ring)}))
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from partglee.data.annotations.columns_cache import load_columns\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "columns = load_columns(Path(sys.argv[1])); assert len(columns.annotation_id) == 60000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(result.stdout) * 1024 < 3.5 * 2**30 / 20 + 64 * 2**20


def _large(images: int, each: int, ring: list[float]) -> dict:
    def entries() -> Iterator[dict]:
        for key in range(images * each):
            yield annotation(key + 1, 1, (10, 10, 200, 200), image=key // each + 1, segmentation=[ring])

    return {
        "images": [{"id": i + 1, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(images)],
        "annotations": list(entries()),
    }


def test_batches_of_several_sizes(cfg: CfgNode) -> None:
    cfg.INPUT.TRAIN.SIZE_FACTORS = [1.0, 2.0, 2.0]
    batches = first(cfg, 60)
    sizes = [batch.canvas for batch in batches]
    assert set(sizes) == {(32, 64), (64, 96)} and 28 < sizes.count((64, 96)) < 52  # two in three
    for batch in batches:
        for image in batch.images:
            height, width = image.shape[1:]
            assert batch.canvas == (64, 96) or (height <= 32 and width <= 48)
    later = first(cfg, 10, start_step=5)
    assert all(same(a, b) for a, b in zip(later, batches[5:], strict=False))
    other = first(cfg, 20, rank=1, world_size=2, images_per_process=3)
    assert [batch.canvas for batch in other] == sizes[:20]
    cfg.INPUT.TRAIN.MODE = "resize"
    with pytest.raises(ValueError, match="SIZE_FACTORS needs a mode with a SIZE, and 'resize' has none"):
        first(cfg, 1)


def test_mosaics_by_the_configuration(cfg: CfgNode) -> None:
    cfg.INPUT.TRAIN.MOSAIC = 1.0
    cfg.INPUT.TRAIN.SCALE = [1.0, 1.0]
    batches = first(cfg, 4)
    for batch in batches:
        assert batch.canvas == (32, 64) and all(image.shape == (3, 32, 48) for image in batch.images)
        assert all(len(target.objects) == 4 for target in batch.targets)
        for target in batch.targets:
            assert (target.objects.boxes[:, 2:] * torch.tensor([64, 32]) <= torch.tensor([24, 16])).all()
    assert all(same(a, b) for a, b in zip(first(cfg, 4), batches, strict=True))
    cfg.INPUT.TRAIN.MODE = "resize"
    with pytest.raises(ValueError, match=r"INPUT\.TRAIN\.MOSAIC needs a mode with a SIZE, and 'resize' has none"):
        first(cfg, 1)


def test_mosaics_of_one_data_set_alone(cfg: CfgNode) -> None:
    """The first has none, the second has 4 or 9 images on each canvas;"""
    cfg.INPUT.TRAIN.SCALE = [1.0, 1.0]
    cfg.DATASETS.MOSAIC, cfg.DATASETS.MOSAIC_ROWS = [0.0, 1.0], [2, 3]
    counts: dict[str, list[int]] = {"first": [], "second": []}
    for batch in first(cfg, 24):
        counts[batch.source] += [len(target.objects) for target in batch.targets]
    assert set(counts["first"]) == {1} and set(counts["second"]) == {4, 9}
    cfg.DATASETS.MOSAIC_ROWS = [2]
    with pytest.raises(ValueError, match="MOSAIC_ROWS has 1 numbers for 2 data sets"):
        first(cfg, 1)


def test_pasted_objects_by_the_configuration(cfg: CfgNode) -> None:
    """The second data set's images have an object of another one over them, at half of their size or as large."""
    cfg.INPUT.TRAIN.SCALE = [1.0, 1.0]
    plain = first(cfg, 24)
    cfg.INPUT.TRAIN.PASTE_FACTORS = [0.5]
    cfg.DATASETS.COPY_PASTE = [0.0, 1.0]
    counts: dict[str, list[int]] = {"first": [], "second": []}
    batches = first(cfg, 24)
    for batch, before in zip(batches, plain, strict=True):
        counts[batch.source] += [len(target.objects) for target in batch.targets]
        assert batch.source == before.source and batch.canvas == before.canvas
        assert batch.source == "second" or same(batch, before)
        for target, old in zip(batch.targets, before.targets, strict=True):
            for row in range(len(old.objects), len(target.objects)):
                assert (target.objects.boxes[row, 2:] * torch.tensor([64, 32]) <= torch.tensor([24, 16])).all()
    assert set(counts["first"]) == {1} and 2 in counts["second"]
    assert all(same(a, b) for a, b in zip(first(cfg, 24), batches, strict=True))
    cfg.DATASETS.COPY_PASTE = [1.0]
    with pytest.raises(ValueError, match="COPY_PASTE has 1 numbers for 2 data sets"):
        first(cfg, 1)
    cfg.DATASETS.COPY_PASTE, cfg.INPUT.TRAIN.MODE = [1.0, 1.0], "resize"
    with pytest.raises(ValueError, match=r"PASTE_FACTORS needs a mode with a SIZE, and 'resize' has none"):
        first(cfg, 1)
    cfg.INPUT.TRAIN.PASTE_FACTORS = []
    assert max(len(target.objects) for batch in first(cfg, 8) for target in batch.targets) == 2
