"""Images that cannot be read are counted over the whole run, also when it was resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_samples import make_batch, run_small, small_config

from partglee.engine.failures import UnreadableImages
from partglee.engine.trainer import Hook


class Warnings(Hook):
    def __init__(self) -> None:
        self.said: list[str] = []

    def on_warning(self, message: str) -> None:
        self.said.append(message)


def test_an_image_counts_once() -> None:
    seen = UnreadableImages(limit=2)
    batch = make_batch(0)._replace(unreadable=(("a.jpg", "'a.jpg' is cut off"), ("b.jpg", "too small")))
    told = seen.add(seen.new_in([batch, batch]))
    assert told[0].startswith("image 1 of at most 2 that cannot be read: 'a.jpg' is cut off; another")
    assert "image 2 of at most 2 that cannot be read: b.jpg: too small" in told[1]
    assert not seen.new_in([batch]) and seen.add({"a.jpg": "again"}) == [] and len(seen) == 2
    with pytest.raises(ValueError, match=r"3 images .*MAX_CORRUPT 2; mend.*'a\.jpg' is cut off; b\.jpg: too small; c"):
        seen.add({"c.jpg": "gone"})


def test_many_are_not_all_listed() -> None:
    with pytest.raises(ValueError, match=r"25 images .* 5\.jpg.*24\.jpg: gone and 5 before$"):
        UnreadableImages(limit=0).add({f"{i}.jpg": "gone" for i in range(25)})


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    healthy, damaged = make_batch(0), make_batch(1)._replace(unreadable=(("a.jpg", "cut off"),))
    watch, limit = Warnings(), ["DATALOADER.MAX_CORRUPT", 1]
    run_small(small_config(tmp_path, [*limit, "SOLVER.MAX_ITER", 2]), [healthy, damaged], hooks=[watch])
    assert len(watch.said) == 1 and "image 1 of at most 1" in watch.said[0]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("unreadable_images") for line in lines] == [None, 1]
    other = make_batch(2)._replace(unreadable=(("b.jpg", "gone"),))
    cfg = small_config(tmp_path, [*limit, "SOLVER.MAX_ITER", 4])
    with pytest.raises(ValueError, match=r"2 images cannot be read, more than DATALOADER.MAX_CORRUPT 1"):
        run_small(cfg, [healthy, damaged, damaged, other], resume=True)  # step 3 meets a known one, step 4 a new one
