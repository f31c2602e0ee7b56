"""Conversations to token ids by a processor's own chat template, with the answers' tokens marked.

An answer is put in as tokens, behind exactly the tokens that a prompt for it ends with: what is trained is what is
generated, whatever the template and the tokenizer do at their seams. B conversations, T tokens with images expanded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mglmm.tokens import CLOSE, GAP, MARKS, OPEN, SEG, mark_ids

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


class Turn(NamedTuple):
    """One thing that is said."""

    role: str  # "user" or "assistant"
    text: str
    images: int = 0  # that come before the text, of the conversation's images in order


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said about images, in turns; one that ends with a user's turn waits for an answer."""

    turns: tuple[Turn, ...]
    images: tuple[Pixels, ...] = ()
    name: str = "the conversation"  # for messages

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"{self.name} has no turns; it begins with a user's")

    @property
    def waits(self) -> bool:
        """The next turn is the assistant's."""
        return self.turns[-1].role == "user"


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """B conversations as the language model takes them."""

    inputs: dict[str, Tensor]  # input_ids (B, T), attention_mask (B, T), and what the processor makes of images
    answer: Tensor  # (B, T) bool, tokens that the model says: answers, and the token that ends each

    def to(self, device: torch.device) -> ChatBatch:
        """The same on a device."""
        return ChatBatch({name: value.to(device) for name, value in self.inputs.items()}, self.answer.to(device))


class TooLong(ValueError):
    """A conversation of more tokens than are read.

    Attributes:
        row: of the batch.
    """

    row: int = 0


