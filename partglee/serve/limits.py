"""How much of a server one client may take."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one request and of all together.

    Attributes:
        upload_bytes: of one request's body.
        pixels: of an image, looked at before it is decoded.
        mask_pixels: masks of larger images are found in so many pixels and enlarged, which bounds their memory.
        vocabularies: of one request.
        objects, parts: names of one vocabulary.
        letters: of one name.
        rows: objects that one answer may have.
        score_threshold: the lowest that may be asked for.
        queue: requests that wait for the model.
        batch: images that go through the network together.
        readers: images that are decoded at once.
        seconds: from the last byte of a request to its answer; as long for the upload itself.

    Raises:
        ValueError: for a bound that is not positive.
    """

    upload_bytes: int = 20_000_000
    pixels: int = 50_000_000
    mask_pixels: int = 2_000_000
    vocabularies: int = 8
    objects: int = 300
    parts: int = 1000
    letters: int = 100
    rows: int = 100
    score_threshold: float = 0.05
    queue: int = 64
    batch: int = 8
    readers: int = 2
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"the limit {field.name} must be positive, got {getattr(self, field.name)}")
