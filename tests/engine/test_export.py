"""Exported weights: one file, nothing else, the same predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from partglee.checkpoint import read_metadata, write_weights
from partglee.cli import main
from partglee.config import config_from_text, load_config
from partglee.engine import Predictor
from partglee.engine.build import build_initial_model
from partglee.engine.export import export_weights, unproject_weights
from partglee.engine.pretrained import load_pretrained
from partglee.engine.weights import load_initial_weights
from partglee.modeling import build_model
from partglee.testing import fill_weights, tiny_model

VOCABULARY = {"dog": ["head", "tail"], "person": ["arm"]}
LOOSE = {"score_threshold": 0.0, "max_objects": 3, "max_parts_per_object": 2}
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
SMALL = ["INPUT.TEST.SHORT_SIDE", 96, "INPUT.TEST.MAX_SIDE", 160]


@pytest.fixture(scope="module")
def checkpoint(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder as training leaves it, with averaged weights that differ from the raw ones."""
    cfg = load_config("tiny", ["MODEL.TEXT.TABLE.FILE", str(table), *SMALL])
    model = tiny_model(table=table)
    folder = tmp_path_factory.mktemp("run") / "step_0000010"
    metadata = {"partglee_config_text": cfg.dump(), "iteration": "10"}
    write_weights(model.state_dict(), folder / "ema.safetensors", metadata)
    raw = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    write_weights(raw, folder / "model.safetensors", metadata)
    return folder


def predict(predictor: Predictor) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    found = predictor(PHOTO, VOCABULARY, **LOOSE)
    return list(found.names), found.boxes, found.parent


