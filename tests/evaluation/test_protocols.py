"""The registry of protocols: what each reads, its metrics, and that another one is one call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from partglee.data import Records, get_dataset
from partglee.evaluation import EVALUATORS, Protocol, get_protocol, protocol_of, register_protocol
from partglee.evaluation import protocols as module
from partglee.evaluation.protocols import DETECTIONS, FileKind, ScoringOptions, list_protocols, metric_names
from partglee.testing import register_toy


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(module, "_PROTOCOLS", dict(module._PROTOCOLS))
    register_toy("toy_protocols", num_images=2)
    yield


def count_lines(file: Path, records: Records, options: ScoringOptions) -> dict[str, float]:
    lines = len(file.read_text().splitlines())
    return {"share": 100 * lines / len(records), "strict": float(options.strict)}


def test_every_evaluator_has_a_protocol_of_its_kind_of_file() -> None:
    assert set(list_protocols()) == set(EVALUATORS)
    kinds = {name: get_protocol(name).reads.name for name in EVALUATORS}
    others = {
        "semantic_parts": "part maps",
        **dict.fromkeys(("referring", "referring_parts", "refcoco_boxes", "grec"), "expressions"),
    }
    assert kinds == {name: others.get(name, "detections") for name in EVALUATORS}


def test_a_new_protocol_scores_and_names_its_metrics(tmp_path: Path) -> None:
    made = Protocol(name="lines", reads=DETECTIONS, score=count_lines, metrics=("share", "strict"))
    assert register_protocol(made) is get_protocol("lines")
    spec = replace(get_dataset("toy_protocols"), evaluator="lines")
    records = spec.read()
    assert protocol_of(spec, records) is made and metric_names(spec, records) == ("share", "strict")
    file = made.reads.place(tmp_path, spec.name)
    assert file == tmp_path / "toy_protocols.jsonl"
    file.write_text("{}\n")
    options = ScoringOptions(spec=spec, strict=False)
    assert made.score(file, records, options) == {"share": 50.0, "strict": 0.0}
    assert made.heading(options) == "toy_protocols: lines"
    with pytest.raises(ValueError, match="'lines' is there already"):
        register_protocol(made)
    other = replace(made, metrics=())
    assert register_protocol(other, replace=True) is get_protocol("lines")


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="no evaluator 'refering'; did you mean 'referring'"):
        get_protocol("refering")
    spec = replace(get_dataset("toy_protocols"), evaluator="cocoo")
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        metric_names(spec, spec.read())


def test_the_file_must_be_of_the_kind(tmp_path: Path) -> None:
    spec = get_dataset("toy_protocols")
    file = tmp_path / "found.csv"
    file.write_text("1")
    with pytest.raises(ValueError, match=r"must end in \.jsonl"):
        get_protocol("joint").check_file(file, spec)
    with pytest.raises(ValueError, match="is a folder of label images, but toy_protocols is scored by 'joint'"):
        get_protocol("joint").check_file(tmp_path, spec)
    with pytest.raises(ValueError, match="semantic_parts scores a folder of label images"):
        get_protocol("semantic_parts").check_file(file, spec)
    with pytest.raises(ValueError, match="does not exist"):
        get_protocol("semantic_parts").check_file(tmp_path / "lost", spec)
    tables = replace(get_protocol("joint"), name="tables", reads=FileKind("table", "a table", (".csv",)))
    tables.check_file(file, spec)
    with pytest.raises(ValueError, match=r"tables scores files that end in \.csv"):
        tables.check_file(Path(__file__), spec)
