"""Teachers: boxes, graph models run by torch, and the real files where they lie."""

from __future__ import annotations

import base64
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from partglee.data.images import read_image
from partglee.data.prepare.graph_model import read_graph, run_graph
from partglee.data.prepare.teachers import COCO_IDS, CenterNet, YoloxNano, keep_best, pair_iou


def test_coco_numbers_its_eighty_names() -> None:
    assert len(COCO_IDS) == 80 and COCO_IDS[:3] == (1, 2, 3) and COCO_IDS[-1] == 90


def test_overlap_of_pairs() -> None:
    one = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], float)
    two = np.array([[5, 0, 15, 10], [20, 20, 30, 30]], float)
    assert pair_iou(one, two) == pytest.approx(np.array([[50 / 150, 0], [0, 0]]))


def test_the_best_box_of_each_name_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], float)
    scores = np.array([[0.9, 0.3], [0.8, 0.4], [0.7, 0.01]])
    kept = keep_best(boxes, scores, floor=0.05)
    assert sorted(zip(kept.labels.tolist(), kept.scores.tolist(), kept.boxes[:, 0].tolist(), strict=True)) == [
        (0, 0.7, 20.0), (0, 0.9, 0.0), (1, 0.4, 0.0),
    ]  # fmt: skip


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def convolution(name: str, inputs: list[str], op: str, stride: int, fused: tuple[str, ...] = ()) -> dict[str, Any]:
    attributes = {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": text("SAME"),
        "fused_ops": {"list": {"s": [text(one)["s"] for one in fused]}},
    }
    return {"name": name, "op": op, "input": inputs, "attr": attributes}


def graph_file(folder: Path, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Path:
    data = b"".join(
        array.astype(np.float16 if array.dtype.kind == "f" else np.int32).tobytes() for array in weights.values()
    )
    (folder / "model.bin").write_bytes(data)
    manifest = [
        {"name": name, "shape": list(array.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        if array.dtype.kind == "f"
        else {"name": name, "shape": list(array.shape), "dtype": "int32"}
        for name, array in weights.items()
    ]
    content = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["model.bin"], "weights": manifest}]}
    (folder / "model.json").write_text(json.dumps(content))
    return folder / "model.json"


def test_a_graph_is_what_its_nodes_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "k": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),  # (h, w, in, out)
        "b": rng.standard_normal(4).astype(np.float32),
        "d": rng.standard_normal((3, 3, 4, 1)).astype(np.float32),
        "size": np.array([10, 6], np.int32),
        "axis": np.array(3, np.int32),
    }
    nodes = [
        convolution("c", ["x", "k", "b"], "_FusedConv2D", 2, ("BiasAdd", "Relu")),
        convolution("dw", ["c", "d"], "DepthwiseConv2dNative", 1),
        {"name": "both", "op": "ConcatV2", "input": ["c", "dw", "axis"]},
        {"name": "scaled", "op": "Mul", "input": ["dw", "b"]},
        {"name": "large", "op": "ResizeBilinear", "input": ["scaled", "size"]},
    ]
    read, constants = read_graph(graph_file(tmp_path, nodes, weights))
    x = torch.from_numpy(rng.standard_normal((1, 2, 10, 6)).astype(np.float32))
    both, large = run_graph(read, constants, {"x": x}, ("both", "large"))
    half = {name: torch.from_numpy(array.astype(np.float16).astype(np.float32)) for name, array in weights.items()}
    # An even side at stride 2 lacks one pixel, which TensorFlow adds at the far side.
    c = F.conv2d(F.pad(x, (0, 1, 0, 1)), half["k"].permute(3, 2, 0, 1), half["b"], stride=2).relu()
    dw = F.conv2d(c, half["d"].permute(2, 3, 0, 1), padding=1, groups=4)
    torch.testing.assert_close(both, torch.cat([c, dw], 1))
    scaled = dw * half["b"][:, None, None]
    assert scaled.shape[2:] == (5, 3) and large.shape[2:] == (10, 6)
    for row in range(10):  # sample places are multiples of the ratio: 0, 0.5, 1, ...
        for column in range(6):
            y, x_ = row / 2, column / 2
            y0, x0 = int(y), int(x_)
            y1, x1 = min(y0 + 1, 4), min(x0 + 1, 2)
            v, u = y - y0, x_ - x0
            expected = (scaled[..., y0, x0] * (1 - u) + scaled[..., y0, x1] * u) * (1 - v)
            expected = expected + (scaled[..., y1, x0] * (1 - u) + scaled[..., y1, x1] * u) * v
            torch.testing.assert_close(large[..., row, column], expected)


def test_a_graph_keeps_nothing_of_a_photo(tmp_path: Path) -> None:
    """Not even until the next collection: the maps of a photo are hundreds of megabytes."""
    k = np.ones((1, 1, 2, 2), np.float32)
    read, constants = read_graph(
        graph_file(
            tmp_path, [convolution("c", ["x", "k"], "Conv2D", 1), convolution("y", ["c", "k"], "Conv2D", 1)], {"k": k}
        )
    )
    x = torch.ones(1, 2, 4, 4)
    gone = weakref.ref(x)
    gc.disable()
    try:
        run_graph(read, constants, {"x": x}, ("y",))
        del x
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_no_graph_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no teacher's file .*gone\.json"):
        read_graph(tmp_path / "gone.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is not a TensorFlow\.js graph model"):
        read_graph(tmp_path / "other.json")
    read, constants = read_graph(graph_file(tmp_path, [{"name": "y", "op": "Cosh", "input": ["x"]}], {}))
    with pytest.raises(ValueError, match="node 'y' is a Cosh"):
        run_graph(read, constants, {"x": torch.zeros(1)}, ("y",))


def test_real_teachers_see_the_television(shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = shared / "data" / "weights" / "teachers"
    pixels = read_image(shared / "data" / "coco_mini_159" / "val2017" / "000000000139.jpg")
    annotated = np.array([[7.03, 167.76, 7.03 + 149.32, 167.76 + 94.87]])  # the television, by COCO
    for teacher in (YoloxNano(folder / "yolox_nano.onnx"), CenterNet(folder / "centernet.json")):
        seen = teacher(pixels)
        best = int(seen.scores.argmax())
        assert seen.labels[best] == 62 and pair_iou(seen.boxes[best : best + 1], annotated) > 0.85, teacher.name
