"""Every file of configs/ loads and builds; the released architectures have the released sizes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.config import config_from_text, find_config, get_cfg, list_models, load_config, recipe_in, run_defaults
from partglee.config.values import leaves
from partglee.engine.weight_files import find_weights
from partglee.modeling import build_model


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def r50() -> nn.Module:
    with torch.device("meta"):
        return build_model("joint_r50")


@pytest.fixture(scope="module")
def built() -> dict[str, nn.Module]:
    """Models by their configuration."""
    return {}


@pytest.mark.parametrize("name", list_models())
def test_config_builds(name: str, built: dict[str, nn.Module]) -> None:
    cfg = load_config(name)
    key = cfg.MODEL.dump()  # evaluation settings share models
    if key not in built:
        with torch.device("meta"):
            built[key] = build_model(cfg)
    assert count(built[key]) > 0 and next(built[key].parameters()).is_meta


def test_every_yaml_is_listed() -> None:
    root = Path(__file__).resolve().parents[2] / "configs"
    files = {f.relative_to(root).with_suffix("").as_posix() for f in root.rglob("*.yaml") if f.name[0] != "_"}
    assert files == set(list_models())


def test_released_part_sizes(r50: nn.Module) -> None:
    """The parameter counts of the released architecture."""
    assert count(r50.pixel_decoder.layers[0]) == 1_282_176
    assert count(r50.pixel_decoder.layers) == 7_693_056
    assert count(r50.pixel_decoder.fusion) == 3_155_968
    for level in (r50.object_decoder, r50.part_decoder):
        assert count(level.decoder.layers[0]) == 1_545_856
        assert count(level.decoder.layers) == 13_912_704
        assert count(level.heads.box_mlp) == 132_612
        assert count(level.heads.mask_mlp) == 197_376
        assert count(level.decoder.position_mlp) == 197_120
    assert count(r50.qformer.layers[0]) == 1_578_752
    assert count(r50.qformer.layers) + count(r50.qformer.norm) == 9_473_024
    assert r50.qformer.content.shape == r50.qformer.position.shape == (10, 256)
    assert r50.object_decoder.selection.num_queries == 300 and r50.num_parsed_objects == 50


def test_swin_has_the_released_shape() -> None:
    with torch.device("meta"):
        model = build_model("joint_swinL")
    assert model.backbone.channels == (192, 384, 768, 1536)
    assert [len(getattr(model.backbone.body, f"layers_{i}").blocks) for i in range(4)] == [2, 2, 18, 2]


def test_tiny_is_tiny() -> None:
    model = build_model("tiny")
    assert count(model) < 6_000_000
    assert len(model.pixel_decoder.layers) == len(model.object_decoder.decoder.layers) == 3
    assert model.object_decoder.selection.num_queries == 100
    assert model.num_parsed_objects == 20 and len(model.qformer.content) == 20


def test_fusion_of_categories_is_one_key() -> None:
    assert not load_config("joint_r50").MODEL.EARLY_FUSION.CATEGORIES
    assert load_config("inference_r50").MODEL.EARLY_FUSION.CATEGORIES
    assert load_config("joint_r50", ["MODEL.EARLY_FUSION.CATEGORIES", "True"]).MODEL.EARLY_FUSION.CATEGORIES


def test_get_cfg_is_a_fresh_copy() -> None:
    get_cfg().MODEL.EMBED_DIM = 1
    assert get_cfg().MODEL.EMBED_DIM == 256


@pytest.mark.parametrize("name", ["joint_r50", "joint_r50.yaml", "configs/joint_r50.yaml"])
def test_config_is_found_by_name_and_path(name: str) -> None:
    assert find_config(name).name == "joint_r50.yaml"


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="joint_swinL"):
        load_config("joint_swin")


def test_missing_file() -> None:
    with pytest.raises(ValueError, match=r"no configuration file nowhere\.yaml; (did you mean|`partglee info`)"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("joint-R50", "did you mean joint_r50,"),
        ("tiny_part", "did you mean tiny_parts,"),
        ("eval/coco", "did you mean eval/coco_r50,"),
        ("xyzzy", "`partglee info` lists what there is"),
        ("", "`partglee info` lists what there is"),
        ("partglee-tiny", "are weights, which say their configuration; Predictor.from_pretrained"),
    ],
)
def test_unknown_names_are_answered_with_few(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        load_config(name)
    assert len(str(error.value)) < 200, "a list of all is none"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("partglee_tiny", "did you mean 'partglee-tiny'?"),
        ("joint_r50", "of configurations, did you mean joint_r50,"),
        ("xyzzy", "Ready: partglee-tiny"),
    ],
)
def test_unknown_weights_are_answered_with_few(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARTGLEE_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        find_weights(name)
    assert "eval/ade20k_part_234_pred_all_r50" not in str(error.value)


def test_a_base_is_found_beside_the_file_and_else_in_the_zoo(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("_BASE_: finetune_example.yaml\nSOLVER: {MAX_ITER: 7}\n")  # whose own base is in the zoo too
    cfg, example = load_config(mine), load_config("finetune_example")
    assert cfg.SOLVER.MAX_ITER == 7 and cfg.MODEL == example.MODEL and cfg.DATASETS == example.DATASETS
    (tmp_path / "tiny.yaml").write_text("MODEL: {EMBED_DIM: 64}\n")
    mine.write_text("_BASE_: tiny.yaml\n")
    assert load_config(mine).MODEL.EMBED_DIM == 64
    mine.write_text("_BASE_: eval/coco_r50.yaml\n")  # whose own base is ../inference_r50.yaml
    assert load_config(mine).DATASETS.TEST == ["coco_2017_val"] and load_config(mine).TEST.PART_QUERIES == 0
    mine.write_text("_BASE_: lost/tiny.yaml\n")  # no such folder, so not the zoo's tiny.yaml either
    with pytest.raises(ValueError, match="lost"):
        load_config(mine)
    mine.write_text("_BASE_: lost.yaml\n")
    with pytest.raises(ValueError, match=r"lost\.yaml"):
        load_config(mine)
    mine.write_text("_BASE_: mine.yaml\n")
    with pytest.raises(ValueError, match="is its own _BASE_"):
        load_config(mine)


def guest_defaults() -> CN:
    """Of a project that builds on PartGLEE's parts."""
    cfg = get_cfg()
    cfg.RECIPE = "guest"
    cfg.MODEL.REGIONS = 10
    return cfg


