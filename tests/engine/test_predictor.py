"""The predictor as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import partglee
from partglee.checkpoint import write_weights
from partglee.engine import Predictor
from partglee.engine.weight_files import find_weights
from partglee.structures import Prediction
from partglee.testing import tiny_model
from partglee.text.phrases import PartPhrase

VOCABULARY = {"dog": ["head", "tail"], "person": ["arm"]}
LOOSE = {"score_threshold": 0.0, "max_objects": 3, "max_parts_per_object": 2}


def photo(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(a: Prediction, b: Prediction) -> None:
    assert a.names == b.names and a.parent.tolist() == b.parent.tolist()
    torch.testing.assert_close(a.boxes, b.boxes)


def test_every_kind_of_image_gives_the_same(predictor: Predictor, tmp_path: Path) -> None:
    array = photo()
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = predictor(array, VOCABULARY, **LOOSE)
    assert len(expected.objects()) == 3 and all(len(expected.parts_of(i)) <= 2 for i in expected.objects())
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(array),
        torch.from_numpy(array).permute(2, 0, 1),
    ):
        same(predictor(source, VOCABULARY, **LOOSE), expected)


def test_a_list_gives_a_list(predictor: Predictor) -> None:
    results = predictor([photo(), photo(40, 40)], VOCABULARY, **LOOSE)
    assert [r.image_size for r in results] == [(60, 90), (40, 40)]
    assert predictor([], VOCABULARY) == []


@pytest.mark.parametrize("vocabulary", ["dog: head, tail; person: arm", {"dog": ["head", "tail"], "person": ["arm"]}])
def test_vocabulary_forms(predictor: Predictor, vocabulary: object) -> None:
    same(predictor(photo(), vocabulary, **LOOSE), predictor(photo(), VOCABULARY, **LOOSE))


def test_result_is_usable(predictor: Predictor) -> None:
    prediction = predictor(photo(), VOCABULARY, **LOOSE)
    for i in prediction.objects():
        assert prediction.names[i] in VOCABULARY
        for p in prediction.parts_of(i):
            assert prediction.names[p] in VOCABULARY[prediction.names[i]]
    rows = prediction.to_coco()
    assert len(rows) == len(prediction) and {"parent_id", "segmentation"} <= set(rows[0])
    assert prediction.image is not None
    picture = prediction.draw()
    assert picture.width >= 90


def test_deterministic(predictor: Predictor) -> None:
    same(predictor(photo(), VOCABULARY, **LOOSE), predictor(photo(), VOCABULARY, **LOOSE))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_odd_images(predictor: Predictor, size: tuple[int, int]) -> None:
    assert predictor(photo(*size), VOCABULARY, **LOOSE).image_size == size


def test_resize_keeps_the_ratio(predictor: Predictor) -> None:
    assert predictor.resize(photo(50, 100)).shape == (3, 80, 160)  # the long side limits: 96 x 192 would pass 160
    assert predictor.resize(photo(100, 120)).shape == (3, 96, 115)


def test_bfloat16(table: Path) -> None:
    predictor = Predictor(model=tiny_model(table=table), short_side=96, max_side=160, precision="bfloat16")
    assert len(predictor(photo(), VOCABULARY, **LOOSE)) > 0


def test_huge_image_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="20000"):
        predictor(np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20000, 20000, 3), (0, 0, 0)), VOCABULARY)


def test_nan_tensor_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match=r"(?i)nan"):
        predictor(torch.full((3, 8, 8), float("nan")), VOCABULARY)


def test_unknown_names_are_refused_or_told(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partglee.text.words.sentence_encoder", lambda: None)
    with pytest.raises(ValueError, match="'zebra'"):
        predictor(photo(), ["zebra"], strict=True)
    with pytest.raises(ValueError, match=r"nothing is left .*'zzyzx'"):
        predictor(photo(), ["zzyzx"])
    with pytest.warns(UserWarning) as told:
        prediction = predictor(photo(), ["Dogs", "zzyzx"], **LOOSE)
    assert ["'Dogs' as 'dog'" in str(one.message) for one in told] == [True, False]
    assert "left out: 'zzyzx'" in str(told[1].message)
    as_written = predictor(photo(), ["dog"], **LOOSE)
    assert set(prediction.names) == {"Dogs"} and len(prediction.names) == len(as_written.names)
    torch.testing.assert_close(prediction.boxes, as_written.boxes)


@pytest.mark.parametrize("vocabulary", [{}, [], "", "  "])
def test_empty_vocabulary(predictor: Predictor, vocabulary: object) -> None:
    with pytest.raises(ValueError):
        predictor(photo(), vocabulary)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision"),
        ({"short_side": 0}, "short_side"),
        ({"short_side": 9, "max_side": 8}, "max_side"),
    ],
)
def test_bad_options(tiny: partglee.modeling.PartGLEE, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(model=tiny, **options)  # type: ignore[arg-type]


def test_weights_that_know_their_configuration(tmp_path: Path, table: Path) -> None:
    model = tiny_model(table=table)
    file = tmp_path / "tiny.safetensors"
    write_weights(model.state_dict(), file, {"partglee_config": "tiny"})
    options = {"overrides": ["MODEL.TEXT.TABLE.FILE", str(table)], "device": "cpu"}
    loaded = Predictor.from_pretrained(file, **options)
    assert loaded.short_side == 320
    again = Predictor.from_config("tiny", weights=file, **options)
    same(loaded(photo(), VOCABULARY, **LOOSE), again(photo(), VOCABULARY, **LOOSE))


def test_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGLEE_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"joint_r50.*MODEL_ZOO\.md"):
        find_weights("joint_r50")
    (tmp_path / "joint_r50.safetensors").touch()
    assert find_weights("joint_r50").name == "joint_r50.safetensors"


def test_weights_errors(tmp_path: Path, table: Path) -> None:
    with pytest.raises(ValueError, match="partglee convert"):
        Predictor.from_pretrained("released.pth")
    with pytest.raises(ValueError, match="no weights file"):
        Predictor.from_pretrained(tmp_path / "gone.safetensors")
    (tmp_path / "model.py").touch()
    with pytest.raises(ValueError, match=r"model\.py is no weights file: those end in \.safetensors"):
        Predictor.from_pretrained(tmp_path / "model.py")
    write_weights({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match=r"is a folder; name one of its files: plain\.safetensors"):
        Predictor.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="which configuration"):
        Predictor.from_pretrained(tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="No key fits"):
        Predictor.from_config("tiny", weights=tmp_path / "plain.safetensors")
    state = tiny_model(table=table).state_dict()
    state["qformer.content"] = torch.zeros(10, 256)
    write_weights(state, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"qformer\.content is \[20, 128\] here, \[10, 256\](.|\n)*another architecture"
    ):
        Predictor.from_config("tiny", weights=tmp_path / "other.safetensors")


def test_random_weights_warn() -> None:
    with pytest.warns(UserWarning, match="without weights"):
        Predictor.from_config("tiny", device="cpu")


def test_grounding_joins_the_expression(tmp_path: Path) -> None:
    """A model with a text tower, cut down: expressions are fused, join the self-attention and give one object."""
    from partglee.config import load_config
    from partglee.modeling import build_model
    from partglee.testing import fill_weights

    cfg = load_config("tiny", ["MODEL.TEXT.BACKEND", "clip"])
    model = fill_weights(build_model(cfg)).eval()
    predictor = Predictor(model=model, short_side=64, max_side=96)
    found = predictor.ground(photo(), "The dog on the left")
    assert found.names == ["The dog on the left"] and len(found) == 1
    with torch.inference_mode():
        batch = model.batch([torch.from_numpy(photo()).permute(2, 0, 1)] * 2)
        text = model.text_encoder.embed_expressions(["dog", "a person with a red hat"])
        both = model(batch, text).objects.layers[-1]
        alone = model(
            batch._replace(tensor=batch.tensor[:1], sizes=batch.sizes[:1]),
            model.text_encoder.embed_expressions(["dog"]),
        )
        assert both.logits.shape[2] == 1
        torch.testing.assert_close(both.logits[:1], alone.objects.layers[-1].logits, atol=1e-3, rtol=1e-3)
        # padded tokens are hidden from the decoder: their content must not matter there
        changed = text.tokens.clone()
        changed[~text.token_mask] = 7.0
        pixels = model.pixel_decoder(model.backbone(batch.tensor), text.tokens, text.token_mask)
        a = model.object_decoder(pixels, text).layers[-1].logits
        b = model.object_decoder(pixels, text._replace(tokens=changed)).layers[-1].logits
        torch.testing.assert_close(a, b)
        c = model.object_decoder(pixels, text._replace(tokens=text.tokens * 2)).layers[-1].logits
        assert not torch.allclose(a, c)


def test_results_may_be_changed_in_place(predictor: Predictor) -> None:
    prediction = predictor(photo(), VOCABULARY, **LOOSE)
    prediction.boxes[:, 0] += 1
    assert not prediction.boxes.is_inference()


@pytest.mark.parametrize(
    ("asked", "told"), [(5, "a sentence or a list"), (None, "a sentence or a list"), ([5], "expression is text")]
)
@pytest.mark.parametrize("parts", [None, "car: wheel"])
def test_grounding_of_what_is_no_text(predictor: Predictor, asked: object, told: str, parts: str | None) -> None:
    with pytest.raises(TypeError, match=told):
        predictor.ground(photo(), asked, parts=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["wheel", ("the car", "wheel"), 5, PartPhrase("the car", 3)])  # type: ignore[arg-type]
def test_a_parser_gives_a_phrase(predictor: Predictor, given: object) -> None:
    with pytest.raises(TypeError, match=r"parser must give a PartPhrase\(owner, part\), or None where 'the car wheel'"):
        predictor.ground(photo(), "the car wheel", parts="car: wheel", parser=lambda text, names: given)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_unusable_device(device: str) -> None:
    with pytest.raises(ValueError, match=device):
        Predictor.from_config("tiny", device=device)


def test_one_expression_for_each_image(predictor: Predictor) -> None:
    from partglee.structures import TextEmbeddings

    text = TextEmbeddings(
        torch.zeros(1, 128), torch.zeros(0, 128), torch.zeros(1, 77, 128), torch.ones(1, 77).bool(), expressions=True
    )
    with pytest.raises(ValueError, match="one expression for each of 2 images, got 1"):
        predictor.model(torch.zeros(2, 3, 32, 32), text)


def test_precision_by_hardware(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    for units, wanted in (
        ("_is_avx512_bf16_supported", "mixed"),
        ("_is_amx_tile_supported", "mixed"),
        ("", "float32"),
    ):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda found=name == units: found)
        assert Predictor(model=tiny_model(table=table), precision="auto").precision == wanted
        assert f"precision: {wanted}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="auto or one of"):
        Predictor(model=tiny_model(table=table), precision="int4")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "mixed"])
def test_mixed_is_bfloat16_but_for_the_backbone(precision: str, table: Path) -> None:
    model = tiny_model(table=table).eval()
    types: dict[str, torch.dtype] = {}
    for name, module in (("backbone", model.backbone), ("decoder", model.pixel_decoder)):
        convolution = next(m for m in module.modules() if isinstance(m, torch.nn.Conv2d))
        convolution.register_forward_hook(lambda _, args, out, name=name: types.update({name: out.dtype}))
    Predictor(model=model, precision=precision)(np.zeros((64, 64, 3), np.uint8), "dog: head")
    half = {"float32": (), "bfloat16": ("backbone", "decoder"), "mixed": ("decoder",)}[precision]
    assert types == {name: torch.bfloat16 if name in half else torch.float32 for name in ("backbone", "decoder")}


def test_masks_that_end_at_their_box(predictor: Predictor) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    kept = {"score_threshold": 0.0, "object_overlap": None, "part_overlap": None, "part_inside": None}
    found = predictor(photo, "dog: head, tail", mask_box=1.0, **kept)  # type: ignore[arg-type]
    anywhere = predictor(photo, "dog: head, tail", **kept)  # type: ignore[arg-type]
    assert found.masks is not None and anywhere.masks is not None
    assert len(found) == len(anywhere) > 0 and found.masks.sum() < anywhere.masks.sum()
    for (x0, y0, x1, y1), mask in zip(found.boxes.tolist(), found.masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        assert len(y) == 0 or (x.min() >= x0 - 2 and x.max() <= x1 + 2 and y.min() >= y0 - 2 and y.max() <= y1 + 2)
    with pytest.raises(ValueError, match="mask_box"):
        predictor(photo, "dog", mask_box=-1)
    own = Predictor(model=predictor.model, mask_box=1.0, short_side=predictor.short_side, max_side=predictor.max_side)
    same(own(photo, "dog: head, tail", **kept), found)  # type: ignore[arg-type]
    same(own(photo, "dog: head, tail", mask_box=0, **kept), anywhere)  # type: ignore[arg-type]
