"""Stages with stand-ins for models, and the shipped model where it can be run in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from partglee.annotate import Region, Sample, masks, read_recipe
from partglee.annotate.columns import missing
from partglee.annotate.plugs import resolve
from partglee.annotate.stages.caption import location, template
from partglee.annotate.stages.clip_score import normalised
from partglee.structures import Prediction, Vocabulary

HERE = "test_annotate_plugs"  # the name under which stand-ins of this file are found


def build(kind: str, **values: Any) -> Any:
    return read_recipe({"stages": [{"stage": kind, **values}]}).stages[0]


@pytest.fixture(autouse=True)
def plugs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module whose attributes recipes can name."""
    module: Any = SimpleNamespace()
    monkeypatch.setitem(__import__("sys").modules, HERE, module)
    return module


def sample(*regions: Region, size: tuple[int, int] = (40, 60)) -> Sample:
    image = np.zeros((*size, 3), np.uint8)
    return Sample(image_id="a", file="a", image=image, size=size, regions=list(regions))


def boxed(name: str, x0: float, y0: float, x1: float, y1: float, **values: Any) -> Region:
    return Region(name=name, box=(x0, y0, x1, y1), score=values.pop("score", 0.9), **values)


# -- detection -------------------------------------------------------------------------------------------------------


def test_the_shipped_model_finds_objects_with_their_parts() -> None:
    from skimage import data  # its photos come with the library

    image = data.astronaut()[::2, ::2]
    stage = build("detect", vocabulary="person: head, arm; dog", score_threshold=0.2)
    stage.open()
    one = Sample(image_id="a", file="a", image=image, size=image.shape[:2])
    stage.run([one])
    assert missing(one, stage.columns()[1]) is None
    people = [n for n, region in one.kept() if region.name == "person"]
    assert people and one.regions[people[0]].mask is not None
    assert all(one.regions[r.parent].level == "object" for r in one.regions if r.level == "part")
    assert masks.decode(one.regions[people[0]].mask).shape == image.shape[:2]
    assert stage.tag().startswith("detect@1:") and len(stage.tag()) == len("detect@1:") + 12


def found_parts(size: tuple[int, int]) -> Prediction:
    boxes = torch.tensor([[0, 0, 20, 20], [2, 2, 6, 6], [30, 0, 50, 20], [32, 2, 36, 6]], dtype=torch.float32)
    return Prediction(
        boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7, 0.6]), labels=torch.zeros(4), names=["dog", "ear"] * 2,
        level=torch.tensor([0, 1, 0, 1]), parent=torch.tensor([-1, 0, -1, 2]), image_size=size,
        masks=torch.ones(4, *size, dtype=torch.bool),
    )  # fmt: skip


def test_parts_go_to_the_given_objects(plugs: Any) -> None:
    asked: list[Any] = []

    def predict(image: Any, vocabulary: Any, **options: Any) -> Prediction:
        asked.append(vocabulary)
        return found_parts((40, 60))

    plugs.make = lambda weights, device: predict
    stage = build("detect", predictor=f"{HERE}:make", parts_only=True)
    assert "vocabulary" in stage.columns()[0] and "region.mask" not in stage.columns()[1]
    stage.open()
    one = sample(boxed("cat", 0, 0, 20, 20), boxed("Dog", 28, 0, 52, 22), boxed("dog", 0, 20, 20, 40))
    one.vocabulary = {"dog": ("ear",)}
    stage.run([one])
    assert asked == [{"dog": ("ear",)}]
    assert [(r.name, r.level, r.parent) for r in one.regions[3:]] == [("ear", "part", 1)], "on the dog that has it"
    one.vocabulary = {}
    stage.run([one])
    assert len(asked) == 1, "an image without names is not looked at"


# -- masks -----------------------------------------------------------------------------------------------------------


def filled(pixels: Any, boxes: NDArray[np.float64]) -> list[NDArray[np.bool_]]:
    out = []
    for x0, y0, x1, y1 in boxes.round().astype(int):
        mask = np.zeros(pixels.shape[:2], bool)
        mask[y0:y1, x0:x1] = True
        out.append(mask)
    return out