def test_exported_weights_need_nothing_else(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    cfg = load_config("tiny", ["MODEL.TEXT.TABLE.FILE", str(table), *SMALL])
    wanted = predict(Predictor(model=tiny_model(table=table), short_side=96, max_side=cfg.INPUT.TEST.MAX_SIDE))
    file = export_weights(checkpoint, tmp_path / "mine.safetensors", half=False, remarks={"training_data": "noise"})
    names, boxes, parent = predict(Predictor.from_pretrained(file))
    assert names == wanted[0] and parent.tolist() == wanted[2].tolist()
    torch.testing.assert_close(boxes, wanted[1], rtol=1e-4, atol=1e-3)
    metadata = read_metadata(file)
    assert metadata["training_data"] == "noise" and metadata["trained_steps"] == "10"
    told = config_from_text(metadata["partglee_config_text"])
    assert told.MODEL.TEXT.TABLE.FILE == "" and told.MODEL.TEXT.TABLE.PROJECTED


def test_the_table_is_projected_and_clip_vectors_stay_out(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    file = export_weights(checkpoint, tmp_path / "mine.safetensors", half=False)
    state, model = load_file(file), tiny_model(table=table)
    raw = model.text_encoder.backend.embeddings
    torch.testing.assert_close(state["embeddings"], raw @ model.text_encoder.projection.detach())
    assert "text_encoder.projection" not in state
    assert all(value.shape != raw.shape for value in state.values())


def test_what_is_unprojected_has_the_projection_again(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    trained = tiny_model(table=table).state_dict()
    file = export_weights(checkpoint, tmp_path / "mine.safetensors", half=False)
    error = unproject_weights(file, table, tmp_path / "start.safetensors", without=["backbone."])
    start = load_file(tmp_path / "start.safetensors")
    raw = tiny_model(table=table).text_encoder.backend.embeddings
    projected = raw @ start["text_encoder.projection"]
    torch.testing.assert_close(projected, raw @ trained["text_encoder.projection"], rtol=1e-3, atol=1e-3)
    assert error < 1e-3 and set(start) == {key for key in trained if not key.startswith("backbone.")}
    with pytest.raises(ValueError, match="has no name table"):
        unproject_weights(tmp_path / "start.safetensors", table, tmp_path / "again.safetensors")
    np.savez(tmp_path / "other.npz", names=np.array(["nothing"]), embeddings=np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"other\.npz has none of the names"):
        unproject_weights(file, tmp_path / "other.npz", tmp_path / "again.safetensors")


def test_a_teacher_of_the_text_tower_stays_out(checkpoint: Path, tmp_path: Path) -> None:
    state = load_file(checkpoint / "ema.safetensors")
    taught = {**state, "text_encoder.teacher.tower.ln_final.bias": torch.zeros(4)}
    write_weights(taught, tmp_path / "taught.safetensors", read_metadata(checkpoint / "ema.safetensors"))
    found = load_file(export_weights(tmp_path / "taught.safetensors", tmp_path / "mine.safetensors"))
    assert found.keys() == load_file(export_weights(checkpoint, tmp_path / "plain.safetensors")).keys()


def test_the_head_of_a_dense_teacher_stays_out(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    """Of a file, and of what inference and `--eval-only` make of the configuration that it was trained with."""
    taught = ["MODEL.OBJECT_DECODER.DENSE_HEAD", True]
    cfg = load_config("tiny", ["MODEL.TEXT.TABLE.FILE", str(table), *SMALL, *taught, "INPUT.TRAIN.TEACHER", "x.onnx"])
    model = tiny_model(table=table, overrides=taught)
    trained = tmp_path / "taught.safetensors"
    write_weights(model.state_dict(), trained, {"partglee_config_text": cfg.dump(), "iteration": "10"})
    file = export_weights(trained, tmp_path / "mine.safetensors")
    assert load_file(file).keys() == load_file(export_weights(checkpoint, tmp_path / "plain.safetensors")).keys()
    told = config_from_text(read_metadata(file)["partglee_config_text"])
    assert not told.MODEL.OBJECT_DECODER.DENSE_HEAD and told.INPUT.TRAIN.TEACHER == ""
    for weights, overrides in ((trained, []), (file, taught)):
        assert load_pretrained(weights, overrides).model.object_decoder.dense_head is None
    assert load_pretrained(trained, training=True).model.object_decoder.dense_head is not None
    cfg.MODEL.WEIGHTS, cfg.MODEL.TEXT.TABLE.FILE = str(file), str(file)
    cfg.MODEL.TEXT.TABLE.PROJECTED, cfg.MODEL.TEXT.TABLE.WIDTH = True, 128
    load_initial_weights(cfg, build_model(cfg), complete=True)


def test_half_precision_is_half_the_size(checkpoint: Path, tmp_path: Path) -> None:
    full = export_weights(checkpoint, tmp_path / "full.safetensors", half=False)
    half = export_weights(checkpoint, tmp_path / "half.safetensors")
    assert half.stat().st_size < 0.52 * full.stat().st_size
    assert len(predict(Predictor.from_pretrained(half))[0]) > 0


def test_training_starts_from_exported_weights_by_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_weights(checkpoint, tmp_path / "mine.safetensors", half=False)
    monkeypatch.setenv("PARTGLEE_WEIGHTS", str(tmp_path))
    table = ["MODEL.TEXT.TABLE.FILE", "mine", "MODEL.TEXT.TABLE.PROJECTED", True, "MODEL.TEXT.TABLE.WIDTH", 128]
    model = build_initial_model(load_config("tiny", ["MODEL.WEIGHTS", "mine", *table]))
    wanted = fill_weights(build_initial_model(load_config("tiny", table))).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert "dog tail" in model.text_encoder.backend.names


def test_what_was_trained_from_exported_weights_is_evaluated_with_their_table(checkpoint: Path, tmp_path: Path) -> None:
    """The best weights of a run name the table that they were trained with, though they do not carry it."""
    start = export_weights(checkpoint, tmp_path / "start.safetensors", half=False)
    cfg = load_config("tiny", ["MODEL.WEIGHTS", start])
    trained = build_initial_model(cfg)
    best = tmp_path / "best.safetensors"
    write_weights(trained.state_dict(), best, {"partglee_config_text": cfg.dump()})
    model = build_initial_model(load_config("tiny", ["MODEL.WEIGHTS", best]), complete=True)
    assert model.text_encoder.backend.names == trained.text_encoder.backend.names
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in model.state_dict().items())


def test_export_on_the_command_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.safetensors"
    assert main(["export", str(checkpoint), str(out), "--remark", "training_data=noise, for tests"]) == 0
    assert "from_pretrained" in capsys.readouterr().out and read_metadata(out)["training_data"] == "noise, for tests"
    assert main(["export", str(checkpoint), str(out), "--remark", "noise"]) == 2
    assert "KEY=TEXT" in capsys.readouterr().err
    assert main(["export", str(checkpoint), str(out), "--remark", "names=mine"]) == 2
    assert "choose another key" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nothing"), str(out)]) == 2
    assert "checkpoint folder" in capsys.readouterr().err


def test_what_no_weight_depends_on_may_change(checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "mine.safetensors"
    changes = ["MODEL.OBJECT_DECODER.NUM_PARSED", "3", "INPUT.TEST.SHORT_SIDE", "160"]
    assert main(["export", str(checkpoint), str(out), *changes]) == 0
    predictor = Predictor.from_pretrained(out)
    assert predictor.short_side == 160
    assert predictor.model.num_parsed_objects == 3
    for bad, told in (
        (["MODEL.EMBED_DIM", "64"], "MODEL.EMBED_DIM belongs to the training"),
        (["TEST.DETECTION", "64"], "TEST.DETECTIONS"),
        (["TEST.DETECTIONS"], "KEY VALUE"),
        (["MODEL.OBJECT_DECODER.NUM_PARSED", "0"], "NUM_PARSED must be at least 1, got 0"),
    ):
        capsys.readouterr()
        assert main(["export", str(checkpoint), str(tmp_path / "bad.safetensors"), *bad]) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "bad.safetensors").exists()


def test_a_checkpoint_must_say_its_configuration(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "silent.safetensors"
    write_weights(tiny_model(table=table).state_dict(), file)
    with pytest.raises(ValueError, match="does not say its configuration"):
        export_weights(file, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match="is no mapping"):
        config_from_text("just words")
