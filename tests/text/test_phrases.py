"""Whose part a sentence means, and which columns of a vocabulary that is."""

from __future__ import annotations

import pytest

from partglee.structures import Vocabulary
from partglee.text.phrases import PartPhrase, part_columns, split_phrase

PARTS = ["arm", "left arm", "Head", "wheel", "licence plate", "hair", "foot", "hat"]


@pytest.mark.parametrize(
    ("text", "owner", "part"),
    [
        ("left arm of the man in red", "the man in red", "left arm"),
        ("the hairy left arm of the man", "the man", "left arm"),
        ("The right arm of the man!", "the man", "arm"),
        ("both arms of the girl on the left", "the girl on the left", "arm"),
        ("the feet of the second player", "the second player", "foot"),
        ("head on the left guy", "the left guy", "Head"),
        ("man's head", "man", "Head"),
        ("the dogs' heads", "the dog", "Head"),
        ("the man in red's left arm", "the man in red", "left arm"),
        ("red car wheel", "red car", "wheel"),
        ("the licence-plate of the bus", "the bus", "licence plate"),
        ("wheel of the car of the man", "the car of the man", "wheel"),
    ],
)
def test_owner_and_part(text: str, owner: str, part: str) -> None:
    assert split_phrase(text, PARTS) == PartPhrase(owner, part)


@pytest.mark.parametrize(
    "text",
    [
        "man with the hat", "woman with long hair", "the man in the hat", "bowl of soup", "the dog", "head", "hat man",
        "group of people on the left", "a man holding a wheel", "guy without hair", "", "!?",
    ],
)  # fmt: skip
def test_sentences_of_objects(text: str) -> None:
    assert split_phrase(text, PARTS) is None


def test_no_parts_are_known() -> None:
    assert split_phrase("arm of the man", []) is None


def test_columns() -> None:
    vocabulary = Vocabulary({"person": ["head", "arm"], "dog": ["head", "tail"], "fire truck": ["wheel"]})
    # Columns: person head, person arm, dog head, dog tail, fire truck wheel.
    assert part_columns(PartPhrase("the brown dogs", "head"), vocabulary) == ([2], [2, 3])
    assert part_columns(PartPhrase("the tall one", "head"), vocabulary) == ([0, 2], [0, 1, 2, 3])
    assert part_columns(PartPhrase("the fire truck", "wheel"), vocabulary) == ([4], [4])
    assert part_columns(PartPhrase("the person with a dog", "tail"), vocabulary) == ([3], [2, 3])
    # The owner that is named has no such part: whoever has one.
    assert part_columns(PartPhrase("the fire truck", "head"), vocabulary) == ([0, 2], [0, 1, 2, 3])


def test_columns_that_objects_share() -> None:
    vocabulary = Vocabulary({"person": ["head"], "dog": ["head", "tail"]}, part_format="{part}")
    assert part_columns(PartPhrase("the dog", "head"), vocabulary) == ([0], [0, 1])
