"""Videos of `partglee predict`: a line for each frame that is looked at, and a video of the pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from partglee.data.video import Frame
    from partglee.engine import Predictor
    from partglee.engine.image_input import InputImage
    from partglee.structures import Prediction


def predict_video(
    predictor: Predictor,
    file: Path,
    predict: Callable[[list[InputImage]], list[Prediction]],
    lines: IO[str],
    *,
    picture: Path | None,
    arguments: argparse.Namespace,
) -> None:
    """Predict every `--stride`-th frame of a video.

    Args:
        lines: gets a line of `Prediction.to_dict` for each frame, with `frame` (from 0) and `seconds` besides.
        picture: the video of the pictures, at the rate that keeps its time; None = none.
    """
    from tqdm import tqdm

    from partglee.basics.files import whole_file
    from partglee.data.video import VideoWriter, read_frames, video_info

    info = video_info(file)
    total = None if info.frames is None else -(-info.frames // arguments.stride)
    frames = read_frames(file, stride=arguments.stride, max_pixels=predictor.max_pixels)
    first = next(frames)  # of a file without frames nothing is written
    with (
        whole_file(picture) if picture is not None else nullcontext() as beside,
        VideoWriter(beside, rate=info.rate / arguments.stride) if beside is not None else nullcontext() as video,
        tqdm(unit="frame", total=total, desc=file.name, disable=None) as progress,
    ):
        for some in _batches(first, frames, arguments.batch_size):
            found = predict([predictor.read(frame.pixels) for frame in some])
            for frame, prediction in zip(some, found, strict=True):
                prediction.file_name = str(file)
                line = {**prediction.to_dict(), "frame": frame.number, "seconds": round(frame.seconds, 3)}
                lines.write(json.dumps(line) + "\n")
                if video is not None:
                    video.write(np.asarray(prediction.draw()))
            progress.update(len(some))


def _batches(first: Frame, rest: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    some = [first, *islice(rest, size - 1)]
    while some:
        yield some
        some = list(islice(rest, size))
