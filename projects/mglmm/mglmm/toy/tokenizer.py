"""`python -m mglmm.toy.tokenizer OUT.json`: a tokenizer of the sentences that toy scenes come with."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from mglmm.extras import library
from mglmm.toy.scenes import described, segmented
from partglee.testing.toy import TRAIN_SEED

SPECIAL = ("<pad>", "<s>", "</s>", "<image>")


def sentences(number: int) -> Iterator[str]:
    """Questions and answers of so many scenes of each source."""
    for source in (described(TRAIN_SEED, number, (64, 64)), segmented(TRAIN_SEED, number, (64, 64))):
        for index in range(number):
            record = source.draw(index, np.random.default_rng(index))
            if record is not None:
                yield from (turn.text for turn in record.turns)


def train_tokenizer(texts: Iterator[str], *, size: int = 640) -> object:
    """Byte-level pairs, so that any text can be read."""
    t = library("tokenizers")
    made = t.Tokenizer(t.models.BPE())
    made.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = t.decoders.ByteLevel()
    trainer = t.trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=t.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["USER: ASSISTANT:\n", *texts], trainer)
    return made


def main(argv: list[str]) -> int:
    """Write the file."""
    if len(argv) != 1:
        print("usage: python -m mglmm.toy.tokenizer OUT.json", file=sys.stderr)
        return 2
    made = train_tokenizer(sentences(1500))
    made.save(argv[0])  # type: ignore[attr-defined]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