def test_boxes_get_masks_and_a_measure_of_stability(plugs: Any) -> None:
    plugs.make = lambda weights: filled
    stage = build("masks", segmenter=f"{HERE}:make", stability=0.1)
    stage.open()
    kept = masks.encode(np.ones((40, 60), bool))
    one = sample(boxed("a", 0, 0, 20, 20), boxed("b", 5, 5, 5, 9), boxed("c", 0, 0, 60, 40, mask=kept))
    stage.run([one])
    assert missing(one, stage.columns()[1]) is None
    assert masks.decode(one.regions[0].mask).sum() == 400
    assert one.regions[0].scores["stability"] == pytest.approx(16 * 16 / 400)  # shrunk 2 px on the sides, twice
    assert one.regions[1].dropped == "masks: its box has an empty mask"
    assert one.regions[2].mask == kept


def save_sam(folder: Path) -> None:
    """A Segment Anything model of weights of chance, with its processor."""
    import transformers

    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
              "output_channels": 16, "global_attn_indexes": [0], "mlp_dim": 16, "window_size": 2,
              "num_pos_feats": 8}  # fmt: skip
    prompt = {**PROMPT, "mask_input_channels": 4}
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER)
    transformers.SamModel(config).save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}, "mask_size": {"longest_edge": 16},
             "mask_pad_size": {"height": 16, "width": 16}}  # fmt: skip
    transformers.SamProcessor(transformers.SamImageProcessor(**sizes)).save_pretrained(folder)


def save_sam2(folder: Path) -> None:
    """The same of SAM 2."""
    import transformers

    if not hasattr(transformers, "Sam2Model"):
        pytest.skip("this release of transformers has no SAM 2")
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
                "blocks_per_stage": [1] * 4, "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [2] * 4,
                "global_attention_blocks": [], "window_positional_embedding_background_size": [2, 2]}  # fmt: skip
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
              "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "num_feature_levels": 3}  # fmt: skip
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
    transformers.Sam2Model(config).save_pretrained(folder)
    images = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    transformers.Sam2Processor(images, target_size=64).save_pretrained(folder)


