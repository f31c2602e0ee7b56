"""Frames of video files, and video files of frames, by PyAV, which comes with supervision.

(H, W) a frame in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.data.images import MAX_PIXELS

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts"})


class Frame(NamedTuple):
    """One frame of a video."""

    number: int  # from 0
    seconds: float  # since the beginning
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB, upright


class VideoInfo(NamedTuple):
    """What a video file says of itself."""

    frames: int | None  # None where it does not say
    rate: Fraction  # frames a second


def video_info(file: str | Path) -> VideoInfo:
    """How long a video is.

    Raises:
        ValueError: for a file that is no video.
    """
    with _opened(Path(file)) as (container, stream):
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        frames = stream.frames or None
        if frames is None and container.duration:
            frames = max(1, round(container.duration / 1_000_000 * rate))
        return VideoInfo(frames, rate)


def read_frames(file: str | Path, *, stride: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Every `stride`-th frame, one in memory at a time. What a damaged file has before the damage is given.

    Raises:
        ValueError: for a file that is no video, has no frame, is damaged at its end, or larger frames than
            `max_pixels`; a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    path = Path(file)
    number = -1
    with _opened(path) as (container, stream):
        if stream.width * stream.height > max_pixels:
            raise ValueError(
                f"frames of '{path}' have {stream.width} x {stream.height} pixels, more than {max_pixels:,}"
            )
        for number, frame in enumerate(container.decode(stream)):
            if number % stride == 0:
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # as phones lie in the hand
                yield Frame(number, float(frame.time or 0.0), np.ascontiguousarray(np.rot90(pixels, turns)))
    if number < 0:
        raise ValueError(f"'{path}' has no frame that can be read; is it a video?")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = _av()
    if not path.is_file():
        raise FileNotFoundError(f"video file '{path}' does not exist")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"'{path}' has no pictures, only {len(container.streams)} other streams")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise ValueError(f"'{path}' is not a video that can be read ({error.strerror or error})") from error


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ValueError("videos need PyAV: pip install av") from error
    return av


class VideoWriter:
    """Writes frames of one size as H.264 where it is built in, else as MPEG-4; sides are made even by a black line.

    >>> with VideoWriter("found.mp4", rate=Fraction(25)) as video:  # doctest: +SKIP
    ...     video.write(pixels)
    """

    def __init__(self, file: str | Path, *, rate: Fraction) -> None:
        av = _av()
        self._container: Any = av.open(str(file), "w", format="mp4")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream: Any = self._container.add_stream(codec, rate=rate.limit_denominator(1001))
        self._stream.pix_fmt = "yuv420p"
        self._size: tuple[int, int] | None = None

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """(H, W, 3) RGB.

        Raises:
            ValueError: for a frame of another size than the first.
        """
        size = pixels.shape[0], pixels.shape[1]
        if self._size is None:
            self._size = size
            self._stream.height, self._stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        if size != self._size:
            raise ValueError(f"frames of a video have one size, {self._size} (height, width); got {size}")
        even = np.pad(pixels, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)))
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._size is not None and error is None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
