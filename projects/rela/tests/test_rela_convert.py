"""Released weights: the golden arrays of the released program, keys in released form, and what is refused."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rela
import torch
from numpy.typing import NDArray
from rela.cli import main
from rela.convert import convert_state_dict
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import interpolate

from partglee.checkpoint import read_metadata, write_weights
from partglee.modeling.photo_model import Words
from partglee.text.word_pieces import vocabulary_file

NATURAL = ("relative_position_index", "position_ids", "num_batches_tracked")


def fill(key: str, shape: list[int]) -> Tensor:
    """The rule of the golden file's README."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if len(shape) >= 2:
        return noise / math.sqrt(noise[0].numel())
    lower = key.lower()
    is_norm = "norm" in lower or "ln" in lower or ".bn" in lower or lower.split(".")[-2] == "1"
    return 1 + 0.1 * noise if is_norm and key.endswith("weight") else 0.1 * noise


def released_state(shared: Path, *, words: bool = True) -> dict[str, Tensor]:
    shapes = json.loads((shared / "golden" / "rela_keys_swint.json").read_text())
    return {
        key: fill(key, shape)
        for key, shape in shapes.items()
        if not key.endswith(NATURAL) and (words or not key.startswith("text_encoder."))
    }


def test_golden_through_convert(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every array of the released program, within 1e-3 and float32's rounding.

    The golden weights make the attention to words nearly even, and the norm behind it enlarges rounding three hundred
    times: the program's own float32 numbers lie 4e-3 to 7e-3 from those in float64, more or less by the processor that
    made them. How much, our own float32 says: its distance from float64 is allowed twice, once for each program.
    """
    save_file(released_state(shared), tmp_path / "released.safetensors")
    target = tmp_path / "rela.safetensors"
    assert main(["convert", str(tmp_path / "released.safetensors"), str(target)]) == 0
    (tmp_path / "released.safetensors").unlink()
    assert "every parameter is there, nothing is left over" in capsys.readouterr().out
    golden = np.load(shared / "golden" / "rela_swint_upstream.npz")
    model = rela.Predictor.from_pretrained(target, device="cpu").model
    rounded = arrays_of(model, golden)
    exact = arrays_of(model.double(), golden)
    assert set(exact) == set(golden.files) - {"image", "token_ids"}
    allowed = {name: 1e-3 + 2 * np.abs(rounded[name] - value).max() for name, value in exact.items()}
    for name in set(exact) - {"ref_seg"}:
        assert allowed[name] < 0.02 * np.abs(golden[name]).max(), name  # rounding hides nothing else
        assert np.abs(exact[name] - golden[name]).max() <= allowed[name], name
    low, high = (expit(exact["ref_seg"] + sign * allowed["head_pred_masks"]) for sign in (-1, 1))
    assert (low - 1e-6 <= golden["ref_seg"]).all() and (golden["ref_seg"] <= high + 1e-6).all()
    assert np.mean(high - low) < 0.03, "few pixels lie where rounding decides"


def arrays_of(model: rela.ReLA, golden: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What the golden file holds, computed in the model's dtype; `ref_seg` before the sigmoid."""
    dtype = next(model.parameters()).dtype
    ids = torch.from_numpy(golden["token_ids"])
    seen: list[list[Tensor]] = []
    hook = model.pixel_decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        words: Words = model.words(ids, ids > 0)
        batch = model.batch([torch.from_numpy(golden["image"]).permute(2, 0, 1)])
        output = model(batch._replace(tensor=batch.tensor.to(dtype)), words, torch.tensor([0]))
    hook.remove()
    found = {
        **{f"feature_res{i + 2}": fused[:, ::32] for i, fused in enumerate(seen[0])},
        "head_pred_logits": output.minimap,
        "head_all_masks": output.region_masks,
        "head_pred_masks": output.masks,
        "head_nt_label": output.no_target,
        "ref_seg": interpolate(output.masks, size=(288, 288), mode="bilinear")[0, :, ::4, ::4],
        "no_target": output.no_target[0].sigmoid(),
    }
    return {name: value.numpy() for name, value in found.items()}


def in_released_form(model: rela.ReLA) -> dict[str, Tensor]:
    """A state dict of ours under released names: every turn of the converter, the other way round, by hand."""
    out: dict[str, Tensor] = {}
    names = {
        r"fusion\.(\d)\.visual\.(.+)": r"backbone.layers.\1.fusion.vis_project.0.\2",
        r"fusion\.(\d)\.(key|query|value)\.(.+)": r"backbone.layers.\1.fusion.image_lang_att.f_\2.0.\3",
        r"fusion\.(\d)\.out\.(.+)": r"backbone.layers.\1.fusion.image_lang_att.W.0.\2",
        r"fusion\.(\d)\.join\.(.+)": r"backbone.layers.\1.fusion.project_mm.0.\2",
        r"fusion\.(\d)\.norm\.(.+)": r"backbone.norm\1.\2",
        r"text_encoder\.tower\.(.+)": r"text_encoder.\1",
        r"backbone\.body\.patch_embed\.(.+)": r"backbone.patch_embed.\1",
        r"backbone\.body\.layers_(\d)\.blocks\.(.+)": r"backbone.layers.\1.blocks.\2",
        r"region_decoder\.layers\.(\d)\.pixel_attn\.(.+)": r"sem_seg_head.predictor.RIA_layers.\1.multihead_attn.\2",
        r"region_decoder\.layers\.(\d)\.pixel_norm\.(.+)": r"sem_seg_head.predictor.RIA_layers.\1.norm.\2",
        r"region_decoder\.layers\.(\d)\.region_attn\.(.+)": r"sem_seg_head.predictor.RLA_vision.\1.self_attn.\2",
        r"region_decoder\.layers\.(\d)\.region_norm\.(.+)": r"sem_seg_head.predictor.RLA_vision.\1.norm.\2",
        r"region_decoder\.layers\.(\d)\.ffn\.(.+)": r"sem_seg_head.predictor.transformer_ffn_layers.\1.\2",
        r"region_decoder\.layers\.(\d)\.ffn_norm\.(.+)": r"sem_seg_head.predictor.transformer_ffn_layers.\1.norm.\2",
        r"region_decoder\.language\.0\.attn\.(.+)": r"sem_seg_head.predictor.RLA_lang_att.multihead_attn.\1",
        r"region_decoder\.language\.0\.norm\.(.+)": r"sem_seg_head.predictor.RLA_lang_att.norm.\1",
        r"region_decoder\.language\.0\.proj\.weight": "sem_seg_head.predictor.lang_proj.weight",
        r"region_decoder\.language\.0\.gate": "sem_seg_head.predictor.lang_weight",
        r"region_decoder\.content": "sem_seg_head.predictor.query_feat.weight",
        r"region_decoder\.position": "sem_seg_head.predictor.query_embed.weight",
        r"region_decoder\.level_embed": "sem_seg_head.predictor.level_embed.weight",
        r"region_decoder\.norm\.(.+)": r"sem_seg_head.predictor.decoder_norm.\1",
        r"region_decoder\.mask_mlp\.(.+)": r"sem_seg_head.predictor.mask_embed.\1",
        r"region_decoder\.minimap\.(.+)": r"sem_seg_head.predictor.minimap_embed.\1",
        r"region_decoder\.no_target\.(.+)": r"sem_seg_head.predictor.nt_embed.\1",
        r"pixel_decoder\.mask_features\.(.+)": r"sem_seg_head.pixel_decoder.mask_features.\1",
        r"pixel_decoder\.lateral\.conv\.(.+)": r"sem_seg_head.pixel_decoder.adapter_1.\1",
        r"pixel_decoder\.lateral\.norm\.(.+)": r"sem_seg_head.pixel_decoder.adapter_1.norm.\1",
        r"pixel_decoder\.output\.conv\.(.+)": r"sem_seg_head.pixel_decoder.layer_1.\1",
        r"pixel_decoder\.output\.norm\.(.+)": r"sem_seg_head.pixel_decoder.layer_1.norm.\1",
    }
    encoder = "sem_seg_head.pixel_decoder.transformer.encoder.layers."
    for key, value in model.state_dict().items():
        if match := re.fullmatch(r"backbone\.body\.layers_(\d)\.downsample\.(.+)", key):
            out[f"backbone.layers.{int(match[1]) - 1}.downsample.{match[2]}"] = value
        elif match := re.fullmatch(r"pixel_decoder\.input_proj\.(\d)\.(conv|norm)\.(.+)", key):
            out[f"sem_seg_head.pixel_decoder.input_proj.{2 - int(match[1])}.{int(match[2] == 'norm')}.{match[3]}"] = (
                value
            )
        elif match := re.fullmatch(r"backbone\.body\.(conv1|bn1|layer\d)\.(.+)", key):
            out[_released_resnet(match[1], match[2])] = value
        elif key == "pixel_decoder.level_embed":
            out["sem_seg_head.pixel_decoder.transformer.level_embed"] = value[[2, 1, 0]]
        elif match := re.fullmatch(
            r"pixel_decoder\.layers\.(\d)\.attn\.(sampling_offsets|attention_weights)\.(.+)", key
        ):
            rows = value.reshape(8, 3, -1, *value.shape[1:])[:, [2, 1, 0]]
            out[f"{encoder}{match[1]}.self_attn.{match[2]}.{match[3]}"] = rows.reshape(value.shape)
        elif match := re.fullmatch(r"pixel_decoder\.layers\.(\d)\.(attn|attn_norm|ffn_norm|ffn)\.(.+)", key):
            where = {"attn": "self_attn.", "attn_norm": "norm1.", "ffn_norm": "norm2.", "ffn": ""}[match[2]]
            out[f"{encoder}{match[1]}.{where}{match[3]}"] = value
        else:
            for pattern, name in names.items():
                if re.fullmatch(pattern, key):
                    out[re.sub(pattern, name, key)] = value
                    break
            else:
                raise AssertionError(f"{key} has no released name")
    return out


def _released_resnet(head: str, rest: str) -> str:
    """Names of detectron2's ResNet."""
    if head in ("conv1", "bn1"):
        return f"backbone.stem.conv1.{'norm.' if head == 'bn1' else ''}{rest}"
    block, name, *end = rest.split(".")
    stage = f"backbone.res{int(head[-1]) + 1}.{block}"
    if name == "downsample":
        return f"{stage}.shortcut.{'norm.' if end[0] == '1' else ''}{end[-1]}"
    return f"{stage}.{name.replace('bn', 'conv')}.{'norm.' if name.startswith('bn') else ''}{'.'.join(end)}"


SMALL = [
    "MODEL.REGIONS.NUM", 4, "MODEL.REGIONS.NUM_LAYERS", 3, "MODEL.REGIONS.FFN_DIM", 16, "MODEL.FFN_DIM", 16,
    "MODEL.EMBED_DIM", 32, "MODEL.ENCODER.NUM_LAYERS", 2, "MODEL.TEXT.BERT.PRETRAINED", "",
    "MODEL.TEXT.BERT.WIDTH", 16, "MODEL.TEXT.BERT.NUM_LAYERS", 1, "MODEL.TEXT.BERT.NUM_HEADS", 2,
    "MODEL.TEXT.BERT.FFN_DIM", 16, "MODEL.TEXT.BERT.NUM_WORDS", 100,
]  # fmt: skip


@pytest.fixture(scope="module")
def small_swin() -> rela.ReLA:
    torch.manual_seed(0)
    return rela.build_model(rela.load_config("rela_swint", SMALL))


def test_other_sizes_come_back_as_they_were(small_swin: rela.ReLA) -> None:
    """Nothing is tuned to the golden case: another width, other layers; closed gates and index tables are left out."""
    released = in_released_form(small_swin)
    dim = small_swin.backbone.channels[0]
    released["backbone.layers.0.res_gate.0.weight"] = torch.zeros(dim, dim)
    released["backbone.layers.0.res_gate.2.weight"] = torch.zeros(dim, dim)
    released["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    released["text_encoder.embeddings.position_ids"] = torch.zeros(1, 512)
    released["criterion.empty_weight"] = torch.ones(2)
    converted, report = convert_state_dict({f"module.{key}": value for key, value in released.items()})
    ours = small_swin.state_dict()
    assert set(converted) == set(ours) and not report.unknown
    assert all(torch.equal(converted[key], ours[key]) for key in ours)
    told = str(report)
    assert "gates into the next stage of the backbone: zero" in told and "dropped 2" in told


@pytest.mark.parametrize(
    ("name", "more", "num_backbone"),
    [
        # 87,903,584 of the classifier less its head of 1,025,000 and the norm before it.
        ("rela_swinb", (), 86_876_536),
        # Without the classifier of 2,049,000; its norms are constants, not parameters.
        ("rela_r50", ("MODEL.BACKBONE.FROZEN_NORM", False), 23_508_032),
    ],
)
def test_other_backbones_come_back_as_they_were(
    name: str, more: tuple[object, ...], num_backbone: int, tmp_path: Path
) -> None:
    """As large as timm's and torchvision's classifiers without their heads; every tensor has a released name and comes
    back. Names of the released ResNet are detectron2's, as those of its pixel decoder are."""
    torch.manual_seed(0)
    model = rela.build_model(rela.load_config(name, [*SMALL, *more]))
    assert sum(p.numel() for p in model.backbone.parameters()) == num_backbone
    converted, report = convert_state_dict(in_released_form(model))
    ours = {key: value for key, value in model.state_dict().items() if not key.endswith(NATURAL)}
    assert {key for key in converted if not key.endswith(NATURAL)} == set(ours) and not report.unknown
    assert all(torch.equal(converted[key], ours[key]) for key in ours)


def test_open_gates_are_kept() -> None:
    state = {
        "sem_seg_head.predictor.query_feat.weight": torch.zeros(4, 8),
        "sem_seg_head.pixel_decoder.transformer.level_embed": torch.zeros(3, 8),
        "backbone.layers.0.res_gate.0.weight": torch.zeros(8, 8),
        "backbone.layers.0.res_gate.2.weight": torch.ones(8, 8),
    }
    converted, report = convert_state_dict(state)
    assert {"gates.0.inner.weight", "gates.0.outer.weight"} <= set(converted) and not report.dropped
    state["backbone.layers.0.res_gate.2.weight"] = torch.zeros(8, 8)
    assert not any("gates" in key for key in convert_state_dict(state)[0])


def test_files_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"head.weight": torch.zeros(2)}, file)
    assert main(["convert", str(file), str(tmp_path / "out.safetensors")]) == 2
    assert "no ReLA weights" in capsys.readouterr().err and not (tmp_path / "out.safetensors").exists()


def test_a_file_that_lacks_a_tensor(small_swin: rela.ReLA, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = in_released_form(small_swin)
    del released["sem_seg_head.predictor.lang_weight"]
    write_weights(released, tmp_path / "in.safetensors")
    yaml = tmp_path / "small.yaml"
    yaml.write_text(rela.load_config("rela_swint", SMALL).dump(), encoding="utf-8")
    arguments = ["convert", str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors"), "--config", str(yaml)]
    assert main(arguments) == 2
    assert "1 missing or of another shape (region_decoder.language.0.gate)" in capsys.readouterr().err
    released["sem_seg_head.predictor.lang_weight"] = torch.zeros(())
    write_weights(released, tmp_path / "in.safetensors")
    words = vocabulary_file("toy")
    assert main([*arguments, "--vocabulary", str(words)]) == 0
    assert "partglee_words" in read_metadata(tmp_path / "out.safetensors")
    assert len(load_file(tmp_path / "out.safetensors")) == len(small_swin.state_dict())
