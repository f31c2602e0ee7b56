"""Vocabularies: every form a user may give, the built-in ones, and every mistake with its message."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from partglee.structures import Vocabulary, known_parts

CAR = {"car": ["wheel", "door"], "person": [], "bus": ["wheel"]}


class TestColumns:
    def test_one_column_for_each_object_and_part(self) -> None:
        vocabulary = Vocabulary(CAR)
        assert vocabulary.object_names == vocabulary.object_prompts == ("car", "person", "bus")
        assert vocabulary.part_names == ("wheel", "door", "wheel")
        assert vocabulary.part_prompts == ("car wheel", "car door", "bus wheel")
        assert vocabulary.part_owner == ((0,), (0,), (2,))
        assert vocabulary.allowed.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
        assert vocabulary.allowed.dtype == torch.bool

    def test_shared_columns_without_object_in_the_format(self) -> None:
        vocabulary = Vocabulary(CAR, part_format="{part}")
        assert vocabulary.part_names == vocabulary.part_prompts == ("wheel", "door")
        assert vocabulary.part_owner == ((0, 2), (0,))
        assert vocabulary.allowed.tolist() == [[True, True], [False, False], [True, False]]
        assert vocabulary.parts_of("bus") == ("wheel",)

    def test_no_parts(self) -> None:
        vocabulary = Vocabulary(["car", "dog"])
        assert vocabulary.part_names == ()
        assert vocabulary.allowed.shape == (2, 0)

    def test_formats(self) -> None:
        assert Vocabulary(CAR, part_format="{object}:{part}").part_prompts[0] == "car:wheel"
        assert Vocabulary(CAR, part_format="{Object} {Part}").part_prompts[0] == "Car Wheel"
        assert Vocabulary(CAR, object_format="a {object}").object_prompts[0] == "a car"
        assert Vocabulary({"{x}": ["{y}"]}).part_prompts == ("{x} {y}",)

    def test_prompts_replace_the_formatted_text(self) -> None:
        vocabulary = Vocabulary(CAR, prompts={("car", "wheel"): "car tire", "person": "human"})
        assert vocabulary.part_prompts == ("car tire", "car door", "bus wheel")
        assert vocabulary.object_prompts == ("car", "human", "bus")
        assert vocabulary.part_names[0] == "wheel"

    def test_equality_hash_and_pickle(self) -> None:
        a, b = Vocabulary(CAR), Vocabulary(CAR)
        assert a == b
        assert hash(a) == hash(b)
        assert a != Vocabulary(CAR, part_format="{object}:{part}")
        assert pickle.loads(pickle.dumps(a)) == a
        with pytest.raises(AttributeError):
            a.object_names = ()  # type: ignore[misc]

    def test_parts_of(self) -> None:
        vocabulary = Vocabulary(CAR)
        assert vocabulary.parts_of(" Car ") == ("wheel", "door")
        assert vocabulary.part_columns("bus") == (2,)
        with pytest.raises(ValueError, match=r"'cat' is not an object of this vocabulary; did you mean 'car'\?"):
            vocabulary.parts_of("cat")

    def test_two_thousand_names(self) -> None:
        vocabulary = Vocabulary({f"thing {i}": ["left", "right"] for i in range(2000)})
        hash(vocabulary)
        assert vocabulary.allowed.sum() == 4000
        assert vocabulary.parts_of("thing 1999") == ("left", "right")

    def test_repr_is_short(self) -> None:
        assert len(repr(Vocabulary.builtin("lvis"))) < 200
        assert repr(Vocabulary({"car": ["wheel"]})) == "Vocabulary(1 objects, 1 parts: car: wheel)"


class TestParse:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (CAR, CAR),
            (["car", "dog"], {"car": [], "dog": []}),
            ("car: wheel, door; person; bus: wheel", CAR),
            ("car, dog;", {"car": [], "dog": []}),
            ("fire hydrant", {"fire hydrant": []}),
            ({"objects": ["car", "dog"], "parts": {"Dog": ["tail"]}}, {"car": [], "dog": ["tail"]}),
            ({"car": None}, {"car": []}),
        ],
    )
    def test_forms(self, value: object, expected: dict[str, list[str]]) -> None:
        assert Vocabulary.parse(value).to_dict() == expected

    def test_vocabulary_is_returned(self) -> None:
        vocabulary = Vocabulary(CAR)
        assert Vocabulary.parse(vocabulary) is vocabulary

    @pytest.mark.parametrize(
        "text",
        [
            "car: [wheel, door]\nperson: []\nbus: [wheel]\n",
            "objects: [car, person, bus]\nparts: {car: [wheel, door], bus: [wheel]}\n",
            "objects: {car: [wheel, door], person: , bus: [wheel]}\npart_format: '{object} {part}'\n",
        ],
    )
    def test_yaml(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        assert Vocabulary.parse(path) == Vocabulary.parse(str(path)) == Vocabulary(CAR)

    def test_yaml_list(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yml"
        path.write_text("- car\n- dog\n")
        assert Vocabulary.parse(path).object_names == ("car", "dog")


class TestBuiltin:
    @pytest.mark.parametrize(
        ("name", "objects", "parts", "first"),
        [
            ("paco", 75, 456, "trash_can:body"), ("pascal_part", 14, 93, "aeroplane:body"),
            ("pascal_part_116", 20, 116, "aeroplane's body"), ("ade20k_part_234", 44, 234, "person's arm"),
            ("partimagenet", 11, 40, "Quadruped Head"), ("partimagenet_ov40", 40, 147, "impala's head"),
            ("coco", 80, 0, None), ("lvis", 1203, 0, None), ("voc", 20, 0, None), ("objects365", 365, 0, None),
            ("partglee_tiny", 81, 138, "person hair"),
        ],
    )  # fmt: skip
    def test_sizes_and_prompts(self, name: str, objects: int, parts: int, first: str | None) -> None:
        vocabulary = Vocabulary.builtin(name)
        assert (len(vocabulary.object_names), len(vocabulary.part_names)) == (objects, parts)
        assert first is None or vocabulary.part_prompts[0] == first
        assert name in Vocabulary.list_builtin()
        assert Vocabulary.parse(name.upper()) == vocabulary

    def test_list_is_complete(self) -> None:
        assert len(Vocabulary.list_builtin()) == 11

    def test_misspelt_dataset_part_reads_well_in_prompts(self) -> None:
        vocabulary = Vocabulary.builtin("partimagenet")
        column = vocabulary.part_columns("car")[1]
        assert (vocabulary.part_names[column], vocabulary.part_prompts[column]) == ("tier", "Car Tire")

    def test_prompts_of_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "names.yaml"
        file.write_text("objects: {person: [shirt, arm], dog: []}\nprompts: {'person:shirt': shirt, dog: hound}\n")
        vocabulary = Vocabulary.parse(file)
        assert vocabulary.part_prompts == ("shirt", "person arm") and vocabulary.object_prompts == ("person", "hound")
        file.write_text("objects: {person: [arm]}\nprompts: {'person:shirt': shirt}\n")
        with pytest.raises(ValueError, match=r"shirt.*not in the vocabulary"):
            Vocabulary.parse(file)

    def test_unknown_name_gets_the_nearest(self) -> None:
        with pytest.raises(ValueError, match=r"no built-in vocabulary 'pascal_prt'; did you mean 'pascal_part'"):
            Vocabulary.builtin("pascal_prt")


class TestKnownParts:
    def test_synonyms_agree(self) -> None:
        plane = Vocabulary.with_known_parts(["airplane"]).parts_of("airplane")
        assert plane == Vocabulary.with_known_parts(["aeroplane"]).parts_of("aeroplane")
        assert {"wing", "stern", "landing gear"} <= set(plane)

    def test_names_are_humanised_and_merged(self) -> None:
        vocabulary = Vocabulary.with_known_parts(["car_(automobile)", "mug"])
        assert vocabulary.object_names == ("car", "mug")
        assert "inner body" in vocabulary.parts_of("mug")
        assert {"license plate", "steering wheel", "tire", "fender"} <= set(vocabulary.parts_of("car"))

    def test_unknown_object_has_no_parts(self) -> None:
        assert Vocabulary.with_known_parts("unicorn").to_dict() == {"unicorn": []}

    def test_sources(self) -> None:
        sources = known_parts(["dog"])["dog"]
        assert sources["head"] == ("pascal_part", "pascal_part_116", "paco")
        assert sources["teeth"] == ("paco",)

    def test_two_spellings_of_one_object(self) -> None:
        with pytest.raises(ValueError, match="mean the same object twice"):
            Vocabulary.with_known_parts(["car", "car_(automobile)"])


class TestMistakes:
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([], ValueError, "the vocabulary is empty"),
            ({}, ValueError, "the vocabulary is empty"),
            ("  ", ValueError, "the vocabulary is empty"),
            (["car", " "], ValueError, r"object name is blank \(' '\)"),
            ({"car": ["wheel", ""]}, ValueError, "part name of 'car' is blank"),
            (["car", " CAR"], ValueError, "object name 'CAR' is given twice"),
            ({"car": ["wheel", "Wheel "]}, ValueError, "part name 'Wheel' of 'car' is given twice"),
            ({"car": "wheel"}, TypeError, r"part names of 'car' must be a list.*write \['wheel'\]"),
            (["car", 3], TypeError, r"object name must be text, got 3 \(int\)"),
            (None, TypeError, "cannot make a vocabulary from None"),
            (5, TypeError, "cannot make a vocabulary from 5"),
            ({"objects": ["car"], "parts": {"cat": ["ear"]}}, ValueError, "parts are given for 'cat', which is not"),
            ({"objects": ["car"], "part": {}}, ValueError, "unknown key 'part'.*did you mean 'parts'"),
            ({"objects": {"car": []}, "parts": {"car": []}}, ValueError, "already maps names to parts"),
            ({"objects": ["car"], "parts": ["car"]}, TypeError, "'parts' must map object names"),
            ("car: wheel, dog: tail", ValueError, "separate objects with ';'"),
            ("car:wheel;; dog", ValueError, "object name is blank"),
            (": wheel", ValueError, "lists parts of no object"),
            ("car, dog: tail", ValueError, "lists parts of several objects"),
            ("car: wheel; car: door", ValueError, "'car' is given twice"),
            ("no_such_file.yaml", ValueError, r"'no_such_file\.yaml' does not exist; give a YAML file or one of"),
        ],
    )
    def test_message_names_value_and_next_step(self, value: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Vocabulary.parse(value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("car: [wheel\n", "is not valid YAML"),
            ("", "is empty"),
            ("{}", "the vocabulary is empty"),
            ("just a word", "must hold a mapping"),
            ("car: [wheel]\ncar: [door]\n", "'car' is given twice"),
            ("- car\n- car\n", "'car' is given twice"),
        ],
    )
    def test_yaml_mistakes_name_the_file(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"mine\.yaml'.*{message}"):
            Vocabulary.parse(path)

    def test_yaml_word_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("- car\n- no\n")
        with pytest.raises(TypeError, match=r"mine\.yaml'.*got False \(bool\); quote it in YAML"):
            Vocabulary.parse(path)

    def test_yaml_directory_and_binary(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is a directory"):
            Vocabulary.parse(tmp_path)
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00car")
        with pytest.raises(ValueError, match="is not UTF-8 text"):
            Vocabulary.parse(tmp_path / "b.yaml")

    @pytest.mark.parametrize("part_format", ["{object}", "wheel", "{part} {colour}", "{part"])
    def test_part_format(self, part_format: str) -> None:
        with pytest.raises(ValueError, match="part_format"):
            Vocabulary(CAR, part_format=part_format)

    def test_prompt_for_a_name_that_is_not_there(self) -> None:
        with pytest.raises(ValueError, match=r"\('car', 'horn'\), which is not in the vocabulary"):
            Vocabulary(CAR, prompts={("car", "horn"): "x"})

    def test_prompts_that_disagree_on_a_shared_column(self) -> None:
        with pytest.raises(ValueError, match="two texts, 'a' and 'b'"):
            Vocabulary(CAR, part_format="{part}", prompts={("car", "wheel"): "a", ("bus", "wheel"): "b"})

    def test_text_to_the_constructor(self) -> None:
        with pytest.raises(TypeError, match=r"use Vocabulary\.parse\('car'\)"):
            Vocabulary("car")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("display", ["head"], "'display' must map names to texts"), ("prompts", "head", "'prompts' must map names"),
        ("display", {"head": 7}, "display of 'head' must be text, got 7"),
        ("prompts", {"dog": 7}, "prompt for 'dog' must be text, got 7"),
    ],
)  # fmt: skip
def test_texts_of_another_type_are_told(key: str, value: Any, said: str) -> None:
    """Found by tests/fuzz."""
    with pytest.raises(TypeError, match=said):
        Vocabulary.parse({"objects": {"dog": ["head"]}, key: value})