def save_onnx_pair(folder: Path) -> None:
    """An encoder that gives the mean colour, and a decoder whose mask is the box it is asked for, where that is bright.

    What goes in and comes out has the names, types and shapes of the real pair.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    def model(
        name: str, nodes: list[Any], inputs: dict[str, list[int]], output: str, constants: dict[str, Any]
    ) -> None:
        values = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()]
        graph = helper.make_graph(nodes, name, values, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                                  [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()])  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        made.ir_version = 8
        save(made, folder / f"{name}.onnx")

    node = helper.make_node
    model(
        "encoder", [node("GlobalAveragePool", ["input"], ["embedding"])], {"input": [1, 3, 1024, 1024]}, "embedding", {}
    )
    inputs = {"image_embeddings": [1, 3, 1, 1], "point_coords": [1, 2, 2], "point_labels": [1, 2],
              "mask_input": [1, 1, 256, 256], "has_mask_input": [1], "orig_im_size": [2]}  # fmt: skip
    nodes = [
        node("ReduceMax", ["orig_im_size"], ["longest"], keepdims=0), node("Div", ["longest", "side"], ["back"]),
        node("Mul", ["point_coords", "back"], ["corners"]), node("Reshape", ["corners", "four"], ["xyxy"]),
        node("Split", ["xyxy", "ones"], ["x0", "y0", "x1", "y1"]),
        node("Cast", ["orig_im_size"], ["whole"], to=TensorProto.INT64), node("Split", ["whole", "pair"], ["h1", "w1"]),
        node("Squeeze", ["h1"], ["h"]), node("Squeeze", ["w1"], ["w"]),
        node("Range", ["zero", "h", "one"], ["rows"]), node("Range", ["zero", "w", "one"], ["columns"]),
        node("Cast", ["rows"], ["y_row"], to=TensorProto.FLOAT), node("Cast", ["columns"], ["x"], to=TensorProto.FLOAT),
        node("Reshape", ["y_row", "upright"], ["y"]),
        node("Sub", ["x", "x0"], ["right_of"]), node("Sub", ["x1", "x"], ["left_of"]),
        node("Sub", ["y", "y0"], ["below"]), node("Sub", ["y1", "y"], ["above"]),
        node("Min", ["right_of", "left_of"], ["across"]), node("Min", ["below", "above"], ["down"]),
        node("Min", ["across", "down"], ["inside"]), node("ReduceMean", ["image_embeddings"], ["mean"], keepdims=0),
        node("Relu", ["mean"], ["shade"]),
        node("Mul", ["inside", "shade"], ["flat"]), node("Unsqueeze", ["flat", "front"], ["masks"]),
    ]  # fmt: skip
    constants = {"side": np.float32(1024), "four": np.array([4]), "ones": np.array([1, 1, 1, 1]), "zero": np.int64(0),
                 "one": np.int64(1), "pair": np.array([1, 1]), "upright": np.array([-1, 1]),
                 "front": np.array([0, 1])}  # fmt: skip
    model("sam", nodes, inputs, "masks", constants)


def test_an_onnx_pair(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    save_onnx_pair(tmp_path)
    stage = build("masks", segmenter="onnx", weights=str(tmp_path), stability=0.1)
    assert [file.name for file in stage.weight_files()] == ["encoder.onnx", "sam.onnx"]
    assert stage.tag().count("+") == 1, "the hashes of both"
    stage.open()
    one = sample(boxed("a", 4, 6, 21, 31), boxed("b", 40, 10, 55, 38))
    one.image[:] = 255
    stage.run([one])
    for region in one.regions:
        x0, y0, x1, y1 = (int(value) for value in region.box)
        wanted = np.zeros((40, 60), bool)
        wanted[y0 + 1 : y1, x0 + 1 : x1] = True  # between the corners
        assert np.array_equal(masks.decode(region.mask), wanted)
        assert 0.4 < region.scores["stability"] < 0.8
    dark = sample(boxed("a", 4, 6, 21, 31))
    stage.run([dark])
    assert dark.regions[0].dropped == "masks: its box has an empty mask", "pixels reach the decoder"
    (tmp_path / "sam.onnx").unlink()
    with pytest.raises(ValueError, match=r"sam\.onnx"):
        build("masks", segmenter="onnx", weights=str(tmp_path)).open()


PROMPT = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
DECODER = {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "iou_head_hidden_dim": 16}  # fmt: skip


@pytest.mark.parametrize("save", [save_sam, save_sam2])
def test_any_sam_of_transformers(tmp_path: Path, save: Callable[[Path], None]) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    save(tmp_path)
    stage = build("masks", segmenter="transformers", weights=str(tmp_path))
    assert {file.name for file in stage.weight_files()} >= {"model.safetensors", "config.json"}
    stage.open()
    one = sample(boxed("a", 0, 0, 20, 20), boxed("b", 30, 10, 50, 30))
    one.image[:] = np.random.default_rng(0).integers(0, 255, one.image.shape)
    stage.run([one])
    assert all(region.mask is not None and region.mask["size"] == [40, 60] for region in one.regions)
    (flat,) = stage._segment(one.image[:3], np.array([[0.0, 0, 20, 3]]))
    assert flat.shape == (3, 60), "rows are no channels"


# -- filters ---------------------------------------------------------------------------------------------------------


def run_filter(kind: str, one: Sample, **values: Any) -> list[str]:
    stage = build(kind, **values)
    stage.open()
    stage.run([one])
    return [region.dropped for region in one.regions]


def test_size() -> None:
    one = sample(boxed("a", 0, 0, 3, 3), boxed("b", 0, 0, 60, 39), boxed("c", 0, 0, 1, 30), boxed("d", 0, 0, 9, 9))
    one.regions.append(boxed("e", 0, 0, 9, 9, mask=masks.encode(np.zeros((40, 60), bool))))
    assert run_filter("filter_size", one, min_pixels=10, max_share=0.9, min_side=2) == [
        "filter_size: 9 pixels", "filter_size: 0.9750 of the image", "filter_size: a side of 1.0 pixels", "",
        "filter_size: 0 pixels",
    ]  # fmt: skip


def test_score_and_stability() -> None:
    one = sample(boxed("a", 0, 0, 9, 9, score=0.4), boxed("b", 0, 0, 9, 9, score=0.6, level="part"))
    assert run_filter("filter_score", one, threshold=0.3, part_threshold=0.7) == ["", "filter_score: 0.600 < 0.7"]
    one = sample(boxed("a", 0, 0, 9, 9, scores={"stability": 0.79}), boxed("b", 0, 0, 9, 9, scores={"stability": 0.8}))
    assert run_filter("filter_stability", one) == ["filter_stability: 0.790 < 0.8", ""]


def test_duplicates_keep_the_best_and_its_parts() -> None:
    one = sample(
        boxed("dog", 0, 0, 20, 20, score=0.5), boxed("Dog", 0, 0, 20, 19, score=0.9), boxed("cat", 0, 0, 20, 20),
        boxed("ear", 0, 0, 5, 5, level="part", parent=0),
    )  # fmt: skip
    told = run_filter("filter_duplicates", one)
    assert told == ["filter_duplicates: the same as region 1 (IoU 0.95)", "", "", ""]
    assert one.regions[3].parent == 1
    assert [bool(t) for t in run_filter("filter_duplicates", sample(*[r.copy() for r in one.regions[1:3]]),
                                        same_name=False)] == [False, True]  # fmt: skip


def test_scores_of_clip_in_three_normalisations() -> None:
    image, text = np.array([3.0, 4.0]), np.array([0.0, 2.0])
    others = np.array([[5.0, 0.0], [0.0, -1.0]])
    assert normalised(image, text, others, "cosine") == pytest.approx(0.8)
    assert normalised(image, text, others, "scaled") == pytest.approx(2.0)
    assert normalised(image, -text, others, "scaled") == 0.0
    weights = np.exp(10 * np.array([0.8, 0.6, -0.8]))
    assert normalised(image, text, others, "softmax", scale=10) == pytest.approx(weights[0] / weights.sum())


COLORS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250), "white": (250, 250, 250)}


class ColorSpace:
    """Pictures and colour words in the space of mean colours: as sure of its colours as a model could be."""

    def images(self, crops: Sequence[Any]) -> NDArray[np.float64]:
        return np.array([crop.reshape(-1, 3).mean(0) + 1 for crop in crops])

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([np.array(COLORS.get(text.split()[0], (250, 250, 0)), float) + 1 for text in texts])


def planted(count: int) -> tuple[Sample, list[bool]]:
    """Coloured squares with captions, every third of them of another square's colour; and which captions are right."""
    chance = np.random.default_rng(4)
    one = sample(size=(10, 10 * count))
    right: list[bool] = []
    for n in range(count):
        true = str(chance.choice(list(COLORS)))
        said = true if n % 3 else str(chance.choice([word for word in COLORS if word != true]))
        one.image[:, 10 * n : 10 * n + 10] = COLORS[true]
        mask = np.zeros((10, 10 * count), bool)
        mask[:, 10 * n : 10 * n + 10] = True
        one.regions.append(
            boxed("square", 10 * n, 0, 10 * n + 10, 10, mask=masks.encode(mask), caption=f"{said} square")
        )
        right.append(said == true)
    return one, right


