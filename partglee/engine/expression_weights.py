"""Weights of models that read sentences, with the vocabulary of their BERT inside, so that they need no other file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.checkpoint import read_metadata, read_weights, write_weights
from partglee.engine.recipe import get_recipe
from partglee.engine.weight_files import CONFIG_TEXT, WORDS, config_of, find_weights
from partglee.text.bert import read_word_pieces


def build_with_words(cfg: CN, words: str | None) -> nn.Module:
    """The model of a configuration, with fresh weights.

    Args:
        words: the tokenizer that its weights carry, which goes before the file of the configuration.
    """
    build = get_recipe(cfg.RECIPE).build_model
    if words is None:
        return build(cfg)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(words, encoding="utf-8")
        carried = cfg.clone()
        carried.MODEL.TEXT.BERT.VOCABULARY, carried.MODEL.TEXT.BERT.PRETRAINED = str(file), ""
        return build(carried)


def export_with_words(source: str | Path, target: str | Path, *, recipe: str) -> None:
    """Write weights of a run again, with their vocabulary inside where they have one.

    Args:
        recipe: that they are of.

    Raises:
        ValueError: for weights that are not there or do not say their configuration, or whose vocabulary is gone.
    """
    source = find_weights(source)
    metadata = read_metadata(source)
    if CONFIG_TEXT not in metadata:
        raise ValueError(f"{source} does not say its configuration; is it of `python -m {recipe} train`?")
    cfg = config_of(source, defaults=get_recipe(recipe).defaults)
    if WORDS not in metadata and cfg.MODEL.TEXT.BACKEND == "bert":
        words = cfg.MODEL.TEXT.BERT.VOCABULARY
        if not words:
            raise ValueError(f"{source} names no vocabulary file (MODEL.TEXT.BERT.VOCABULARY)")
        metadata[WORDS] = read_word_pieces(words).to_str()
    write_weights(read_weights(source), target, {key: value for key, value in metadata.items() if key != "format"})
