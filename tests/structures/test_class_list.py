"""One list of classes for objects and parts, and the way back."""

from __future__ import annotations

import pytest

from partglee.structures import ClassList, Level, Vocabulary

CAR = {"car": ["wheel", "door"], "person": [], "bus": ["wheel"]}


def test_objects_then_parts_and_back() -> None:
    vocabulary = Vocabulary(CAR)
    classes = ClassList.of(vocabulary)
    assert classes.names == ("car", "person", "bus", "car:wheel", "car:door", "bus:wheel")
    assert classes.level == (Level.OBJECT,) * 3 + (Level.PART,) * 3
    assert classes.label == (0, 1, 2, 0, 1, 2) and classes.owner == (-1, -1, -1, 0, 0, 2)
    assert ClassList.parse(classes.names) == classes and len(classes) == 6


@pytest.mark.parametrize("name", Vocabulary.list_builtin())
def test_built_in_vocabularies_come_back(name: str) -> None:
    vocabulary = Vocabulary.builtin(name)
    classes = ClassList.of(vocabulary)
    assert ClassList.parse(classes.names).vocabulary.to_dict() == vocabulary.to_dict()
    for k in range(len(classes)):
        assert classes.class_of(classes.level[k], classes.label[k], classes.owner[k]) == k


def test_a_shared_column_is_a_class_of_each_owner() -> None:
    classes = ClassList.of(Vocabulary(CAR, part_format="{part}"))
    assert classes.names[3:] == ("car:wheel", "bus:wheel", "car:door") and classes.label[3:] == (0, 0, 1)
    assert [classes.class_of(Level.PART, 0, owner) for owner in (0, 2, -1, 1)] == [3, 4, 3, 3]


def test_any_order_and_either_separator_in_a_given_vocabulary() -> None:
    classes = ClassList.parse(["bus's wheel", "Person", "car: door"], Vocabulary({**CAR, "car": ["wheel", "door"]}))
    assert classes.names == ("bus's wheel", "Person", "car: door")
    assert classes.level == (Level.PART, Level.OBJECT, Level.PART) and classes.label == (2, 1, 1)
    assert classes.class_of(Level.OBJECT, 0) == -1


def test_names_of_parts_alone_describe_their_objects() -> None:
    vocabulary = ClassList.parse(["dog:head", "cat:tail", "dog:tail"]).vocabulary
    assert vocabulary.to_dict() == {"dog": ["head", "tail"], "cat": ["tail"]}


def test_a_colon_alone_makes_no_part() -> None:
    assert ClassList.parse(["ratio 1:2", "dog"]).vocabulary.object_names == ("ratio 1:2", "dog")
    assert ClassList.parse(["shepherd's dog", "dog"]).vocabulary.object_names == ("shepherd's dog", "dog")
    assert ClassList.parse(["a", "a:b", "a:b:c"]).vocabulary.to_dict() == {"a": ["b", "b:c"]}


def test_formats_reach_the_prompts() -> None:
    classes = ClassList.parse(["dog", "dog:head"], part_format="{object}:{part}", object_format="a {object}")
    assert classes.vocabulary.part_prompts == ("dog:head",) and classes.vocabulary.object_prompts == ("a dog",)


def test_bad_lists() -> None:
    with pytest.raises(ValueError, match=r"2 of 3 classes have no place.*'cat', 'dog:tail'.*leave the vocabulary out"):
        ClassList.parse(["dog", "cat", "dog:tail"], Vocabulary({"dog": ["head"]}))
    with pytest.raises(ValueError, match="given twice"):
        ClassList.parse(["dog", "Dog "])
    with pytest.raises(ValueError, match="is empty"):
        ClassList.parse([])
    with pytest.raises(ValueError, match="rename either"):
        ClassList.of(Vocabulary({"car": ["wheel"], "car:wheel": []}))
