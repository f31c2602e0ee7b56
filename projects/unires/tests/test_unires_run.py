"""Configurations, training by the library's run, evaluation at both levels, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import unires
from PIL import Image
from torch import Tensor
from unires.cli import main
from unires.config import build_criterion
from unires.start import our_names

from partglee.engine.recipe import get_recipe
from partglee.engine.run import run
from partglee.modeling import ready_for_prediction
from partglee.testing import register_toy_referring, tiny_model

SMALL = [
    "MODEL.WEIGHTS", "", "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.BACKBONE.NAME",
    "mobilenetv2_050", "MODEL.BACKBONE.FROZEN_NORM", False, "MODEL.ENCODER.NUM_LAYERS", 1,
    "MODEL.GROUPS.LOW", 4, "MODEL.GROUPS.HIGH", 2, "MODEL.GROUPS.FFN_DIM", 32, "MODEL.DECODER.DIM", 32,
    "MODEL.DECODER.FFN_DIM", 32, "MODEL.DECODER.WORD_LAYERS", 1, "MODEL.DECODER.GROUP_LAYERS", 1,
    "MODEL.TEXT.BERT.WIDTH", 16, "MODEL.TEXT.BERT.NUM_LAYERS", 1, "MODEL.TEXT.BERT.FFN_DIM", 16,
    "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 64, "INPUT.TRAIN.EXPRESSIONS", 3,
    "SOLVER.BATCH_SIZE", 2, "DATALOADER.NUM_WORKERS", 0, "SOLVER.EMA_DECAY", 0.0,
]  # fmt: skip
SAID = ["the wheel of the left car", "a zebra"]


def small_config(*more: Any) -> Any:
    return unires.load_config("unires_toy", [*SMALL, *more])


def small_predictor(*more: Any) -> unires.Predictor:
    torch.manual_seed(0)
    cfg = small_config(*more)
    return unires.Predictor.around(unires.build_model(cfg), cfg)


def photo(height: int = 50, width: int = 70) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", unires.list_configs())
def test_configurations_are_built(name: str) -> None:
    cfg = unires.load_config(name)
    with torch.device("meta"):
        model = unires.build_model(cfg)
    build_criterion(cfg)
    assert model.size_divisibility % model.image_side.stride == 0
    side = cfg.INPUT.TRAIN.SIZE[0]
    assert side % cfg.MODEL.SIZE_DIVISIBILITY == 0 and side == cfg.INPUT.TEST.MAX_SIDE


def test_the_papers_schedule() -> None:
    pre, fine = unires.load_config("unires_pretrain"), unires.load_config("unires_finetune")
    assert math.isclose(pre.SOLVER.MAX_ITER, 50 * 32_200_000 / 128, rel_tol=1e-5)
    assert math.isclose(pre.SOLVER.WARMUP_ITERS, pre.SOLVER.MAX_ITER / 10, rel_tol=1e-5)
    assert math.isclose(fine.SOLVER.MAX_ITER, 15 * (120_624 + 120_191 + 80_512) / 64, rel_tol=1e-3)
    for cfg in (pre, fine):
        assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.SCHEDULE) == (1e-5, 5e-4, "cosine")
        assert (cfg.MODEL.GROUPS.LOW, cfg.MODEL.GROUPS.HIGH, cfg.TEST.MASK_THRESHOLD) == (64, 8, 0.35)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.IMAGE.SOURCE", "vit", "MODEL.IMAGE.SOURCE must be"),
        ("MODEL.PROJECTION", "mlp", "MODEL.PROJECTION must be"),
        ("MODEL.GROUPS.LOW", -1, "MODEL.GROUPS.LOW must be at least 0"),
        ("MODEL.TEXT.CONTEXT_LENGTH", 2, "MODEL.TEXT.CONTEXT_LENGTH must be at least 3"),
        ("TEST.MASK_THRESHOLD", 1.5, "TEST.MASK_THRESHOLD must be in"),
    ],
)
def test_values_that_cannot_be(key: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run(get_recipe("unires"), config_file=config_file(tmp_path, key, value), num_gpus=0)


def config_file(folder: Path, *more: Any) -> str:
    file = folder / "run.yaml"
    file.write_text(small_config(*more).dump(), encoding="utf-8")
    return str(file)


def test_patches_must_fit_the_canvas() -> None:
    with pytest.raises(ValueError, match="must be a multiple of the patch of ViT-L-14, 14, got 32"):
        unires.build_model(unires.load_config("unires_vit_l", ["MODEL.SIZE_DIVISIBILITY", 32]))


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("MODEL.PROJECTION", "dynamic", "CRITERION.NUM_POINTS", 50),
        ("MODEL.GROUPS.LOW", 0, "MODEL.GROUPS.HIGH", 0),
        (
            "MODEL.IMAGE.SOURCE", "clip", "MODEL.IMAGE.OPTIONS.width", 32, "MODEL.IMAGE.OPTIONS.layers", 2,
            "MODEL.IMAGE.OPTIONS.head_width", 16, "MODEL.IMAGE.OPTIONS.image_size", 64,
        ),
    ],
)  # fmt: skip
def test_it_trains_and_is_scored_at_both_levels(more: tuple[Any, ...], tmp_path: Path) -> None:
    register_toy_referring("toy_mres_few", num_val=3, rules=get_rules(), evaluator="referring_parts")
    file = config_file(
        tmp_path, "DATASETS.TRAIN", ["toy_mres_few_train"], "DATASETS.TEST", ["toy_mres_few_val"], "TEST.PERIOD", 0,
        "TEST.BEST", "", "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.LOG_PERIOD", 1,
        "OUTPUT_DIR", str(tmp_path / "out"), *more,
    )  # fmt: skip
    assert run(get_recipe("unires"), config_file=file, num_gpus=0) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for key, value in line.items() if key.startswith("loss/")]
    assert losses and all(math.isfinite(value) for value in losses)
    told = " ".join(set().union(*lines))
    assert all(f"toy_mres_few_val/{level}" in told for level in ("object/", "part/", "object&part/"))
    predictor = unires.Predictor.from_pretrained(tmp_path / "out" / "model_final.safetensors", device="cpu")
    assert predictor(photo(), SAID[0]).mask.shape == (50, 70)


def get_rules() -> Any:
    from partglee.data.expression_rules import ExpressionRules

    return ExpressionRules(parts=0.5, per_image=4)


# ---------------------------------------------------------------- answers


def test_answers_against_the_model_alone() -> None:
    predictor = small_predictor()
    answers = predictor(photo(), SAID)
    with torch.no_grad():
        batch = predictor.model.batch([predictor.read(photo()).resized])
        logits = predictor.model(batch, predictor.model.read(SAID), torch.zeros(2, dtype=torch.long))
    height, width = batch.sizes[0]
    for row, answer in enumerate(answers):
        big = torch.nn.functional.interpolate(logits[None, row : row + 1], size=batch.canvas, mode="bilinear")
        big = torch.nn.functional.interpolate(big[..., :height, :width], size=(50, 70), mode="bilinear")[0, 0]
        expected = big.sigmoid() > 0.35
        assert (answer.mask != expected).float().mean() < 1e-3 and answer.expression == SAID[row]
        assert answer.score == pytest.approx(float(big.sigmoid().max()), abs=1e-4)
        if expected.any():
            assert answer.confidence == pytest.approx(float(big.sigmoid()[expected].mean()), abs=1e-3)


def test_the_image_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = small_predictor()
    predictor.expressions_at_once = 2
    calls: list[int] = []
    real = predictor.model.image_side.forward

    def counted(images: Tensor) -> Any:
        calls.append(len(images))
        return real(images)

    monkeypatch.setattr(predictor.model.image_side, "forward", counted)
    many = predictor(photo(), [*SAID, *SAID, SAID[0]])
    assert calls == [1] and len(many) == 5
    encoded = predictor.encode_image(photo())
    again = predictor(encoded, SAID[1])
    assert calls == [1, 1] and torch.equal(again.mask, many[1].mask)


def test_in_half_of_the_precision() -> None:
    cfg = small_config()
    torch.manual_seed(0)
    half = unires.Predictor.around(unires.build_model(cfg), cfg, precision="bfloat16")
    for answer, whole in zip(half(photo(), SAID), small_predictor()(photo(), SAID), strict=True):
        assert answer.no_target_score == pytest.approx(whole.no_target_score, abs=0.05)


def test_thresholds() -> None:
    predictor = small_predictor()
    low, high = predictor(photo(), SAID[0], threshold=0.0), predictor(photo(), SAID[0], threshold=1.0)
    assert bool(low.mask.all()) and not low.no_target and high.no_target and not high.mask.any()
    assert predictor(photo(), SAID[0], threshold=0.0, min_pixels=50 * 70 + 1).no_target
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\]"):
        predictor(photo(), SAID[0], threshold=2.0)
    with pytest.raises(ValueError, match="unknown option among treshold; there are threshold, min_pixels"):
        predictor(photo(), SAID[0], treshold=0.1)
    with pytest.raises(TypeError, match="an option is of a type that it cannot be of: threshold='high'"):
        predictor(photo(), SAID[0], threshold="high")
    with pytest.raises(ValueError, match=r"expression 1 is '\?!'"):
        predictor(photo(), ["a dog", "?!"])


def test_an_empty_mask_has_no_confidence() -> None:
    answer = small_predictor()(photo(), SAID[0], threshold=1.0, min_pixels=0)
    assert not answer.mask.any() and not answer.no_target and answer.confidence == 0.0


def test_expressions_that_are_no_text() -> None:
    with pytest.raises(TypeError, match="a sentence or a list of them, got 5"):
        small_predictor()(photo(), 5)  # type: ignore[arg-type]


def test_long_sentences_are_told() -> None:
    predictor = small_predictor()
    with pytest.warns(UserWarning, match="more than 20 tokens"):
        predictor(photo(), "the wheel of the car " * 10)


# ---------------------------------------------------------------- weights to start from


def test_weights_of_clip_and_of_partglee() -> None:
    config: dict[str, Any] = open_clip.get_model_config("ViT-B-16")
    with torch.device("meta"):
        clip = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        ours = unires.build_model(unires.load_config("unires_pretrain")).state_dict()
    renamed = our_names(clip.state_dict())
    towers = {key for key in ours if key.startswith(("image_side.tower.", "text_encoder.tower."))}
    assert set(renamed) == towers and all(renamed[key].shape == ours[key].shape for key in towers)

    with torch.device("meta"):
        toy = unires.build_model(unires.load_config("unires_toy")).state_dict()
    tiny = our_names(tiny_model(overrides=["MODEL.TEXT.TABLE.WIDTH", 8]).state_dict())
    shared = {key for key in toy if key.startswith(("image_side.backbone.", "image_side.pixel_decoder."))}
    assert all(key in tiny and tiny[key].shape == toy[key].shape for key in shared)
    assert our_names(toy) == toy


# ---------------------------------------------------------------- the command


def test_export_predict_and_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from partglee.checkpoint import write_weights
    from partglee.engine.weight_files import CONFIG_TEXT

    cfg = small_config()
    predictor = small_predictor()
    write_weights(predictor.model.state_dict(), tmp_path / "run.safetensors", {CONFIG_TEXT: cfg.dump()})
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    assert main(["export", str(tmp_path / "run.safetensors"), str(tmp_path / "whole.safetensors")]) == 0
    weights = ["--weights", str(tmp_path / "whole.safetensors"), "--device", "cpu"]
    out = tmp_path / "out"
    asked = [word for text in SAID for word in ("--expression", text)]
    assert main(["predict", str(tmp_path / "photo.png"), *asked, "--output", str(out), *weights]) == 0
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == SAID and len(list(out.glob("*.jpg"))) == 2
    register_toy_referring("toy_mres_two", num_val=2, rules=get_rules(), evaluator="referring_parts")
    assert main(["eval", "--dataset", "toy_mres_two_val", "--output", str(out), *weights]) == 0
    assert "toy_mres_two_val/part/mIoU" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "photo.png"), "--expression", "?", "--output", str(out), *weights]) == 2
    assert "unires: expression 0 is '?'" in capsys.readouterr().err
    answers = (out / "answers.jsonl").read_text()
    two = [str(tmp_path / "photo.png")] * 2
    assert main(["predict", *two, *asked, "--output", str(out), *weights, "--threshold", "3"]) == 2
    assert capsys.readouterr().err.count("threshold must be in [0, 1]") == 1  # once, not of each image
    assert (out / "answers.jsonl").read_text() == answers
    assert main(["export", str(tmp_path / "none.safetensors"), str(tmp_path / "x.safetensors")]) == 2
    assert "no weights file" in capsys.readouterr().err


def fused(model: torch.nn.Module) -> int:
    return sum(type(module).__name__ == "FusedConv" for module in model.modules())


@torch.no_grad()
def test_made_ready_for_prediction() -> None:
    """The backbone and pixel decoder of the image side, wherever they hang; CLIP's image side has none."""
    torch.manual_seed(0)
    maps = unires.build_model(small_config()).eval()
    seen = torch.randn(1, 3, 64, 64)
    before, tensors = maps.encode_image(seen), len(maps.state_dict())
    names = [name for name, _ in maps.named_children()]
    assert ready_for_prediction(maps) is maps and fused(maps.image_side) > 10
    assert [name for name, _ in maps.named_children()] == names
    assert len(maps.state_dict()) < tensors  # norms are gone, nothing came beside them
    after = maps.encode_image(seen)
    for ours, theirs in zip(after.groups.values(), before.groups.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    clip = unires.build_model(unires.load_config("unires_toy_vit", ["MODEL.WEIGHTS", ""]))
    kept = set(clip.state_dict())
    assert ready_for_prediction(clip) is clip and set(clip.state_dict()) == kept
