"""Several vocabularies about one image, in one pass of the decoders: what separate calls find, with less work."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from partglee.engine import Predictor
from partglee.engine.inference import EncodedBatch, expressions_at_once
from partglee.modeling import PartGLEE, shared_decoding
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.shared_decoding import SharedDecoding
from partglee.structures import Prediction, Vocabulary
from partglee.testing import tiny_model

LOOSE = {"score_threshold": 0.0, "max_objects": 3, "max_parts_per_object": 2}
VOCABULARIES: list[Any] = [
    {"dog": ["head", "tail"]}, {"person": ["arm"]}, ["cat"], {"dog": ["tail"]}, {"dog": ["head"], "person": ["arm"]},
    {"person": ["lower leg", "arm"], "cat": []}, {"cat": [], "dog": ["tail"]}, "dog: head", {"dog": []},
    {"person": ["lower leg"]}, {"person": ["arm"]},
]  # fmt: skip


def photo(seed: int = 0, height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(a: Prediction, b: Prediction) -> None:
    assert a.names == b.names and a.level.tolist() == b.level.tolist() and a.parent.tolist() == b.parent.tolist()
    torch.testing.assert_close(a.scores, b.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(a.boxes, b.boxes, atol=1e-2, rtol=0)  # pixels
    assert (a.masks is None) == (b.masks is None)
    if a.masks is not None and b.masks is not None:
        assert (a.masks != b.masks).sum() <= 1e-3 * a.masks.numel()


def plain(predictor: Predictor, vocabulary: Any, **options: Any) -> Prediction:
    """The slow way: the whole model for each question, and all that it says to the post-processing."""
    from partglee.engine.prediction_calls import chosen_options
    from partglee.modeling.postprocess import postprocess

    names, read = Vocabulary.parse(vocabulary), predictor.read(photo())
    model = predictor.model
    with torch.no_grad():
        batch = model.batch([read.resized])
        output = model(batch, model.embed(names))
        kept = chosen_options({**options}, predictor.defaults)  # type: ignore[typeddict-item]
        return postprocess(output, names, batch, [read.size], kept)[0]


def counted(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass through a decoder."""
    rows: list[int] = []
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *a, **k: (rows.append(len(a[0])), forward(*a, **k))[1])
    return rows


def make(table: Path, *, selection: bool = False, fused: bool = False, separate: bool = False) -> Predictor:
    overrides = ["MODEL.EARLY_FUSION.CATEGORIES", fused, "MODEL.PART_DECODER.WITHIN_OBJECTS", separate]
    model = tiny_model(table=table, overrides=overrides)
    if selection:
        model.selection = Vocabulary(["person", "cat", "dog"])
    return Predictor(model=model, short_side=96, max_side=160)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("selection", [False, True])
def test_many_vocabularies_as_one_by_one(table: Path, selection: bool, fused: bool, separate: bool) -> None:
    predictor = make(table, selection=selection, fused=fused, separate=separate)
    options: list[dict[str, Any]] = [LOOSE, {**LOOSE, "masks": False}, {"multi_label": MultiLabel(detections=30)}]
    for chosen in options:
        expected = [plain(predictor, names, **chosen) for names in VOCABULARIES]
        assert sum(map(len, expected)) > 20
        for ours, wanted in zip(
            predictor.decode(predictor.encode_image(photo()), vocabularies=VOCABULARIES, **chosen),
            expected,
            strict=True,
        ):
            same(ours, wanted)
        encoded = predictor.encode_image(photo())
        for names, wanted in zip(VOCABULARIES, expected, strict=True):  # what one asks helps the next
            same(predictor(encoded, names, **chosen), wanted)
        for ours, wanted in zip(predictor.decode(encoded, vocabularies=VOCABULARIES, **chosen), expected, strict=True):
            same(ours, wanted)


def test_what_is_chosen_alike_is_computed_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make(table, selection=True)
    objects = counted(predictor.model.object_decoder.decoder, monkeypatch)
    parts = counted(predictor.model.part_decoder.decoder, monkeypatch)
    encoded = predictor.encode_image(photo())
    predictor.decode(encoded, vocabularies=VOCABULARIES, **LOOSE)
    assert objects == [1]  # the same names choose the queries of all
    # Objects are parsed by the best name: dog, person, dog or person, person or cat, cat or dog.
    assert sum(parts) <= 5
    predictor(encoded, {"dog": ["head", "tail"]}, **LOOSE)
    assert objects == [1] and sum(parts) <= 5
    predictor.model.selection = None
    del objects[:]
    predictor.decode(predictor.encode_image(photo()), vocabularies=VOCABULARIES, **LOOSE)
    assert sum(objects) == 6 and max(objects) > 1  # dog, person, cat, and three pairs, together


