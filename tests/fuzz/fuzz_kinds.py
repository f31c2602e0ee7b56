"""Every kind of input: how it is damaged, and what is attempted with it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_annotations as instances
import fuzz_files as files
import fuzz_formats as tools
import yaml
from fuzz_damage import ODD, damaged_bytes, damaged_json, damaged_json_lines, damaged_tree, json_of
from hypothesis import strategies as st


class Kind(NamedTuple):
    """Inputs of one kind."""

    name: str
    whole: Sequence[Any]  # undamaged ones, which have an answer
    inputs: st.SearchStrategy[Any]
    attempt: Callable[[Any, Path], None]
    share: int  # of 100 attempts over all kinds


def _yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


_PLAIN = [value for value in ODD if not (isinstance(value, str) and value.startswith("@"))]
_LETTERS = st.sampled_from("ab :;,'{}[]()\\\"\n\t\0&*!#%-\u732b\u00e9\ud800") | st.characters()


def _laughs() -> bytes:
    """Nine of nine of nine ...: a few hundred letters that mean 10^9 values."""
    lines = [b"a: &a [1,1,1,1,1,1,1,1,1]"]
    for before, name in zip(b"abcdefgh", b"bcdefghi", strict=True):
        lines.append(b"%c: &%c [%s]" % (name, name, b",".join([b"*%c" % before] * 9)))
    return b"\n".join(lines)


_ENDLESS = [b"a: " + b"[" * 500 + b"]" * 500, b"a: &a [*a]\n", b"!!python/object:os.system x", _laughs()]


def _text_of(trees: list[Any]) -> st.SearchStrategy[bytes]:
    whole = [_yaml(tree) for tree in trees]
    return damaged_tree(trees, odd=_PLAIN).map(_yaml) | damaged_bytes(whole) | st.sampled_from(_ENDLESS)


def _with_ending(sources: tuple[tuple[str, bytes], ...]) -> st.SearchStrategy[tuple[str, bytes]]:
    def damage(entry: tuple[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
        return damaged_bytes([entry[1]]).map(lambda content: (entry[0], content))

    return st.sampled_from(sources).flatmap(damage)


_ANNOTATIONS = [json_of(content) for content in instances.FILES]
_COCO, _LINES = (".json", json_of(instances.FOUND)), (".jsonl", b"\n".join(map(json_of, instances.LINES)))
_PREDICTIONS = damaged_json([instances.FOUND]).map(lambda content: (".json", content)) | damaged_json_lines(
    [instances.LINES]
).map(lambda content: (".jsonl", content))
_VOCABULARIES, _CONFIGS = (list(map(_yaml, trees)) for trees in (files.VOCABULARIES, files.CONFIGS))

with tempfile.TemporaryDirectory() as _folder:
    _TOOLS = tools.tool_files(Path(_folder))


def _of_tool(key: str) -> st.SearchStrategy[tuple[str, bytes]]:
    content = _TOOLS[key]
    if key == "predictions":
        damaged = damaged_json_lines([instances.LINES])
    elif key == "cvat":
        damaged = damaged_bytes([content])
    else:
        damaged = damaged_json([json.loads(content)])
    return damaged.map(lambda found: (key, found))


KINDS = (
    Kind("image files", files.IMAGES, damaged_bytes(files.IMAGES), files.image, 16),
    Kind("label images", files.LABELS, damaged_bytes(files.LABELS), files.label_image, 6),
    Kind("annotations: read, scored", _ANNOTATIONS, damaged_json(instances.FILES), instances.annotations, 20),
    Kind("annotations: commands", _ANNOTATIONS, damaged_json(instances.FILES), instances.commands, 4),
    Kind("annotations: pictures", _ANNOTATIONS, damaged_json(instances.FILES), instances.pictures, 4),
    Kind(
        "files of other tools", list(_TOOLS.items()), st.sampled_from(list(_TOOLS)).flatmap(_of_tool), tools.formats, 12
    ),
    Kind("predictions", [_COCO, _LINES], _PREDICTIONS, instances.predictions, 8),
    Kind("vocabularies: text", files.SENTENCES, st.text(_LETTERS, max_size=60), files.vocabulary, 5),
    Kind("vocabularies: files", _VOCABULARIES, _text_of(files.VOCABULARIES), files.vocabulary_file, 6),
    Kind("configurations", _CONFIGS, _text_of(files.CONFIGS), files.config, 6),
    Kind("weights", files.weight_files(), _with_ending(files.weight_files()), files.weights, 8),
    Kind("name tables", files.table_files(), _with_ending(files.table_files()), files.name_table, 5),
)
