"""The network as CUDA graphs: on a GPU by themselves, elsewhere what is around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves

from partglee.engine.cuda_graphs import GraphedNetwork, Network, Recording
from partglee.modeling import PartGLEE
from partglee.structures import ModelOutput, Vocabulary
from partglee.testing import tiny_model, write_name_table

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "car": []})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PartGLEE:
    names = [*VOCABULARY.object_prompts, *VOCABULARY.part_prompts]
    return tiny_model(table=write_name_table(tmp_path_factory.mktemp("names") / "names.npz", names))


def images(seed: int, height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_alike(one: ModelOutput, two: ModelOutput, **tolerance: float) -> None:
    for ours, theirs in zip(tree_leaves(one), tree_leaves(two), strict=True):
        if isinstance(ours, Tensor):
            torch.testing.assert_close(ours, theirs, **tolerance)


class Recorder:
    """Does what a graph does: a replay writes into the tensors of the capture."""

    def __init__(self) -> None:
        self.captured: list[tuple[int, ...]] = []

    def __call__(self, network: Network, images: Tensor) -> Recording:
        self.captured.append(tuple(images.shape))
        fixed = images.clone()
        output = network(fixed)
        kept = [leaf for leaf in tree_flatten(output._replace(text=None))[0] if isinstance(leaf, Tensor)]

        def replay() -> None:
            again = [leaf for leaf in tree_flatten(network(fixed)._replace(text=None))[0] if isinstance(leaf, Tensor)]
            for old, new in zip(kept, again, strict=True):
                old.copy_(new)

        return Recording(fixed, output, replay)


def test_the_same_as_the_model(model: PartGLEE) -> None:
    text, recorder = model.embed(VOCABULARY), Recorder()
    network = GraphedNetwork(model=model, text=text, record=recorder)
    with torch.no_grad():
        first, second = network(images(0)), network(images(1))
        assert_alike(first, model(images(0), text))  # the second call left it alone
        assert_alike(second, model(images(1), text))
    assert recorder.captured == [(1, 3, 64, 96)] and first.text is text


def test_no_weight_that_autocast_has_cast_is_read_again(model: PartGLEE) -> None:
    """A graph that found one would go on reading it after the caller's autocast has ended and freed it."""
    text, casts = model.embed(VOCABULARY), []

    def record(network: Network, images: Tensor) -> Recording:
        network(images)  # warms up
        with Casts() as counted:
            network(images)
        casts.append(counted.number)
        return Recorder()(network, images)

    network = GraphedNetwork(model=model, text=text, precision="bfloat16", record=record)
    network(images(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(images(0, 96))
    assert casts[0] == casts[1] > 0 and torch.is_autocast_cache_enabled()


class Casts(TorchDispatchMode):
    """How often something becomes bfloat16."""

    number = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.number += "_to_copy" in str(function) and (kwargs or {}).get("dtype") == torch.bfloat16
        return function(*args, **(kwargs or {}))


def test_each_size_has_its_own_and_the_oldest_goes(model: PartGLEE) -> None:
    text, recorder = model.embed(VOCABULARY), Recorder()
    network = GraphedNetwork(model=model, text=text, kept=2, record=recorder)
    for height in (64, 96, 64, 128, 64, 96):
        assert_alike(network(images(height, height)), model(images(height, height), text))
    assert [shape[2] for shape in recorder.captured] == [64, 96, 128, 96]


def test_where_there_can_be_none(model: PartGLEE) -> None:
    text = model.embed(VOCABULARY)
    with pytest.raises(ValueError, match="need a model on a GPU, got one on cpu"):
        GraphedNetwork(model=model, text=text)
    with pytest.raises(ValueError, match="kept must be at least 1"):
        GraphedNetwork(model=model, text=text, kept=0, record=Recorder())
    model.train()
    try:
        with pytest.raises(ValueError, match="in training mode; call eval"):
            GraphedNetwork(model=model, text=text, record=Recorder())
    finally:
        model.eval()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu(tmp_path: Path, precision: str) -> None:
    names = [*VOCABULARY.object_prompts, *VOCABULARY.part_prompts]
    model = tiny_model(table=write_name_table(tmp_path / "names.npz", names)).to("cuda")
    text = model.embed(VOCABULARY)
    network = GraphedNetwork(model=model, text=text, precision=precision)
    shown = [images(seed).cuda() for seed in (0, 1)]
    found = [network(one) for one in shown]
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        for one, output in zip(shown, found, strict=True):
            assert_alike(output, model(one, text), atol=1e-4, rtol=1e-4)
