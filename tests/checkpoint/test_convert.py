"""Conversion of upstream keys, from small hand-made state dicts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from partglee.checkpoint import convert_checkpoint, convert_state_dict, read_metadata, read_weights

BASE = {"pixel_decoder.mask_features.weight": torch.ones(4, 4, 1, 1)}


def test_resnet_and_swin_keys() -> None:
    state = {
        **BASE,
        "backbone.stem.conv1.norm.running_var": torch.ones(2),
        "backbone.res3.2.conv2.weight": torch.ones(2, 2, 3, 3),
        "backbone.res5.0.shortcut.norm.bias": torch.ones(2),
        "backbone.layers.0.downsample.norm.weight": torch.ones(3),
        "backbone.layers.2.blocks.17.attn.relative_position_bias_table": torch.ones(4, 2),
        "backbone.norm3.bias": torch.ones(3),
    }
    out, report = convert_state_dict(state, "partglee")
    assert set(out) == {
        "pixel_decoder.mask_features.weight",
        "backbone.body.bn1.running_var",
        "backbone.body.layer2.2.conv2.weight",
        "backbone.body.layer4.0.downsample.1.bias",
        "backbone.body.layers_1.downsample.norm.weight",
        "backbone.body.layers_2.blocks.17.attn.relative_position_bias_table",
        "backbone.norms.3.bias",
    }
    assert report.unknown == [] and report.config is None


def test_text_attention_is_merged_in_order() -> None:
    base = "text_encoder.text_model.encoder.layers.3.self_attn."
    state = {**BASE, **{f"{base}{n}_proj.bias": torch.full((2,), float(i)) for i, n in enumerate("qkv")}}
    out, _ = convert_state_dict(state, "partglee")
    merged = out["text_encoder.backend.tower.transformer.resblocks.3.attn.in_proj_bias"]
    assert merged.tolist() == [0, 0, 1, 1, 2, 2]


def test_incomplete_text_attention() -> None:
    state = {**BASE, "text_encoder.encoder.layers.0.self_attn.q_proj.bias": torch.ones(2)}
    with pytest.raises(ValueError, match="k_proj, v_proj"):
        convert_state_dict(state, "partglee")


def test_aliases_are_checked() -> None:
    state = {
        **BASE,
        "object_predictor._bbox_embed.layers.0.bias": torch.ones(2),
        "object_predictor.bbox_embed.4.layers.0.bias": torch.ones(2),
    }
    out, report = convert_state_dict(state, "partglee")
    assert report.aliases == 1 and "object_decoder.heads.box_mlp.layers.0.bias" in out
    state["object_predictor.bbox_embed.4.layers.0.bias"] = torch.zeros(2)
    with pytest.raises(ValueError, match="two names of one tensor but differ"):
        convert_state_dict(state, "partglee")


def test_glee_predictor_feeds_both_levels() -> None:
    state = {
        **{f"glee.{k}": v for k, v in BASE.items()},
        "glee.predictor.category_embed": torch.eye(2),
        "glee.predictor.enc_output.weight": torch.ones(2, 2),
        "glee.predictor.coco_label_enc.weight": torch.ones(80, 2),
        "glee.sot_fuser.refine.0.weight": torch.ones(2, 2, 3, 3),
    }
    out, report = convert_state_dict(state, "glee")
    assert {
        "object_decoder.heads.class_proj", "part_decoder.heads.class_proj",
        "object_decoder.selection.proj.weight", "part_decoder.proj.weight",
    } <= set(out)  # fmt: skip
    assert sum(report.dropped.values()) == 2 and report.unknown == []


def test_maskdino_keys() -> None:
    state = {
        "backbone.res2.0.conv1.weight": torch.ones(2, 2, 1, 1),
        "sem_seg_head.pixel_decoder.adapter_1.norm.weight": torch.ones(2),
        "sem_seg_head.predictor.decoder.layers.8.norm1.weight": torch.ones(2),
        "sem_seg_head.predictor.class_embed.weight": torch.ones(80, 2),
        "sem_seg_head.predictor.label_enc.weight": torch.ones(80, 2),
        "criterion.empty_weight": torch.ones(81),
    }
    out, report = convert_state_dict(state, "maskdino")
    assert set(out) == {
        "backbone.body.layer1.0.conv1.weight",
        "pixel_decoder.lateral.norm.weight",
        "object_decoder.decoder.layers.8.cross_norm.weight",
        "part_decoder.decoder.layers.8.cross_norm.weight",
    }
    assert report.unknown == []


def test_high2low_is_refused() -> None:
    state = {
        "sem_seg_head.pixel_decoder.input_proj.0.0.weight": torch.zeros(1).expand(256, 2048, 1, 1),
        "sem_seg_head.pixel_decoder.input_proj.2.0.weight": torch.zeros(1).expand(256, 512, 1, 1),
    }
    with pytest.raises(ValueError, match="high2low"):
        convert_state_dict(state, "maskdino")


def test_unknown_keys_are_reported() -> None:
    _, report = convert_state_dict({**BASE, "something.new": torch.ones(1)}, "partglee")
    assert report.unknown == ["something.new"] and "something.new" in str(report)


def test_foreign_state_dict() -> None:
    with pytest.raises(ValueError, match=r"no partglee weights.*conv1"):
        convert_state_dict({"conv1.weight": torch.ones(1)}, "partglee")


def test_unknown_source() -> None:
    with pytest.raises(ValueError, match="partglee, glee, maskdino"):
        convert_state_dict(BASE, "sam")


@pytest.mark.parametrize("wrapped", [False, True])
def test_files_flat_and_wrapped(tmp_path: Path, wrapped: bool) -> None:
    torch.save({"model": BASE, "iteration": 3} if wrapped else BASE, tmp_path / "in.pth")
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.safetensors", source="partglee")
    assert report.converted == 1
    assert set(read_weights(tmp_path / "out.safetensors")) == set(BASE)
    assert read_metadata(tmp_path / "out.safetensors")["partglee_source"] == "partglee"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth", "out.safetensors"]


def test_safetensors_input(tmp_path: Path) -> None:
    save_file(BASE, tmp_path / "in.safetensors")
    assert convert_checkpoint(tmp_path / "in.safetensors", tmp_path / "o.safetensors", source="partglee").converted == 1


def test_output_must_be_safetensors(tmp_path: Path) -> None:
    torch.save(BASE, tmp_path / "in.pth")
    with pytest.raises(ValueError, match=r"out\.pth"):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth", source="partglee")


class Evil:
    """Stands for anything that is no tensor."""


def test_bad_files(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save(BASE, good)
    cases = {
        "empty.pth": b"",
        "text.pth": b"this is no checkpoint",
        "short.pth": good.read_bytes()[: good.stat().st_size // 2],
        "text.safetensors": b"this is no checkpoint either",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_weights(tmp_path / name)
    with pytest.raises(ValueError, match="does not exist"):
        read_weights(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="is a folder"):
        read_weights(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="weights_only"):
        read_weights(tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list"):
        read_weights(tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="no tensors"):
        read_weights(tmp_path / "none.pth")


def test_glee_keys_are_no_partglee_keys() -> None:
    with pytest.raises(ValueError, match="try --from glee"):
        convert_state_dict({**BASE, "predictor.category_embed": torch.eye(2)}, "partglee")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_torch_files_never_escape(tmp_path: Path) -> None:
    random.seed(0)
    refused = 0
    for legacy in (False, True):
        torch.save(BASE, tmp_path / "good.pth", _use_new_zipfile_serialization=not legacy)
        content = (tmp_path / "good.pth").read_bytes()
        for _ in range(300):
            damaged = bytearray(content)
            for _ in range(random.randint(1, 8)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            (tmp_path / "bad.pth").write_bytes(damaged[: random.randint(1, len(damaged))])
            try:
                read_weights(tmp_path / "bad.pth")
            except ValueError as error:
                refused += "bad.pth" in str(error)
    assert refused > 500
