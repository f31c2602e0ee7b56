"""Mapping files: the two that ship, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partglee.data.prepare.mapping import FOLDER, categories_of, load_mapping
from partglee.text.table import TableBackend

SHIPPED = sorted(file.stem for file in FOLDER.glob("*.yaml"))
CAR = "objects: {car: [wheel]}\nnames: {left_wheel: 'car:wheel'}\n"


# Names that come from no label: the head is the union of its labels, and has its parts a second time.
BY_RULE = {"faces": {f"head:{part}" for part in load_mapping("faces").objects["head"]} | {"person:head"}}
# What the table of real names lacks; `partglee name-table extend --words` adds it.
BEYOND = {"faces": {"head", "person head", "eyebrow", "lip"}}


def test_data_sets_that_have_one() -> None:
    assert SHIPPED == ["car_parts", "clothing", "faces"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_name_is_used(name: str) -> None:
    mapping = load_mapping(name)
    used = set(mapping.names.values()) | set(mapping.objects) | BY_RULE.get(name, set())
    assert used == {entry["name"] for entry in mapping.categories()}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_real_name_table_has_every_prompt(name: str, shared: Path) -> None:
    table = TableBackend(file=shared / "data/clip_name_embeddings/clip_rn50_names.npz", width=1024)
    categories = load_mapping(name).categories()
    prompts = {entry.get("prompt", entry["name"].replace(":", " ")) for entry in categories}
    missing = BEYOND.get(name, set()) & prompts
    assert table.tokenize(sorted(prompts - missing))[0].shape == (len(prompts) - len(missing), 1)


def test_sides_are_instances_of_one_name() -> None:
    mapping = load_mapping("car_parts")
    assert mapping.target("front_left_door") == mapping.target("back_right_door") == "car:door"
    assert mapping.target("front_bumper") == mapping.target("back_bumper") == "car:bumper"
    assert mapping.target("_background_") is None and "car:wheel" in mapping.components


def test_garments_are_parts_and_bags_are_objects() -> None:
    mapping = load_mapping("clothing")
    assert mapping.target("purse") == "handbag" and mapping.target("hair") == "person:hair"
    assert mapping.target("skin") is None and mapping.body == {"skin"}
    prompt = {entry["name"]: entry.get("prompt") for entry in mapping.categories()}
    assert prompt["person:shirt"] == "shirt" and prompt["person:hair"] is None


def test_an_unknown_raw_label_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no raw label 'wheels'; did you mean 'wheel'"):
        load_mapping("car_parts").target("wheels")


def test_categories_are_objects_then_parts() -> None:
    entries = categories_of({"car": ["wheel"], "ball": [], "boat": ["sail"]}, {"boat:sail": "sail"})
    assert [(e["id"], e["name"], e["level"]) for e in entries] == [
        (1, "car", "object"), (2, "ball", "object"), (3, "boat", "object"), (4, "car:wheel", "part"),
        (5, "boat:sail", "part"),
    ]  # fmt: skip
    assert entries[4]["prompt"] == "sail" and "prompt" not in entries[3]


@pytest.mark.parametrize(
    "text, message",
    [
        ("names: {}", "must be a mapping with `objects` and `names`"),
        ("[1, 2]", "must be a mapping"),
        (CAR + "unlabeled: {x: y}", "otherwise only"),
        (CAR + "prompts: {'car:door': door}", r"uses \['car:door'\], which are not under `objects`"),
        (CAR + "split: {pairs: ['person:shoe']}", "person:shoe"),
        (CAR + "unlabelled: {left_wheel: why}", "both under `names` and under `unlabelled`"),
        (CAR + "body: [skin]", "under `body` but not under `unlabelled`"),
    ],
)
def test_wrong_files_say_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_mapping(file)


def test_a_missing_file_names_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give a \.yaml file or one of car_parts, clothing"):
        load_mapping("cars")


def test_an_own_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(CAR)
    assert load_mapping(str(file)).target("left_wheel") == "car:wheel"
    assert not np.any([load_mapping(file).prompts, load_mapping(file).pairs])
