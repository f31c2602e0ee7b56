"""Frames of videos, and videos of frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from partglee.data.video import VideoWriter, read_frames, video_info

pytest.importorskip("av")


def clip(file: Path, *, frames: int = 7, size: tuple[int, int] = (31, 48), rate: Fraction = Fraction(10)) -> Path:
    """Frame i is of one grey, 30 i."""
    with VideoWriter(file, rate=rate) as video:
        for i in range(frames):
            video.write(np.full((*size, 3), 30 * i, np.uint8))
    return file


@pytest.mark.parametrize(("stride", "numbers"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (99, [0])])
def test_frames(tmp_path: Path, stride: int, numbers: list[int]) -> None:
    file = clip(tmp_path / "a.mp4")
    assert video_info(file) == (7, Fraction(10))
    frames = list(read_frames(file, stride=stride))
    assert [frame.number for frame in frames] == numbers
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in numbers])
    for frame in frames:
        assert frame.pixels.shape == (32, 48, 3) and frame.pixels.dtype == np.uint8  # sides are even
        assert abs(float(frame.pixels[:31].mean()) - 30 * frame.number) < 6


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4' is not a video that can be read"):
        list(read_frames(tmp_path / "text.mp4"))
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4' does not exist"):
        video_info(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="stride must be at least 1"):
        list(read_frames(tmp_path / "text.mp4", stride=0))
    with pytest.raises(ValueError, match="more than 100"):
        list(read_frames(clip(tmp_path / "a.mp4"), max_pixels=100))


def test_a_cut_file(tmp_path: Path) -> None:
    whole = clip(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.mp4'"):
        list(read_frames(tmp_path / "cut.mp4"))


def test_frames_of_another_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(10)) as video:
        video.write(np.zeros((10, 20, 3), np.uint8))
        with pytest.raises(ValueError, match=r"frames of a video have one size, \(10, 20\)"):
            video.write(np.zeros((10, 22, 3), np.uint8))