def test_parts_are_looked_for_where_an_object_is(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make(table)
    parts = counted(predictor.model.part_decoder.decoder, monkeypatch)
    best = {name: float(plain(predictor, [name], **LOOSE).scores.max()) for name in ("dog", "person")}
    low, high = sorted(best, key=best.__getitem__)
    threshold = (best[low] + best[high]) / 2
    both: list[Any] = [{"dog": ["head", "tail"]}, {"person": ["arm"]}]
    expected = [plain(predictor, names, score_threshold=threshold) for names in both]
    assert sorted(len(found) > 0 for found in expected) == [False, True]
    del parts[:]
    encoded = predictor.encode_image(photo())
    found = predictor.decode(encoded, vocabularies=both, score_threshold=threshold)
    for ours, wanted in zip(found, expected, strict=True):
        same(ours, wanted)
    assert parts == [1]
    assert not len(predictor(photo(), {low: both[low == "person"][low]}, score_threshold=threshold)) and parts == [1]
    # Several images of one vocabulary: all or none.
    several = [photo(seed) for seed in range(3)]
    assert all(not len(found) for found in predictor(several, both[0], score_threshold=1.0, batch_size=3))
    assert parts == [1]
    alone = [predictor(one, both[0], **LOOSE) for one in several]
    for ours, wanted in zip(predictor(several, both[0], **LOOSE, batch_size=3), alone, strict=True):
        same(ours, wanted)
    assert parts[-1] == 3


@pytest.mark.parametrize("within", [False, True])
def test_old_questions_beside_new_ones(table: Path, monkeypatch: pytest.MonkeyPatch, within: bool) -> None:
    """What is remembered is forgotten some time, but not within the call that counts on it."""
    monkeypatch.setattr(shared_decoding, "_KEPT", 2)
    model = tiny_model(table=table, overrides=["MODEL.PART_DECODER.WITHIN_OBJECTS", within])
    predictor = Predictor(model=model, short_side=64, max_side=96)
    encoded = predictor.encode_image(photo())
    for vocabulary in VOCABULARIES[:4]:
        predictor.decode(encoded, vocabulary, **LOOSE)
    for some in ([0, 5], [2, 3, 5, 9], [0, 1, 2, 3, 4, 5]):
        together = predictor.decode(encoded, vocabularies=[VOCABULARIES[i] for i in some], **LOOSE)
        for i, found in zip(some, together, strict=True):
            same(found, plain(predictor, VOCABULARIES[i], **LOOSE))


def test_an_encoding_serves_another_model_and_precision_anew(predictor: Predictor) -> None:
    other = copy.deepcopy(predictor)
    with torch.no_grad():
        next(reversed([*other.model.object_decoder.heads.box_mlp.parameters()])).add_(0.3)
    expected = [one(photo(), "dog: head", **LOOSE) for one in (predictor, other, predictor)]
    encoded = predictor.encode_image(photo())
    for one, right in zip((predictor, other, predictor), expected, strict=True):
        same(one(encoded, "dog: head", **LOOSE), right)
    assert len(expected[0]) != len(expected[1]) or (expected[0].boxes - expected[1].boxes).abs().max() > 1
    coarse = Predictor(model=predictor.model, short_side=64, max_side=96, precision="bfloat16")
    assert len(coarse(encoded, "dog: head", **LOOSE)) and encoded.pixels is not None
    same(predictor(encoded, "dog: head", **LOOSE), predictor(predictor.encode_image(photo()), "dog: head", **LOOSE))
    again = pickle.loads(pickle.dumps(encoded))
    assert again.shared is None and again.pixels is None and encoded.shared is not None
    same(predictor(again, "dog: head", **LOOSE), predictor(encoded, "dog: head", **LOOSE))


def test_a_choice_of_images_in_any_form(predictor: Predictor) -> None:
    pair = predictor.encode_batch([predictor.read(photo(0)), predictor.read(photo(1))])
    for rows in ((1,), [1], range(1, 2)):
        same(predictor(pair.picked(rows), "dog: head", **LOOSE), predictor(photo(1), "dog: head", **LOOSE))


def test_mistakes_in_questions(predictor: Predictor) -> None:
    encoded = predictor.encode_image(photo())
    assert predictor.decode(encoded, vocabularies=[]) == []
    with pytest.raises(TypeError, match="vocabularies must be a list of them, got 'dog: head'"):
        predictor.decode(encoded, vocabularies="dog: head")
    with pytest.raises(ValueError, match="either a vocabulary, vocabularies= or expressions="):
        predictor.decode(encoded, ["dog"], vocabularies=[["dog"]])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no option 'treshold'; there are score_threshold"):
        predictor.decode(encoded, vocabularies=[["dog"]], treshold=0.3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"score_threshold must lie in \[0, 1\], got 3"):
        predictor.decode(encoded, vocabularies=[["dog"]], score_threshold=3)
    pair = predictor.encode_batch([predictor.read(photo(0)), predictor.read(photo(1))])
    with pytest.raises(
        ValueError, match=r"expected one image, got 2 encoded together; ask one of them: encoded.picked\(\[0\]\)"
    ):
        predictor.decode(pair, vocabularies=[["dog"]])
    with pytest.raises(ValueError, match="expected one image, got 2 encoded together"):
        predictor(pair, ["dog"])
    model: PartGLEE = predictor.model
    with torch.no_grad():
        pixels = model.pixel_decoder(pair.maps)
    with pytest.raises(ValueError, match="expected the features of one image, got 2"):
        SharedDecoding(model=model, pixels=pixels)


def test_few_fused_expressions_at_once_on_a_processor(predictor: Predictor) -> None:
    model, large, small = predictor.model, torch.zeros(3, 640, 640), torch.zeros(3, 64, 64)
    counts = [expressions_at_once(model, EncodedBatch(batch=model.batch([x]), maps=[])) for x in (large, small)]
    assert counts == [1, 8]
    fusion, model.pixel_decoder.fusion = model.pixel_decoder.fusion, None
    try:  # then all expressions share one memory
        assert expressions_at_once(model, EncodedBatch(batch=model.batch([large]), maps=[])) == 8
    finally:
        model.pixel_decoder.fusion = fusion
