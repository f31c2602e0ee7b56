"""Equal parts of one object told apart by where they are: left and right, front and rear, upper and lower.

N rows. Everything is read from boxes: no model is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from partglee.basics.names import name_key
from partglee.structures.prediction import Prediction
from partglee.structures.prediction_row import Level

Frame = Literal["image", "own"]

FRONT = frozenset({"headlight", "hood", "head", "face", "muzzle", "nose", "beak", "snout", "eye", "mouth", "handlebar"})
"""Parts at the front end of what has one."""
REAR = frozenset({"taillight", "trunk", "tail", "tailgate"})
"""Parts at its rear end."""
ALONG = frozenset({"wheel", "door", "bumper", "windshield", "window", "leg", "paw", "hoof", "foot", "fender"})
"""Parts that come one behind the other, from front to rear; all others come side by side."""


@dataclass(frozen=True, kw_only=True)
class PositionRules:
    """How parts are told apart.

    Args:
        frame: what left means. `image`: the left of the picture, within the object. `own`: the object's own left, which
            is the right of the picture when it faces the viewer; where nothing tells that, there is no left or right.
        min_gap: how far apart equal parts must be, as a share of the object's width or height.
        front, rear, along: names; see `FRONT`, `REAR`, `ALONG`.

    Raises:
        ValueError: for another frame or a gap outside of (0, 1).
    """

    frame: Frame = "image"
    min_gap: float = 0.1
    front: Collection[str] = FRONT
    rear: Collection[str] = REAR
    along: Collection[str] = ALONG

    def __post_init__(self) -> None:
        if self.frame not in ("image", "own"):
            raise ValueError(f"frame must be 'image' or 'own', got {self.frame!r}")
        if not 0 < self.min_gap < 1:
            raise ValueError(f"min_gap must be a share of the object in (0, 1), got {self.min_gap}")


def with_positions(prediction: Prediction, *, rules: PositionRules | None = None) -> Prediction:
    """The prediction with rows renamed: "wheel" -> "left wheel". Labels, scores and the hierarchy stay as they are.

    Parts are renamed whose object has others of their name, far enough apart; those in the middle of three or more, and
    those whose object is not known, keep their name.
    """
    words = positions(
        prediction.names, prediction.boxes.cpu().double().numpy(), prediction.parent.tolist(), rules=rules,
        parts=(prediction.level == Level.PART).tolist(),
    )  # fmt: skip
    names = [f"{word} {name}" if word else name for word, name in zip(words, prediction.names, strict=True)]
    return replace(prediction, names=names)


def positions(
    names: Sequence[str],
    boxes: NDArray[np.float64],
    parent: Sequence[int],
    *,
    parts: Sequence[bool] | None = None,
    rules: PositionRules | None = None,
) -> list[str]:
    """Where each part is among the equal parts of its object: "left", "right", "front", "rear", "upper", "lower", two
    of them ("upper left"), or "" where nothing tells it apart.

    Args:
        names: N, without the object: "wheel".
        boxes: (N, 4) xyxy.
        parent: N rows of objects, -1 without.
        parts: N; None = rows with a parent.
    """
    rules = rules or PositionRules()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    words = [""] * len(names)
    members: dict[int, list[int]] = defaultdict(list)
    for row, above in enumerate(parent):
        if above >= 0 and (parts is None or parts[row]):
            members[above].append(row)
    for thing, listed in members.items():
        size = np.maximum(boxes[thing, 2:] - boxes[thing, :2], 1e-6)
        place = (centre - boxes[thing, :2]) / size  # within the object, 0 to 1
        seen = _Facing.of(names, place, listed, rules)
        groups: dict[str, list[int]] = defaultdict(list)
        for row in listed:
            groups[name_key(names[row])].append(row)
        for name, equal in groups.items():
            if len(equal) > 1:
                found = _words(place[equal], along=name in rules.along, seen=seen, rules=rules)
                for row, word in zip(equal, found, strict=True):
                    words[row] = word
    return words


@dataclass(frozen=True)
class _Facing:
    """What the parts of an object say of how it stands."""

    heading: int  # of the front in the image: 1 right, -1 left, 0 unknown, or towards or away from the viewer
    toward: bool | None  # the viewer sees its front; None = not known

    @classmethod
    def of(
        cls, names: Sequence[str], place: NDArray[np.float64], listed: Sequence[int], rules: PositionRules
    ) -> _Facing:
        front = [row for row in listed if name_key(names[row]) in rules.front]
        rear = [row for row in listed if name_key(names[row]) in rules.rear]
        if not front and not rear:
            return cls(0, None)
        ahead = place[front, 0].mean() if front else 0.5
        behind = place[rear, 0].mean() if rear else 0.5
        heading = 0 if abs(ahead - behind) < rules.min_gap / 2 else int(np.sign(ahead - behind))
        toward = None if len(front) == len(rear) else len(front) > len(rear)
        return cls(heading, toward)


def _words(place: NDArray[np.float64], *, along: bool, seen: _Facing, rules: PositionRules) -> list[str]:
    """One word for each of n >= 2 equal parts. place: (n, 2)."""
    spread = np.ptp(place, axis=0)
    across = bool(spread[0] >= rules.min_gap)
    upright = bool(spread[1] >= rules.min_gap)
    if across and upright and len(place) == 2:  # two parts are told apart by one word, along the longer way
        across = bool(spread[0] >= spread[1]) or (along and seen.heading != 0)
        upright = not across
    if across and along and seen.heading:
        ends = ("front", "rear") if seen.heading < 0 else ("rear", "front")
        return _by(place[:, 0], ends)
    sides: tuple[str, str] | None = ("left", "right")
    if rules.frame == "own":
        sides = None if seen.toward is None else ("right", "left") if seen.toward else ("left", "right")
    low = _by(place[:, 1], ("upper", "lower")) if upright else [""] * len(place)
    side = _by(place[:, 0], sides) if across and sides else [""] * len(place)
    return [" ".join(filter(None, pair)) for pair in zip(low, side, strict=True)]


def _by(values: NDArray[np.float64], ends: tuple[str, str]) -> list[str]:
    """The first word for the lower third of the way between the outermost, the second for the upper, none between."""
    low, high = values.min(), values.max()
    share = (values - low) / (high - low)
    return [ends[0] if value < 1 / 3 else ends[1] if value > 2 / 3 else "" for value in share.tolist()]
