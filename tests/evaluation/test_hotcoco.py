"""COCO and LVIS AP against hotcoco, an implementation that shares no code with pycocotools or the lvis package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import feed, random_world

from partglee.evaluation import CocoEvaluator, LvisEvaluator

NAMES = {"AR300": "AR@300"}  # where it has another one
COMMON = {"AP", "AP50", "AP75", "APs", "APm", "APl"}


def numbers(truth: dict[str, Any], rows: list[dict[str, Any]], kind: str, lvis: bool, folder: Path) -> dict[str, float]:
    """Numbers of hotcoco, -1 where one is not defined."""
    hotcoco = pytest.importorskip("hotcoco", reason="parity test needs hotcoco")
    other = {"bbox": "segmentation", "segm": "bbox"}[kind]  # a box in mask results changes the areas
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps([{k: v for k, v in row.items() if k != other} for row in rows]))
    annotated = hotcoco.COCO(str(folder / "truth.json"))
    found = annotated.load_res(str(folder / "found.json"))
    scorer = hotcoco.COCOeval(annotated, found, kind, lvis_style=lvis)
    scorer.run()
    return dict(scorer.get_results())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("lvis", [False, True])
def test_equals_hotcoco(lvis: bool, kind: str, seed: int, tmp_path: Path) -> None:
    truth, rows = random_world(seed + 20, lvis=lvis)
    theirs = numbers(truth, rows, kind, lvis, tmp_path)
    results = feed((LvisEvaluator if lvis else CocoEvaluator)(ground_truth=truth, kinds=(kind,)), rows)
    ours = {key.split("/")[1]: value / 100 for key, value in results.items() if key.startswith(f"{kind}/")}
    named = {key: NAMES.get(key, key) for key in ours if NAMES.get(key, key) in theirs}
    more = {"APr", "APc", "APf", "AR300"} if lvis else {"AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    assert set(named) >= COMMON | more
    for key, name in named.items():
        assert theirs[name] == pytest.approx(np.nan_to_num(ours[key], nan=-1.0), abs=1e-12), key
