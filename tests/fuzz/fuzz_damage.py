"""Strategies that damage small whole files: single bytes and blocks, or values and keys of JSON and YAML."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

DEEP, DIGITS, MANY = "@deep@", "@digits@", "@many@"  # stand in the tree for text that no tree can hold
_TEXT = {f'"{DEEP}"': "[" * 3000 + "]" * 3000, f'"{DIGITS}"': "9" * 5000, f'"{MANY}"': "[" + "[0]," * 3000 + "0]"}
ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, 0.5, -0.0, 7.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"),
    2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400, 10**9, 65536,
    "", "0", "1", "false", "null", "nan", "\0", "a\0b", "\ud800", "\u00e9\u732b", "a" * 3000, " ", "\n", ":", "'s ",
    "dog", "dog:head", "dog's head", "DOG", "../x.png", "/etc/passwd", "a\\b.png", "part", "object",
    [], {}, [[]], [None], {"a": 1}, [0] * 6, [[0] * 6], [[1, 2, 3, 4]], [1, 2, 3, 4], [[-50, -50, 200, -50, 200, 150]],
    {"size": [64, 96], "counts": [6144]}, {"size": [64, 96], "counts": "PPP"}, {"size": [64, 96], "counts": [5]},
    {"size": [96, 64], "counts": [0, 6144]}, {"size": [10**9, 10**9], "counts": [10**18]}, {"counts": [1]},
    DEEP, DIGITS, MANY,
]  # fmt: skip
_LIKELY: list[Any] = [None, 0, 1, 2, 0.5, 3.0, -1, 5, 70, 90.5, "1", "", [], {}, [5, 5, 30, 20], "dog", "car wheel"]
_FIELDS = [struct.pack(f, v) for f in ("<I", ">I", "<H", ">H", "<Q") for v in (0, 1, 0x7FFF, 0xFFFF)] + [
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80", b"\x00\x01\x00\x00", b"\xff" * 8,
]  # fmt: skip

_TIMES = st.sampled_from([1, 1, 1, 2, 2, 3])  # places that are damaged
_STOPS, _STOPS_HIGH = st.sampled_from([False, False, True]), st.sampled_from([False] * 12 + [True])
_KINDS_OF_BYTES, _KINDS_OF_VALUES = st.sampled_from(range(9)), st.sampled_from(range(10))

# -- bytes


@st.composite
def damaged_bytes(draw: Draw, sources: Sequence[bytes]) -> bytes:
    """One of the files with one to three places damaged."""
    data = draw(st.sampled_from(sources))
    for _ in range(draw(_TIMES)):
        data = _damage_bytes(draw, data)
    return bytes(data)


def _damage_bytes(draw: Draw, data: bytes) -> bytes:
    if not data:
        return bytes(draw(st.binary(max_size=20)))
    share = draw(st.sampled_from([0.05, 0.2, 1.0, 1.0]))  # heads matter more
    at = int(draw(st.floats(0, 1, exclude_max=True)) * share * len(data))
    end = min(len(data), at + draw(st.sampled_from([1, 2, 4, 8, 30, 300, 4096])))
    kind = draw(_KINDS_OF_BYTES)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if kind == 2:
        noise = draw(st.binary(min_size=1, max_size=60))
        return data[:at] + noise + data[at + len(noise) :]
    if kind == 3:
        return data[:at] + bytes(end - at) + data[end:]
    if kind == 4:
        return data[:at]
    if kind == 5:
        return data[:at] + data[end:]
    if kind == 6:
        return data[:end] + data[at:]
    if kind == 7:
        return data[:at] + draw(st.binary(min_size=1, max_size=20)) + data[at:]
    field = draw(st.sampled_from(_FIELDS))
    return data[:at] + field + data[at + len(field) :]


# -- values


@st.composite
def damaged_tree(draw: Draw, sources: Sequence[Any], *, odd: Sequence[Any] = tuple(ODD)) -> Any:
    """One of the trees of lists and dicts with one to three places changed."""
    tree = copy.deepcopy(draw(st.sampled_from(sources)))
    for _ in range(draw(_TIMES)):
        _damage_tree(draw, tree, odd)
    return tree


def _damage_tree(draw: Draw, tree: Any, odd: Sequence[Any]) -> None:
    node, key = _place(draw, tree)
    if node is None:
        return
    value = node[key]
    kind = draw(_KINDS_OF_VALUES)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and draw(st.booleans()):
        kind = 7
    if kind <= 1:
        node[key] = copy.deepcopy(draw(st.sampled_from(odd)))
    elif kind <= 3:
        node[key] = copy.deepcopy(draw(st.sampled_from(_LIKELY)))
    elif kind == 4:
        del node[key]
    elif kind == 5:
        other, place = _place(draw, tree)
        node[key] = copy.deepcopy(other[place]) if other is not None else None
    elif kind == 6 and isinstance(node, list):
        node.insert(key, copy.deepcopy(value))
    elif kind == 6:
        node[draw(st.sampled_from(["", "id", "x" * 300, "\ud800", str(key).upper()]))] = value
    elif kind == 7 and isinstance(value, (int, float)) and not isinstance(value, bool):
        changed = [
            value + 1,
            value - 1,
            value * 2,
            value + 40,
            value + 0.25,
            -value,
            value * 1000,
            float(value),
            str(value),
        ]
        node[key] = draw(st.sampled_from(changed))
    elif kind == 8:
        node[key] = draw(st.sampled_from([[value], {"a": value}, str(value), [value, value]]))
    else:
        node[key] = draw(st.integers() | st.floats() | st.text(max_size=8))


def _place(draw: Draw, tree: Any) -> tuple[Any, Any]:
    """A container and a key of it, by a walk from the top: few deep values do not hide the many shallow keys."""
    node, key = None, None
    value, depth = tree, 0
    while isinstance(value, (list, dict)) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        node, key = value, draw(st.sampled_from(keys))
        value, depth = node[key], depth + 1
        if draw(_STOPS if depth > 2 else _STOPS_HIGH):
            break
    return node, key


@st.composite
def damaged_json(draw: Draw, sources: Sequence[Any]) -> bytes:
    """A JSON file of a damaged tree, of which one in eight has damaged bytes too."""
    data = json_of(draw(damaged_tree(sources)), ascii=draw(st.booleans()))
    form = draw(st.integers(0, 15))
    if form == 0:
        data = b"\xef\xbb\xbf" + data
    return draw(damaged_bytes([data])) if form in (1, 2) else data


@st.composite
def damaged_json_lines(draw: Draw, sources: Sequence[Sequence[Any]]) -> bytes:
    """A JSONL file: a list of trees, one a line."""
    lines = draw(damaged_tree(sources))
    data = b"\n".join(json_of(line) for line in lines)
    return draw(damaged_bytes([data])) if draw(st.integers(0, 7)) == 0 else data


def json_of(tree: Any, *, ascii: bool = True) -> bytes:
    """JSON text, also of what Python's own writer refuses."""
    text = json.dumps(tree, ensure_ascii=ascii)
    for word, meant in _TEXT.items():
        text = text.replace(word, meant)
    return text.encode("utf-8", "surrogatepass")