def test_a_project_adds_keys_and_stands_on_the_zoo(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("_BASE_: joint_r50.yaml\nRECIPE: guest\nMODEL: {REGIONS: 8}\n")
    file = tmp_path / "guest.yaml"
    file.write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 7}\n")
    cfg = load_config(file, ["MODEL.REGIONS", 12], defaults=guest_defaults)
    assert (cfg.MODEL.REGIONS, cfg.SOLVER.MAX_ITER, cfg.RECIPE) == (12, 7, "guest")
    assert cfg.MODEL.TEXT.MODE == load_config("joint_r50").MODEL.TEXT.MODE != get_cfg().MODEL.TEXT.MODE
    assert config_from_text(cfg.dump(), defaults=guest_defaults) == cfg
    assert recipe_in(file) == "guest" and recipe_in("joint_r50") == "partglee"
    assert recipe_in("joint_r50", ["SOLVER.SEED", 1, "RECIPE", "guest"]) == "guest"
    with pytest.raises(ValueError, match=r"unknown key MODEL\.REGION; the nearest known one is MODEL\.REGIONS"):
        load_config(file, ["MODEL.REGION", 12], defaults=guest_defaults)


def test_a_configuration_of_another_recipe(tmp_path: Path) -> None:
    file = tmp_path / "guest.yaml"
    file.write_text("RECIPE: guest\nMODEL: {REGIONS: 8}\n")
    with pytest.raises(ValueError, match=r"guest\.yaml is for the recipe 'guest', not for 'partglee'; the project of"):
        load_config(file)
    with pytest.raises(ValueError, match="the weights is for the recipe 'guest', not for 'partglee'"):
        config_from_text(file.read_text(), source="the weights")
    with pytest.raises(ValueError, match="RECIPE 'guest' does not fit the keys of 'partglee'"):
        load_config("tiny", ["RECIPE", "guest"])


def test_what_every_model_shares() -> None:
    """The keys of a run alone are a part of PartGLEE's, with the same values."""
    shared, all_keys = dict(leaves(run_defaults())), dict(leaves(get_cfg()))
    assert shared.items() <= all_keys.items()
    assert {key.split(".")[0] for key in all_keys.keys() - shared.keys()} == {"MODEL", "CRITERION", "TEST", "INPUT"}


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.EMBED_DIN.*MODEL\.EMBED_DIM"):
        load_config("tiny", ["MODEL.EMBED_DIN", 64])


def test_unknown_key_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("MODEL:\n  BACKBON:\n    NAME: resnet18\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: unknown key MODEL\.BACKBON\.NAME.*MODEL\.BACKBONE\.NAME"):
        load_config(file)


def test_wrong_type() -> None:
    with pytest.raises(ValueError, match="EMBED_DIM"):
        load_config("tiny", ["MODEL.EMBED_DIM", "wide"])


