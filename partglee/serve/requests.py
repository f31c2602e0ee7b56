"""The fields of a parse request, read and checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from starlette.datastructures import FormData, UploadFile

from partglee.modeling.postprocess import PostprocessOptions
from partglee.serve.limits import Limits
from partglee.serve.names import read_vocabulary
from partglee.serve.refusals import Refusal, shown
from partglee.structures import Vocabulary

MASKS = ("rle", "polygons", "none")
FIELDS = {  # of the form, for people and for the description of the interface
    "image": "a file: JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000, PPM",
    "vocabulary": "'car: wheel, door; person', JSON, or a built-in name; may come several times",
    "score_threshold": "objects below it are dropped with their parts",
    "part_score_threshold": "for parts; default: as for objects",
    "max_objects": "the best so many",
    "masks": "rle (default), polygons or none",
    "strict": "true: names that the model lacks are an error, not read as the nearest",
}


class Asked(NamedTuple):
    """A request."""

    image: UploadFile
    vocabularies: tuple[Vocabulary, ...]
    options: PostprocessOptions
    polygons: bool
    strict: bool


def read_form(form: FormData, *, limits: Limits, defaults: PostprocessOptions, vocabulary: Vocabulary | None) -> Asked:
    """A form's fields.

    Args:
        defaults: of the predictor; vocabulary: where the form names none.

    Raises:
        Refusal: for a field that is unknown, missing, doubled or not what it should be.
    """
    if unknown := [name for name in form if name not in FIELDS]:
        raise _wrong("field_unknown", f"unknown field {shown(unknown[0])}; expected some of {', '.join(FIELDS)}")
    for name in FIELDS:
        if name != "vocabulary" and len(form.getlist(name)) > 1:
            raise _wrong("field_doubled", f"the field {name} came {len(form.getlist(name))} times; send it once")
    image = form.get("image")
    if not isinstance(image, UploadFile):
        came = "none" if image is None else f"the text {shown(image)}; paths and addresses are not opened"
        raise _wrong("image_missing", f"expected a file in the field image, got {came}: curl -F image=@photo.jpg")
    masks = _text(form, "masks") or "rle"
    if masks not in MASKS:
        raise _wrong("masks_wrong", f"masks must be one of {', '.join(MASKS)}, got {shown(masks)}")
    return Asked(
        image=image,
        vocabularies=_vocabularies(form, limits, vocabulary),
        options=replace(
            defaults,
            score_threshold=_number(form, "score_threshold", defaults.score_threshold, limits.score_threshold, 1.0),
            part_score_threshold=_number(form, "part_score_threshold", None, limits.score_threshold, 1.0),
            max_objects=int(_number(form, "max_objects", limits.rows, 1, limits.rows)),
            masks=masks != "none",
        ),
        polygons=masks == "polygons",
        strict=_switch(form, "strict"),
    )


def _vocabularies(form: FormData, limits: Limits, default: Vocabulary | None) -> tuple[Vocabulary, ...]:
    texts = [text for text in form.getlist("vocabulary") if isinstance(text, str)]
    if not texts and default is not None:
        return (default,)
    if not texts:
        raise _wrong("vocabulary_missing", "expected names in the field vocabulary, such as 'car: wheel, door; person'")
    if len(texts) > limits.vocabularies:
        raise _wrong(
            "too_many_vocabularies",
            f"a request may have {limits.vocabularies} vocabularies, got {len(texts)}; ask again",
        )
    return tuple(read_vocabulary(text, limits) for text in texts)


def _number(form: FormData, name: str, default: Any, least: float, most: float) -> Any:
    text = _text(form, name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise _wrong("number_wrong", f"{name} must be a number from {least:g} to {most:g}, got {shown(text)}")
    return value


def _switch(form: FormData, name: str) -> bool:
    text = (_text(form, name) or "false").lower()
    if text not in ("true", "false"):
        raise _wrong("switch_wrong", f"{name} must be true or false, got {shown(text)}")
    return text == "true"


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise _wrong("field_wrong", f"expected text in the field {name}, got a file")
    return value.strip()


def _wrong(code: str, message: str) -> Refusal:
    return Refusal(422, code, message)
