"""Files of answers to expressions with several targets, parts or none, by the rules of each published tool."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import encode, golden
from numpy.typing import NDArray
from PIL import Image

from partglee.cli import main
from partglee.data import DatasetSpec, Expression, ImageRecord, Instance, Records, register
from partglee.evaluation import (
    GeneralizedBoxEvaluator,
    PredictionError,
    ReferringEvaluator,
    ReferringRules,
    ScoringOptions,
    get_protocol,
)
from partglee.evaluation.expression_files import score_expressions, score_generalized_boxes, score_part_expressions
from partglee.evaluation.referring import RULE_SETS, squashed
from partglee.structures import Vocabulary

GOLDEN = golden("referring_golden.json")
SETS = {"G3": "s1 s2 s3", "G5": "s1 s2 s3 s4 s5", "G6": "s1 s2 s3 s4 s5 s6"}
NAMES = Vocabulary({"object": ["arm", "leg"]})


class Listed:
    vocabulary = NAMES

    def __init__(self, records: list[ImageRecord]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> ImageRecord:
        return self.records[index]

    def size(self, index: int) -> tuple[int, int]:
        return self.records[index].height, self.records[index].width

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        raise NotImplementedError


def instance(mask: NDArray[np.bool_], label: int = 0) -> Instance:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)
    return Instance(label=label, box=box, segmentation=encode(mask))


def world(group: str) -> Records:
    """The fixtures as one image with an expression for each; targets are objects of it."""
    objects: list[Instance] = []
    said: list[Expression] = []
    for name in SETS[group].split():
        truth = np.array(GOLDEN["fixtures"][name]["gt"], bool)
        if truth.any():
            objects.append(instance(truth))
        said.append(Expression(name, (len(objects) - 1,) if truth.any() else ()))
    return Listed([ImageRecord(Path("a.jpg"), 4, 4, 7, tuple(objects), expressions=tuple(said))])


def row(mask: NDArray[np.bool_], score: float = 0.9) -> dict[str, Any]:
    return {"score": score, "bbox": [0, 0, 1, 1], "segmentation": encode(mask)}


def answers(group: str) -> list[dict[str, Any]]:
    lines = []
    for place, name in enumerate(SETS[group].split()):
        entry = GOLDEN["fixtures"][name]
        rows = [row(np.array(entry["pred"], bool))]
        lines.append({"image_id": 7, "expression": place, "no_target": entry["pred_nt"], "results": rows})
    return lines


def write(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


# -- goldens through files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", SETS)
@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({}, "strict_cls"),
        ({"rules": "rela", "resolution": "native"}, "rela_code"),
        ({"rules": "rela"}, "rela_code"),  # 4 x 4 pixels at 480 x 480: every count times 14,400
        ({"clear": False}, "rela_code"),
        ({"no_target": "mask"}, "mask"),
        ({"no_target": "either"}, "either"),
        ({"rules": "paper", "strictly_above": False}, "either"),
    ],
)
def test_gres(group: str, arguments: dict[str, Any], key: str, tmp_path: Path) -> None:
    records, expected = world(group), GOLDEN[f"gres/{group}/{key}"]
    options = ScoringOptions(spec=spec(), arguments={"thresholds": [0.7, 0.8, 0.9], **arguments})
    protocol = get_protocol("referring")
    results = protocol.score(write(tmp_path / "a.jsonl", answers(group)), records, options)
    assert set(results) == set(protocol.metric_names(records, options))
    pairs = {"gIoU": "gIoU", "cIoU": "cIoU", "N-acc": "N_acc", "T-acc": "T_acc"} | {
        f"Pr@{x}": f"Pr@{x}" for x in (0.7, 0.8, 0.9)
    }
    for ours, theirs in pairs.items():
        assert results[f"mask/{ours}"] / 100 == pytest.approx(expected[theirs], abs=1e-12), ours


@pytest.mark.parametrize("group", SETS)
def test_lisa(group: str, tmp_path: Path) -> None:
    rules = ReferringRules.named("lisa")
    results = score_expressions(write(tmp_path / "a.jsonl", answers(group)), world(group), rules=rules)
    assert results["mask/gIoU"] / 100 == pytest.approx(GOLDEN[f"lisa/{group}"]["gIoU"], abs=1e-12)
    assert results["mask/cIoU"] / 100 == pytest.approx(GOLDEN[f"lisa/{group}"]["cIoU"], abs=1e-9)


@pytest.mark.parametrize(("name", "right"), [("ours", 1), ("lavt", 1), ("cris", 0), ("paper", 0), ("glee", 1)])
def test_the_boundary_by_each_rule(name: str, right: int) -> None:
    """Half of the target: IoU is 0.5, or a little less or more."""
    evaluator = ReferringEvaluator(rules=ReferringRules.named(name, thresholds=[0.5], resolution="native"))
    evaluator.process("a", np.array([[1, 1, 0, 0]], bool), np.ones((1, 4), bool))
    assert evaluator.evaluate()["Pr@0.5"] == 100 * right


def test_fifty_pixels_are_nothing() -> None:
    evaluator = ReferringEvaluator(rules=ReferringRules.named("rela_50pix"))
    for count, truth in ((49, False), (50, False), (49, True), (50, True)):
        mask = np.zeros((10, 10), bool)
        mask.reshape(-1)[:count] = True
        evaluator.process((count, truth), mask, np.ones((10, 10), bool) if truth else None)
    results = evaluator.evaluate()
    assert results["N-acc"] == results["T-acc"] == 50


# -- resolution ------------------------------------------------------------------------------------------------------


def test_squashed_pixels_are_the_nearest() -> None:
    rng = np.random.default_rng(0)
    for old, new in itertools.product([(5, 9), (48, 31), (1, 3)], [(7, 4), (48, 48), (10, 18)]):
        mask = rng.random(old) < 0.5
        slow = np.zeros(new, bool)
        for y, x in itertools.product(range(new[0]), range(new[1])):
            slow[y, x] = mask[int((y + 0.5) * old[0] / new[0]), int((x + 0.5) * old[1] / new[1])]
        assert np.array_equal(squashed(mask, new), slow)
        pillow = np.asarray(Image.fromarray(mask).resize(new[::-1], Image.Resampling.NEAREST))
        assert np.array_equal(squashed(mask, new), pillow)


def test_answers_at_480_or_at_the_size_of_the_image(tmp_path: Path) -> None:
    """A wide image: pixels of the squashed masks weigh differently, and both forms of the answer score the same."""
    truth = np.zeros((30, 96), bool)
    truth[:20, :30] = True
    said = np.zeros((30, 96), bool)
    said[:30, :20] = True
    records = Listed([ImageRecord(Path("a.jpg"), 30, 96, 1, (instance(truth),), expressions=(Expression("a", (0,)),))])
    line = {"image_id": 1, "expression": 0, "results": [row(said)]}
    squash = {**line, "results": [row(squashed(said, (480, 480)))]}
    rules = ReferringRules.named("rela")
    results = [score_expressions(write(tmp_path / "a.jsonl", [one]), records, rules=rules) for one in (line, squash)]
    assert results[0] == pytest.approx(results[1], nan_ok=True)
    assert results[0]["mask/gIoU"] == pytest.approx(100 * 400 / (600 + 600 - 400))
    with pytest.raises(PredictionError, match="mask of the wrong size"):
        score_expressions(write(tmp_path / "a.jsonl", [squash]), records)


def test_a_target_that_squashing_loses_is_still_one() -> None:
    truth = np.zeros((2000, 4), bool)
    truth[3, 0] = True
    assert not squashed(truth, (480, 480)).any()
    evaluator = ReferringEvaluator(rules=ReferringRules.named("rela"))
    evaluator.process("a", truth, truth)
    evaluator.process_missing("b", truth)
    results = evaluator.evaluate()
    assert results["num_no_target"] == 0 and results["gIoU"] == 0 and results["T-acc"] == 50


# -- lines -----------------------------------------------------------------------------------------------------------


def two_dogs() -> Listed:
    left, right = np.zeros((2, 8, 8), bool)
    left[1:4, 0:3], right[4:8, 5:8] = True, True
    said = Expression("both", (0, 1)), Expression("left", (0,)), Expression("a cat")
    return Listed([ImageRecord(Path("a.jpg"), 8, 8, 7, (instance(left), instance(right)), expressions=said)])


def lines_of(records: Listed) -> list[dict[str, Any]]:
    """Right answers, one row for each object."""
    record = records[0]
    lines = []
    for place, said in enumerate(record.expressions):
        rows = []
        for target in record.targets(said):
            x0, y0, x1, y1 = target.box
            rows.append({"score": 0.8, "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": target.segmentation})
        lines.append({"image_id": 7, "expression": place, "results": rows})
    return lines


def test_rows_of_a_line_are_united_and_no_row_is_nothing(tmp_path: Path) -> None:
    records = two_dogs()
    results = score_expressions(write(tmp_path / "a.jsonl", lines_of(records)), records)
    assert results["mask/gIoU"] == results["mask/cIoU"] == results["mask/N-acc"] == results["box/P@0.5"] == 100
    one = lines_of(records)
    del one[0]["results"][1]
    results = score_expressions(write(tmp_path / "a.jsonl", one), records)
    assert results["mask/gIoU"] == pytest.approx(100 * (9 / 21 + 1 + 1) / 3)


def test_the_flag_says_more_than_the_rows(tmp_path: Path) -> None:
    records, lines = two_dogs(), lines_of(two_dogs())
    lines[2] |= {"no_target": False}
    lines[1] |= {"no_target": True, "no_target_score": 0.9}
    results = score_expressions(write(tmp_path / "a.jsonl", lines), records)
    assert results["mask/N-acc"] == 0 and results["mask/T-acc"] == 50
    for wrong in ("true", 1, []):
        lines[1]["no_target"] = wrong
        with pytest.raises(ValueError, match=r"line 2 of .*no_target must be true or false, got"):
            score_expressions(write(tmp_path / "a.jsonl", lines), records)


def test_missing_lines_are_wrong_for_every_rule(tmp_path: Path) -> None:
    records = two_dogs()
    for name in RULE_SETS:
        with pytest.warns(UserWarning, match="3 expressions have no line"):
            results = score_expressions(write(tmp_path / "a.jsonl", []), records, rules=ReferringRules.named(name))
        assert results["mask/N-acc"] == results["mask/T-acc"] == 0
        assert results["mask/gIoU"] == pytest.approx(0, abs=1e-4)  # GLEE adds a millionth to I too


# -- boxes -----------------------------------------------------------------------------------------------------------


def slow_f1(boxes: NDArray[np.float64], truth: NDArray[np.float64]) -> bool:
    """Whether some one-to-one assignment gives every box a partner of IoU 0.5 or more."""

    def iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        width = min(one[2], other[2]) - max(one[0], other[0])
        height = min(one[3], other[3]) - max(one[1], other[1])
        inter = max(width, 0) * max(height, 0)
        area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
        return inter / (sum(area) - inter)

    if len(boxes) != len(truth):
        return False
    return any(
        all(iou(boxes[place], truth[row]) >= 0.5 for row, place in enumerate(order))
        for order in itertools.permutations(range(len(boxes)))
    )


def test_generalized_boxes_against_every_assignment() -> None:
    """Where an IoU of 0.5 or more leaves one partner each (boxes that do not overlap much), greedy is optimal."""
    rng = np.random.default_rng(0)
    evaluator = GeneralizedBoxEvaluator()
    right = []
    for key in range(300):
        count = int(rng.integers(0, 4))
        truth = np.array([[30 * k, 0, 30 * k + 20, 20] for k in range(count)], float).reshape(-1, 4)
        kept = rng.random(count) < 0.9
        boxes = rng.permutation(truth[kept] + rng.integers(-5, 6, (int(kept.sum()), 1)), axis=0)
        if rng.random() < 0.15:
            boxes = np.concatenate([boxes, [[200, 200, 210, 210]]])
        scores = np.full(len(boxes), 0.7)
        low = np.concatenate([boxes, [[300, 0, 310, 9]]])
        evaluator.process(key, low, np.append(scores, 0.69), truth)
        right.append((slow_f1(boxes, truth), not count, not len(boxes)))
    table = np.array(right)
    results = evaluator.evaluate()
    assert results["F1"] == pytest.approx(100 * table[:, 0].mean()) and 20 < results["F1"] < 90
    assert results["N-acc"] == pytest.approx(100 * table[table[:, 1], 2].mean())
    assert results["T-acc"] == pytest.approx(100 * (~table[~table[:, 1], 2]).mean())
    assert results["num_samples"] == 300 and results["num_no_target"] == table[:, 1].sum()


def test_generalized_boxes_of_files(tmp_path: Path) -> None:
    """Single boxes are those of `instances` where a line has them; a line that says no-target has none."""
    records, lines = two_dogs(), lines_of(two_dogs())
    results = score_generalized_boxes(write(tmp_path / "a.jsonl", lines), records, GeneralizedBoxEvaluator())
    assert results["F1"] == results["N-acc"] == results["T-acc"] == 100
    lines[0] |= {"instances": lines[0]["results"], "results": [row(np.ones((8, 8), bool))]}
    lines[2] |= {"no_target": True, "results": [row(np.ones((8, 8), bool))]}
    results = score_generalized_boxes(write(tmp_path / "a.jsonl", lines), records, GeneralizedBoxEvaluator())
    assert results["F1"] == 100
    with pytest.warns(UserWarning, match="1 expressions have no line"):
        results = score_generalized_boxes(write(tmp_path / "a.jsonl", lines[:2]), records, GeneralizedBoxEvaluator())
    assert results["F1"] == pytest.approx(200 / 3) and results["N-acc"] == 0


# -- parts -----------------------------------------------------------------------------------------------------------


def test_parts_beside_objects(tmp_path: Path) -> None:
    """The golden of RefCOCOm: parts of IoU .2 .3 .1 .4, objects of .8 .9; pooled, not averaged."""
    ious, size = [0.2, 0.3, 0.1, 0.4, 0.8, 0.9], (10, 100)
    masks, lines = [], []
    for place, iou in enumerate(ious):
        mask = np.zeros(size, bool)
        mask[:, place : place + 1] = True
        mask[:, 20:29] = True  # 100 pixels, of which the answer has a share
        masks.append(mask)
        found = mask & (np.cumsum(mask.reshape(-1)).reshape(size) <= round(100 * iou))
        lines.append({"image_id": 1, "expression": place, "results": [row(found)]})
    parts = tuple(instance(mask, label % 2) for label, mask in enumerate(masks[:4]))
    said = [Expression(str(k), (), (k,)) for k in range(4)] + [Expression(str(k), (k - 4,)) for k in (4, 5)]
    record = ImageRecord(
        Path("a.jpg"), *size, 1, tuple(map(instance, masks[4:])), parts, expressions=(*said, Expression("no"))
    )
    records = Listed([record])
    lines.append({"image_id": 1, "expression": 6, "results": []})
    results = score_part_expressions(write(tmp_path / "a.jsonl", lines), records)
    expected = {"part/mIoU": "part", "object/mIoU": "obj", "object&part/mIoU": "obj_part"}
    for ours, theirs in expected.items():
        assert results[ours] / 100 == pytest.approx(GOLDEN["refcocom"][theirs], abs=1e-12)
    assert results["part names/arm"] == pytest.approx(15) and results["part names/leg"] == pytest.approx(35)
    assert results["part sizes/small"] == pytest.approx(25) and np.isnan(results["part sizes/large"])
    assert results["part/oIoU"] == pytest.approx(25) and results["object&part/Pr@0.8"] == pytest.approx(100 / 3)
    assert (results["num_parts"], results["num_objects"]) == (4, 2)
    options = ScoringOptions(spec=spec())
    assert set(get_protocol("referring_parts").metric_names(records, options)) == set(results)


# -- command line ----------------------------------------------------------------------------------------------------


def spec(**fields: Any) -> DatasetSpec:
    return DatasetSpec(
        **{"name": "told", "annotations": "", "images": "", "evaluator": "referring", **fields},
        reader=lambda spec: two_dogs(),
    )


@pytest.mark.parametrize(
    ("arguments", "title", "numbers"),
    [
        ([], "told: referring expressions", {"mask/gIoU": 100, "mask/N-acc": 100}),
        (["--option", "rules=rela"], "told: referring expressions", {"mask/cIoU": 100, "mask/Pr@0.7": 100}),
        (["--evaluator", "grec"], "told: generalized referring boxes", {"F1": 100}),
        (["--evaluator", "referring_parts"], "told: referring, parts and objects", {"object/mIoU": 100}),
    ],
)
def test_partglee_eval(
    arguments: list[str], title: str, numbers: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(spec(), replace=True)
    file = write(tmp_path / "a.jsonl", lines_of(two_dogs()))
    command = ["eval", "--predictions", str(file), "--dataset", "told", "--json", str(tmp_path / "r.json"), *arguments]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(title)
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert {key: results[key] for key in numbers} == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "rules=relax"], "rules must be one of ours, paper, rela"),
        (["--option", "clears=false"], "no option 'clears'; there are rules, clear"),
        (["--evaluator", "grec", "--option", "min_score=70"], "min_score must be a number from 0 to 1"),
        (["--evaluator", "grec", "--option", "clear=true"], "has no option 'clear'"),
    ],
)
def test_options_that_are_not_there(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(spec(), replace=True)
    file = write(tmp_path / "a.jsonl", lines_of(two_dogs()))
    assert main(["eval", "--predictions", str(file), "--dataset", "told", *arguments]) == 2
    assert message in capsys.readouterr().err
