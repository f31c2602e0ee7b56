"""`SegCap`: an image and a question to an answer whose phrases have masks.

N masks of one answer, H x W the image.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray
from torch import Tensor

from mglmm.answer import Answer, phrases_of
from mglmm.chat import Conversation, TooLong, Turn, without_marks
from mglmm.config import build_model, mglmm_defaults
from mglmm.data.marked import parse
from mglmm.generate import Spoken, TextStream, check_options, generate
from mglmm.masks import DecodedMasks
from mglmm.model import MGLMM
from mglmm.positions import states_that_predict, take
from mglmm.tokens import GAP
from partglee.checkpoint import load_weights, read_weights, write_weights
from partglee.config import merge_overrides
from partglee.data.images import ImageSource, read_image
from partglee.engine.image_input import frames, usable_device
from partglee.engine.weight_files import CONFIG_TEXT, config_of, find_weights

if TYPE_CHECKING:
    from typing_extensions import Self


class SegCap:
    """A model with everything around it that a question about an image needs.

    >>> model = SegCap.from_pretrained("output/mglmm_toy/model_final.safetensors")  # doctest: +SKIP
    >>> answer = model("photo.jpg", "Describe the car in detail, with masks.")  # doctest: +SKIP
    >>> answer.text, answer.phrases[0].mask.sum(), answer.no_target  # doctest: +SKIP

    Args:
        model: of `mglmm.config.build_model`; put into evaluation mode.
        cfg: that it was built of.
    """

    def __init__(self, model: MGLMM, cfg: CN) -> None:
        if model.chat is None:
            raise ValueError("the model has no chat; build it with mglmm.config.build_model, or set model.chat")
        self.model = model.eval()
        self.cfg = cfg
        self.chat = model.chat
        self.max_tokens = int(cfg.TEST.MAX_TOKENS)

    @classmethod
    def from_pretrained(
        cls, weights: str | Path, *, device: str | torch.device | None = None, overrides: Sequence[Any] = ()
    ) -> Self:
        """Weights that a run wrote: they say their configuration, which says what they stand on.

        Args:
            weights: a `.safetensors` file, or a folder with `model_final.safetensors`, as a run leaves it.
            device: None = a GPU where there is one.
            overrides: `[KEY, VALUE, ...]`, such as where the language model lies on this machine.

        Raises:
            ValueError: for weights of another model, overrides that are no keys or may not have their value, or parts
                that cannot be loaded.
        """
        file = _weights_file(weights)
        cfg = config_of(file, defaults=mglmm_defaults)
        if overrides:
            cfg.defrost()
            merge_overrides(cfg, list(overrides))
        model = build_model(cfg)
        model.keep(read_weights(file))
        load_weights(model, file, verbose=False)
        return cls(model.to(usable_device(device)), cfg)

    def save(self, file: str | Path) -> None:
        """What trained, with the configuration: `from_pretrained` reads it."""
        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        write_weights(state, Path(file), {CONFIG_TEXT: self.cfg.dump()})

    # ------------------------------------------------------------------ asking

    def __call__(
        self,
        image: ImageSource,
        question: str,
        *,
        history: Sequence[Answer] = (),
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Ask one question.

        Args:
            image: a path, PIL image, array (H, W, 3) uint8 RGB or tensor (3, H, W).
            history: answers about the same image before this one; one whose marks are in an order that no answer has
                is left out with its question.
            max_tokens: of the answer; None = `TEST.MAX_TOKENS`.
            temperature: 0 = the most likely token each time.
            seed: of what is drawn where the temperature is above 0, the same answer for the same one; None = another
                answer each time.
            on_text: told pieces of text as they come.

        Raises:
            ValueError: for an image that cannot be read, a question without words or with a special token of the
                tokenizer in it, a conversation that is too long, a limit that is no whole number from 1 on, or a
                temperature or seed below 0.
            TypeError: for a question that is no text, or a history of something else than answers.
        """
        check_options(max_tokens=max_tokens, temperature=temperature, seed=seed)
        pixels = read_image(image)
        one = self.conversation(pixels, question, history)
        stream = None if on_text is None else TextStream(self.chat, on_text)
        return self._answer([one], max_tokens, temperature, seed, stream)[0]

    def batch(
        self, images: Sequence[ImageSource], questions: Sequence[str], *, max_tokens: int | None = None
    ) -> list[Answer]:
        """One question about each image, together.

        Raises:
            TypeError: for one text or one path in place of several.
            ValueError: for another number of questions than images, and as of a single question.
        """
        check_options(max_tokens=max_tokens, temperature=0.0, seed=None)
        for what, given in (("images", images), ("questions", questions)):
            if isinstance(given, (str, Path)):
                raise TypeError(f"{what} must be a list with one entry for each image, got {given!r:.60} alone")
        if len(images) != len(questions):
            raise ValueError(f"expected a question for each of {len(images)} images, got {len(questions)}")
        said = [self.conversation(read_image(one), text, ()) for one, text in zip(images, questions, strict=True)]
        return self._answer(said, max_tokens, 0.0, None, None) if said else []

    def stream(self, image: ImageSource, question: str, **options: Any) -> Iterator[str | Answer]:
        """Pieces of text as they come, with marks (joined they are the answer's `said`), then the answer."""
        told: queue.Queue[Any] = queue.Queue()

        def work() -> None:
            try:
                told.put(self(image, question, on_text=told.put, **options))
            except BaseException as error:
                told.put(error)

        threading.Thread(target=work, daemon=True).start()
        while True:
            piece = told.get()
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            if isinstance(piece, Answer):
                return

    def dialogue(self, image: ImageSource) -> Dialogue:
        """Several questions about one image, each knowing the answers before it."""
        return Dialogue(self, read_image(image))

    @torch.no_grad()
    def teacher_forced(self, pixels: NDArray[np.uint8], question: str, said: str) -> Answer:
        """The masks of a text that is given, as published numbers of referring sets were made.

        Args:
            said: the answer, with marks.
        """
        turns = (Turn("user", without_marks(question), 1), Turn("assistant", said))
        one = Conversation(turns, (pixels,), f"the question {question[:40]!r} and its answer")
        batch = self.chat.encode([one]).to(self.model.device)
        places = states_that_predict(self.model.seg, batch.inputs["input_ids"], answer=batch.answer)
        states = take(self.model.states(batch.inputs), places)
        return self._with_masks(one, said, states, whole=True, forced=True)

    def conversation(self, pixels: NDArray[np.uint8], question: str, history: Sequence[Answer]) -> Conversation:
        """What the model is asked: the turns before, then the question.

        Args:
            history: answers about the same image; one whose marks are in no order that answers have is left out.

        Raises:
            TypeError, ValueError: for what is no question, or no answer.
        """
        if not isinstance(question, str):
            raise TypeError(f"a question must be text, got {type(question).__name__}")
        for answer in history:
            if not isinstance(answer, Answer):
                raise TypeError(
                    "history must hold answers (mglmm.Answer) that were given about this image, got "
                    f"{type(answer).__name__}; `SegCap.dialogue` keeps them itself"
                )
        asked = without_marks(question)
        if not any(sign.isalnum() for sign in asked):
            raise ValueError(f"the question is {question!r:.60}; write what to say about the image")
        turns: list[Turn] = []
        for answer in history:
            if GAP in answer.said:  # stands for an answer while a conversation is rendered
                continue
            turns += [Turn("user", answer.question), Turn("assistant", answer.said)]
        turns.append(Turn("user", asked))
        turns[0] = turns[0]._replace(images=1)
        return Conversation(tuple(turns), (pixels,), f"the question {asked[:40]!r}")

    @torch.no_grad()
    def _answer(
        self,
        said: Sequence[Conversation],
        max_tokens: int | None,
        temperature: float,
        seed: int | None,
        stream: TextStream | None,
    ) -> list[Answer]:
        later = "; or begin a new dialogue" if len(said[0].turns) > 1 else ""
        try:
            batch = self.chat.encode(said, side="left").to(self.model.device)
        except TooLong as error:
            raise ValueError(f"{error}{later}") from error
        limit = self.max_tokens if max_tokens is None else max_tokens
        read = min(self.model.context or sys.maxsize, self.chat.max_tokens or sys.maxsize)
        limit = min(limit, read - int(batch.inputs["input_ids"].shape[1]))
        if limit < 1:
            raise ValueError(
                f"{said[0].name}: no room for an answer in the {read} tokens that are read "
                f"(MODEL.LANGUAGE.MAX_TOKENS, as far as the language model goes); shorten it{later}"
            )
        pad = self.chat.tokenizer.pad_token_id
        spoken = generate(
            self.model.lmm, batch, stop=self.chat.stop_ids(), max_tokens=limit, temperature=temperature,
            seed=seed, pad=self.chat.tokenizer.eos_token_id if pad is None else pad, on_token=stream,
        )  # fmt: skip
        if stream is not None:
            stream.end()
        return [
            self._with_masks(one, self.chat.text_of(words.ids), self._states(words), whole=words.whole)
            for one, words in zip(said, spoken, strict=True)
        ]

    def _states(self, words: Spoken) -> Tensor:
        """(N, h) the states that predicted `[SEG]`."""
        rows = [place for place, token in enumerate(words.ids) if token == self.model.seg]
        return words.states[rows]

    def _with_masks(self, one: Conversation, said: str, states: Tensor, *, whole: bool, forced: bool = False) -> Answer:
        parsed = parse(said)
        pixels = one.images[0]
        masks = torch.zeros(0, *pixels.shape[:2], dtype=torch.bool)
        confidence: list[float] = []
        queries = None
        if len(states):
            decoded, masks = self._masks(pixels, states)
            confidence = decoded.confidence.float().cpu().tolist()
            if decoded.hierarchy is not None:
                told = decoded.hierarchy
                queries = list(zip(told.level.tolist(), told.query.tolist(), told.parent.tolist(), strict=True))
        spans = [(parsed.text[span.start : span.end].strip(), (span.start, span.end)) for span in parsed.spans]
        question = [turn.text for turn in one.turns if turn.role == "user"][-1]
        return Answer(
            question=question, text=parsed.text, said=said, phrases=phrases_of(spans, masks, confidence, queries),
            whole=whole, well_formed=parsed.well_formed, pixels=pixels, teacher_forced=forced,
        )  # fmt: skip

    def _masks(self, pixels: NDArray[np.uint8], states: Tensor) -> tuple[DecodedMasks, Tensor]:
        """(N, h) states -> what the decoder says, and (N, H, W) masks on the CPU."""
        decoder = self.model.masks
        read = decoder.image_input.read(pixels)
        images = decoder.batch([read.resized], decoder.canvas)
        features = decoder.features(images.tensor)
        image_of = torch.zeros(len(states), dtype=torch.long, device=states.device)
        decoded = decoder.decode(features, self.model.prompt(states), image_of)
        frame = frames([read], images)[0]
        return decoded, (decoder.to_image(decoded.logits, frame) > 0).cpu()


def _weights_file(weights: str | Path) -> Path:
    place = Path(weights)
    if place.is_dir():
        place /= "model_final.safetensors"
        if not place.is_file():
            raise ValueError(f"{place.parent} has no {place.name}: its run has not ended; name another file in it")
    elif not (place.suffix or place.name == str(weights) or "://" in str(weights) or place.exists()):
        raise ValueError(
            f"no folder {place}; `python -m mglmm train --config-file CONFIG OUTPUT_DIR {place}` writes it. Names of a "
            "hub are for MODEL.LANGUAGE.NAME alone"
        )
    return find_weights(place if place.suffix else weights)


class Dialogue:
    """Turns about one image."""

    def __init__(self, model: SegCap, pixels: NDArray[np.uint8]) -> None:
        self.model, self.pixels = model, pixels
        self.answers: list[Answer] = []

    def ask(self, question: str, **options: Any) -> Answer:
        """The next question."""
        answer = self.model(self.pixels, question, history=self.answers, **options)
        self.answers.append(answer)
        return answer
