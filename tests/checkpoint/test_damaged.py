"""Bytes that were overwritten in a weight file are found, or change nothing; what does not fit is not said to fit."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest
import torch

from partglee.checkpoint import ConversionReport, read_weights
from partglee.checkpoint.convert import check_fit
from partglee.cli import main

BLOCK = 4096


def test_four_kilobytes_overwritten_anywhere_are_found(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {f"layer{i}.weight": torch.randn(30, 40, generator=generator) for i in range(12)}
    torch.save({"model": state}, tmp_path / "good.pth")
    content = (tmp_path / "good.pth").read_bytes()
    rng = random.Random(0)
    silent = []
    file = tmp_path / "bad.pth"
    starts = [*range(0, len(content) - BLOCK, BLOCK), *(rng.randrange(len(content) - BLOCK) for _ in range(60))]
    for start in starts:
        for noise in (rng.randbytes(BLOCK), bytes(BLOCK)):
            file.write_bytes(content[:start] + noise + content[start + BLOCK :])
            try:
                read = read_weights(file)
            except ValueError as error:
                assert "bad.pth" in str(error)
            else:
                if read.keys() != state.keys() or any(not torch.equal(read[key], state[key]) for key in state):
                    silent.append(start)
    assert not silent


def test_weights_of_another_shape_or_not_finite_do_not_fit() -> None:
    ours = {"a": torch.zeros(2, 3), "qformer.b": torch.zeros(1), "c": torch.zeros(1)}
    report = ConversionReport("glee", absent=(r"qformer\.",))
    assert check_fit({"a": torch.ones(2, 3)}, ours, report) == ["c"]
    assert check_fit({"a": torch.ones(2, 3), "c": torch.ones(1)}, ours, report) == []
    with pytest.raises(ValueError, match=r"a is \(3, 2\), the configuration's \(2, 3\)"):
        check_fit({"a": torch.ones(3, 2)}, ours, report)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="c holds NaN or infinite values"):
            check_fit({"a": torch.ones(2, 3), "c": torch.tensor([value])}, ours, report)


def test_a_needed_weight_that_is_missing_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "partglee.pixel_decoder.transformer.level_embed"
    from partglee.config import load_config
    from partglee.engine.partglee_recipe import PARTGLEE

    with torch.device("meta"):
        ours = PARTGLEE.build_model(load_config("tiny")).state_dict()
    state = {key: torch.zeros(ours["pixel_decoder.level_embed"].shape)}
    files = [str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]
    torch.save(state, files[0])
    assert main(["convert", "--from", "partglee", "--config-file", "tiny", *files]) == 1
    assert f"does not fit tiny: {len(ours) - 1} parameters are missing: " in capsys.readouterr().out
    torch.save({key: state[key][:1]}, files[0])
    Path(files[1]).unlink()
    assert main(["convert", "--from", "partglee", "--config-file", "tiny", *files]) == 2
    assert "pixel_decoder.level_embed is (1" in capsys.readouterr().err
    assert not Path(files[1]).exists()


def test_an_entry_that_calls_itself_a_folder(tmp_path: Path) -> None:
    """Checksums are right then, but torch reads nothing and hands out memory that nobody wrote."""
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(5)}, file)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        (name,) = [entry.filename for entry in archive.infolist() if entry.filename.endswith("data/0")]
    header = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[header + 38 : header + 40] = b"\xff\xff"  # external attributes
    file.write_bytes(content)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    with pytest.raises(ValueError, match="calls itself a folder; copy or download it again"):
        read_weights(file)
