"""From a batch of jobs to their answers: an image is encoded once, whatever is asked about it.

B images of one canvas, (H, W) an image as it was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.masks import decode, encode
from partglee.engine import Predictor
from partglee.engine.inference import EncodedBatch, detect, encode_images
from partglee.serve.jobs import Answers, Job, Question
from partglee.serve.photos import Photo
from partglee.structures import Prediction

_VOCABULARIES_PER_CACHE = 500  # their names are remembered by the text encoder, which never forgets by itself


class Answerer:
    """Runs the model.

    Args:
        predictor: whose way with images and names it is.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._asked = 0

    def canvas(self, photo: Photo) -> tuple[int, int]:
        """Images of one canvas go through the network together."""
        divisor = self.predictor.model.size_divisibility
        return -(-int(photo.resized.shape[1]) // divisor), -(-int(photo.resized.shape[2]) // divisor)

    def __call__(self, jobs: Sequence[Job]) -> list[Answers]:
        """The answers of each of B jobs whose images have one canvas."""
        images = [job.photo.resized for job in jobs]
        encoded = encode_images(self.predictor.model, images, precision=self.predictor.precision)
        rows_of: dict[Question, list[int]] = {}
        for row, job in enumerate(jobs):
            rows_of.setdefault(job.question, []).append(row)
        answers: dict[int, Answers] = {}
        for question, rows in rows_of.items():
            some = encoded if len(rows_of) == 1 else encoded.picked(rows)
            answers.update(zip(rows, self._ask(some, [jobs[row].photo for row in rows], question), strict=True))
        return [answers[row] for row in range(len(jobs))]

    def _ask(self, encoded: EncodedBatch, photos: Sequence[Photo], question: Question) -> list[Answers]:
        model, sizes = self.predictor.model, [photo.found_in for photo in photos]
        found: list[Answers] = [[] for _ in photos]
        for vocabulary in question.vocabularies:
            text = model.embed(vocabulary)
            predictions = detect(model, encoded, text, vocabulary, sizes, question.options, self.predictor.precision)
            for answers, photo, prediction in zip(found, photos, predictions, strict=True):
                answers.append(line(prediction, photo, polygons=question.polygons))
        self._asked += len(question.vocabularies)
        if self._asked >= _VOCABULARIES_PER_CACHE:
            model.text_encoder.clear_cache()
            self._asked = 0
        return found


def line(prediction: Prediction, photo: Photo, *, polygons: bool = False) -> dict[str, Any]:
    """What `Prediction.to_dict` says, in the pixels of the image as it was sent.

    Args:
        polygons: segmentations as COCO's polygons in place of run lengths.
    """
    entry: dict[str, Any] = {**prediction.to_dict(image_id=photo.file_name or 0)}
    height, width = photo.size
    across, down = width / prediction.image_size[1], height / prediction.image_size[0]
    enlarged = photo.size != prediction.image_size
    for row in entry["results"]:
        if enlarged:
            left, top, wide, high = row["bbox"]
            row["bbox"] = [left * across, top * down, wide * across, high * down]
        if "segmentation" in row and (enlarged or polygons):
            mask = decode(row["segmentation"], *prediction.image_size)
            if enlarged:
                mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
            row["segmentation"] = _polygons(mask) if polygons else encode(mask)
    return {**entry, "file_name": photo.file_name, "height": height, "width": width}


def _polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """x, y, x, y, ... of every outline; holes are filled."""
    from supervision import mask_to_polygons

    return [outline.reshape(-1).astype(float).tolist() for outline in mask_to_polygons(mask) if len(outline) > 2]
