"""Batches that carry what a dense teacher says of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.config import load_config
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.mapper import LevelSample, Sample
from partglee.data.teaching import OnnxTeacher, TeachingCollate, check_teacher
from partglee.structures import TrainingBatch, Vocabulary


class Brightness:
    """A teacher of two names: how red and how green a place is, on grids of 8 and 16 pixels."""

    def __init__(self) -> None:
        self.shown: list[NDArray[np.uint8]] = []

    def score_maps(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        self.shown.append(pixels)
        return [pixels[::step, ::step, :2].transpose(2, 0, 1).astype(np.float32) / 255 for step in (8, 16)]


def sample(height: int, width: int, value: int = 255, **fields: Any) -> Sample:
    nothing = LevelSample(np.zeros(0, np.int64), np.zeros((0, 4)), None)
    image = torch.full((3, height, width), value, dtype=torch.uint8)
    return Sample(image, nothing, nothing, np.zeros(0, np.int64), "file.png", **fields)


def batch(vocabulary: Vocabulary, *samples: Sample, teacher: Brightness, **fields: Any) -> TrainingBatch:
    spec = DatasetSpec(**{"name": "test", "annotations": "", "images": "", **fields}, reader=read_coco)
    teach = TeachingCollate(teacher=teacher, names=["dog", "cat"])
    rng = np.random.default_rng(0)
    return teach(samples, spec=spec, vocabulary=vocabulary, rng=rng, divisibility=32, min_canvas=(1, 1))


def test_scores_of_the_names_that_both_know() -> None:
    teacher = Brightness()
    made = batch(Vocabulary({"car": [], "cat": [], "dog": ["tail"]}), sample(32, 64), sample(16, 40), teacher=teacher)
    assert made.dense is not None and made.names is not None
    assert [made.names.object_prompts[i] for i in made.dense.columns.tolist()] == ["cat", "dog"]
    assert [tuple(one.shape) for one in made.dense.maps] == [(2, 2, 4, 8), (2, 2, 2, 4)]
    # The teacher sees the canvas that the model sees: the second image is smaller, and grey beside it.
    assert [one.shape for one in teacher.shown] == [(32, 64, 3)] * 2
    assert (teacher.shown[1][:16, :40] == 255).all() and (teacher.shown[1][16:] == 114).all()
    fine = made.dense.maps[0][1, 0].float()
    assert (fine[:2, :5] == 1).all() and torch.allclose(fine[2:], torch.tensor(114 / 255), atol=1e-3)


def test_the_right_rows_of_the_teacher() -> None:
    red = sample(32, 32, 0)
    red.image[0] = 255  # "dog" says red, "cat" says green
    made = batch(Vocabulary({"cat": [], "dog": []}), red, teacher=Brightness())
    assert made.dense is not None
    assert (made.dense.maps[0][0, 0] == 0).all() and (made.dense.maps[0][0, 1] == 1).all()


def test_nothing_to_say() -> None:
    assert batch(Vocabulary({"car": ["wheel"]}), sample(32, 32), teacher=Brightness()).dense is None
    object_ = LevelSample(np.zeros(1, np.int64), np.array([[0.0, 0, 9, 9]]), None)
    told = sample(32, 32, expression="the left dog")._replace(objects=object_)
    assert batch(Vocabulary({"dog": []}), told, teacher=Brightness()).dense is None


def test_a_teacher_travels_to_a_worker(tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(OnnxTeacher(tmp_path / "yolox_nano.onnx")))
    with pytest.raises(ValueError, match=r"yolox_nano\.onnx"):
        copy.score_maps(np.zeros((8, 8, 3), np.uint8))


def test_names_are_compared_as_people_read_them() -> None:
    """Data sets write `stop_sign` or `Dog`, and a part format or a prompt of their own."""
    vocabulary = Vocabulary({"Dog": [], "hot_dog": []}, object_format="a photo of a {object}")
    made = batch(vocabulary, sample(32, 32), teacher=Brightness())
    assert made.dense is not None and made.dense.columns.tolist() == [0]
    spec = DatasetSpec(name="test", annotations="", images="", reader=read_coco)
    teach = TeachingCollate(teacher=Brightness(), names=["stop sign", "dog"])
    signs = Vocabulary({"person": [], "stop_sign": []})
    rng = np.random.default_rng(0)
    made = teach([sample(32, 32)], spec=spec, vocabulary=signs, rng=rng, divisibility=32, min_canvas=(1, 1))
    assert made.dense is not None and made.dense.columns.tolist() == [1]


def configuration(*overrides: Any) -> CN:
    return load_config("tiny", ["MODEL.OBJECT_DECODER.DENSE_HEAD", True, *overrides])


def test_what_is_checked_before_a_run(tmp_path: Path) -> None:
    file, ours = tmp_path / "yolox_nano.onnx", {"pets": Vocabulary({"Dog": ["tail"]})}
    check_teacher(load_config("tiny"), {})
    with pytest.raises(ValueError, match=r"set MODEL\.OBJECT_DECODER\.DENSE_HEAD True"):
        check_teacher(load_config("tiny", ["INPUT.TRAIN.TEACHER", str(file)]), ours)
    cfg = configuration("INPUT.TRAIN.TEACHER", str(file))
    with pytest.raises(ValueError, match=r"is not there; expected the path of yolox_nano\.onnx"):
        check_teacher(cfg, ours)
    file.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"gadgets has none of them as an object"):
        check_teacher(cfg, {"gadgets": Vocabulary({"widget": ["knob"]})})
    with pytest.raises(ValueError, match=r"cannot be read as yolox_nano\.onnx"):
        check_teacher(cfg, ours)