@pytest.mark.parametrize(("normalisation", "threshold"), [("cosine", 0.95), ("scaled", 2.4), ("softmax", 0.5)])
def test_wrong_captions_are_dropped_by_clip_score(plugs: Any, normalisation: str, threshold: float) -> None:
    plugs.make = lambda weights: ColorSpace()
    one, right = planted(30)
    told = run_filter("filter_clip", one, model=f"{HERE}:make", normalisation=normalisation, threshold=threshold)
    wrong_dropped = sum(bool(t) for t, r in zip(told, right, strict=True) if not r)
    right_dropped = sum(bool(t) for t, r in zip(told, right, strict=True) if r)
    assert wrong_dropped >= 0.9 * right.count(False) > 0
    assert right_dropped <= 0.1 * right.count(True)
    assert all("clip" in region.scores for region in one.regions)


TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("normalisation", ["cosine", "scaled", "softmax"])
def test_clip_score_of_an_open_clip_model(tmp_path: Path, normalisation: str) -> None:
    """With weights of chance, as no trained pair can be had here: numbers are those that the model itself gives."""
    import open_clip
    from safetensors.torch import save_file

    (tmp_path / "tiny-clip-of-a-test.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model, _, see = open_clip.create_model_and_transforms("tiny-clip-of-a-test")
    model.eval()
    save_file(model.state_dict(), tmp_path / "tiny.safetensors")
    stage = build("filter_clip", model="tiny-clip-of-a-test", weights=str(tmp_path / "tiny.safetensors"),
                  normalisation=normalisation, threshold=-1.0, distractors=["a photo"])  # fmt: skip
    assert ":" in stage.tag(), "the weights' hash"
    stage.open()
    texts = ["the left dog", "a cat", "the left dog"]
    one = sample(*(boxed("dog", 20 * n, 0, 20 * n + 20, 40, caption=text) for n, text in enumerate(texts)))
    one.image[:] = np.random.default_rng(0).integers(0, 255, one.image.shape)
    stage.run([one])
    with torch.no_grad():
        words = model.encode_text(open_clip.get_tokenizer("tiny-clip-of-a-test")([*texts, "a photo"]), normalize=True)
        for n, region in enumerate(one.regions):
            crop = see(Image.fromarray(one.image[:, 20 * n : 20 * n + 20]))
            cosines = model.encode_image(crop[None], normalize=True) @ words.T
            others = [row for row, text in enumerate([*texts, "a photo"]) if text != texts[n]]
            share = torch.cat([cosines[0, n : n + 1], cosines[0, others]]).mul(100).softmax(0)[0]
            wanted = {"cosine": cosines[0, n], "scaled": 2.5 * cosines[0, n].clamp(min=0), "softmax": share}
            assert region.scores["clip"] == pytest.approx(float(wanted[normalisation]), abs=1e-4)
            assert not region.dropped
    with pytest.raises(ValueError, match="open_clip does not load"):
        build("filter_clip", model="no-such-clip", weights="").open()
    with pytest.raises(ValueError, match="open_clip does not load 'local-dir:"):
        build("filter_clip", model=f"local-dir:{tmp_path / 'nothing'}").open()


def test_wrong_captions_are_dropped_by_a_listener(plugs: Any) -> None:
    def listen(image: Any, expressions: Sequence[str]) -> list[Any]:
        """All pixels of the colour that is said."""
        wanted = [np.array(COLORS[text.split()[0]]) for text in expressions]
        return [SimpleNamespace(mask=torch.from_numpy((image == color).all(-1))) for color in wanted]

    plugs.make = lambda weights, device: listen
    one, _ = planted(4)
    for n, (region, said, true) in enumerate(zip(one.regions, ["red", "red", "blue", "green"],
                                                 ["red", "green", "blue", "white"], strict=True)):  # fmt: skip
        one.image[:, 10 * n : 10 * n + 10] = COLORS[true]
        region.caption = f"{said} square"
    told = run_filter("filter_listener", one, listener=f"{HERE}:make", weights="")
    assert told == ["", "filter_listener: IoU 0.000 < 0.5", "", "filter_listener: IoU 0.000 < 0.5"]
    assert one.regions[0].scores["listener"] == 1.0


def test_a_listener_that_draws_badly_is_asked_which_region_it_means(plugs: Any) -> None:
    """Its masks are the left half of what it means, and of "both" everything."""

    def listen(image: Any, expressions: Sequence[str]) -> list[Any]:
        answers = []
        for text in expressions:
            mask = torch.zeros(40, 60, dtype=torch.bool)
            if text in ("left", "both"):
                mask[:, :10] = True
            if text in ("right", "both"):
                mask[:, 40:50] = True
            answers.append(SimpleNamespace(mask=mask))
        return answers

    plugs.make = lambda weights, device: listen
    texts = ["left", "left", "both", "none"]
    halves = [(0, 20), (40, 60), (0, 20), (0, 20)]

    def told(**values: Any) -> Sample:
        one = sample()
        for text, (x0, x1) in zip(texts, halves, strict=True):
            mask = np.zeros((40, 60), bool)
            mask[:, x0:x1] = True
            one.regions.append(boxed("dog", x0, 0, x1, 40, mask=masks.encode(mask), caption=text))
        for n in (0, 2, 3):  # alone with the second one each
            alone = sample(one.regions[n].copy(), one.regions[1].copy())
            stage = build("filter_listener", listener=f"{HERE}:make", weights="", **values)
            stage.open()
            stage.run([alone])
            one.regions[n], second = alone.regions
        one.regions[1] = second
        return one

    plain = told(threshold=0.3)
    assert [region.scores["listener"] for region in plain.regions] == pytest.approx([0.5, 0, 1 / 3, 0])
    assert [region.scores["listener_margin"] for region in plain.regions] == pytest.approx([0.5, -0.5, 0, 0])
    assert [bool(region.dropped) for region in plain.regions] == [False, True, False, True]
    compared = told(threshold=0.01, margin=0.05)
    assert [region.dropped.partition(": ")[2] for region in compared.regions] == [
        "", "IoU 0.000 < 0.01", "IoU 0.333 is +0.000 beside another region's", "IoU 0.000 < 0.01",
    ]  # fmt: skip
    part = sample(*(r.copy() for r in plain.regions[:2]))
    part.regions[0].level = "part"
    part.regions[0].caption = "both"
    stage = build("filter_listener", listener=f"{HERE}:make", weights="", threshold=0.0)
    part.regions[1].dropped = ""
    stage.open()
    stage.run([part])
    assert part.regions[0].scores["listener_margin"] == pytest.approx(1 / 3), "objects are no rivals of a part"
    with pytest.raises(ValueError, match="margin must be in"):
        build("filter_listener", listener="a:b", weights="", margin=2)


def test_a_listener_is_asked_about_the_mirrored_image_too(plugs: Any) -> None:
    asked: list[tuple[int, str]] = []

    def listen(image: Any, expressions: Sequence[str]) -> list[Any]:
        """All that is bright, and that it was asked."""
        asked.extend((int(image[0, 0, 0]), text) for text in expressions)
        return [SimpleNamespace(mask=torch.from_numpy(image[..., 0] > 100)) for _ in expressions]

    plugs.make = lambda weights, device: listen
    mask = np.zeros((40, 60), bool)
    mask[:, :15] = True
    one = sample(boxed("dog", 0, 0, 15, 40, mask=masks.encode(mask), caption="Leftmost dog, right of a leftover"))
    one.image[:, :15] = 250
    stage = build("filter_listener", listener=f"{HERE}:make", weights="", mirror=True)
    stage.open()
    stage.run([one])
    assert one.regions[0].scores["listener"] == 1.0, "its answers are turned back"
    assert asked == [(250, "Leftmost dog, right of a leftover"), (0, "rightmost dog, left of a leftover")]

    plugs.make = lambda weights, device: lambda image, texts: [SimpleNamespace(mask=np.ones((4, 4), bool))]
    stage.open()
    with pytest.raises(ValueError, match="gives 1 masks for 1 captions, of sizes"):
        stage.run([one])


def test_models_of_the_projects_listen(tmp_path: Path) -> None:
    """The tiny ReLA of its own tests, with weights of chance: it is asked as a trained one would be."""
    helpers = pytest.importorskip("rela_helpers", reason="the project ReLA is not beside the library")
    import rela

    weights = helpers.save_tiny(tmp_path / "tiny.safetensors")
    mask = np.zeros((40, 60), bool)
    mask[5:30, 10:40] = True
    regions = [boxed("a", 10, 5, 40, 30, mask=masks.encode(mask), caption=text) for text in ("the dog", "a red car")]
    one = sample(*regions)
    stage = build("filter_listener", listener="rela:Predictor.from_pretrained", weights=str(weights))
    assert ":" in stage.tag() and len(stage.identity()["weights"]) == 1
    stage.open()
    answers = rela.Predictor.from_pretrained(weights)(one.image, ["the dog", "a red car"])
    stage.run([one])
    for region, answer in zip(regions, answers, strict=True):
        found = np.asarray(answer.mask)
        assert region.scores["listener"] == pytest.approx((found & mask).sum() / (found | mask).sum())
        assert bool(region.dropped) == (region.scores["listener"] < 0.5)


# -- words -----------------------------------------------------------------------------------------------------------


def test_vocabulary_of_what_is_there() -> None:
    one = sample(boxed("car", 0, 0, 9, 9), boxed("Car", 0, 0, 9, 9), boxed("unheard of", 0, 0, 9, 9))
    one.regions.append(boxed("wheel", 0, 0, 9, 9, level="part", parent=0))
    for parts, wanted in (("known", "wheel"), ("pascal_part_116", "wheel")):
        stage = build("vocabulary", parts=parts)
        stage.open()
        stage.run([one])
        assert set(one.vocabulary) == {"Car", "unheard of"} and one.vocabulary["unheard of"] == ()
        assert wanted in one.vocabulary["Car"]
    assert set(Vocabulary.with_known_parts(["car"]).parts_of("car")) >= {"wheel"}
    fixed = build("vocabulary", objects=["dog"])
    assert fixed.columns()[0] == ()
    with pytest.raises(ValueError, match="go together"):
        build("vocabulary", parts="endpoint")


def test_templates() -> None:
    regions = [boxed("dog", 0, 0, 10, 10), boxed("dog", 30, 0, 40, 10), boxed("cat", 0, 0, 9, 9),
               boxed("head", 31, 0, 35, 4, level="part", parent=1), boxed("bird", 0, 0, 2, 2),
               boxed("bird", 0, 9, 2, 11), boxed("bird", 1, 30, 3, 32)]  # fmt: skip
    assert [template(regions, n) for n in range(7)] == [
        "dog on the left", "dog on the right", "cat", "head of the dog on the right", "first bird from the top",
        "second bird from the top", "third bird from the top",
    ]  # fmt: skip
    regions[0].dropped = "too small"
    assert template(regions, 1) == "dog"


def test_captions_of_a_plugged_captioner(plugs: Any) -> None:
    plugs.make = lambda weights, **options: lambda image, regions, wanted: [options["say"] for _ in wanted]
    stage = build("caption", captioner=f"{HERE}:make", options={"say": " a  thing "})
    stage.open()
    one = sample(boxed("a", 0, 0, 9, 9), boxed("b", 0, 0, 9, 9, caption="there already"))
    stage.run([one])
    assert [region.caption for region in one.regions] == ["a thing", "there already"]
    stage = build("caption", captioner=f"{HERE}:make", options={"say": " .. "})
    stage.open()
    with pytest.raises(ValueError, match="the captioner says"):
        stage.run([sample(boxed("a", 0, 0, 9, 9))])


def test_location_in_thousandths() -> None:
    assert location((0, 10, 30, 40), (40, 60)) == "[0, 250, 500, 999]"


@pytest.mark.parametrize(
    ("name", "told"),
    [("tmeplate", "did you mean 'template'"), ("no.such:thing", "No module named"), ("json:nothing", "no attribute")],
)
def test_plugs_that_are_not_there(name: str, told: str) -> None:
    known: dict[str, Callable[..., Any]] = {"template": lambda weights: None}
    with pytest.raises(ValueError, match=told):
        resolve(name, known, "captioner")
    assert resolve("json:JSONDecoder.decode", known, "captioner")
