"""Batches of one canvas, read ahead: in prediction and in evaluation, with the results of one image at a time."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN
from PIL import Image
from torch import distributed as dist
from training_samples import small_config

from partglee.data.catalog import register_custom
from partglee.data.loader import TestLoader
from partglee.engine import Predictor
from partglee.engine.batches import canvas_batches, in_order, lists_of, read_ahead, rows_of_a_canvas
from partglee.engine.build import build_accelerator, build_initial_model
from partglee.engine.evaluate import EvaluationFailed, evaluate
from partglee.engine.launch import spawn
from partglee.engine.partglee_answers import partglee_answerer
from partglee.structures import Prediction
from partglee.testing import TOY_VOCABULARY, fill_weights, write_name_table, write_toy_dataset

SIZES = [(60, 90), (41, 67), (60, 88), (90, 61), (61, 90), (33, 120), (60, 90), (64, 96), (90, 60)]
CUT = 3  # of SIZES, the image that cannot be read


# ---------------------------------------------------------------- the pieces


def test_images_wait_for_others_of_their_canvas() -> None:
    assert rows_of_a_canvas([(32, 64), (33, 64), (1, 33), (32, 64), (40, 40)], divisibility=32) == [[0, 2, 3], [1, 4]]
    batches = list(canvas_batches("abacab", canvas=str, batch_size=2))
    assert batches == [[(0, "a"), (2, "a")], [(1, "b"), (5, "b")], [(3, "c")], [(4, "a")]]
    assert list(canvas_batches("aba", canvas=str, batch_size=1)) == [[(0, "a")], [(1, "b")], [(2, "a")]]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(canvas_batches("ab", canvas=str, batch_size=0))


def test_a_rare_size_does_not_wait_without_end() -> None:
    read: list[str] = []

    def images() -> Iterator[str]:
        for image in "r" + 40 * "a":
            read.append(image)
            yield image

    for batch in canvas_batches(images(), canvas=str, batch_size=2):
        if batch == [(0, "r")]:
            break
    assert len(read) == 17  # eight batches after it


def test_answers_in_the_order_of_the_images() -> None:
    assert list(in_order([(2, "c"), (0, "a"), (1, "b"), (3, "d")])) == list("abcd")
    held = in_order(iter([(0, "a"), (2, "c")]))
    assert next(held) == "a"  # not later than it is due


def test_reading_ahead() -> None:
    taken: list[int] = []

    def sources() -> Iterator[int]:
        for i in range(9):
            taken.append(i)
            yield i

    threads: set[str] = set()

    def read(i: int) -> int:
        threads.add(threading.current_thread().name)
        if i == 7:
            raise ValueError("cut off")
        return i * i

    found = read_ahead(read, sources(), workers=2, ahead=3)
    assert next(found) == 0 and taken == [0, 1, 2, 3]
    assert [next(found) for _ in range(6)] == [1, 4, 9, 16, 25, 36]
    with pytest.raises(ValueError, match="cut off"):
        next(found)
    assert all(name.startswith("partglee-read") for name in threads)
    del taken[:]
    assert next(read_ahead(read, sources(), workers=0, ahead=3)) == 0 and taken == [0]
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        next(read_ahead(read, sources(), workers=-1, ahead=3))
    assert list(lists_of(range(5), 2)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_before_a_failure_are_answered(batch_size: int, workers: int) -> None:
    def camera() -> Iterator[int]:
        yield from range(5)
        raise OSError("unplugged")

    read = read_ahead(lambda i: i, camera(), workers=workers, ahead=3)
    seen: list[int] = []
    with pytest.raises(OSError, match="unplugged"):
        seen.extend(in_order(pair for some in canvas_batches(read, canvas=lambda i: i % 2, batch_size=batch_size)
                             for pair in some))  # fmt: skip
    assert seen == [0, 1, 2, 3, 4]
    few: list[list[int]] = []
    with pytest.raises(OSError, match="unplugged"):
        few.extend(lists_of(camera(), batch_size))
    assert [i for some in few for i in some] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch_size", [2.5, "3", None])
def test_no_number_of_images(batch_size: Any) -> None:
    with pytest.raises(TypeError, match=f"batch_size must be a whole number, got {batch_size!r}"):
        next(canvas_batches([1], canvas=lambda i: i, batch_size=batch_size))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_predictors_batches(predictor: Predictor, tmp_path: Path, workers: int) -> None:
    files = []
    for i, (height, width) in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(files[-1])
    options = {"score_threshold": 0.0, "max_objects": 3, "max_parts_per_object": 2}
    alone = predictor(files, {"dog": ["head"]}, **options)
    together = predictor(files, {"dog": ["head"]}, **options, batch_size=3, workers=workers)
    assert [found.file_name for found in together] == [str(file) for file in files]
    for ours, expected in zip(together, alone, strict=True):
        same(ours, expected)
    files[CUT].write_bytes(files[CUT].read_bytes()[:100])
    with pytest.raises(ValueError, match=files[CUT].name):
        predictor(files, {"dog": ["head"]}, batch_size=3, workers=workers)


def same(ours: Prediction, expected: Prediction) -> None:
    assert ours.names == expected.names and ours.image_size == expected.image_size
    torch.testing.assert_close(ours.boxes, expected.boxes, atol=1e-2, rtol=0)  # pixels
    assert ours.masks is not None and expected.masks is not None
    other = (ours.masks != expected.masks).flatten(1)
    assert other.float().mean() < 1e-3
    # A score is a probability times the mean of its mask's pixels, all at least 0.5. A pixel that rounding moves across
    # the mask's edge moves that mean by half of its share at most; on some processors another batch does that.
    moved = 0.5 * other.sum(1) / expected.masks.flatten(1).sum(1).clamp(min=1)
    assert bool(((ours.scores - expected.scores).abs() <= 1e-4 + moved).all()), (ours.scores, expected.scores)


# ---------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of mixed, odd sizes as one data set, and the same with an image that is cut off."""
    folder = tmp_path_factory.mktemp("batches")
    whole: dict[str, Any] = {"images": [], "annotations": []}
    for number, size in enumerate(SIZES):
        content = json.loads(write_toy_dataset(folder, 1, number, size, name=f"scene_{number}").read_text())
        for entry in content["images"]:
            shutil.copy(folder / entry["file_name"], folder / f"{number}.jpg")
            whole["images"].append({**entry, "id": number + 1, "file_name": f"{number}.jpg"})
        for entry in content["annotations"]:
            link = {"parent_id": entry["parent_id"] + 100 * number} if "parent_id" in entry else {}
            whole["annotations"].append({**entry, "id": entry["id"] + 100 * number, "image_id": number + 1, **link})
        whole["categories"] = content["categories"]
    (folder / "mixed.json").write_text(json.dumps(whole))
    picture = folder / f"{CUT}.jpg"
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    write_name_table(folder / "names.npz", [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts], width=16)
    return folder


