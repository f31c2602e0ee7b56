"""Names in any script are told apart on a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from partglee.structures import Prediction
from partglee.visualization import fonts

PAIRS = (("cat", "dog"), ("é", "ü"), ("кот", "сом"), ("猫", "犬"), ("𐎀", "𐎁"), ("a\x01", "a\x02"), ("\ue000", "\ue001"))


def picture(name: str) -> bytes:
    prediction = Prediction(
        boxes=torch.tensor([[20.0, 40, 180, 140]]), scores=torch.tensor([0.9]), labels=torch.tensor([0]), names=[name],
        level=torch.tensor([0]), parent=torch.tensor([-1]), image_size=(160, 240),
    )  # fmt: skip
    return np.asarray(prediction.draw(np.full((160, 240, 3), 90, np.uint8), panel=True, caption=name)).tobytes()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_different_names_give_different_pictures(first: str, second: str) -> None:
    assert picture(first) != picture(second)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_also_without_any_font_but_the_first(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> None:
    monkeypatch.setattr(fonts, "_bundled", lambda: None)
    monkeypatch.setattr(fonts, "_of_system", lambda: ())
    assert picture(first) != picture(second)


def test_a_letter_that_no_font_has_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_bundled", lambda: None)
    monkeypatch.setattr(fonts, "_of_system", lambda: ())
    font, texts = fonts.legible(["a 猫", "b"], 12)
    assert texts == ["a \\u732b", "b"] and font is fonts.load_font(12, None)
    assert fonts.legible(["tab\there"], 12)[1] == ["tab here"]


def test_a_font_with_the_letters_is_taken() -> None:
    font, texts = fonts.legible(["кот"], 12)
    assert texts == ["кот"] and font is not fonts.load_font(12, None)
    assert fonts.has_glyph("к", fonts._bundled()) and not fonts.has_glyph("к", None) and fonts.has_glyph("k", None)


def test_a_file_that_is_no_font_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "NotoSansCJK.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_of_system", lambda: (str(tmp_path / "NotoSansCJK.ttf"),))
    assert fonts.legible(["猫"], 12)[1] == ["\\u732b"]
