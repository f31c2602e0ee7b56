"""`partglee predict --positions`: what the predictor found, renamed."""

from __future__ import annotations

from typing import Any

import pytest

from partglee.basics.arguments import ArgumentParser
from partglee.cli import predict
from partglee.structures import Prediction


def found() -> Prediction:
    """A car that faces the viewer."""
    return Prediction(
        boxes=[[0, 0, 100, 100], [10, 30, 20, 40], [80, 30, 90, 40], [40, 60, 50, 70]], scores=[0.9, 0.8, 0.7, 0.6],
        labels=[0, 0, 0, 1], names=["car", "mirror", "mirror", "headlight"], level=[0, 1, 1, 1], parent=[-1, 0, 0, 0],
        image_size=(100, 100),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("positions", "names"),
    [
        ([], ["mirror", "mirror"]), (["--positions", "image"], ["left mirror", "right mirror"]),
        (["--positions", "own"], ["right mirror", "left mirror"]),
    ],
)  # fmt: skip
def test_rows_are_renamed_where_it_is_asked_for(positions: list[str], names: list[str]) -> None:
    parser = ArgumentParser()
    predict.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["predict", "a.png", *positions])
    predictor: Any = lambda images, vocabulary, **options: [found() for _ in images]  # noqa: E731
    (answer,) = predict._predict(predictor, None, arguments)([None])  # type: ignore[arg-type, list-item]
    assert answer.names == ["car", *names, "headlight"]
