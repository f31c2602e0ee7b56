"""Files of every format, opened in their runtimes: the same rows as the library's own predictor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_export import VOCABULARY, small_weights

from partglee import Predictor
from partglee.cli import main
from partglee.export import Card, ExportedPredictor, Names, export_model
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Prediction

GENERATOR = np.random.default_rng(5)
PHOTOS = [GENERATOR.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 96), (64, 64), (50, 61), (200, 90))]


@pytest.fixture(scope="module")
def weights(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(table, tmp_path_factory.mktemp("weights"))


def assert_same(found: Prediction, wanted: Prediction, *, scores: float) -> None:
    assert len(found.labels) == len(wanted.labels) > 0
    assert found.names == wanted.names and found.level.tolist() == wanted.level.tolist()
    assert found.parent.tolist() == wanted.parent.tolist() and found.image_size == wanted.image_size
    torch.testing.assert_close(found.boxes, wanted.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=scores)
    assert found.masks is not None and wanted.masks is not None
    assert (found.masks == wanted.masks).float().mean() > 0.999


def check_file(file: Path, weights: Path, names: Names | None = None) -> ExportedPredictor:
    """What the file says of itself, and the very same rows where an image needs no resizing."""
    predictor, exported = Predictor.from_pretrained(weights, device="cpu"), ExportedPredictor.open(file, threads=1)
    assert exported.card.remarks["terms"] == "for tests alone" and exported.card.weights == "small"
    fitting = [photo for photo in PHOTOS[:2] if exported.card.size in (None, photo.shape[:2])]
    for photo, found in zip(fitting, exported(fitting, names), strict=True):
        assert_same(found, predictor(photo, VOCABULARY, score_threshold=0.1), scores=1e-5)
    for photo in PHOTOS[2:]:
        found, wanted = exported(photo, names), predictor(photo, VOCABULARY, score_threshold=0.1)
        assert found.image_size == photo.shape[:2] and found.masks is not None and len(found.labels)
        assert found.boxes[:, 2].max() <= photo.shape[1] and found.boxes[:, 3].max() <= photo.shape[0]
        if exported.card.size is None:  # resized alike
            # In the order of their scores, which a graph measures on its input.
            place = int((wanted.boxes - found.boxes[0]).abs().amax(1).argmin())
            torch.testing.assert_close(found.boxes[0], wanted.boxes[place], rtol=0, atol=1e-2)
            assert abs(float(found.scores[0]) - float(wanted.scores[place])) < 0.05
    return exported


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """torch writes thousands of records while it draws a graph, which pytest would keep."""
    logger = logging.getLogger("torch.__trace")
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


@pytest.mark.compile
def test_onnx_of_one_size(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "small.onnx"
    assert export_model(weights, file, format="onnx", vocabulary=VOCABULARY, size=(64, 96), score_threshold=0.1) == file
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.onnx"]
    assert b"site-packages" not in file.read_bytes(), "nothing says where it was made"
    exported = check_file(file, weights)
    with pytest.raises(ValueError, match="fixed vocabulary"):
        exported(PHOTOS[0], Names.of(Predictor.from_pretrained(weights, device="cpu"), VOCABULARY))


@pytest.mark.compile
def test_int8_by_the_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    photos, file, whole = tmp_path / "photos", tmp_path / "small8.onnx", tmp_path / "small.onnx"
    photos.mkdir()
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    asked = ["--vocabulary", "dog: head, tail; person: arm, lower leg; cat", "--score-threshold", "0.1"]
    assert main(["export", str(weights), str(file), *asked, "--size", "64x96", "--int8", str(photos)]) == 0
    assert "finding ranges on 9 photos" in capsys.readouterr().out
    export_model(weights, whole, format="onnx", vocabulary=VOCABULARY, size=(64, 96), score_threshold=0.1)
    assert file.stat().st_size < 0.7 * whole.stat().st_size
    kinds = [node.op_type for node in onnx.load(str(file)).graph.node]
    assert kinds.count("QuantizeLinear") > 20
    plain, small = (ExportedPredictor.open(at, threads=1) for at in (whole, file))
    assert small.card == plain.card
    wanted, found = plain(photos / "3.png"), small(photos / "3.png")
    assert len(found.labels) > 0 and found.names[0] in wanted.names
    assert abs(float(found.scores.max() - wanted.scores.max())) < 0.1
    for given, told in (([str(photos / "3.png")], "at least 8 photos"), ([str(tmp_path / "none")], "none")):
        assert main(["export", str(weights), str(tmp_path / "a.onnx"), *asked, "--int8", *given]) == 2
        assert told in capsys.readouterr().err
    assert main(["export", str(weights), str(tmp_path / "a.pt2"), *asked, "--int8", str(photos)]) == 2
    assert "int8 is for ONNX graphs" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", "small.onnx", "small8.onnx"]


@pytest.mark.compile
def test_openvino_by_the_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    file = tmp_path / "small.xml"
    asked = ["--vocabulary", "dog: head, tail; person: arm, lower leg; cat", "--score-threshold", "0.1"]
    assert main(["export", str(weights), str(file), "--size", "64x96", *asked]) == 0
    assert "ExportedPredictor.open" in capsys.readouterr().out
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["small.bin", "small.xml"]
    check_file(file, weights)


@pytest.mark.compile
def test_pt2_of_any_size_with_names_as_inputs(weights: Path, tmp_path: Path) -> None:
    file = export_model(weights, tmp_path / "small.pt2", format="pt2", vocabulary=None, score_threshold=0.1)
    predictor = Predictor.from_pretrained(weights, device="cpu")
    exported = check_file(file, weights, Names.of(predictor, VOCABULARY))
    with pytest.raises(ValueError, match="takes names as inputs"):
        exported(PHOTOS[0])
    fewer = exported(PHOTOS[0], Names.of(predictor, {"dog": ["tail"], "cat": ["dog head"]}))
    assert set(fewer.names) <= {"dog", "tail", "cat", "dog head"}


@pytest.mark.slow
@pytest.mark.parametrize(("format", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_any_size(weights: Path, tmp_path: Path, format: str, ending: str) -> None:
    pytest.importorskip("openvino")
    file = tmp_path / f"small.{ending}"
    check_file(export_model(weights, file, format=format, vocabulary=VOCABULARY, score_threshold=0.1), weights)


# ---------------------------------------------------------------------- wrong input, told before minutes of work


@pytest.mark.parametrize(
    ("out", "options", "told"),
    [
        ("a.onnx", {"format": "tflite"}, "unknown format 'tflite'; expected one of pt2, onnx, openvino"),
        ("a.onnx", {"format": "pt2"}, r"ends in \.pt2"),
        ("a.pt2", {"format": "pt2", "size": (50, 64)}, "multiples of 32"),
        ("a.pt2", {"format": "pt2", "vocabulary": "helicopter", "strict": True}, "helicopter"),
        ("a.pt2", {"format": "pt2", "options": PostprocessOptions(masks=False)}, "no option masks"),
    ],
)
def test_wrong_wishes(weights: Path, tmp_path: Path, out: str, options: dict[str, object], told: str) -> None:
    wishes = {"vocabulary": VOCABULARY, **options}
    with pytest.raises(ValueError, match=told):
        export_model(weights, tmp_path / out, **wishes)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.onnx", "--size", "big", "--vocabulary", "dog"], "HEIGHTxWIDTH"),
        (["a.onnx", "--names-as-inputs", "--vocabulary", "dog"], "either"),
        (["a.onnx", "--float32"], "a graph takes no"),
        (["a.safetensors", "--size", "64x64"], "belongs to graphs"),
        (["a.onnx"], "no vocabulary of its own"),
        (["a.foo"], "OUT ends in .foo; expected one of .safetensors, .onnx"),
    ],
)
def test_wrong_words(
    weights: Path, tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(weights), str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert told in capsys.readouterr().err


def test_a_place_that_takes_no_file(weights: Path, tmp_path: Path) -> None:
    """Known before the graph is drawn: there is no folder to make, and nothing is made."""
    (tmp_path / "file").touch()
    (tmp_path / "folder.pt2").mkdir()
    for place, told in (("file/a.pt2", "takes no files"), ("file/b/a.pt2", "takes no files"), ("folder.pt2", "folder")):
        with pytest.raises(ValueError, match=told):
            export_model(weights, tmp_path / place, format="pt2", vocabulary="dog")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.pt2"]


def test_a_damaged_photo_is_told_before_the_graph_is_drawn(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    for number in range(9):
        Image.fromarray(PHOTOS[0]).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes((tmp_path / "3.png").read_bytes()[:900])
    asked = ["--vocabulary", "dog", "--int8", str(tmp_path)]
    assert main(["export", str(weights), str(tmp_path / "a.onnx"), *asked]) == 2
    said = capsys.readouterr()
    assert "4.png" in said.err and "drawing" not in said.out


def test_a_missing_package_is_told(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ValueError, match=r"openvino is not installed; pip install 'partglee\[export\]'"):
        export_model(weights, tmp_path / "a.xml", format="openvino", vocabulary="dog")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no exported graph"):
        ExportedPredictor.open(tmp_path / "a.tflite")
    with pytest.raises(ValueError, match="no file"):
        ExportedPredictor.open(tmp_path / "a.onnx")
    for ending, package in (("onnx", "onnxruntime"), ("xml", "openvino"), ("pt2", "torch")):
        pytest.importorskip(package)
        (tmp_path / f"a.{ending}").write_bytes(b"no graph at all")
        with pytest.raises(ValueError, match="cannot be opened"):
            ExportedPredictor.open(tmp_path / f"a.{ending}")


def test_a_card_goes_there_and_back() -> None:
    names = VOCABULARY.reworded(["a", "b", "c"], ["d", "e", None, "f"])
    card = Card(
        vocabulary=names, short_side=64, max_side=96, divisibility=32, size=(64, 96), pixel_mean=(1.0, 2.0, 3.0),
        score_threshold=0.5, weights="w", remarks={"terms": "none"},
    )  # fmt: skip
    assert Card.from_json(card.to_json(), "a file") == card
    with pytest.raises(ValueError, match="later partglee"):
        Card.from_json(card.to_json().replace('"version": 1', '"version": 9'), "a file")
    for text in (None, "", "[]", "{}", '{"version": 1}'):
        with pytest.raises(ValueError, match="was not written by"):
            Card.from_json(text, "a file")
