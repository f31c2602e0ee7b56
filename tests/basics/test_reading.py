"""Text of any tool is read, or refused with one line that names the file and the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partglee.basics.files import parse_yaml, read_json, read_json_lines, read_text, read_yaml
from partglee.config import load_config
from partglee.data.annotations.json_stream import stream_entries, stream_lists
from partglee.structures import Vocabulary

DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5000

Reader = Callable[[Path], Any]
JSON_READERS: tuple[Reader, ...] = (
    lambda file: read_json(file, "file"),
    lambda file: list(read_json_lines(file, "file")),
    lambda file: list(stream_entries(file)),
)


@pytest.mark.parametrize("read", JSON_READERS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DEEP, "nested too deeply"), ("[" * 100_000, "nested too deeply"), (f"[{LONG}]", "thousands of digits"),
        (f"[{LONG}.5, {LONG}", "JSON"), ("[\0]", "JSON"), ("[1,", "JSON"),
    ],
)  # fmt: skip
def test_json_that_cannot_be_read(tmp_path: Path, read: Reader, text: str, problem: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=problem) as error:
        read(file)
    assert "a.json" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("read", JSON_READERS)
def test_json_that_is_no_utf8(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "a.json").write_bytes('["é"]'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"a\.json.*utf-8"):
        read(tmp_path / "a.json")


def test_deep_lists_inside_of_an_annotation_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'{{"images": {DEEP}, "annotations": []}}')
    with pytest.raises(ValueError, match=r"a\.json.*character \d+.*nested too deeply"):
        list(stream_lists(tmp_path / "a.json"))


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1]", encoding="utf-8-sig")
    assert read_json(file, "file") == [1] and list(stream_entries(file)) == [1]
    assert [entry for *_, entry in read_json_lines(file, "file")] == [[1]] and read_text(file, "file") == "[1]"
    (tmp_path / "v.yaml").write_text("car: [wheel]\n", encoding="utf-8-sig")
    assert Vocabulary.parse(str(tmp_path / "v.yaml")).to_dict() == {"car": ["wheel"]}
    (tmp_path / "c.yaml").write_text("_BASE_: tiny.yaml\nSOLVER: {SEED: 7}\n", encoding="utf-8-sig")
    assert load_config(tmp_path / "c.yaml").SOLVER.SEED == 7


YAML = {
    "depth": ("a: " + "[" * 100_000, "nest"),
    "some depth": ("a: " + "[" * 500 + "]" * 500, "nested more than 100"),
    "itself": ("a: &a\n  b: *a\n", "refers to '&a'"),
    "itself in a list": ("a: &a [1, [2, *a]]\n", "refers to '&a'"),
    "nobody": ("a: *b\n", "b"),
    "laughs": ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
               "of its aliases"),
    "long number": (f"a: {LONG}\n", "not readable"),
    "no date": ("a: 2024-13-45\n", "not readable"),
    "wrong tag": ("a: !!bool maybe\n", "not readable"),
    "empty number": ("a: !!int ''\n", "not readable"),
    "object": ("a: !!python/object/apply:os.system [ls]\n", "python"),
    "nul": ("a: \0\n", "not allowed|special char|control"),
}  # fmt: skip


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    text, problem = YAML[kind]
    file = tmp_path / "a.yaml"
    file.write_text(text)
    readers: tuple[Reader, ...] = (lambda f: read_yaml(f, "file"), load_config, lambda f: Vocabulary.parse(str(f)))
    for read in readers:
        with pytest.raises(ValueError, match=problem) as error:
            read(file)
        assert "a.yaml" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_aliases_that_do_not_multiply_are_fine() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]\n", "text") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2]] * 2}


def test_the_base_of_a_configuration_is_read_by_the_same_rules(tmp_path: Path) -> None:
    for base, problem in (("/etc/passwd", "passwd"), ("[1, 2]", "_BASE_"), ("{a: b}", "_BASE_"), ("c.yaml", "own")):
        (tmp_path / "c.yaml").write_text(f"_BASE_: {base}\n")
        with pytest.raises(ValueError, match=problem) as error:
            load_config(tmp_path / "c.yaml")
        assert "c.yaml" in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="mapping"):
        load_config(tmp_path / "c.yaml")


def test_a_vocabulary_file_may_hold_any_text_as_a_name(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(
        """
objects:
  "ratio 16:9": ["left: half", "{x}"]
  "Cooper's Hawk": []
  "猫, 犬; 'a'": []
prompts:
  "ratio 16:9": a wide screen
  "ratio 16:9:left: half": the left half of a screen
""",
        encoding="utf-8",
    )
    vocabulary = Vocabulary.parse(str(tmp_path / "v.yaml"))
    assert vocabulary.object_names == ("ratio 16:9", "Cooper's Hawk", "猫, 犬; 'a'")
    assert vocabulary.object_prompts[0] == "a wide screen"
    assert vocabulary.part_prompts == ("the left half of a screen", "ratio 16:9 {x}")
