"""Data sets in both directions, and true parents through the mapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, build_detection_test_loader
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import Visualizer

from partglee.cli import main
from partglee.data import get_dataset
from partglee.data.collate import collate
from partglee.data.segmentation import decode
from partglee.integrations.detectron2 import HierarchyMapper, register_from_detectron2, register_in_detectron2
from partglee.integrations.detectron2.batches import plain_spec, training_batch
from partglee.structures import ClassList
from partglee.testing.miniatures import MINIATURES


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGLEE_DATASETS", str(folder))
        assert main(["data", "toy", "--images", "8", "--size", "64", "96"]) == 0
    for name in ("coco", "lvis", "paco_lvis", "pascal_part_116"):
        MINIATURES[name](folder, num_images=3, seed=3)
    return folder


@pytest.fixture
def toy(root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> str:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    return register_in_detectron2("toy_train")


def test_ours_there(toy: str) -> None:
    records, metadata = get_dataset(toy).read(), MetadataCatalog.get(toy)
    classes = ClassList.parse(metadata.thing_classes)
    assert classes.vocabulary.to_dict() == records.vocabulary.to_dict()
    entries = DatasetCatalog.get(toy)
    assert len(entries) == len(records)
    for entry, record in zip(entries, records, strict=True):
        assert entry["file_name"] == str(record.file) and (entry["height"], entry["width"]) == (64, 96)
        of_id = {one["id"]: one for one in entry["annotations"]}
        assert len(of_id) == len(record.objects) + len(record.parts)
        for one in entry["annotations"]:
            owner, name = of_id[one["object_id"]], metadata.thing_classes[one["category_id"]]
            if ":" in name:
                assert name.startswith(metadata.thing_classes[owner["category_id"]] + ":")
            else:
                assert owner is one
            assert one["bbox_mode"] == BoxMode.XYXY_ABS and one["segmentation"]
    image = np.zeros((64, 96, 3), np.uint8)
    assert Visualizer(image, metadata).draw_dataset_dict(entries[0]).get_image().any()


@pytest.mark.parametrize("name", ["toy_train", "paco_lvis_v1_val", "voc_obj_part_sem_seg_val"])
def test_there_and_back_again(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    there = register_in_detectron2(name)
    back = register_from_detectron2(there, as_name="back").read()
    ours = get_dataset(name).read()
    assert back.vocabulary == ours.vocabulary and len(back) == len(ours)
    for index in range(len(ours)):
        record, found = ours[index], back[index]
        assert (found.file, found.height, found.width) == (record.file, record.height, record.width)
        assert ours.labels(index) == back.labels(index) and back.size(index) == (record.height, record.width)
        for level in ("objects", "parts"):
            for one, other in zip(getattr(record, level), getattr(found, level), strict=True):
                assert (one.label, one.parent, one.crowd) == (other.label, other.parent, other.crowd)
                assert one.box == pytest.approx(other.box)
                masks = [decode(i.segmentation, record.height, record.width) for i in (one, other)]
                assert np.array_equal(*masks)


def test_theirs_here(root: Path, catalogs: None) -> None:
    """Polygons in xywh, other category ids, parts without ids."""
    box = {"bbox": [4.0, 5.0, 20.0, 10.0], "bbox_mode": BoxMode.XYWH_ABS}
    square = [[4.0, 5.0, 24.0, 5.0, 24.0, 15.0, 4.0, 15.0]]
    annotations = [
        {**box, "category_id": 1, "segmentation": square, "id": 70},
        {**box, "category_id": 0, "segmentation": square, "parent_id": 70},
        {**box, "category_id": 0, "segmentation": square},
    ]
    entry = {"file_name": "a.jpg", "height": 40, "width": 60, "image_id": "a", "annotations": annotations}
    DatasetCatalog.register("mine", lambda: [entry, {"file_name": "b.jpg", "image_id": 9}])
    MetadataCatalog.get("mine").set(
        thing_classes=["dog's head", "dog"], thing_dataset_id_to_contiguous_id={11: 0, 5: 1}
    )
    spec = register_from_detectron2("mine", part_background="inside")
    records = spec.read()
    assert spec.part_background == "inside" and records.category_ids == ([5], [11])
    record = records[0]
    assert [i.box for i in record.objects] == [(4.0, 5.0, 24.0, 15.0)] and record.image_id == 1
    assert [i.parent for i in record.parts] == [0, -1] and records[1].image_id == 9
    assert records.size(1) == (0, 0) and records.labels(0) == (frozenset({0}), frozenset({0}))


def test_train_and_score_theirs_with_our_commands(
    toy: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register_from_detectron2(toy, as_name="theirs")
    run = [
        "--config-file", "tiny_parts", "--num-gpus", "0", "MODEL.WEIGHTS", "partglee-tiny", "SOLVER.MAX_ITER", "1",
        "SOLVER.BATCH_SIZE", "2", "DATASETS.TRAIN", "[theirs]", "DATASETS.RATIOS", "[]", "DATASETS.REPEAT_THRESHOLDS",
        "[]", "DATASETS.TEST", "[theirs]", "TEST.BEST", "", "INPUT.TRAIN.SIZE", "[64, 64]", "INPUT.TEST.SHORT_SIDE",
        "64", "DATALOADER.NUM_WORKERS", "0", "SOLVER.EMA_DECAY", "0.0", "OUTPUT_DIR", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(["train", *run]) == 0
    (file,) = (tmp_path / "run").rglob("theirs.jsonl")
    capsys.readouterr()
    assert main(["eval", "--predictions", str(file), "--dataset", "theirs"]) == 0
    assert "hAP" in capsys.readouterr().out


def targets(entries: list[dict[str, Any]], mapper: Any, classes: ClassList) -> Any:
    spec = plain_spec(classes, name="toy", sampled_names=0)
    inputs = [mapper(entry) for entry in entries]
    return training_batch(inputs, classes, spec, input_format="RGB", divisibility=32)


def test_true_parents_in_targets(toy: str) -> None:
    records = get_dataset(toy).read()
    classes = ClassList.of(records.vocabulary)
    entries = DatasetCatalog.get(toy)
    mapper = HierarchyMapper(is_train=True, augmentations=[], image_format="RGB")
    batch = targets(entries[:3], mapper, classes)
    for target, record in zip(batch.targets, records, strict=False):
        assert target.objects.labels.tolist() == [i.label for i in record.objects]
        assert target.parts.labels.tolist() == [i.label for i in record.parts]
        assert target.part_parent.tolist() == [i.parent for i in record.parts] and (target.part_parent >= 0).any()
        expected = np.stack([decode(i.segmentation, 64, 96) for i in record.parts])
        assert np.array_equal(target.parts.masks.numpy(), expected)
    # In another order, some objects gone: a part keeps its object, or has none.
    few = {**entries[0], "annotations": entries[0]["annotations"][:0:-1]}
    (target,) = targets([few], mapper, classes).targets
    kept = [one for one in few["annotations"]]
    objects = [one["id"] for one in kept if one["id"] == one["object_id"]]
    parts = [one for one in kept if one["id"] != one["object_id"]]
    wanted = [objects.index(one["object_id"]) if one["object_id"] in objects else -1 for one in parts]
    assert target.part_parent.tolist() == wanted and -1 in wanted


def test_augmented_alike_for_image_and_parents(toy: str) -> None:
    classes = ClassList.of(get_dataset(toy).read().vocabulary)
    entries = DatasetCatalog.get(toy)[:2]
    plain = targets(entries, HierarchyMapper(is_train=True, augmentations=[], image_format="RGB"), classes)
    flip = HierarchyMapper(is_train=True, augmentations=[T.RandomFlip(1.0)], image_format="RGB")
    flipped = targets(entries, flip, classes)
    for one, other in zip(plain.targets, flipped.targets, strict=True):
        assert torch.equal(one.part_parent, other.part_parent)
        assert torch.allclose(1 - one.parts.boxes[:, 0], other.parts.boxes[:, 0], atol=1e-5)
        assert torch.equal(one.objects.masks.flip(-1), other.objects.masks)
    crop = HierarchyMapper(
        is_train=True, augmentations=[T.RandomCrop("absolute", (32, 40))], image_format="RGB", recompute_boxes=True
    )
    (cropped,) = targets(entries[:1], crop, classes).targets
    assert len(cropped.objects) <= len(plain.targets[0].objects) and cropped.objects.boxes.max() <= 1


@pytest.mark.parametrize(("name", "mask_format"), [("toy_train", "bitmask"), ("coco_2017_val", "polygon")])
def test_the_mapper_of_detectron2_gives_the_same_but_parents(
    name: str, mask_format: str, root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    there = register_in_detectron2(name, as_name="there")
    classes = ClassList.of(get_dataset(name).read().vocabulary)
    entries = DatasetCatalog.get(there)[:2]
    stock = DatasetMapper(
        True, augmentations=[], image_format="RGB", use_instance_mask=True, instance_mask_format=mask_format
    )
    ours = HierarchyMapper(is_train=True, augmentations=[], image_format="RGB")
    found, expected = targets(entries, stock, classes).targets, targets(entries, ours, classes).targets
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.objects.labels, other.objects.labels) and (one.part_parent == -1).all()
        for level in ("objects", "parts") if name == "toy_train" else ("objects",):
            assert torch.allclose(getattr(one, level).boxes, getattr(other, level).boxes)
            assert torch.equal(getattr(one, level).masks, getattr(other, level).masks)
    assert sum(len(one.objects) for one in found) > 0


def test_the_same_batch_as_our_own_loader_makes(toy: str) -> None:
    from partglee.data.augmentation import ShortSide
    from partglee.data.mapper import Mapper

    records = get_dataset(toy).read()
    classes = ClassList.of(records.vocabulary)
    augmentation = ShortSide(short_sides=(64,), max_side=96, flip=0.0)
    mapper = Mapper(vocabulary=records.vocabulary, augmentation=augmentation, boxes_from_masks=False)
    rng = np.random.default_rng(0)
    ours = collate(
        [mapper(records[i], rng) for i in range(2)], spec=get_dataset(toy), vocabulary=records.vocabulary, rng=rng,
        divisibility=32,
    )  # fmt: skip
    theirs = targets(
        DatasetCatalog.get(toy)[:2], HierarchyMapper(is_train=True, augmentations=[], image_format="RGB"), classes
    )
    assert ours.names == theirs.names and ours.canvas == theirs.canvas
    assert all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True))
    for one, other in zip(ours.targets, theirs.targets, strict=True):
        assert torch.equal(one.part_parent, other.part_parent)
        assert torch.allclose(one.objects.boxes, other.objects.boxes, atol=1e-6)
        assert torch.equal(one.parts.masks, other.parts.masks)


def test_lvis_says_what_was_looked_for(root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    name = register_in_detectron2("lvis_v1_val", as_name="our_lvis")
    entry, record = DatasetCatalog.get(name)[0], get_dataset("lvis_v1_val").read()[0]
    classes = ClassList.parse(MetadataCatalog.get(name).thing_classes)
    (sample,) = [HierarchyMapper(is_train=True, augmentations=[], image_format="RGB")(entry)]
    spec = plain_spec(classes, name="lvis", sampled_names=12)
    known = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
    batch = training_batch([sample], classes, spec, input_format="RGB", divisibility=32, dataset_ids=known)
    negatives = batch.supervision.objects.negatives
    assert len(batch.names.object_prompts) == 12 and negatives is not None
    names = [classes.vocabulary.object_prompts.index(prompt) for prompt in batch.names.object_prompts]
    exhaustive = ({i.label for i in record.objects} | record.negative_objects) - record.not_exhaustive_objects
    assert [label for label, asked in zip(names, negatives[0].tolist(), strict=True) if asked] == sorted(exhaustive)
    # The loader of detectron2's own LVIS: ids of the file, which count from 1.
    plain = {**sample, **{k: [v + 1 for v in sample[k]] for k in ("neg_category_ids", "not_exhaustive_category_ids")}}
    again = training_batch([plain], classes, spec, input_format="RGB", divisibility=32)
    assert again.supervision.objects.negatives is not None


def test_test_loaders(toy: str, cfg: Any) -> None:
    cfg.DATASETS.TEST = (toy,)
    loader = build_detection_test_loader(DatasetCatalog.get(toy), mapper=HierarchyMapper(cfg, is_train=False))
    first = next(iter(loader))[0]
    assert "instances" not in first and first["image"].dtype == torch.uint8
