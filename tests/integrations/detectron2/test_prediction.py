"""Prediction inside detectron2: the numbers of our Predictor, with a hierarchy that survives."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from plugin_samples import NAMES

from partglee.engine import Predictor
from partglee.engine.image_input import ImageInput
from partglee.engine.pretrained import load_pretrained
from partglee.integrations.detectron2 import classes_of_metadata, to_instances, to_prediction
from partglee.structures import ClassList, Prediction, Vocabulary

CLASSES = ClassList.of(Vocabulary.parse(NAMES))


def plain_predictor(weights: Path) -> Predictor:
    """Whose backbone keeps its norms, as it does in detectron2, where it may be trained."""
    model, cfg = load_pretrained(weights, device="cpu")
    return Predictor(
        model=model,
        short_side=cfg.INPUT.TEST.SHORT_SIDE,
        max_side=cfg.INPUT.TEST.MAX_SIDE,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        mask_box=cfg.TEST.MASK_BOX or None,
    )


def model_of(cfg: Any) -> Any:
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return model


def assert_same(found: Any, expected: Prediction) -> None:
    assert len(found) == len(expected) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.boxes) and torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_masks, expected.masks)
    back = to_prediction(found, CLASSES)
    assert back.names == expected.names
    for field in ("labels", "level", "parent"):
        assert torch.equal(getattr(back, field), getattr(expected, field)), field


@pytest.mark.parametrize("input_format", ["RGB", "BGR"])
def test_default_predictor_is_our_predictor_bit_for_bit(
    cfg: Any, tiny_weights: Path, photo: np.ndarray, input_format: str
) -> None:
    cfg.INPUT.FORMAT = input_format
    predictor = DefaultPredictor(cfg)
    ours = plain_predictor(tiny_weights)
    for pixels in (photo, photo.transpose(1, 0, 2).copy(), photo[:31, :57]):
        expected = ours(pixels, NAMES)
        assert len(expected.parent[expected.parent >= 0]) > 0
        assert_same(predictor(pixels[:, :, ::-1])["instances"], expected)  # it takes BGR


def test_sizes_are_resized_as_ours() -> None:
    for short, longest in ((800, 1333), (256, 426), (96, 160)):
        ours = ImageInput(short_side=short, max_side=longest)
        resize = T.ResizeShortestEdge([short, short], longest)
        rng = np.random.default_rng(short)
        for height, width in rng.integers(20, 400, (100, 2)).tolist():
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            theirs = resize.get_transform(image).apply_image(image)
            assert np.array_equal(ours.resize(image).permute(1, 2, 0).numpy(), theirs), (height, width)


def test_inputs_of_every_kind(cfg: Any, tiny_weights: Path, photo: np.ndarray) -> None:
    model, ours = model_of(cfg), plain_predictor(tiny_weights)
    image = ours.resize(photo)
    expected = ours(photo, NAMES)
    with torch.no_grad():
        for entry in (
            {"image": image, "height": 60, "width": 90},
            {"image": image.float(), "height": 60, "width": 90, "file_name": "a.jpg"},
        ):
            assert_same(model([entry])[0]["instances"], expected)
        (alone,) = model([{"image": image}])
        assert alone["instances"].image_size == tuple(image.shape[1:])
        small = ours.resize(photo[:40, :33])
        batch = model([{"image": image, "height": 60, "width": 90}, {"image": small, "height": 40, "width": 33}])
    assert_same(batch[0]["instances"], expected)
    assert_same(batch[1]["instances"], ours(photo[:40, :33], NAMES))
    cfg.MODEL.PARTGLEE.SCORE_THRESHOLD = 1.0
    (empty,) = model_of(cfg)([{"image": image}])
    assert len(empty["instances"]) == 0 and empty["instances"].pred_masks.shape[1:] == image.shape[1:]


def test_batches_of_one_canvas_go_together(cfg: Any, photo: np.ndarray) -> None:
    model = model_of(cfg)
    images = [torch.tensor(np.roll(photo, k, 1)).permute(2, 0, 1) for k in (0, 30)]
    sizes: list[int] = []
    model.model.backbone.register_forward_hook(lambda m, inputs, maps: sizes.append(len(inputs[0])))
    together = model([{"image": image} for image in images])
    assert sizes == [2]
    for found, image in zip(together, images, strict=True):
        (alone,) = model([{"image": image}])
        assert len(found["instances"]) == len(alone["instances"])
        assert torch.allclose(found["instances"].scores, alone["instances"].scores, atol=1e-3)


def test_the_hierarchy_survives_what_people_do_to_instances(cfg: Any, photo: np.ndarray) -> None:
    found = DefaultPredictor(cfg)(photo)["instances"]
    whole = to_prediction(found, CLASSES)
    is_part = torch.tensor([CLASSES.level[k] == 1 for k in found.pred_classes.tolist()])
    assert is_part.any() and torch.equal(found.pred_ids[~is_part], found.pred_object_ids[~is_part])

    order = torch.randperm(len(found))
    shuffled = to_prediction(found[order], CLASSES)
    for row, old in enumerate(order.tolist()):
        parent, expected = int(shuffled.parent[row]), int(whole.parent[old])
        assert (parent == -1) == (expected == -1) and (parent == -1 or int(order[parent]) == expected)

    owner = int(whole.parent[is_part.nonzero()[0, 0]])
    orphans = to_prediction(found[found.pred_ids != owner], CLASSES)
    assert len(orphans) == len(found) - 1
    assert int((orphans.parent >= 0).sum()) == int(((whole.parent >= 0) & (whole.parent != owner)).sum())
    joined = Instances.cat([found[is_part], found[~is_part]])
    assert len(to_prediction(joined, CLASSES).parts_without_object()) == len(whole.parts_without_object())
    with pytest.raises(ValueError, match="pred_ids must differ"):
        to_prediction(Instances.cat([found, found]), CLASSES)
    with pytest.raises(ValueError, match="is none of 3 classes"):
        to_prediction(found, ClassList.parse(["dog", "person", "cat"]))


def test_names_that_are_no_class_are_left_out(cfg: Any, photo: np.ndarray, tiny_weights: Path) -> None:
    listed = ["dog:head", "person", "cat"]
    MetadataCatalog.get("few").thing_classes = listed
    cfg.DATASETS.TEST = ("few",)
    found = DefaultPredictor(cfg)(photo[:, :, ::-1])["instances"]
    expected = plain_predictor(tiny_weights)(photo, NAMES)
    names = [
        f"{expected.names[expected.parent[i]]}:{name}" if expected.parent[i] >= 0 else name
        for i, name in enumerate(expected.names)
    ]
    assert [listed[k] for k in found.pred_classes.tolist()] == [name for name in names if name in listed]
    assert 0 < len(found) < len(expected)


def test_vocabulary_from_the_metadata(cfg: Any, photo: np.ndarray, tiny_weights: Path) -> None:
    MetadataCatalog.get("pets").thing_classes = ["cat", "dog", "dog's tail", "person"]
    cfg.DATASETS.TEST, cfg.MODEL.PARTGLEE.VOCABULARY = ("pets",), ""
    model = model_of(cfg)
    assert model.classes.vocabulary.to_dict() == {"cat": [], "dog": ["tail"], "person": []}
    found = DefaultPredictor(cfg)(photo)["instances"]
    assert found.pred_classes.max() < 4
    picture = Visualizer(photo, MetadataCatalog.get("pets")).draw_instance_predictions(found)
    assert picture.get_image().shape == photo.shape
    assert classes_of_metadata(MetadataCatalog.get("nothing listed")) is None
    model.set_classes("person: arm")
    assert model.classes.names == ("person", "person:arm")


def test_options(cfg: Any, photo: np.ndarray, tiny_weights: Path) -> None:
    from partglee.engine.pretrained import pretrained_config
    from partglee.integrations.detectron2.config import multi_label_of

    ours = plain_predictor(tiny_weights)
    keys = cfg.MODEL.PARTGLEE
    keys.SCORE_THRESHOLD, keys.PART_SCORE_THRESHOLD, keys.MAX_PARTS_PER_OBJECT = 0.01, 0.03, 1
    keys.RESTRICT_PARTS, keys.PART_OVERLAP, cfg.TEST.DETECTIONS_PER_IMAGE = False, 1.0, 7
    keys.OBJECT_OVERLAP, keys.ACROSS_NAMES, keys.PART_INSIDE = 0.5, True, 1.0
    found = DefaultPredictor(cfg)(photo[:, :, ::-1])["instances"]
    expected = ours(
        photo, NAMES, score_threshold=0.01, part_score_threshold=0.03, max_parts_per_object=1, restrict_parts=False,
        part_overlap=None, max_objects=7, object_overlap=0.5, across_names=True, part_inside=None,
    )  # fmt: skip
    assert_same(found, expected)
    keys.MULTI_LABEL = True
    found = DefaultPredictor(cfg)(photo[:, :, ::-1])["instances"]
    expected = ours(photo, NAMES, multi_label=multi_label_of(pretrained_config(tiny_weights)))
    assert torch.equal(found.scores, expected.scores) and len(found) > 100
    keys.MASKS = False
    assert not DefaultPredictor(cfg)(photo)["instances"].has("pred_masks")


def test_copies_answer_alike(cfg: Any, photo: np.ndarray) -> None:
    model = model_of(cfg)
    inputs = [{"image": torch.tensor(photo).permute(2, 0, 1)}]
    (expected,) = model(inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        (found,) = other(inputs)
        assert torch.equal(found["instances"].scores, expected["instances"].scores)
    assert to_instances(to_prediction(found["instances"], CLASSES), CLASSES).pred_classes.tolist() == (
        expected["instances"].pred_classes.tolist()
    )