def config(place: Path, *overrides: Any) -> CN:
    custom = [{"NAME": "mixed_sizes", "ANNOTATIONS": str(place / "mixed.json"), "IMAGES": str(place)}]
    return small_config(
        place,
        [
            "DATASETS.CUSTOM", custom, "DATASETS.TEST", ["mixed_sizes"], "INPUT.TEST.SHORT_SIDE", 64,
            "INPUT.TEST.MAX_SIDE", 96, "TEST.DETECTIONS", 20, "TEST.LENIENT", True, *overrides,
        ],
    )  # fmt: skip


def evaluated(cfg: CN, folder: Path, accelerator: Accelerator) -> tuple[dict[str, float], dict[str, Any]]:
    register_custom(cfg)
    model = fill_weights(build_initial_model(cfg))
    return evaluate(cfg, model, accelerator, answerer=partglee_answerer, folder=folder, pictures=2)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "mixed_sizes.jsonl").read_text().splitlines()]


def same_lines(ours: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [line["image_id"] for line in ours] == [line["image_id"] for line in expected]
    for line, wanted in zip(ours, expected, strict=True):
        found, rows = (Prediction.from_json(json.dumps(one)) for one in (line, wanted))
        same(found, rows)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_in_batches(place: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    whole = Predictor.predict_batch

    def watched(self: Predictor, images: Any, *rest: Any) -> Any:
        passes.append(len(images))
        return whole(self, images, *rest)

    monkeypatch.setattr(Predictor, "predict_batch", watched)
    found = {}
    for batch_size in (1, 3):
        cfg = config(place, "TEST.BATCH_SIZE", batch_size, "DATALOADER.NUM_WORKERS", workers)
        accelerator = build_accelerator(cfg, cpu=True)
        found[batch_size] = evaluated(cfg, tmp_path / str(batch_size), accelerator)
    assert passes[:8] == [1] * 8 and sorted(passes[8:]) != [1] * 8 and sum(passes[8:]) == 8 and max(passes) == 3
    expected = [number + 1 for number in range(len(SIZES)) if number != CUT]
    assert [line["image_id"] for line in lines_of(tmp_path / "3")] == expected  # as they are annotated
    same_lines(lines_of(tmp_path / "3"), lines_of(tmp_path / "1"))
    (one, pictures), (three, same_pictures) = found[1], found[3]
    assert one.keys() == three.keys() and one["mixed_sizes/issues/images left out"] == 1
    assert all(three[key] == pytest.approx(one[key], abs=1e-4, nan_ok=True) for key in one)
    assert list(pictures) == list(same_pictures) and len(pictures) == 2
    cfg = config(place, "TEST.LENIENT", False, "DATALOADER.NUM_WORKERS", workers)
    with pytest.raises(EvaluationFailed, match=rf"'mixed_sizes'.*{CUT}.jpg"):
        evaluated(cfg, tmp_path / "strict", accelerator)
    assert not list((tmp_path / "strict").glob("*"))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got -1"):
        evaluated(config(place, "TEST.BATCH_SIZE", -1), tmp_path / "none", accelerator)


def test_images_are_resized_where_they_are_read(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in this process, which has the network to run."""
    cfg = config(place, "DATALOADER.NUM_WORKERS", 2)
    accelerator = build_accelerator(cfg, cpu=True)
    seen: list[Any] = []
    whole = TestLoader.prepared

    def watched(self: TestLoader, prepare: Any) -> Iterator[Any]:
        for record, image in whole(self, prepare):
            seen.append(tuple(image.resized.shape))
            yield record, image

    monkeypatch.setattr(TestLoader, "prepared", watched)
    evaluated(cfg, tmp_path, accelerator)
    assert len(seen) == 8 and seen[0] == (3, 64, 96)


def work(place: str, folder: str) -> int:
    """A share of the evaluation; the first process writes the scores of both."""
    torch.set_num_threads(1)
    cfg = config(Path(place), "TEST.BATCH_SIZE", 3)
    accelerator = build_accelerator(cfg, cpu=torch.cuda.is_available())
    results, _ = evaluated(cfg, Path(folder), accelerator)
    if accelerator.is_main_process:
        (Path(folder) / "results.json").write_text(json.dumps(results))
    return 0


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_two_processes_see_each_image_once(place: Path, tmp_path: Path) -> None:
    cfg = config(place, "TEST.BATCH_SIZE", 1)
    alone, _ = evaluated(cfg, tmp_path / "alone", build_accelerator(cfg, cpu=True))
    assert spawn(work, (str(place), str(tmp_path / "two")), num_processes=2) == 0
    ours, expected = lines_of(tmp_path / "two"), lines_of(tmp_path / "alone")
    ids = [line["image_id"] for line in ours]
    assert ids == [1, 3, 5, 7, 9, 2, 6, 8]  # every second image each, the first process's before the second's
    ours.sort(key=lambda line: line["image_id"])
    same_lines(ours, expected)
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    assert results.keys() == alone.keys()
    assert all(results[key] == pytest.approx(alone[key], abs=1e-4, nan_ok=True) for key in alone)
