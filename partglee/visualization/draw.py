"""A prediction as a picture: objects, and inside them their parts in colours around that of their object.

(H, W) the image, s the factor to the picture's pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from partglee.structures import Level, Prediction
from partglee.visualization.colors import Color, row_colors, text_color
from partglee.visualization.labels import Label, draw_labels, place_labels
from partglee.visualization.panel import BACKGROUND, draw_caption, draw_panel

with warnings.catch_warnings():  # supervision draws without OpenCV too, and says so on every import
    warnings.simplefilter("ignore")
    import supervision

_PICTURE_SIDE = 1000  # without a scale, small images are enlarged until their long side is this many pixels
_EDGE = 1.0  # pixels of a contrasting colour at both sides of an outline
_OPACITY = (0.18, 0.34)  # of objects and of parts: indexed by Level
_MAX_ENLARGEMENT = 32
_MIN_TEXT_WIDTH = 320  # pixels; pictures with a caption are at least this wide

Pixels = NDArray[np.uint8]


def draw_prediction(
    prediction: Prediction,
    image: Pixels | Image.Image | None = None,
    *,
    panel: bool = False,
    caption: str | None = None,
    masks: bool = True,
    boxes: bool = True,
    labels: bool = True,
    scores: bool = True,
    scale: float | None = 1.0,
    font_path: str | None = None,
) -> Image.Image:
    """Draw the objects and parts of a prediction.

    Every object has a colour of its own, its parts have others around it. A line has a dark or light edge, whichever
    sets it off, so that it is seen on any photo. Labels do not cover each other: one without room
    near its place is left out (the panel names everything).

    Args:
        image: (H, W, 3) uint8 RGB or a PIL image of the prediction's size; None = the prediction's own image.
        panel: put the tree of objects and parts, with scores, at the right.
        caption: text for a strip below the picture.
        masks: fill and outline masks, where the prediction has them.
        boxes: draw boxes of objects, and of parts when no masks are drawn.
        labels: write names.
        scores: write scores beside the names (those of parts are left to the panel when there is one).
        scale: picture pixels for one image pixel, so 1 keeps the size of the image; None = 1, and more for images with
            a long side below 1000 pixels, so that text is small beside what it names.
        font_path: a TrueType file that is tried first; others are looked for where it lacks letters of a name.

    Returns:
        An RGB picture.

    Raises:
        ValueError: when there is no image, it has another size than the prediction, or `scale` is not positive.
    """
    pixels = _picture_pixels(prediction, image)
    factor = _scale(prediction.image_size, scale)
    height, width = prediction.image_size
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    font_size = _font_size(size)
    colors = row_colors(prediction)

    canvas = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    painted = _draw_order(prediction)
    anchors, areas = _box_centres(prediction.boxes) * factor, np.zeros(len(prediction))
    if masks and prediction.masks is not None:
        for row in painted:
            _paint_mask(
                canvas,
                _mask_array(prediction, row),
                colors[row],
                opacity=_OPACITY[int(prediction.level[row])],
                thickness=font_size / (7 if prediction.level[row] == Level.OBJECT else 11),
            )
        anchors, areas = _mask_anchors(prediction, painted, anchors, factor)
    if boxes:
        _draw_boxes(canvas, prediction, colors, factor, font_size, with_parts=not masks or prediction.masks is None)
    picture = Image.fromarray(canvas)
    if labels:
        wanted = _labels(prediction, colors, anchors, areas, factor, font_size, scores=scores, part_scores=not panel)
        picture = draw_labels(picture, place_labels(wanted, size, font_path=font_path), font_path=font_path)
    if panel:
        text_height = min(max(font_size, 11), 48)
        picture = _beside(
            picture,
            draw_panel(prediction, colors, height=picture.height, font_size=text_height, font_path=font_path),
        )
    if caption:
        canvas_width = max(picture.width, _MIN_TEXT_WIDTH)
        strip = draw_caption(caption, width=canvas_width, font_size=max(font_size, 11), font_path=font_path)
        picture = _below(picture, strip)
    return picture


def _picture_pixels(prediction: Prediction, image: Pixels | Image.Image | None) -> Pixels:
    if image is None:
        image = prediction.image
    if image is None:
        raise ValueError("the prediction has no image to draw on; pass the picture, for example draw(image)")
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    expected = (*prediction.image_size, 3)
    if not isinstance(image, np.ndarray) or image.shape != expected or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"the image must be {expected} uint8 RGB like the prediction, got {got}; is it another picture?"
        )
    return image


def _scale(image_size: tuple[int, int], scale: float | None) -> float:
    if scale is None:
        return min(max(1.0, _PICTURE_SIDE / max(image_size)), _MAX_ENLARGEMENT)
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}; 1 keeps the size of the image")
    return float(scale)


def _font_size(size: tuple[int, int]) -> int:
    return max(10, round(min(max(size) / 62, min(size) / 8)))


def _draw_order(prediction: Prediction) -> list[int]:
    """Rows from the bottom up: objects, then parts, large ones first, so that nothing hides a smaller thing."""
    if prediction.masks is not None:
        area = [int(np.count_nonzero(mask)) for mask in prediction.masks.cpu().numpy()]  # no (N, H, W) of integers
    else:
        area = (
            (prediction.boxes[:, 2] - prediction.boxes[:, 0]) * (prediction.boxes[:, 3] - prediction.boxes[:, 1])
        ).tolist()
    level = prediction.level.tolist()
    return sorted(range(len(prediction)), key=lambda row: (level[row], -area[row]))


def _box_centres(boxes: Tensor) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = ((boxes[:, :2] + boxes[:, 2:]) / 2).double().cpu().numpy()
    return centres


def _mask_anchors(
    prediction: Prediction, painted: Sequence[int], centres: NDArray[np.float64], factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where labels point at: the middle of what smaller parts leave visible of each mask, (N, 2), and areas (N,)."""
    anchors, areas = centres.copy(), np.zeros(len(prediction))
    hidden = np.zeros(prediction.image_size, dtype=bool)
    for row in reversed(painted):
        mask = _mask_array(prediction, row)
        visible = mask & ~hidden
        visible = visible if visible.any() else mask
        window = _window(visible, pad=0)
        if window is None or prediction.level[row] == Level.OBJECT:  # labels of objects go to their boxes
            continue
        depth = ndimage.distance_transform_edt(np.pad(visible[window], 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
        anchors[row] = (window[1].start + x + 0.5) * factor, (window[0].start + y + 0.5) * factor
        areas[row] = float(visible.sum()) * factor**2
        hidden |= mask
    return anchors, areas


def _mask_array(prediction: Prediction, row: int) -> NDArray[np.bool_]:
    if prediction.masks is None:
        raise ValueError("the prediction has no masks")
    mask: NDArray[np.bool_] = prediction.masks[row].cpu().numpy()
    return mask


def _window(mask: NDArray[np.bool_], *, pad: int) -> tuple[slice, slice] | None:
    """Rows and columns around what is set, with a margin; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - pad, 0), min(int(rows[-1]) + 1 + pad, mask.shape[0])),
        slice(max(int(columns[0]) - pad, 0), min(int(columns[-1]) + 1 + pad, mask.shape[1])),
    )


def _paint_mask(canvas: Pixels, mask: NDArray[np.bool_], color: Color, *, opacity: float, thickness: float) -> None:
    """Fill and outline one mask with smooth edges.

    Args:
        canvas: (sH, sW, 3), changed in place.
        mask: (H, W).
        thickness: of the outline in canvas pixels.
    """
    scale_y, scale_x = canvas.shape[0] / mask.shape[0], canvas.shape[1] / mask.shape[1]
    window = _window(mask, pad=int((thickness + _EDGE) / min(scale_y, scale_x)) + 2)
    if window is None:
        return
    (y0, y1), (x0, x1) = _canvas_range(window[0], scale_y), _canvas_range(window[1], scale_x)
    part = canvas[y0:y1, x0:x1]
    crop = Image.fromarray(mask[window].astype(np.uint8) * 255)
    soft = np.asarray(crop.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR), dtype=np.float32)
    if scale_y > 1:  # round off the steps of the enlarged pixels
        soft = ndimage.gaussian_filter(soft, sigma=(0.6 * scale_y, 0.6 * scale_x), mode="nearest")
    # Pixels beyond the window count like those at its edge, so that no outline runs along the border of the picture.
    inside = np.pad(soft >= 127.5, 1, mode="edge")
    if inside.all() or not inside.any():
        distance = np.full(part.shape[:2], np.inf if inside.all() else -np.inf)
    else:
        signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        distance = signed[1:-1, 1:-1] - 0.5 * np.sign(signed[1:-1, 1:-1])
    fill = (np.clip(distance + 0.5, 0, 1) * opacity)[..., None]
    edge = (np.clip(thickness / 2 + _EDGE + 0.5 - np.abs(distance), 0, 1) * 0.6)[..., None]
    line = (np.clip(thickness / 2 + 0.5 - np.abs(distance), 0, 1) * 0.95)[..., None]
    painted = part * (1 - fill) + np.array(color) * fill
    painted = painted * (1 - edge) + np.array(text_color(color)) * edge
    part[:] = (painted * (1 - line) + np.array(color) * line + 0.5).astype(np.uint8)


def _canvas_range(pixels: slice, scale: float) -> tuple[int, int]:
    start = round(pixels.start * scale)
    return start, max(round(pixels.stop * scale), start + 1)


def _draw_boxes(
    canvas: Pixels, prediction: Prediction, colors: Sequence[Color], factor: float, font_size: int, *, with_parts: bool
) -> None:
    height, width = canvas.shape[:2]
    for level, thickness in ((Level.PART, font_size / 9), (Level.OBJECT, font_size / 6)):
        if level == Level.PART and not with_parts:
            continue
        rows = [row for row in _draw_order(prediction) if prediction.level[row] == level]
        if not rows:
            continue
        xyxy = (prediction.boxes[rows] * factor).cpu().numpy().clip(0, [width - 1, height - 1, width - 1, height - 1])
        # The canvas is RGB and supervision writes BGR, so red and blue change places on the way in.
        palette = supervision.ColorPalette([supervision.Color(*colors[row][::-1]) for row in rows])
        annotator = supervision.BoxAnnotator(
            color=palette, thickness=max(1, round(thickness)), color_lookup=supervision.ColorLookup.INDEX
        )
        canvas[:] = annotator.annotate(np.ascontiguousarray(canvas), supervision.Detections(xyxy=xyxy))


def _labels(
    prediction: Prediction,
    colors: Sequence[Color],
    anchors: NDArray[np.float64],
    areas: NDArray[np.float64],
    factor: float,
    font_size: int,
    *,
    scores: bool,
    part_scores: bool,
) -> list[Label]:
    """Labels in order of importance: objects by score, then their parts, those of the best object first."""
    wanted = []
    boxes = (prediction.boxes * factor).tolist()
    for row in prediction.objects():
        text = f"{prediction.names[row]} {float(prediction.scores[row]):.2f}" if scores else prediction.names[row]
        left, top, right, bottom = boxes[row]
        wanted.append(
            Label(
                text=text,
                color=colors[row],
                font_size=font_size,
                anchor=(left, top),
                corner=(left, top, right, bottom),
            )
        )
    parts = [part for row in prediction.objects() for part in prediction.parts_of(row)]
    for row in parts + prediction.parts_without_object():
        with_score = scores and part_scores
        wanted.append(
            Label(
                text=f"{prediction.names[row]} {float(prediction.scores[row]):.2f}"
                if with_score
                else prediction.names[row],
                color=colors[row],
                font_size=max(9, round(0.82 * font_size)),
                anchor=(float(anchors[row][0]), float(anchors[row][1])),
                area=float(areas[row]),
            )
        )
    return wanted


def _beside(picture: Image.Image, panel: Image.Image) -> Image.Image:
    joined = Image.new("RGB", (picture.width + panel.width, max(picture.height, panel.height)), BACKGROUND)
    joined.paste(picture, (0, 0))
    joined.paste(panel, (picture.width, 0))
    return joined


def _below(picture: Image.Image, strip: Image.Image) -> Image.Image:
    joined = Image.new("RGB", (max(picture.width, strip.width), picture.height + strip.height), BACKGROUND)
    joined.paste(picture, (0, 0))
    joined.paste(strip, (0, picture.height))
    return joined
