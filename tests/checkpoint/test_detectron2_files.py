"""Weights of detectron2, read without it: ResNets of its model zoo, and our model as its trainer saves it."""

from __future__ import annotations

import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from partglee.checkpoint import (
    convert_trained,
    read_detectron2_resnet,
    read_metadata,
    read_weights,
    write_weights,
)
from partglee.checkpoint.notes import is_note, note, read_note
from partglee.cli import main
from partglee.config import config_from_text
from partglee.engine.weight_files import CONFIG_TEXT
from partglee.engine.weights import load_backbone
from partglee.modeling.backbone import build_timm_backbone
from partglee.testing import tiny_model


def filled(key: str, shape: list[int]) -> np.ndarray:
    """The rule of `golden/plugin/resnet50`."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if key.endswith("norm.weight"):
        return (0.8 + 0.1 * noise).numpy()
    if key.endswith("running_var"):
        return (1 + 0.1 * noise.abs()).numpy()
    return (0.1 * noise if noise.ndim == 1 else noise / noise[0].numel() ** 0.5).numpy()


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "plugin" / "resnet50"


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    keys = json.loads((golden / "spec.json").read_text(encoding="utf-8"))["keys"]
    return {key: filled(key, shape) for key, shape in keys.items()}


@pytest.fixture(scope="module")
def stem(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As much as reading looks at."""
    return {key: value for key, value in arrays.items() if key.startswith(("stem.", "res2.0."))}


def pickled(file: Path, content: Any) -> Path:
    file.write_bytes(pickle.dumps(content, protocol=2))
    return file


def zoo(arrays: dict[str, np.ndarray], author: str = "torchvision") -> dict[str, Any]:
    return {"model": arrays, "__author__": author, "matching_heuristics": True}


def test_resnet50_gives_detectron2s_numbers(arrays: dict[str, np.ndarray], golden: Path, tmp_path: Path) -> None:
    head = {"stem.fc.weight": np.ones((1000, 2048), np.float32), "stem.fc.bias": np.ones(1000, np.float32)}
    backbone = build_timm_backbone("resnet50", frozen_norm=True).eval()
    report = load_backbone(backbone, str(pickled(tmp_path / "R-50.pkl", zoo({**arrays, **head}))))
    assert len(report.loaded) == 265 and not report.unexpected and not report.missing
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = backbone(image)
    expected = np.load(golden / "outputs.npz")
    for name, found in zip(("res2", "res3", "res4", "res5"), maps, strict=True):
        assert np.abs(found[:, ::16, ::2, ::2].numpy() - expected[name]).max() < 1e-5, name


def test_whole_detectors_and_told_colours(stem: dict[str, np.ndarray], tmp_path: Path) -> None:
    plain = read_detectron2_resnet(pickled(tmp_path / "a.pkl", zoo(stem)))
    detector = {f"backbone.bottom_up.{key}": value for key, value in stem.items()}
    detector |= {"backbone.fpn_lateral2.weight": stem["stem.conv1.weight"], "roi_heads.x": np.ones(2, np.float32)}
    file = tmp_path / "model_final.pth"
    torch.save({"model": {key: torch.tensor(value) for key, value in detector.items()}, "iteration": 3}, file)
    with pytest.raises(ValueError, match=r"does not say where the strides.*stride_in_1x1=False"):
        load_backbone(build_timm_backbone("resnet50"), str(file))
    same = read_detectron2_resnet(file, stride_in_1x1=False, pixel_format="RGB")
    turned = read_detectron2_resnet(file, stride_in_1x1=False, pixel_format="BGR")
    assert same.keys() == plain.keys() == turned.keys() and all(torch.equal(same[key], plain[key]) for key in plain)
    assert torch.equal(turned["conv1.weight"], plain["conv1.weight"].flip(1))


