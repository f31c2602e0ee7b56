"""Batches of expressions: masks united, nothing invented, every expression once, the same from any worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_files import annotation, spec_of, two_images, write
from fvcore.common.config import CfgNode as CN
from pycocotools import mask as mask_tools

from partglee.config import get_cfg
from partglee.data import DatasetSpec, Expression, ImageRecord, Instance, register
from partglee.data.annotations.coco_json import read_coco
from partglee.data.augmentation import JitterCrop, Letterbox, ShortSide, Squash
from partglee.data.build import register_custom
from partglee.data.expression_rules import ExpressionRules
from partglee.data.expression_views import RuleExpressions
from partglee.data.referring import ReferringMapper, build_referring_loader, collate_referring
from partglee.data.segmentation import decode
from partglee.data.transforms import Geometry
from partglee.structures import ReferringBatch

SAME = ShortSide(short_sides=(60,), max_side=1000, flip=0.0)


def square(*box: float, **more: Any) -> Instance:
    x0, y0, x1, y1 = box
    return Instance(label=0, box=(x0, y0, x1, y1), segmentation=((x0, y0, x1, y0, x1, y1, x0, y1),), **more)


def record(objects: Sequence[Instance], *said: Expression, parts: Sequence[Instance] = ()) -> ImageRecord:
    rows, columns = np.mgrid[:60, :100]
    pixels = np.stack([columns, rows, 0 * rows], 2).astype(np.uint8)
    return ImageRecord(Path("a.png"), 60, 100, 1, tuple(objects), tuple(parts), expressions=said, pixels=pixels)


TWO = (square(0, 0, 20, 20), square(10, 10, 30, 30))
SAID = (
    Expression("both on the left", (0, 1)),
    Expression("it", (0,)),
    Expression("nothing"),
    Expression("wheel", (), (0,)),
)


def mapper(most: int = 1, augmentation: Any = SAME, **more: Any) -> ReferringMapper:
    return ReferringMapper(augmentation=augmentation, most=most, **more)


# -- samples ---------------------------------------------------------------------------------------------------------


def test_masks_are_united_and_clamped() -> None:
    """Where two targets overlap, the mask is one and not a hole."""
    one = record(TWO, *SAID, parts=[square(50, 50, 60, 60)])
    sample = mapper(4)(one, np.random.default_rng(0))
    slow = np.zeros((4, 60, 100), bool)
    for row, said in enumerate(SAID):
        for y in range(60):
            for x in range(100):
                slow[row, y, x] = any(
                    thing.box[0] <= x < thing.box[2] and thing.box[1] <= y < thing.box[3] for thing in one.targets(said)
                )
    assert np.array_equal(sample.masks, slow) and slow[0].sum() == 700
    assert sample.expressions == tuple(said.text for said in SAID)
    assert sample.no_target == (False, False, True, False) and sample.level == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "augmentation",
    [Squash(size=(32, 32), flip=0.0), Letterbox(size=(32, 32), flip=0.0), Squash(size=(120, 50), flip=1.0)],
)
def test_image_and_mask_go_together(augmentation: Any) -> None:
    """The colours of the picture say where each pixel came from, and the mask is where they say the target is."""
    sample = mapper(2, augmentation)(record(TWO, *SAID[:2]), np.random.default_rng(0))
    x, y = sample.image[0].float() + 0.5, sample.image[1].float() + 0.5
    inside = (x < 20) & (y < 20) | (x > 10) & (x < 30) & (y > 10) & (y < 30)
    agree = (torch.from_numpy(sample.masks[0].copy()) == inside).float().mean()
    assert sample.image.shape[1:] == sample.masks.shape[1:] and agree > 0.95 and sample.masks[0].any()


def test_a_flip_swaps_the_words() -> None:
    flipped = replace(SAME, flip=1.0)
    said = Expression("the leftmost one, left of the right one", (0,))
    sample = mapper(1, flipped)(record(TWO, said), np.random.default_rng(0))
    assert sample.expressions == ("the rightmost one, right of the left one",) and sample.masks[0, :20, 80:].all()
    kept = mapper(1, flipped, left_right=False)(record(TWO, said), np.random.default_rng(0))
    assert kept.expressions == (said.text,)


def test_some_of_many_in_file_order() -> None:
    many = [Expression(f"{number:02d}", (0,)) for number in range(20)]
    texts = [mapper(5)(record(TWO, *many), np.random.default_rng(seed)).expressions for seed in range(30)]
    assert all(len(set(five)) == 5 and sorted(five) == list(five) for five in texts)
    assert len({text for five in texts for text in five}) == 20


def test_what_a_crop_would_hide_is_shown_whole() -> None:
    class Away:
        canvas = None

        def draw(self, source: tuple[int, int], rng: Any, *, whole: bool) -> Geometry:
            return (
                Geometry(source, source, 0, 0, source, False)
                if whole
                else Geometry(source, source, 40, 50, (20, 50), False)
            )

    assert mapper(1, Away())(record(TWO, SAID[1]), np.random.default_rng(0)).masks.any()
    nothing = mapper(1, Away())(record(TWO, SAID[2]), np.random.default_rng(0))
    assert nothing.masks.shape == (1, 20, 50) and not nothing.masks.any()
    crop = JitterCrop(size=(30, 30), scale=(2.0, 2.0), flip=0.0)
    second = mapper(1, crop)(record(TWO, Expression("the second one", (0,))), np.random.default_rng(0))
    assert second.image.shape[1:] == (18, 30)  # all of it


def test_crowds_are_no_targets() -> None:
    things = (*TWO, square(60, 0, 99, 59, crowd=True))
    some, crowd = Expression("all", (0, 2)), Expression("the crowd", (2,))
    sample = mapper(3)(record(things, some, crowd), np.random.default_rng(0))
    assert sample.expressions == ("all",) and sample.masks.sum() == 400
    with pytest.raises(ValueError, match=r"'a.png' has no expression that means anything but crowds"):
        mapper()(record(things, crowd), np.random.default_rng(0))


def test_a_target_with_a_box_alone() -> None:
    one = record([Instance(label=0, box=(0, 0, 9, 9), annotation_id=7)], Expression("it", (0,)))
    with pytest.raises(ValueError, match=r"'it' means annotation 7, which has a box alone"):
        mapper()(one, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one expression"):
        mapper(0)
    other = mask_tools.encode(np.ones((30, 30), np.uint8, order="F"))
    one = record([Instance(label=0, box=(0, 0, 9, 9), segmentation=other)], Expression("it", (0,)))
    with pytest.raises(ValueError, match=r"mask of size \(30, 30\), but the image is \(60, 100\)"):
        mapper()(one, np.random.default_rng(0))


# -- batches ---------------------------------------------------------------------------------------------------------


def test_samples_of_different_sizes_on_one_canvas() -> None:
    first = mapper(4)(record(TWO, *SAID, parts=[square(50, 50, 60, 60)]), np.random.default_rng(0))
    second = mapper(1, Squash(size=(90, 40), flip=0.0))(record(TWO, SAID[1]), np.random.default_rng(0))
    spec = DatasetSpec(name="set", annotations="", images="", reader=read_coco)
    batch = collate_referring([first, second], spec=spec, divisibility=32)
    assert batch.canvas == (96, 128) and [tuple(image.shape) for image in batch.images] == [(3, 60, 100), (3, 90, 40)]
    assert batch.image_of.tolist() == [0, 0, 0, 0, 1] and batch.masks.shape == (5, 96, 128)
    assert batch.no_target.tolist() == [False, False, True, False, False] and batch.level.tolist() == [0, 0, 0, 1, 0]
    assert batch.expressions[4] == "it" and batch.source == "set" and batch.files == ("a.png", "a.png")
    assert torch.equal(batch.masks[0, :60, :100], torch.from_numpy(first.masks[0])) and batch.masks[0].sum() == 700
    assert not batch.masks[4, 90:].any() and not batch.masks[4, :, 40:].any()
    assert batch.image_of.dtype == batch.level.dtype == torch.long and batch.no_target.dtype == torch.bool


def content() -> dict[str, Any]:
    made = two_images()
    made["annotations"].append(annotation(20, 1, (60, 30, 95, 55)))
    made["images"][0]["expressions"] = [
        {"text": "both", "objects": [13, 20]}, {"text": "one", "objects": [20]}, {"text": "the wheel", "parts": [11]},
        {"text": "none", "no_target": True}, {"text": "uno", "objects": [20]},
    ]  # fmt: skip
    made["images"][1]["expressions"] = [{"text": "the dog", "objects": [14]}, {"text": "a cat", "no_target": True}]
    return made


@pytest.fixture
def cfg(tmp_path: Path) -> CN:
    write(tmp_path, content())
    register(spec_of(tmp_path, name="told"), replace=True)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ["told"]
    cfg.INPUT.TRAIN.MODE, cfg.INPUT.TRAIN.SIZE, cfg.INPUT.TRAIN.FLIP = "squash", [32, 32], 0.0
    cfg.SOLVER.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS = 1, 0
    return cfg


def batches(cfg: CN, count: int, **more: Any) -> list[ReferringBatch]:
    return list(islice(build_referring_loader(cfg, **more), count))


def test_each_expression_is_its_own_sample(cfg: CN) -> None:
    """As released: an epoch shows each pair of image and expression once."""
    texts = [batch.expressions for batch in batches(cfg, 21)]
    for epoch in range(3):
        shown = Counter(texts[7 * epoch : 7 * epoch + 7])
        assert shown == Counter({(t,): 1 for t in ("both", "one", "the wheel", "none", "uno", "the dog", "a cat")})


def test_several_expressions_of_an_image(cfg: CN) -> None:
    cfg.INPUT.TRAIN.EXPRESSIONS, cfg.SOLVER.BATCH_SIZE = 3, 2
    for batch in batches(cfg, 6):
        assert len(batch.images) == 2 and batch.masks.shape == (len(batch.expressions), 32, 32)
        assert batch.image_of.tolist() == sorted(batch.image_of.tolist()) and set(batch.image_of.tolist()) == {0, 1}
        assert torch.equal(batch.masks.flatten(1).any(1), ~batch.no_target)
        for text, level in zip(batch.expressions, batch.level, strict=True):
            assert level == (text == "the wheel")


def same(one: ReferringBatch, other: ReferringBatch) -> bool:
    return (
        one.expressions == other.expressions
        and one.files == other.files
        and torch.equal(one.masks, other.masks)
        and all(map(torch.equal, one.images, other.images))
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_and_in_workers_the_same(cfg: CN, workers: int) -> None:
    cfg.INPUT.TRAIN.FLIP, cfg.INPUT.TRAIN.MODE, cfg.INPUT.TRAIN.COLOR = 0.5, "jitter", 0.3
    whole = batches(cfg, 6)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert all(map(same, whole[4:], batches(cfg, 2, start_step=4)))


def test_an_image_that_cannot_be_read_is_named(cfg: CN, tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_bytes(b"no image")
    seen = [batch for batch in batches(cfg, 12) if batch.unreadable]
    assert seen and all(file.endswith("dog.png") for batch in seen for file, _ in batch.unreadable)
    assert all("car.png" in file for batch in seen for file in batch.files)


def test_a_data_set_without_expressions(cfg: CN, tmp_path: Path) -> None:
    write(tmp_path, two_images())
    with pytest.raises(ValueError, match=r"'told' has no referring expressions; .*EXPRESSIONS: rules"):
        build_referring_loader(cfg)


def test_expressions_made_by_rule_of_photos_on_disk(cfg: CN, tmp_path: Path) -> None:
    """Their images are read for the colours; one that is lost is counted as everywhere."""

    def reader(spec: DatasetSpec) -> RuleExpressions:
        return RuleExpressions(read_coco(spec), rules=ExpressionRules(per_image=3, parts=0.3))

    register(replace(spec_of(tmp_path, name="told"), reader=reader), replace=True)
    cfg.INPUT.TRAIN.EXPRESSIONS = 2
    for batch in batches(cfg, 6):
        assert len(batch.expressions) <= 2 and not batch.unreadable
        assert torch.equal(batch.masks.flatten(1).any(1), ~batch.no_target)
    (tmp_path / "dog.png").unlink()
    told = [pair for batch in batches(cfg, 12) for pair in batch.unreadable]
    assert told and all("dog.png" in reason for _, reason in told)


@pytest.mark.parametrize("rules", ["rules", {"PER_IMAGE": 3, "PARTS": 0.5, "COLORS": False}])
def test_one_s_own_file_speaks_by_rule(cfg: CN, tmp_path: Path, rules: Any) -> None:
    """A configuration alone: DATASETS.CUSTOM with EXPRESSIONS, on a file that has none."""
    write(tmp_path, two_images())
    entry = {"NAME": "mine_by_rule", "ANNOTATIONS": str(tmp_path / "annotations.json"), "IMAGES": str(tmp_path)}
    cfg.DATASETS.CUSTOM = [{**entry, "EXPRESSIONS": rules, "EVALUATOR": "referring"}]
    cfg.DATASETS.TRAIN, cfg.INPUT.TRAIN.EXPRESSIONS = ["mine_by_rule"], 3
    texts = {text for batch in batches(cfg, 8) for text in batch.expressions}
    assert len(texts) >= 3 and {"the car", "the dog"} & texts


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("rule", "expressions are made by `rules`, or a mapping of PER_IMAGE"),
        ({"COLOURS": True}, "expressions are made by `rules`, or a mapping of"),
        ({"PER_IMAGE": 0}, "expression rules need"),
        ({"PER_IMAGE": 2.5}, "per_image must be of type int, got 2.5"),
        ({"COLORS": 1}, "colors must be of type bool, got 1"),
    ],
)
def test_rules_that_are_none(cfg: CN, tmp_path: Path, rules: Any, message: str) -> None:
    entry = {"NAME": "mine_by_rule", "ANNOTATIONS": "a.json", "IMAGES": str(tmp_path), "EXPRESSIONS": rules}
    cfg.DATASETS.CUSTOM = [entry]
    with pytest.raises(ValueError, match=message):
        register_custom(cfg)


def test_masks_of_run_lengths() -> None:
    mask = np.zeros((60, 100), bool)
    mask[5:17, 3:40] = True
    from partglee.testing.miniatures.shapes import run_lengths_of

    thing = Instance(label=0, box=(3, 5, 40, 17), segmentation=run_lengths_of(mask))
    sample = mapper()(record([thing], Expression("it", (0,))), np.random.default_rng(0))
    assert np.array_equal(sample.masks[0], mask) and np.array_equal(decode(thing.segmentation, 60, 100), mask)
