"""Any word: spellings, synonyms, what lies nearest; what is told, left out, or refused."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from partglee.structures import Vocabulary
from partglee.text.name_tables import extended, write_table
from partglee.text.table import TableBackend, plain_name
from partglee.text.word_forms import PART_OF, forms, meanings, plurals
from partglee.text.word_space import sentence_encoder
from partglee.text.words import Reading, WordReader, resolve

NAMES = (
    "car_(automobile)", "person", "dog", "lightbulb", "knife", "church", "couch", "tomato", "shirt", "hat",
    "car:wheel", "car:headlight", "car:door", "dog:leg", "dog:head", "dog:tail", "cow:horn", "cow:leg", "person:leg",
    "person:hand",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TableBackend:
    file = tmp_path_factory.mktemp("table") / "names.npz"
    write_table(NAMES, np.random.default_rng(0).standard_normal((len(NAMES), 8)), file)
    return TableBackend(file=file, width=8)


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors of the table above mean nothing; whether the extra is installed must not matter to it."""
    monkeypatch.setattr("partglee.text.words.sentence_encoder", lambda: None)


@pytest.fixture
def reader(table: TableBackend) -> WordReader:
    return WordReader(table, encoder=None)


@pytest.mark.parametrize(
    ("word", "form"),
    [("Light-Bulbs", "lightbulb"), ("knives", "knife"), ("churches", "church"), ("cities", "city"), ("axes", "ax"),
     ("women", "woman"), ("tomatoes", "tomato"), ("the dog", "dog"), ("T-shirt", "tshirt"), ("wolves", "wolf"),
     ("fire trucks", "fire truck"), ("noses", "nose")],
)  # fmt: skip
def test_spellings(word: str, form: str) -> None:
    assert form in forms(word)
    assert forms(word)[0] == plain_name(word.removeprefix("the "))


@pytest.mark.parametrize("word", ["glass", "bus", "tennis", "gas", "iris"])
def test_not_every_s_is_a_plural(word: str) -> None:
    assert word[:-1] not in forms(word)


def test_word_files() -> None:
    assert plurals()["mice"] == "mouse"
    assert meanings()["automobile"][0] == ("car", 0) and meanings()["sedan"][0] == ("car", 1)
    assert ("leg", PART_OF) in meanings()["knee"]
    assert all(told == tuple(sorted(told, key=lambda one: one.steps)) for told in meanings().values())


@pytest.mark.parametrize(
    ("word", "text", "why"),
    [("dog", "dog", "known"), ("Dogs", "dog", "spelling"), ("light bulb", "lightbulb", "spelling"),
     ("automobile", "car", "synonym"), ("sofa", "couch", "synonym"), ("sedan", "car", "kind"),
     ("woman", "person", "kind"), ("guide dog", "dog", "kind"), ("kitchen knife", "knife", "kind"),
     ("xylograph", None, "unknown")],
)  # fmt: skip
def test_objects(reader: WordReader, word: str, text: str | None, why: str) -> None:
    reading = reader.read_object(word)
    assert (reading.text, reading.why) == (text, why)


@pytest.mark.parametrize(
    ("owner", "word", "text", "why"),
    [("car", "wheels", "car wheel", "spelling"), ("car", "hat", "hat", "known"), ("dog", "zzz", None, "unknown"),
     ("person", "shirts", "shirt", "spelling"), ("car", "headlamp", "car headlight", "synonym"),
     ("person", "knee", "person leg", "kind"), ("person", "fingers", "person hand", "kind"),
     ("dog", "horns", "cow horn", "spelling"), ("car", "front door", "car door", "kind")],
)  # fmt: skip
def test_parts(reader: WordReader, owner: str, word: str, text: str | None, why: str) -> None:
    reading = reader.read_part(owner, word, owner_as=owner)
    assert (reading.word, reading.text, reading.why) == (f"{owner}: {word}", text, why)


def test_a_part_of_a_mapped_object(table: TableBackend) -> None:
    resolved = resolve(Vocabulary({"sedan": ["wheels", "door"], "dog": ["tail"]}), table)
    read = resolved.vocabulary
    assert read.object_names == ("sedan", "dog") and read.object_prompts == ("car", "dog")
    assert read.part_names == ("wheels", "door", "tail") and read.part_prompts == ("car wheel", "car door", "dog tail")
    assert read.part_owner == ((0,), (0,), (1,))
    assert [reading.word for reading in resolved.mapped] == ["sedan", "sedan: wheels"], "a door is a door"
    (told,) = resolved.told()
    assert "'sedan' as 'car'; 'sedan: wheels' as 'car wheel'" in told
    with pytest.warns(UserWarning, match="read as others"):
        assert resolved.warn() is read
    table.tokenize([*read.object_prompts, *read.part_prompts])  # the table has them all


def test_what_is_not_known_is_left_out_with_its_parts(table: TableBackend) -> None:
    resolved = resolve(Vocabulary({"xylograph": ["wheel"], "dog": ["tail", "zzz"]}), table)
    assert resolved.vocabulary.to_dict() == {"dog": ["tail"]}
    assert [reading.word for reading in resolved.left_out] == ["xylograph", "dog: zzz"]
    assert "'xylograph' (nearest: " in resolved.told()[0] and "left out" in resolved.told()[0]
    with pytest.raises(ValueError, match=r"nothing is left .*'xylograph'"):
        resolve(Vocabulary(["xylograph"]), table)


