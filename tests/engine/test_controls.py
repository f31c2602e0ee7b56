"""Answers that read nothing: constant masks, and questions of other images."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from partglee.data.records import Expression, ImageRecord, Instance
from partglee.engine.controls import GRID, AskedOfAnother, ConstantAnswer, mean_mask
from partglee.structures import Grounding

IMAGE = np.zeros((40, 60, 3), np.uint8)


def record(number: int, boxes: Sequence[tuple[int, int, int, int]], *texts: str) -> ImageRecord:
    """An image of 64 x 64 in which the first expression means the first object, and so on; the rest means nothing."""
    objects = tuple(
        Instance(0, box, ((box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]),)) for box in boxes
    )
    said = tuple(Expression(text, (k,) if k < len(objects) else ()) for k, text in enumerate(texts))
    return ImageRecord(Path(f"{number}.png"), 64, 64, number, objects, expressions=said)


def test_nothing_is_said_of_every_image() -> None:
    for constant in (ConstantAnswer(), ConstantAnswer(np.zeros((GRID, GRID), bool))):
        answers = constant.answer(IMAGE, ["a dog", "a cat"])
        assert [answer.no_target for answer in answers] == [True, True]
        assert answers[0].to_dict()["results"] == [] and answers[1].expression == "a cat"


def test_a_constant_mask_takes_the_size_of_the_image() -> None:
    half = np.zeros((GRID, GRID), bool)
    half[:, GRID // 2 :] = True
    (answer,) = ConstantAnswer(half).answer(IMAGE, ["a dog"])
    assert answer.mask.shape == (40, 60) and not answer.no_target
    assert answer.mask[:, 30:].all() and not answer.mask[:, :30].any()
    assert answer.boxes.tolist() == [[30, 0, 60, 40]]


def test_the_mean_mask_is_cut_where_its_mean_iou_is_largest() -> None:
    boxes = [(8, 8, 40, 40), (8, 8, 44, 40), (8, 8, 40, 44), (0, 0, 60, 60)]
    records = [record(i, [box], "it", "nothing") for i, box in enumerate(boxes)]
    best = mean_mask(records, range(4))  # type: ignore[arg-type]
    truth = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros((64, 64), bool)
        mask[y0:y1, x0:x1] = True
        truth.append(mask)
    mean = np.mean(truth, axis=0)

    def score(one: NDArray[np.bool_]) -> float:
        return float(np.mean([(one & mask).sum() / (one | mask).sum() for mask in truth]))

    assert score(best) == pytest.approx(max(score(mean >= level) for level in np.unique(mean[mean > 0])))
    assert not mean_mask([record(0, [], "nothing")], [0]).any()  # type: ignore[arg-type]


def test_each_expression_is_asked_once_of_another_image() -> None:
    records = [record(i, [], f"{i}a", f"{i}b") for i in range(4)]
    asked: list[tuple[int, str]] = []

    class Model:
        def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Grounding]:
            asked.extend((int(image[0, 0, 0]), text) for text in expressions)
            return ConstantAnswer().answer(image, expressions)

    control = AskedOfAnother(Model(), records)
    for number, one in enumerate(records):
        answers = control.answer(np.full((4, 4, 3), number, np.uint8), [said.text for said in one.expressions])
        assert len(answers) == 2
    assert sorted(text for _, text in asked) == sorted(said.text for one in records for said in one.expressions)
    assert all(not text.startswith(str(number)) for number, text in asked)
    with pytest.raises(ValueError, match="more expressions are asked"):
        control.answer(IMAGE, ["one more"])


def test_bad_input_is_one_line(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tool = str(root / "tools" / "score_controls.py")
    monkeypatch.setattr("sys.argv", [tool, "--config-file", "toy", "MODEL.WEIGHTS", "gone"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(tool, run_name="__main__")
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("score_controls: ")
    monkeypatch.setattr("sys.argv", [tool, "--config-file", "no_such_configuration"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(tool, run_name="__main__")
    assert ended.value.code == 2 and "no_such_configuration" in capsys.readouterr().err


def test_the_table_of_constants(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from partglee.testing import register_toy_referring

    _, val = register_toy_referring("toy_controls", size=(48, 48), num_val=3)
    config = tmp_path / "config.yaml"
    config.write_text("DATASETS: {TRAIN: [toy_controls_val], TEST: [toy_controls_val]}\nDATALOADER: {NUM_WORKERS: 0}\n")
    tool = runpy.run_path(str(root / "tools" / "score_controls.py"))
    assert tool["main"](["--config-file", str(config)]) == 0
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in capsys.readouterr().out.splitlines()}
    said = [e for row in range(3) for e in val.read()[row].expressions]
    share = 100 * sum(e.no_target for e in said) / len(said)
    assert float(rows["nothing"][0]) == pytest.approx(share, abs=0.05)  # right where nothing is meant, and only there
    assert float(rows["nothing"][3]) == 100 and float(rows["nothing"][4]) == 0
    assert float(rows["the whole image"][4]) == 100 and float(rows["the whole image"][0]) > 0
    assert float(rows["the mean mask of training"][0]) >= float(rows["the whole image"][0])


def test_the_table_at_both_levels(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences of parts: columns of each level, the table behind whatever the runs have logged."""
    from partglee.data.expression_rules import ExpressionRules
    from partglee.testing import register_toy_referring

    rules = ExpressionRules(parts=0.5, none=0.0)
    register_toy_referring("toy_both", size=(48, 48), num_val=3, rules=rules, evaluator="referring_parts")
    config = tmp_path / "config.yaml"
    config.write_text("DATASETS: {TRAIN: [toy_both_val], TEST: [toy_both_val]}\nDATALOADER: {NUM_WORKERS: 0}\n")
    tool = runpy.run_path(str(root / "tools" / "score_controls.py"))
    assert tool["main"](["--config-file", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[-5:]
    assert all(line.startswith("|") for line in table) and not any(line.startswith("|") for line in lines[:-5])
    assert table[0].startswith("| answer | object mIoU | object oIoU | object Pr@0.5 | part mIoU |")
    rows = {line.split("|")[1].strip(): [float(x) for x in line.split("|")[2:-1]] for line in table[2:]}
    assert set(rows["nothing"]) == {0.0} and 0 < rows["the whole image"][3] < rows["the whole image"][0]


def test_data_sets_of_two_protocols(root: Path, tmp_path: Path) -> None:
    from partglee.testing import register_toy_referring

    register_toy_referring("toy_one", size=(48, 48), num_val=1)
    register_toy_referring("toy_other", size=(48, 48), num_val=1, evaluator="referring_parts")
    config = tmp_path / "config.yaml"
    config.write_text("DATASETS: {TEST: [toy_one_val, toy_other_val]}\n")
    tool = runpy.run_path(str(root / "tools" / "score_controls.py"))
    with pytest.raises(ValueError, match="must be of one protocol"):
        tool["main"](["--config-file", str(config)])
