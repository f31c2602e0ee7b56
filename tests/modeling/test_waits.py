"""How often a device would have to be waited for between an image and its answer.

It shows on a processor too: these are the operations whose answer decides which come next.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import Self

from partglee import Predictor
from partglee.structures import Vocabulary
from partglee.testing import tiny_predictor, write_name_table

WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim",
    "unique_consecutive", "bincount",
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Lines of the library that would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.copies = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        for name in ("cpu", "tolist"):  # which are nothing to a tensor that is on the processor
            self.copies.setattr(Tensor, name, self._told(name, getattr(Tensor, name)))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.copies.undo()

    def _told(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            self._add(name)
            return original(*args, **kwargs)

        return told

    def _add(self, name: str) -> None:
        own = [frame for frame in traceback.extract_stack() if "/partglee/" in frame.filename]
        # What has come to the processor is checked there.
        if not any(frame.filename.endswith("prediction_rows.py") for frame in own):
            self.lines.append(name + (f" in {own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}" if own else ""))

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        waits = name in WAITING
        if name in ("index", "index_put", "index_put_"):
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if name == "repeat_interleave":
            waits = kwargs.get("output_size") is None
        if waits:
            self._add(name)
        return func(*args, **kwargs)


def waits_of(call: Callable[[], object]) -> list[str]:
    call()  # what is kept from call to call is there
    with Waits() as waits:
        call()
    return waits.lines


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    names = vocabulary(12)
    table = write_name_table(tmp_path / "names.npz", [*names.object_prompts, *names.part_prompts], width=1024)
    return tiny_predictor(table, short_side=64, max_side=96)


def vocabulary(count: int) -> Vocabulary:
    return Vocabulary({f"thing {i}": ["head", "tail"] for i in range(count)})


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def test_what_waits_is_seen() -> None:
    x = torch.arange(4)
    assert len(waits_of(lambda: (x[x > 1], x.unique(), x.sum().item(), x.nonzero(), x.cpu(), x.tolist()))) == 6
    assert waits_of(lambda: (x[x.flip(0)], x + 1, torch.where(x > 1, x, 0))) == []


def test_the_network_never_waits(predictor: Predictor, photo: np.ndarray) -> None:
    names = vocabulary(3)
    assert waits_of(lambda: predictor.encode_image(photo)) == []
    encoded = predictor.encode_image(photo)
    assert waits_of(lambda: predictor.model.embed(names)) == []
    assert waits_of(lambda: predictor._output(encoded, predictor.model.embed(names))) == []


@pytest.mark.parametrize("masks", [True, False])
def test_the_answer_waits_no_more_for_more_names(predictor: Predictor, photo: np.ndarray, masks: bool) -> None:
    options = {
        "score_threshold": 0.0,
        "object_overlap": 0.95,
        "part_overlap": 0.99,
        "part_inside": 0.99,
        "masks": masks,
    }
    counts = []
    for count in (2, 12):
        names = vocabulary(count)
        found = predictor(photo, names, **options)  # type: ignore[arg-type]
        assert len(found) > 10
        counts.append(waits_of(lambda n=names: predictor(photo, n, **options)))  # type: ignore[misc]
    assert len(counts[0]) == len(counts[1]) <= (24 if masks else 14), counts