class Chat:
    """A processor with the marks in its tokenizer.

    Args:
        processor: of a model of transformers, with a chat template that takes images.
        max_tokens: longer conversations are refused; None = any length.

    Raises:
        ValueError: for a tokenizer without the marks, or a processor without a template.
    """

    def __init__(self, *, processor: Any, max_tokens: int | None = None) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.marks = mark_ids(self.tokenizer)
        self.max_tokens = max_tokens
        if self.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no token that ends a text (eos_token)")
        if not getattr(processor, "chat_template", None):
            raise ValueError(
                f"{type(processor).__name__} has no chat template; set processor.chat_template to the one that the "
                "model was trained with"
            )
        added = self.tokenizer.added_tokens_decoder.items()
        self._special = {*self.tokenizer.all_special_ids, *(number for number, token in added if token.special)}
        self._gap = (self.marks.close, self.marks.seg, self.marks.open)
        known = {str(token) for number, token in added if number in self._special}
        known |= {str(getattr(processor, name, None) or "") for name in ("image_token", "video_token")}
        self._reserved = tuple(sorted(known - {"", *MARKS}, key=lambda token: (-len(token), token)))
        self._control = re.compile("|".join(re.escape(token) for token in (*self._reserved, *MARKS)))

    def encode(self, conversations: Sequence[Conversation], *, side: str = "right") -> ChatBatch:
        """Ids of B conversations.

        Args:
            side: where shorter ones are padded: "right", or "left" to go on generating.

        Raises:
            TooLong: for a conversation that is too long.
            ValueError: for no conversation, a template that drops images or answers, roles that do not alternate, text
                with a special token of the tokenizer in it; the message begins with the conversation's name.
        """
        if not conversations:
            raise ValueError("there is no conversation to encode; a batch has one or more")
        if side not in ("right", "left"):
            raise ValueError(f"side must be right or left, got {side!r}")
        rendered = [self._render(one) for one in conversations]
        texts = [text for text, _ in rendered]
        bos = self.tokenizer.bos_token
        has_bos = [bool(bos) and text.startswith(bos) for text in texts]
        # As pictures: of an array with 1, 3 or 4 rows a processor takes these for the channels
        images = [[Image.fromarray(np.asarray(image)) for image in one.images] for one in conversations]
        given = {} if not any(images) else {"images": images}
        made = self.processor(
            text=texts, padding=True, return_tensors="pt", add_special_tokens=not all(has_bos), **given
        )
        rows = []
        whole = made["input_ids"].shape
        along = [key for key, value in made.items() if key not in ("input_ids", "attention_mask")
                 and isinstance(value, Tensor) and value.shape == whole]  # fmt: skip
        for row, one in enumerate(conversations):
            real = made["attention_mask"][row].bool()
            extras = {key: made[key][row][real].tolist() for key in along}
            rows.append(self._fill(made["input_ids"][row][real].tolist(), extras, one, rendered[row][1]))
            self._check_length(row, len(rows[-1][0]), one)
        inputs = {key: value for key, value in made.items() if isinstance(value, Tensor) and key not in along}
        ids, answer, mask, others = self._pad(rows, along, side)
        inputs |= {"input_ids": ids, "attention_mask": mask, **others}
        return ChatBatch(inputs, answer)

    def stop_ids(self) -> list[int]:
        """Tokens that end an answer."""
        probe = Conversation((Turn("user", "?"), Turn("assistant", GAP)))
        text = self.processor.apply_chat_template(_messages(probe), tokenize=False)
        after = self.tokenizer(text.partition(GAP)[2], add_special_tokens=False)["input_ids"]
        ends = {self.tokenizer.eos_token_id}
        if after and after[0] in self._special:
            ends.add(after[0])
        return sorted(ends)

    def text_of(self, ids: Sequence[int]) -> str:
        """Generated ids as text with the marks in it, without other special tokens.

        A mark or special token that is spelled from ordinary tokens is broken up (`[ SEG]`): read again, it would be
        the token, and a `[SEG]` without a state has no mask.
        """
        kept = [i for i in ids if i not in self._special or i in self.marks.all]
        text = self._decode(kept)
        if len(self._control.findall(text)) != sum(i in self.marks.all for i in kept):
            text = self._spelled_apart(kept, text)
        return text.strip()

    def unfinished(self, text: str) -> int:
        """Characters at the end of a text that more of it may turn into a mark or special token that is spelled."""
        tokens = (*self._reserved, *MARKS)
        longest = max(map(len, tokens)) - 1
        for count in range(min(longest, len(text)), 0, -1):
            if any(len(token) > count and token.startswith(text[-count:]) for token in tokens):
                return count
        return 0

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _spelled_apart(self, kept: Sequence[int], text: str) -> str:
        pieces, last = [], 0
        for place, number in enumerate(kept):
            if number in self.marks.all:
                mark = MARKS[self.marks.all.index(number)]
                end = len(self._decode(kept[: place + 1]))
                pieces += [self._control.sub(_apart, text[last : end - len(mark)]), mark]
                last = end
        return "".join([*pieces, self._control.sub(_apart, text[last:])])

    # ------------------------------------------------------------------ one conversation

    def _render(self, one: Conversation) -> tuple[str, list[bool]]:
        """Text with gaps for the answers, and whether a space was before each."""
        for place, turn in enumerate(one.turns):
            expected = ("user", "assistant")[place % 2]
            if turn.role != expected:
                raise ValueError(f"{one.name}: turn {place} must be the {expected}'s, got {turn.role!r}")
            silent = turn.role == "user" and not turn.text.strip()  # an answer may be silence
            if GAP in turn.text or silent:
                raise ValueError(f"{one.name}: turn {place} says nothing that can be read: {turn.text[:60]!r}")
            if found := next((token for token in self._reserved if token in turn.text), None):
                raise ValueError(
                    f"{one.name}: turn {place} holds {found!r}, which the tokenizer reads as a token of its own; take "
                    f"it out, or write it apart: {_apart(found)!r}"
                )
        if sum(turn.images for turn in one.turns) != len(one.images):
            raise ValueError(
                f"{one.name}: turns speak of {sum(turn.images for turn in one.turns)} images, there are "
                f"{len(one.images)}"
            )
        turns = (*one.turns, Turn("assistant", "")) if one.waits else one.turns
        text: str = self.processor.apply_chat_template(_messages(Conversation(turns)), tokenize=False)
        answers = len(turns) // 2
        if text.count(GAP) != answers:
            raise ValueError(f"{one.name}: the chat template shows {text.count(GAP)} of {answers} answers")
        token = getattr(self.processor, "image_token", "<image>")
        if text.count(token) != len(one.images):
            raise ValueError(
                f"{one.name}: the chat template shows {text.count(token)} of {len(one.images)} images ({token!r}); it "
                "must write that token for content of type image"
            )
        spaced = [match.group(1) != "" for match in re.finditer(r"( *)" + re.escape(GAP), text)]
        return re.sub(r" +(?=" + re.escape(GAP) + ")", "", text), spaced

    def _fill(
        self, ids: list[int], extras: dict[str, list[int]], one: Conversation, spaced: Sequence[bool]
    ) -> tuple[list[int], list[bool], dict[str, list[int]]]:
        """Ids with the answers in their gaps, which of them the model says, and what runs along."""
        answers = [turn.text for turn in one.turns if turn.role == "assistant"]
        out: list[int] = []
        said: list[bool] = []
        along: dict[str, list[int]] = {key: [] for key in extras}

        def add(new: Sequence[int], says: bool, at: int | None = None) -> None:
            out.extend(new)
            said.extend([says] * len(new))
            for key, values in extras.items():
                along[key].extend([0] * len(new) if at is None else values[at : at + len(new)])

        start = 0
        for number, gap in enumerate(self._gaps(ids)):
            add(ids[start:gap], False, start)
            start = gap + len(self._gap)
            if number == len(answers):  # the one that is waited for
                break
            add(self._answer_ids(answers[number], spaced[number]), True)
            if start < len(ids) and ids[start] in self._special:
                add(ids[start : start + 1], True, start)
                start += 1
            else:
                add([self.tokenizer.eos_token_id], True)
        return out, said, along

    def _check_length(self, row: int, length: int, one: Conversation) -> None:
        if self.max_tokens is None or length <= self.max_tokens:
            return
        error = TooLong(
            f"{one.name}: {length} tokens, more than the {self.max_tokens} that are read (MODEL.LANGUAGE.MAX_TOKENS, "
            "as far as the language model goes); shorten the text, or use a smaller image"
        )
        error.row = row
        raise error

    def _answer_ids(self, text: str, spaced: bool) -> list[int]:
        """Ids of an answer as they stand behind other tokens; none of one that says nothing."""
        if not text.strip():
            return []
        behind = SEG + (" " if spaced else "") + text.strip()
        ids: list[int] = self.tokenizer(behind, add_special_tokens=False)["input_ids"]
        return ids[1:]

    def _gaps(self, ids: Sequence[int]) -> list[int]:
        width = len(self._gap)
        return [i for i in range(len(ids) - width + 1) if tuple(ids[i : i + width]) == self._gap]

    def _pad(
        self, rows: Sequence[tuple[list[int], list[bool], dict[str, list[int]]]], along: Sequence[str], side: str
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        longest = max(len(ids) for ids, _, _ in rows)
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad

        def padded(values: Sequence[Any], fill: Any) -> list[Any]:
            missing = [fill] * (longest - len(values))
            return [*missing, *values] if side == "left" else [*values, *missing]

        ids = torch.tensor([padded(row[0], pad) for row in rows])
        answer = torch.tensor([padded(row[1], False) for row in rows])
        mask = torch.tensor([padded([1] * len(row[0]), 0) for row in rows])
        others = {key: torch.tensor([padded(row[2][key], 0) for row in rows]) for key in along}
        return ids, answer, mask, others


def without_marks(text: str) -> str:
    """A question may not hold the marks of answers: they are taken out of it."""
    return " ".join(re.sub(f"{re.escape(SEG)}|{OPEN}|{CLOSE}", " ", text).split())


def _apart(token: str | re.Match[str]) -> str:
    """A special token as text that is none."""
    text = token if isinstance(token, str) else token.group(0)
    return f"{text[0]} {text[1:]}".strip()


def _messages(one: Conversation) -> list[dict[str, Any]]:
    return [
        {
            "role": turn.role,
            "content": [
                *({"type": "image"} for _ in range(turn.images)),
                {"type": "text", "text": GAP if turn.role == "assistant" else turn.text},
            ],
        }
        for turn in one.turns
    ]