def test_strict_names_all_words_at_once(table: TableBackend) -> None:
    with pytest.raises(
        ValueError, match=r"lacks 3 .*'sedan' as 'car'; 'dog: legs' as 'dog leg'.*left out: 'xylograph'"
    ):
        resolve(Vocabulary({"sedan": [], "xylograph": [], "dog": ["legs"]}), table, strict=True)


def test_what_the_table_has_stays_as_it_is(table: TableBackend) -> None:
    vocabulary = Vocabulary({"car": ["wheel", "hat"], "dog": []})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolved = resolve(vocabulary, table, strict=True)
        assert resolved.vocabulary is vocabulary and resolved.warn() is not None
    shared = Vocabulary({"sedan": ["leg"], "dog": ["leg"]}, part_format="{part}", prompts={"dog": "dog"})
    assert resolve(shared, table).vocabulary.part_owner == ((0, 1),)


def test_a_tower_reads_any_word() -> None:
    from partglee.text import TextBackend

    class Tower(TextBackend):
        pass

    vocabulary = Vocabulary(["xylograph"])
    assert resolve(vocabulary, Tower(), strict=True).vocabulary is vocabulary


def test_nearest_by_meaning(table: TableBackend) -> None:
    parts = ["wheel", "headlight", "door", "leg", "head", "tail", "horn", "hand"]
    axes = {name: np.eye(12)[row] for row, name in enumerate(parts)} | {"wagger": np.eye(12)[parts.index("tail")]}

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([axes.get(text, np.eye(12)[11]) for text in texts])

    reading = WordReader(table, encoder=encode).read_part("dog", "wagger", owner_as="dog")
    assert reading == Reading("dog: wagger", "dog tail", "nearest", reading.near) and len(reading.near) == 3


@pytest.mark.parametrize("word", ["собака", "عين", "自行车", "🐶", "собака dog's"])
def test_another_script_is_left_out(table: TableBackend, word: str) -> None:
    reader = WordReader(table, encoder=lambda texts: np.ones((len(texts), 1)))  # everything means the same
    assert reader.read_object("hound of the night").text is not None, "legible, and as near as can be"
    assert reader.read_object(word) == Reading(word, None, "unknown")
    assert reader.read_part("dog", word, owner_as="dog") == Reading(f"dog: {word}", None, "unknown")
    assert "(nearest: none)" in str(reader.read_object(word))


@pytest.mark.parametrize("word", ["écran", "747", "ß-car", "Ampère meter"])
def test_a_few_signs_of_another_script_do_not_matter(table: TableBackend, word: str) -> None:
    reader = WordReader(table, encoder=lambda texts: np.ones((len(texts), 1)))
    assert reader.read_object(word).text is not None


def test_a_word_is_read_once_and_forgotten_with_its_table(tmp_path: Path) -> None:
    write_table(NAMES, np.random.default_rng(0).standard_normal((len(NAMES), 8)), tmp_path / "names.npz")
    table = TableBackend(file=tmp_path / "names.npz", width=8)
    vocabulary = Vocabulary({"xylograph": [], "dog": ["zzz"]})
    first, again = (resolve(vocabulary, table).readings for _ in range(2))
    assert len(first) == 2 and all(one is other for one, other in zip(first, again, strict=True))
    alive = weakref.ref(table)
    del table
    gc.collect()
    assert alive() is None


def judge(reader: WordReader) -> dict[str, int]:
    """How many of the 120 words land on a right name, on another, on none."""
    answers = yaml.safe_load((Path(__file__).parent / "any_word_answers.yaml").read_text())
    count = {"right": 0, "wrong": 0, "refused": 0}
    for level in ("objects", "parts"):
        assert len(answers[level]) == 60
        for word, right in answers[level].items():
            if level == "objects":
                reading = reader.read_object(word)
            else:
                owner, part = word.split(": ")
                reading = reader.read_part(owner, part, owner_as=reader.read_object(owner).text or owner)
            text = plain_name(reading.text or "")
            hit = any(text == answer or (level == "parts" and text.endswith(f" {answer}")) for answer in right)
            count["refused" if reading.text is None else "right" if hit else "wrong"] += 1
    return count


@pytest.fixture(scope="module")
def world(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> TableBackend:
    folder = shared / "data" / "clip_name_embeddings"
    file = tmp_path_factory.mktemp("world") / "world.npz"
    bridge = folder / "clip_vit_b32_names.npz"
    words = ("head", "eyebrow", "lip")
    write_table(*extended(folder / "clip_rn50_names.npz", bridge_from=bridge, words=words), file)
    return TableBackend(file=file, width=1024)


def test_everyday_words_by_dictionary_and_spelling(world: TableBackend) -> None:
    count = judge(WordReader(world, encoder=None))
    assert count["right"] >= 93 and count["wrong"] <= 12, count


def test_everyday_words_by_meaning_too(world: TableBackend) -> None:
    encoder = sentence_encoder()
    if encoder is None:
        pytest.skip("the extra 'words' is not installed")
    count = judge(WordReader(world, encoder=encoder))
    assert count["right"] >= 100 and count["refused"] <= 3, count
