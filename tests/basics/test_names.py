"""Names as people write them."""

from __future__ import annotations

import pytest

from partglee.basics.names import clean_name, clean_names, humanise, name_key, nearest


def test_case_and_white_space_do_not_count() -> None:
    assert name_key("  Left\tMirror ") == name_key("left mirror") != name_key("leftmirror")


def test_humanise() -> None:
    raw = ["inner_body", "car_(automobile)", "dog", "Bus_(vehicle)_x"]
    assert [humanise(name) for name in raw] == ["inner body", "car", "dog", "Bus x"]


def test_clean_names() -> None:
    assert clean_names(["left  mirror", " wheel"], "part name") == ("left mirror", "wheel")
    with pytest.raises(ValueError, match=r"part name 'Wheel' of 'car' is given twice \(as 'wheel' before"):
        clean_names(["wheel", "Wheel"], "part name", " of 'car'")
    with pytest.raises(TypeError, match=r"got the single text 'wheel'; write \['wheel'\]"):
        clean_names("wheel", "part name")
    with pytest.raises(TypeError, match="must be a list of names"):
        clean_names({"wheel": 1}, "part name")
    with pytest.raises(ValueError, match="is blank"):
        clean_name("  ", "part name")
    with pytest.raises(TypeError, match="quote it in YAML"):
        clean_name(True, "part name")


def test_nearest() -> None:
    assert nearest("Coco_val", ["coco_val", "lvis_val", "zebra"]).startswith("; did you mean 'coco_val'")
    assert nearest("xyz", ["coco_val"]) == ""
