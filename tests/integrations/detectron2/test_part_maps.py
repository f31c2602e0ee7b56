"""A loop such as OV-PARTS': inputs with a known object, an argmax of `sem_seg`, pixel counts; its golden numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog, detection_utils
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from partglee.checkpoint import write_weights
from partglee.config import load_config
from partglee.data import get_dataset
from partglee.data.segmentation import decode
from partglee.engine.weight_files import CONFIG_TEXT
from partglee.evaluation.part_map_files import part_map_evaluator
from partglee.integrations.detectron2 import PartGLEEPartMaps, PartMapReplay, add_partglee_config
from partglee.structures import Vocabulary
from partglee.testing import tiny_model, write_name_table
from partglee.testing.miniatures import MINIATURES

SET = "voc_obj_part_sem_seg_val_obj_condition"
K = 116


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ov_parts")
    MINIATURES["pascal_part_116"](folder, num_images=8, seed=3)
    return folder


@pytest.fixture
def theirs(root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> None:
    """Their metadata."""
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    names = Vocabulary.builtin("pascal_part_116")
    owners = [names.object_names[rows[0]] for rows in names.part_owner]
    parts = [f"{owner}'s {part}" for owner, part in zip(owners, names.part_names, strict=True)]
    MetadataCatalog.get(SET).set(
        stuff_classes=parts, obj_classes=list(names.object_names), ignore_label=255, evaluator_type="sem_seg"
    )


def numbers(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden" / "plugin" / "numbers.json").read_text(encoding="utf-8"))["ov_parts"]


def inputs(short_side: int, max_side: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(record, input) of each sample, the image resized as their mapper does."""
    resize = T.ResizeShortestEdge([short_side, short_side], max_side)
    for record in get_dataset(SET).read():
        image = detection_utils.read_image(str(record.file), format="RGB")
        resized = resize.get_transform(image).apply_image(image)
        mask = decode(record.objects[0].segmentation, record.height, record.width)
        known = Instances(resized.shape[:2])
        known.gt_classes = torch.tensor([record.objects[0].label])
        known.gt_masks = BitMasks(np.zeros((1, *resized.shape[:2]), bool))
        yield (
            (record, mask),
            {
                "file_name": str(record.file), "height": record.height, "width": record.width,
                "image": torch.as_tensor(resized.transpose(2, 0, 1).copy()), "instances": known,
            },
        )  # fmt: skip


def scored(model: Callable[[Any], Any], **options: Any) -> dict[str, float]:
    """Their evaluator: the argmax of each answer inside the known object, samples without parts left out."""
    spec = get_dataset(SET)
    evaluator = part_map_evaluator(spec, spec.read(), **options)
    for (record, mask), entry in inputs(96, 160):
        if not record.parts:
            continue  # there another sample takes its place
        (answer,) = model([entry])
        assert answer["sem_seg"].shape == (K, record.height, record.width)
        truth = np.full((record.height, record.width), 65535, np.int64)
        for part in record.parts:
            truth[decode(part.segmentation, record.height, record.width)] = part.label
        evaluator.process(record.image_id, answer["sem_seg"].argmax(0).numpy(), truth, object_mask=mask)
    return evaluator.evaluate()


def assert_golden(results: dict[str, float], wanted: dict[str, float]) -> None:
    ours = {"mIoU": "mIoU", "mIoU-base": "mIoU-base", "mIoU-unbase": "mIoU-novel", "h-IoU": "hIoU"}
    for key, name in ours.items():
        assert results[f"A/{name}"] == pytest.approx(wanted[key], abs=1e-6), key


@pytest.mark.parametrize(("key", "options"), [("theirs_48", {}), ("theirs_512", {"resize_truth": 512})])
def test_replay_of_saved_maps(shared: Path, theirs: None, key: str, options: dict[str, Any]) -> None:
    cfg = get_cfg()
    add_partglee_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "PartMapReplay", "cpu"
    cfg.DATASETS.TEST = (SET,)
    cfg.MODEL.PARTGLEE.PART_MAPS = str(shared / "golden" / "plugin" / "ovparts" / SET)
    assert_golden(scored(build_model(cfg).eval(), **options), numbers(shared)["maps"][key])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the golden numbers: filled weights, a table of the set's prompts and names, 200 queries."""
    folder = tmp_path_factory.mktemp("model")
    names = Vocabulary.builtin("pascal_part_116")
    texts = (*names.object_prompts, *names.part_prompts, *names.object_names, *names.part_names)
    table = write_name_table(folder / "names.npz", list(dict.fromkeys(texts)))
    places = ["MODEL.TEXT.TABLE.FILE", str(table), "INPUT.TEST.SHORT_SIDE", 96, "INPUT.TEST.MAX_SIDE", 160]
    file = folder / "model.safetensors"
    write_weights(tiny_model(table=table).state_dict(), file, {CONFIG_TEXT: load_config("tiny", places).dump()})
    return file


@pytest.mark.parametrize("input_format", ["RGB", "BGR"])
def test_the_model_in_their_loop(shared: Path, theirs: None, weights: Path, input_format: str) -> None:
    cfg = get_cfg()
    add_partglee_config(cfg, weights=str(weights), vocabulary="pascal_part_116")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.DATASETS.TEST = "PartGLEEPartMaps", "cpu", (SET,)
    cfg.INPUT.FORMAT = input_format
    model = build_model(cfg).eval()
    from detectron2.checkpoint import DetectionCheckpointer

    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)

    def answer(entries: list[dict[str, Any]]) -> Any:
        flipped = [{**e, "image": e["image"].flip(0)} if input_format == "BGR" else e for e in entries]
        return model(flipped)

    assert_golden(scored(answer), numbers(shared)["model"])


def test_objects_without_parts_and_bad_inputs(theirs: None, weights: Path, tmp_path: Path) -> None:
    model = PartGLEEPartMaps.from_weights(str(weights), "pascal_part_116", object_names=("boat", "dog"))
    known = Instances((64, 64), gt_classes=torch.tensor([0]))
    entry = {"image": torch.zeros(3, 64, 64), "instances": known, "file_name": "a.jpg"}
    (answer,) = model([entry])
    assert answer["sem_seg"].shape == (K, 64, 64) and not answer["sem_seg"].any()
    with pytest.raises(ValueError, match=r"a.jpg has no instances; .*obj_condition"):
        model([{key: value for key, value in entry.items() if key != "instances"}])
    replay = PartMapReplay(folder=tmp_path, num_classes=3)
    with pytest.raises(ValueError, match=r"no part map for a.jpg: neither .*a_0.png nor a.png"):
        replay([entry])
    from PIL import Image

    Image.fromarray(np.zeros((5, 7), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"part map .*a.png is \(5, 7\), but the image \(64, 64\)"):
        replay([entry])
    Image.fromarray(np.array([[0, 2], [1, 255]], np.uint16)).save(tmp_path / "a_0.png")
    (answer,) = replay([{**entry, "height": 2, "width": 2}])
    assert answer["sem_seg"].argmax(0).tolist() == [[0, 2], [1, 0]] and answer["sem_seg"][:, 1, 1].tolist() == [0, 0, 0]
