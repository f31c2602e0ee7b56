"""Each mistake is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

from partglee.data import DatasetSpec, read_coco, register
from partglee.integrations.detectron2 import (
    PartGLEE,
    PartMapReplay,
    add_partglee_config,
    register_from_detectron2,
    register_in_detectron2,
)


@pytest.mark.parametrize("input_format", ["L", "YUV-BT.601"])
def test_colours_that_the_weights_were_not_trained_with(cfg: Any, input_format: str) -> None:
    cfg.INPUT.FORMAT = input_format
    with pytest.raises(ValueError, match=f"INPUT.FORMAT must be RGB or BGR, got '{input_format}'.*trained with RGB"):
        build_model(cfg)


def test_classes_without_a_place_in_the_vocabulary(cfg: Any) -> None:
    MetadataCatalog.get("zoo").thing_classes = ["dog", "zebra", "dog:wing"]
    cfg.DATASETS.TEST = ("zoo",)
    with pytest.raises(ValueError, match=r"data set 'zoo': 2 of 3 classes have no place.*'zebra', 'dog:wing'"):
        build_model(cfg)
    MetadataCatalog.get("strange").thing_classes = ["dog", "qqqqxxzz"]
    cfg.DATASETS.TEST, cfg.MODEL.PARTGLEE.VOCABULARY = ("strange",), ""
    with pytest.raises(ValueError, match=r"1 classes have no place in the model's name table.*qqqqxxzz"):
        build_model(cfg)


def test_lists_that_are_none(cfg: Any) -> None:
    cfg.MODEL.PARTGLEE.VOCABULARY, cfg.DATASETS.TEST = "", ("text",)
    MetadataCatalog.get("text").thing_classes = "dog"
    with pytest.raises(TypeError, match=r"data set 'text': thing_classes must be a list of names, got 'dog'"):
        build_model(cfg)
    MetadataCatalog.get("numbers").thing_classes = ["dog", 3]
    cfg.DATASETS.TEST = ("numbers",)
    with pytest.raises(TypeError, match=r"data set 'numbers': class name must be text, got 3"):
        build_model(cfg)


def test_sets_of_different_lists(cfg: Any) -> None:
    MetadataCatalog.get("one").thing_classes = ["dog", "cat"]
    MetadataCatalog.get("two").thing_classes = ["dog", "person"]
    cfg.DATASETS.TEST = ("one", "two")
    with pytest.raises(ValueError, match=r"DATASETS.TEST: one and two have different lists.*class 1 is 'cat'"):
        build_model(cfg)


def test_nothing_to_look_for_and_nothing_to_build(cfg: Any, tmp_path: Path) -> None:
    cfg.MODEL.PARTGLEE.VOCABULARY = ""
    with pytest.raises(ValueError, match=r"no names to look for.*MODEL.PARTGLEE.VOCABULARY"):
        build_model(cfg)
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(ValueError, match=r"set MODEL.WEIGHTS to weights of PartGLEE, or MODEL.PARTGLEE.CONFIG"):
        build_model(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"does not exist"):
        build_model(cfg)
    cfg.MODEL.WEIGHTS = "no-such-name"
    with pytest.raises(ValueError, match=r"no weights for 'no-such-name'"):
        build_model(cfg)
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "silent.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "silent.pth")
    with pytest.raises(ValueError, match=r"does not say its configuration; set MODEL.PARTGLEE.CONFIG"):
        build_model(cfg)
    other = get_cfg()
    with pytest.raises(ValueError, match=r"does not say its configuration.*config= of add_partglee_config"):
        add_partglee_config(other, weights=cfg.MODEL.WEIGHTS)
    add_partglee_config(other, weights=cfg.MODEL.WEIGHTS, config="tiny_parts")
    assert other.MODEL.PARTGLEE.CONFIG == "tiny_parts"


def test_one_import_is_enough(tiny_weights: Path, catalogs: None) -> None:
    cfg = get_cfg()  # without our keys
    MetadataCatalog.get("pets").thing_classes = ["dog", "dog:head"]
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "PartGLEE", "cpu", str(tiny_weights)
    cfg.DATASETS.TEST = ("pets",)
    assert build_model(cfg).classes.names == ("dog", "dog:head")


def test_training_inputs(tiny_weights: Path) -> None:
    model = PartGLEE.from_weights(str(tiny_weights), "dog: head", training=True)
    image = torch.zeros(3, 64, 64)
    with pytest.raises(ValueError, match=r"a.jpg: training needs 'instances'; is the mapper one for training"):
        model([{"image": image, "file_name": "a.jpg"}])
    wrong = Instances((64, 64), gt_classes=torch.tensor([5]), gt_boxes=Boxes(torch.tensor([[0.0, 0, 9, 9]])))
    with pytest.raises(ValueError, match=r"class 5 is none of 2 classes; the metadata lists others"):
        model([{"image": image, "instances": wrong}])
    wrong = Instances((64, 64), gt_classes=torch.tensor([0, -1]), gt_boxes=Boxes(torch.tensor([[0.0, 0, 9, 9]] * 2)))
    with pytest.raises(ValueError, match=r"class -1 is none of 2 classes"):
        model([{"image": image, "instances": wrong}])
    wrong = Instances((64, 64), gt_classes=torch.tensor([0]), gt_boxes=Boxes(torch.tensor([[0.0, 0, 9, 9]])))
    wrong.gt_masks = BitMasks(torch.ones(1, 32, 48))
    with pytest.raises(ValueError, match=r"a.jpg: masks of 32 x 48 pixels for an image of 64 x 64; the mapper must"):
        model([{"image": image, "instances": wrong, "file_name": "a.jpg"}])
    model.criterion = None
    with pytest.raises(ValueError, match=r"has no criterion"):
        model([{"image": image, "instances": wrong}])


IMAGE = torch.zeros(3, 64, 64)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"image": IMAGE}, r"takes a list of dicts with 'image', got dict"),
        (IMAGE, r"takes a list of dicts with 'image', got Tensor"),
        ([IMAGE], r"takes a list of dicts with 'image' \(3, h, w\), got Tensor in it"),
        ([{"file_name": "a.jpg"}], r"a.jpg: the dict has no 'image' but \['file_name'\]; a mapper reads it"),
        ([{"image": np.zeros((64, 64, 3), np.uint8)}], r"must be a tensor \(3, h, w\), got ndarray; of an array"),
        ([{"image": IMAGE[None]}], r"'image' must be \(3, h, w\), got \(1, 3, 64, 64\)"),
        ([{"image": IMAGE.permute(1, 2, 0)}], r"got \(64, 64, 3\); for \(h, w, 3\) permute"),
        ([{"image": IMAGE, "height": 0, "width": 9}], r"'height' must be a number of pixels, got 0"),
        ([{"image": IMAGE, "height": 9, "width": float("nan")}], r"'width' must be a number of pixels, got nan"),
        ([{"image": IMAGE, "height": "9"}], r"'height' must be a number of pixels, got '9'"),
    ],
)
def test_inputs(tiny_weights: Path, inputs: Any, told: str) -> None:
    model = PartGLEE.from_weights(str(tiny_weights), "dog: head")
    with pytest.raises((ValueError, TypeError), match=told):
        model(inputs)


def test_sizes_that_are_not_said(tiny_weights: Path) -> None:
    model = PartGLEE.from_weights(str(tiny_weights), "dog: head")
    (one,) = model([{"image": IMAGE, "height": None, "width": np.int64(32)}])
    assert one["instances"].image_size == (64, 32)


def boxes(*rows: list[float]) -> Boxes:
    return Boxes(torch.tensor(rows))


@pytest.mark.parametrize(
    ("instances", "told"),
    [
        (None, r"'instances' must be Instances of detectron2, got None"),
        (Instances((64, 64)), r"training needs gt_classes and gt_boxes of the instances, which have no fields"),
        (
            Instances((64, 64), gt_classes=torch.tensor([0])),
            r"needs gt_boxes of the instances, which have \['gt_classes'\]",
        ),
        (
            Instances((64, 64), gt_classes=[0], gt_boxes=boxes([0, 0, 9, 9])),
            r"gt_classes must be a tensor \(N,\)",
        ),
        (
            Instances((64, 64), gt_classes=torch.tensor([0.5]), gt_boxes=boxes([0, 0, 9, 9])),
            r"gt_classes must be a tensor \(N,\) of whole numbers",
        ),
        (
            Instances((64, 64), gt_classes=torch.tensor([0]), gt_boxes=torch.tensor([[0.0, 0, 9, 9]])),
            r"gt_boxes must be Boxes of detectron2, got Tensor",
        ),
        (
            Instances((64, 64), gt_classes=torch.tensor([0, 0]), gt_boxes=boxes([0, 0, 9, 9], [9, 9, 5, 12])),
            r"box 1 of gt_boxes must be x0, y0, x1, y1 .*, got \[9.0, 9.0, 5.0, 12.0\]; is its bbox_mode right",
        ),
        (
            Instances((64, 64), gt_classes=torch.tensor([0]), gt_boxes=boxes([0, 0, float("nan"), 9])),
            r"box 0 of gt_boxes must be",
        ),
        (
            Instances((32, 48), gt_classes=torch.tensor([0]), gt_boxes=boxes([0, 0, 9, 9])),
            r"instances of an image of 32 x 48 pixels, the image has 64 x 64; the mapper must resize both alike",
        ),
        (
            Instances(
                (64, 64), gt_classes=torch.tensor([0]), gt_boxes=boxes([0, 0, 9, 9]), gt_ids=[1], gt_object_ids=[-1]
            ),
            r"gt_ids must be a tensor \(N,\) of whole numbers",
        ),
    ],
)
def test_instances(tiny_weights: Path, instances: Any, told: str) -> None:
    model = PartGLEE.from_weights(str(tiny_weights), "dog: head", training=True)
    with pytest.raises((ValueError, TypeError), match=rf"a.jpg: .*{told}"):
        model([{"image": IMAGE, "file_name": "a.jpg", "instances": instances}])


def test_weights_at_an_address(cfg: Any, tiny_weights: Path) -> None:
    cfg.MODEL.WEIGHTS = "http://127.0.0.1:9/a.safetensors"
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS http://127.0.0.1:9/a.safetensors cannot be fetched .*get the"):
        build_model(cfg)
    assert PartGLEE.from_weights("partglee://partglee-tiny", "dog: head").classes.names == ("dog", "dog:head")


def test_names_that_are_taken_or_not_there(catalogs: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"detectron2 has a data set 'coco_2017_val' already; pass as_name="):
        register_in_detectron2("coco_2017_val")
    with pytest.raises(ValueError, match=r"detectron2 has no data set 'nowhere'"):
        register_from_detectron2("nowhere")
    DatasetCatalog.register("nameless", list)
    with pytest.raises(ValueError, match=r"lists no thing_classes"):
        register_from_detectron2("nameless")
    MetadataCatalog.get("nameless").thing_classes = ["dog"]
    register(DatasetSpec(name="nameless", annotations="a", images="", reader=read_coco))
    with pytest.raises(ValueError, match=r"registered already"):
        register_from_detectron2("nameless")
    assert register_from_detectron2("nameless", as_name="other").name == "other"
    with pytest.raises(ValueError, match=r"a replay needs a folder of part maps"):
        PartMapReplay(folder=tmp_path / "none", num_classes=3)
    add_partglee_config(get_cfg())
