"""A short label and a detailed caption for each mask, by whatever can look at a picture and answer a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mglmm.extras import library
from partglee.annotate import Sample, Stage
from partglee.annotate.endpoint import Endpoint
from partglee.annotate.masks import decode
from partglee.annotate.plugs import resolve
from partglee.annotate.stages.caption import location
from partglee.basics.files import read_text

PROMPT = Path(__file__).parent / "label.txt"
_WORDS = 6  # of a label
_TRIES = 3
Pixels = NDArray[np.uint8]


class Labelled(NamedTuple):
    """What a mask shows."""

    label: str  # a few words
    caption: str  # two or three sentences


class Labeller(Protocol):
    """Looks at a picture and answers."""

    def __call__(self, image: Pixels, question: str, read: Callable[[str], Labelled]) -> Labelled:
        """(H, W, 3) and a question -> what `read` makes of the answer; ValueError when all tries are nonsense."""
        ...


class Label(Stage):
    """Names and captions of regions that have masks: each is shown by itself, with the rest of the image dimmed.

    Args:
        labeller: "endpoint" (`options`: what `partglee.annotate.endpoint.Endpoint` takes), "transformers" (any
            image-text-to-text model, a folder or name in `weights`), "segcap" (a model of this project), or
            `module:attribute` that is called with `weights` and `options`.
        prompt: a file with the question, in which {box} stands for the mask's box.
        keep_names: regions that have a name keep it, and get a caption alone.
    """

    inputs = ("image", "region.mask")
    outputs = ("region.name", "region.caption", "region.box")

    def __init__(
        self,
        *,
        labeller: str = "endpoint",
        weights: str = "",
        options: Mapping[str, Any] | None = None,
        prompt: str = "",
        keep_names: bool = False,
    ) -> None:
        self.labeller, self.weights, self.options = labeller, weights, dict(options or {})
        self.prompt, self.keep_names = prompt, keep_names
        self._look: Any = None
        self._question = ""

    def weight_files(self) -> Sequence[Path]:
        return (Path(self.weights),) if Path(self.weights).is_file() else ()

    def open(self) -> None:
        self._look = resolve(self.labeller, LABELLERS, "labeller")(self.weights, **self.options)
        self._question = read_text(self.prompt or PROMPT, "prompt")

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            assert sample.image is not None and sample.size is not None
            for _, region in sample.kept():
                if region.mask is None:
                    continue
                mask = decode(region.mask)
                if not mask.any():
                    region.dropped = f"{self.name}: an empty mask"
                    continue
                rows, columns = np.nonzero(mask)
                box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
                region.box = region.box or box
                question = self._question.replace("{box}", location(box, sample.size))
                said = self._look(highlighted(sample.image, mask), question, read_label)
                region.caption = said.caption
                if not (self.keep_names and region.name):
                    region.name = said.label


def highlighted(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """The image with everything but the mask dimmed, and the mask's edge marked."""
    shown = np.where(mask[..., None], image, (image * 0.35).astype(np.uint8))
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    shown[mask & ~inner] = (255, 60, 60)
    return shown


def read_label(text: str) -> Labelled:
    """{"label": .., "caption": ..} out of an answer, which may stand among other words.

    Raises:
        ValueError: for an answer without it, or a label that is a sentence.
    """
    first, last = text.find("{"), text.rfind("}")
    try:
        said = json.loads(text[first : last + 1]) if 0 <= first < last else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) for key in ("label", "caption")):
        raise ValueError(f'expected {{"label": "...", "caption": "..."}}, got {text!r:.80}')
    label = " ".join(said["label"].lower().split()).strip(" .,;")
    caption = " ".join(said["caption"].split())
    if not any(sign.isalpha() for sign in label) or not any(sign.isalpha() for sign in caption):
        raise ValueError(f"the label {label!r:.40} or the caption {caption!r:.40} has no words")
    if len(label.split()) > _WORDS or any(sign in label for sign in "<>[]{}\n"):
        raise ValueError(f"{label!r:.60} is no label of at most {_WORDS} words")
    return Labelled(label, caption)


# -- labellers -------------------------------------------------------------------------------------------------------


def endpoint_labeller(weights: str, **options: Any) -> Labeller:
    """A model behind an OpenAI-compatible address."""
    del weights
    server = Endpoint(**options)
    return lambda image, question, read: server.ask(question, read, image=image)


def transformers_labeller(weights: str, *, max_tokens: int = 200) -> Labeller:
    """Any image-text-to-text model of transformers."""
    t = library("transformers")
    try:
        processor = t.AutoProcessor.from_pretrained(weights)
        model = t.AutoModelForImageTextToText.from_pretrained(weights).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"transformers does not load the labeller {weights!r}: {error}") from error

    def answer(image: Pixels, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[text], images=[[Image.fromarray(image)]], return_tensors="pt").to(model.device)
        new = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        said: str = processor.batch_decode(new, skip_special_tokens=True)[0]
        return said

    return asking_again(answer)


def segcap_labeller(weights: str, **options: Any) -> Labeller:
    """A model of this project."""
    from mglmm.segcap import SegCap

    model = SegCap.from_pretrained(weights, **options)
    return asking_again(lambda image, question: model(image, question).text)


def asking_again(answer: Callable[[Pixels, str], str]) -> Labeller:
    """A model that says one thing at a time as a labeller: nonsense is told and asked again."""

    def look(image: Pixels, question: str, read: Callable[[str], Labelled]) -> Labelled:
        asked, problem = question, ""
        for _ in range(_TRIES):
            try:
                return read(answer(image, asked))
            except ValueError as error:
                problem = str(error)
                asked = f"{question}\n\nThe last answer could not be used: {problem}. Answer in the form asked for."
        raise ValueError(f"the labeller gave no usable answer in {_TRIES} tries: {problem}")

    return look


LABELLERS: dict[str, Callable[..., Labeller]] = {
    "endpoint": endpoint_labeller, "transformers": transformers_labeller, "segcap": segcap_labeller,
}  # fmt: skip
"""Labellers by name."""