def test_whole_numbers_are_floats_where_a_float_is_asked_for(tmp_path: Path) -> None:
    cfg = load_config("tiny", ["SOLVER.EMA_DECAY", "0", "SOLVER.CLIP_GRADIENTS", 1])
    assert type(cfg.SOLVER.EMA_DECAY) is float and cfg.SOLVER.EMA_DECAY == 0
    assert type(cfg.SOLVER.CLIP_GRADIENTS) is float and cfg.SOLVER.CLIP_GRADIENTS == 1
    file = tmp_path / "mine.yaml"
    file.write_text("SOLVER: {BASE_LR: 1, MAX_ITER: 7}\n")
    cfg = load_config(file)
    assert type(cfg.SOLVER.BASE_LR) is float and type(cfg.SOLVER.MAX_ITER) is int


def test_odd_overrides() -> None:
    with pytest.raises(ValueError, match="pairs"):
        load_config("tiny", ["MODEL.EMBED_DIM"])


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("DATASETS.TRAIN", "[toy_train]", ["toy_train"]),
        ("DATASETS.TRAIN", "[toy_train, refcoco+-unc-train]", ["toy_train", "refcoco+-unc-train"]),
        ("DATASETS.TRAIN", "toy_train,toy_val", ["toy_train", "toy_val"]),
        ("DATASETS.TRAIN", "toy_train", ["toy_train"]),
        ("DATASETS.TRAIN", "'toy_train'", ["toy_train"]),
        ("DATASETS.TRAIN", "['toy_train', \"toy_val\"]", ["toy_train", "toy_val"]),
        ("DATASETS.TEST", "[]", []),
        ("DATASETS.CUSTOM", "[{NAME: mine, SELECT: [0, 0.5]}]", [{"NAME": "mine", "SELECT": [0, 0.5]}]),
        ("INPUT.TRAIN.SIZE", "96,64", [96, 64]),
        ("INPUT.TRAIN.SCALE", "[1e-1, 2]", [0.1, 2]),
        ("SOLVER.SHARDED", "true", True),
        ("SOLVER.SHARDED", "False", False),
    ],
)
def test_words_of_the_command_line(key: str, text: str, wanted: object) -> None:
    value: object = load_config("tiny", [key, text])
    for name in key.split("."):
        value = getattr(value, name)
    assert value == wanted and type(value) is type(wanted)


@pytest.mark.parametrize("text", ["", " ", "96", "[toy_train", "None", "True"])
def test_what_to_type_for_a_list(text: str) -> None:
    with pytest.raises(ValueError, match=r'DATASETS\.TRAIN holds a list; type it as DATASETS\.TRAIN "\[A, B\]"'):
        load_config("tiny", ["DATASETS.TRAIN", text])


def test_broken_yaml(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("MODEL: [1, 2\n")
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        load_config(file)


def test_options_may_invent_keys() -> None:
    options = load_config("joint_r50", ["MODEL.BACKBONE.OPTIONS.stem_width", 32, "MODEL.BACKBONE.OPTIONS.a.b", "c"])
    assert options.MODEL.BACKBONE.OPTIONS.stem_width == 32
    assert options.MODEL.BACKBONE.OPTIONS.a.b == "c"
    with pytest.raises(ValueError, match="pad_type, which is a value"):
        load_config("joint_r50", ["MODEL.BACKBONE.OPTIONS.pad_type", "", "MODEL.BACKBONE.OPTIONS.pad_type.more", 1])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.BACKBONE.NAME", "resnet5000"], "timm has no model"),
        (["MODEL.BACKBONE.NAME", "vit_tiny_patch16_224", "MODEL.BACKBONE.OPTIONS.pad_type", ""], "vit_tiny"),
        (["MODEL.TEXT.MODE", "frosty"], "MODEL.TEXT.MODE"),
        (["MODEL.TEXT.BACKEND", "word2vec"], "MODEL.TEXT.BACKEND"),
        (["MODEL.TEXT.MODE", "trainable"], "needs a text tower"),
        (["MODEL.TEXT.BACKEND", "clip", "MODEL.TEXT.ARCH", "ViT-nothing"], "MODEL.TEXT.ARCH"),
        (["MODEL.NUM_HEADS", 7], "num_heads"),
        (["MODEL.NUM_LEVELS", 2], "num_levels"),
    ],
)
def test_bad_values_are_named(overrides: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        build_model(load_config("tiny", overrides))


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "swin_tiny_patch4_window7_224"])
def test_any_timm_backbone_by_name(name: str) -> None:
    overrides = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.OPTIONS", {}]
    if "swin" in name:
        overrides[-1] = {"always_partition": True, "strict_img_size": False}
    cfg = load_config("tiny")
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.OPTIONS.clear()
    cfg.MODEL.BACKBONE.OPTIONS.update(overrides[-1])
    model = build_model(cfg).eval()
    maps = model.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(model.backbone.channels, (4, 8, 16, 32), strict=True)
    ]
