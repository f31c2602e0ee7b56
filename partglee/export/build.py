"""From weights to an exported file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from partglee.basics.disk import check_place
from partglee.checkpoint import read_metadata
from partglee.engine import Predictor
from partglee.engine.weight_files import CONFIG_NAME, CONFIG_TEXT, TABLE_NAMES, find_weights
from partglee.export.card import Card
from partglee.export.formats import ENDINGS, WRITERS, packages_are_there, program_of
from partglee.export.graph import DetectionGraph
from partglee.export.prepare import ready_for_export
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Vocabulary, VocabularyLike

FORMATS = tuple(WRITERS)


def export_model(
    weights: str | Path,
    out: str | Path,
    *,
    format: str,
    vocabulary: VocabularyLike | None,
    size: tuple[int, int] | None = None,
    options: PostprocessOptions | None = None,
    score_threshold: float | None = None,
    strict: bool = False,
) -> Path:
    """Write weights as a graph with post-processing inside, for one image at a time.

    >>> export_model("partglee-tiny", "tiny.onnx", format="onnx", vocabulary="car: wheel; person")  # doctest: +SKIP

    Args:
        weights: as `Predictor.from_pretrained` takes them.
        out: a file whose ending is that of the format: `.pt2`, `.onnx`, `.xml`.
        format: one of `FORMATS`.
        vocabulary: fixed in the graph; None = names are inputs (`Names`), for a model that does not fuse them into the
            image.
        size: (H, W) of every input, multiples of the model's divisibility; None = any such size.
        options: fixed in the graph; None = the predictor's own, as the weights say.
        score_threshold: in place of that of `options`.
        strict: names that the weights' table lacks are an error; otherwise they are read as in `Predictor`.

    Raises:
        ValueError: for an unknown format, another ending, a package that is not installed, a place that takes no files,
            names that cannot be read, a size that does not fit, or options that a graph has no room for.
    """
    path = Path(out)
    if format not in WRITERS:
        raise ValueError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    if path.suffix != ENDINGS[format]:
        raise ValueError(f"{format} is written to a file that ends in {ENDINGS[format]}, got {path.name!r}")
    packages_are_there(format)
    check_place(path)
    predictor = Predictor.from_pretrained(weights, device="cpu")
    names = None if vocabulary is None else predictor.words(vocabulary, strict=strict).warn()
    options = options or predictor.defaults
    if score_threshold is not None:
        options = replace(options, score_threshold=score_threshold)
    card = card_of(predictor, weights, vocabulary=names, size=size, options=options)
    graph = DetectionGraph(model=ready_for_export(predictor.model), vocabulary=names, options=options).eval()
    WRITERS[format](program_of(graph, card), card, path)
    return path


def card_of(
    predictor: Predictor,
    weights: str | Path,
    *,
    vocabulary: Vocabulary | None,
    size: tuple[int, int] | None,
    options: PostprocessOptions,
) -> Card:
    """What the file will say of itself.

    Raises:
        ValueError: for a size that does not fit the model.
    """
    divisor = predictor.model.size_divisibility
    if size is not None and (min(size) < divisor or size[0] % divisor or size[1] % divisor):
        raise ValueError(f"size must be multiples of {divisor}, got {size[0]} x {size[1]}")
    file = find_weights(weights)
    own = {CONFIG_NAME, CONFIG_TEXT, TABLE_NAMES, "format"}
    red, green, blue = (float(value) for value in predictor.model.pixel_mean)
    return Card(
        vocabulary=vocabulary,
        short_side=predictor.short_side,
        max_side=predictor.max_side,
        divisibility=divisor,
        size=size,
        pixel_mean=(red, green, blue),
        score_threshold=options.score_threshold,
        mask_box=options.mask_box,
        weights=file.stem,
        remarks={key: value for key, value in read_metadata(file).items() if key not in own},
    )