def test_what_would_give_other_numbers_is_refused(stem: dict[str, np.ndarray], tmp_path: Path) -> None:
    folded = {key: value for key, value in stem.items() if "running" not in key}
    undivided = {**stem, "pixel_std": np.ones((3, 1, 1), np.float32)}
    for name, content, why in (
        ("msra", zoo(folded, "Caffe2"), "no statistics"),
        ("caffe2", {"blobs": {"conv1_w": stem["stem.conv1.weight"]}}, "layout of Caffe2"),
        ("detector", zoo(undivided, "Detectron2 Model Zoo"), "not divided"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.pkl.*{why}.*torchvision/R-50.pkl"):
            read_detectron2_resnet(pickled(tmp_path / f"{name}.pkl", content), stride_in_1x1=False, pixel_format="RGB")
    file = pickled(tmp_path / "R-50.pkl", zoo(stem))
    with pytest.raises(ValueError, match="strides are in the 1 x 1"):
        read_detectron2_resnet(file, stride_in_1x1=True)
    with pytest.raises(ValueError, match="pixel_format must be RGB or BGR, got 'L'"):
        read_detectron2_resnet(file, pixel_format="L")
    with pytest.raises(ValueError, match=r"does not say.*read_detectron2_resnet"):
        read_detectron2_resnet(pickled(tmp_path / "mine.pkl", zoo(stem, "me")))
    with pytest.raises(ValueError, match=r"holds no ResNet of detectron2 \(some keys: patch_embed"):
        read_detectron2_resnet(pickled(tmp_path / "vit.pkl", zoo({"patch_embed.w": np.ones(1, np.float32)})))


class Sneaky:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_pickles_hold_arrays_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"builtins.print; only numpy arrays|__builtin__.print; only numpy arrays"):
        read_detectron2_resnet(pickled(tmp_path / "sneaky.pkl", {"model": Sneaky()}))
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="does not exist"):
        read_detectron2_resnet(tmp_path / "none.pkl")
    whole = pickle.dumps(zoo({"stem.conv1.weight": np.ones((2, 3, 7, 7), np.float32)}), protocol=2)
    for name, content in (("empty", b""), ("cut", whole[:-20]), ("text", b"not a pickle"), ("list", pickle.dumps([1]))):
        (tmp_path / f"{name}.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.pkl"):
            read_detectron2_resnet(tmp_path / f"{name}.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_pickle_protocol(protocol: int, tmp_path: Path, stem: dict[str, np.ndarray]) -> None:
    file = tmp_path / "R-50.pkl"
    file.write_bytes(pickle.dumps(zoo(stem), protocol=protocol))
    assert torch.equal(read_detectron2_resnet(file)["bn1.weight"], torch.tensor(stem["stem.conv1.norm.weight"]))


def test_notes_go_with_tensors() -> None:
    key, tensor = note({"config": "A: 1", "classes": {"x": ["ä"]}})
    state = {"model.w": torch.ones(1), f"prefix.{key}": tensor}
    assert is_note(f"prefix.{key}") and not is_note("model.about.w")
    assert read_note(state) == {"config": "A: 1", "classes": {"x": ["ä"]}} and read_note({}) == {}
    assert note({"config": "B: 1"})[0] != key
    with pytest.raises(ValueError, match="not as it was written"):
        read_note({key: tensor.flip(0)})


def test_convert_what_their_trainer_saved(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from partglee.config import load_config

    model = tiny_model(table=table)
    cfg = load_config("tiny", ["MODEL.TEXT.TABLE.FILE", str(table)])
    key, tensor = note({"config": cfg.dump()})
    state = {f"module.model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": {**state, f"module.{key}": tensor}, "iteration": 2}, tmp_path / "model_final.pth")
    out = tmp_path / "ours.safetensors"
    assert main(["convert", "--from", "detectron2", str(tmp_path / "model_final.pth"), str(out)]) == 0
    assert "every parameter is there" in capsys.readouterr().out
    written = read_weights(out)
    assert written.keys() == model.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in model.state_dict().items())
    assert str(table) == config_from_text(read_metadata(out)[CONFIG_TEXT], source="").MODEL.TEXT.TABLE.FILE

    del state["module.model.qformer.content"]
    torch.save({"model": {**state, key: tensor}}, tmp_path / "less.pth")
    assert main(["convert", "--from", "detectron2", str(tmp_path / "less.pth"), str(out)]) == 1
    with pytest.raises(ValueError, match="no weights of PartGLEE as detectron2 saves them"):
        convert_trained({"backbone.bottom_up.stem.conv1.weight": torch.ones(1)})
    write_weights({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    assert main(["convert", "--from", "detectron2", str(tmp_path / "other.safetensors"), str(out)]) != 0
