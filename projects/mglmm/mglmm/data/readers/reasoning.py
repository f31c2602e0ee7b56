"""Questions whose answer is a mask: ReasonSeg and MUSE."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mglmm.data import values
from mglmm.data.make import union
from mglmm.data.marked import Span
from mglmm.data.readers.common import entries_of, image_size_of, naming
from mglmm.data.record import Record, RegionMask, Said
from partglee.annotate.masks import encode
from partglee.data.images import image_size

IGNORE = 255
_SLOT = "{seg}"
_FORMS = ("It is", "Sure, it is")


class ReasonSegImage(NamedTuple):
    """One image of ReasonSeg."""

    file: Path
    texts: tuple[str, ...]
    is_sentence: bool  # the texts are questions; else phrases
    target: NDArray[np.uint8]  # (H, W) 1 = meant, 255 = left out of the evaluation


def read_reasonseg(folder: str | Path) -> list[ReasonSegImage]:
    """A split's folder: NAME.jpg beside NAME.json (LabelMe's form: text, is_sentence, shapes with label target, ignore
    or flag). Larger polygons are painted first. Files that are not UTF-8 are read as cp1252, as some
    of the published ones need.

    Raises:
        ValueError: for a file of another form, with its name.
    """
    found = []
    for file in sorted(Path(folder).glob("*.json")):
        with naming(file, file.stem):
            content = json.loads(_text(file))
            texts = content["text"] if isinstance(content["text"], list) else [content["text"]]
            texts = [values.text(one, "each text") for one in texts]
            if content["is_sentence"] not in (True, False):
                raise ValueError(f"is_sentence must be true or false, got {content['is_sentence']!r:.40}")
            image = file.with_suffix(".jpg")
            target = _paint(content["shapes"], image_size(image))
            found.append(ReasonSegImage(image, tuple(texts), bool(content["is_sentence"]), target))
    return found


def reasonseg_records(folder: str | Path, explanations: str | Path | None = None) -> list[Record]:
    """Records of a split; questions with several texts give several. Polygons to ignore are left out of their scores.

    Args:
        explanations: `explanatory/train.json` ({image, query, outputs}), whose outputs are said before the mask.
    """
    told: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(entries_of(explanations, list) if explanations is not None else ()):
        with naming(explanations or "", number, entry.get("image")):
            told[Path(entry["image"]).stem, values.text(entry["query"], "query")] = values.text(
                entry["outputs"], "outputs"
            )
    records = []
    for one in read_reasonseg(folder):
        height, width = one.target.shape
        ignored = encode(one.target == IGNORE) if (one.target == IGNORE).any() else None
        for number, text in enumerate(one.texts):
            question = text if one.is_sentence else f"What is {text} in this image?"
            phrase = "what is meant" if one.is_sentence else text.strip().rstrip(".?")
            explained = told.get((one.file.stem, text), "").strip()
            start = f"{explained} {_FORMS[0]} " if explained else f"{_FORMS[number % 2]} "
            records.append(
                Record(
                    name=f"{one.file.stem}/{number}", image=one.file.name, size=(height, width), task="reasoning",
                    turns=(
                        Said("user", wording="reasoning", about=question),
                        Said("assistant", f"{start}{phrase}.", (Span(len(start), len(start) + len(phrase), 0),)),
                    ),
                    masks=(RegionMask(encode(one.target == 1), phrase),), ignored=ignored,
                ).check()
            )  # fmt: skip
    return records


def read_muse(file: str | Path) -> list[Record]:
    """`MUSE_{split}.json`: a list of {file_name or coco_url, height, width, questions, answers [[{category_name,
    rephrased_name, segmentation}]], text_answers with {seg} slots}: the phrase before each slot is announced."""
    records = []
    for number, entry in enumerate(entries_of(file, list)):
        image = entry.get("file_name") or "/".join(str(entry.get("coco_url", "")).split("/")[-2:])
        with naming(file, number, image):
            size = image_size_of(entry)
            asked = zip(entry["questions"], entry["answers"], entry["text_answers"], strict=True)
            for place, (question, answers, text) in enumerate(asked):
                plain, spans = _fill_slots(text, answers)
                masks = tuple(
                    RegionMask(union([one["segmentation"]], size, f"answer {row}"), one["category_name"])
                    for row, one in enumerate(answers)
                )
                records.append(
                    Record(
                        name=f"{Path(file).stem}/{number}/{place}", image=image, size=size, task="reasoning",
                        turns=(Said("user", question), Said("assistant", plain, spans)), masks=masks,
                    ).check()
                )  # fmt: skip
    return records


def _fill_slots(text: str, answers: Sequence[Any]) -> tuple[str, tuple[Span, ...]]:
    """Text without slots; before each stands the name of its answer, or the name is put there."""
    pieces = text.split(_SLOT)
    if len(pieces) - 1 != len(answers):
        raise ValueError(f"the text has {len(pieces) - 1} slots for {len(answers)} masks")
    plain, spans = "", []
    for row, one in enumerate(answers):
        before = pieces[row].rstrip()
        plain += before if row == 0 or not before or before[0] in ".,;:!?" else f" {before.lstrip()}"
        names = [values.text(one[key], key).strip() for key in ("rephrased_name", "category_name") if one.get(key)]
        if not any(names):
            raise ValueError(f"answer {row} has neither a rephrased_name nor a category_name")
        named = (re.search(rf"(?<!\w){re.escape(name)}\Z", plain, re.IGNORECASE) for name in names if name)
        start = next((match.start() for match in named if match), None)
        if start is None:
            name = next(name for name in names if name)
            plain = f"{plain} {name}".lstrip()
            start = len(plain) - len(name)
        spans.append(Span(start, len(plain), row))
    last = pieces[-1].rstrip()
    plain += last if not last or last[0] in ".,;:!?" else f" {last.lstrip()}"
    return plain, tuple(spans)


def _paint(shapes: Sequence[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    painted = np.zeros(size, np.uint8)
    drawn = []
    for shape in shapes:
        label = values.text(shape["label"], "label of a shape")
        if label == "flag":
            continue
        canvas = Image.new("L", (width, height), 0)
        points = [(_near(x, width), _near(y, height)) for x, y in shape["points"]]
        ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1)
        mask = np.asarray(canvas, bool)
        drawn.append((int(mask.sum()), mask, IGNORE if "ignore" in label.lower() else 1))
    for _, mask, value in sorted(drawn, key=lambda one: -one[0]):
        painted[mask] = value
    return painted


def _near(value: Any, side: int) -> float:
    """A coordinate that can be painted: finite, and not far outside of the image."""
    place = values.number(value, "a polygon's coordinate")
    if not -side <= place <= 2 * side:
        raise ValueError(f"a polygon has the coordinate {place:g}, more than one side outside of an image of {side}")
    return place


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")
