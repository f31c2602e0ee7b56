"""From weights to a model and the configuration that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fvcore.common.config import CfgNode as CN

from partglee.checkpoint import load_weights, read_metadata
from partglee.config import load_config
from partglee.engine.image_input import usable_device
from partglee.engine.weight_files import TABLE_KEY, TABLE_NAMES, config_of, find_table, find_weights
from partglee.modeling import PartGLEE, build_model
from partglee.text import backend_kind


class Pretrained(NamedTuple):
    """What weights are."""

    model: PartGLEE
    cfg: CN  # what it was built from; `build_criterion(cfg)` gives its losses


def load_pretrained(
    weights: str | Path,
    overrides: Sequence[Any] = (),
    *,
    config: str | Path | None = None,
    device: str | torch.device | None = None,
    training: bool = False,
) -> Pretrained:
    """The model of a weights file, filled, and its configuration.

    >>> model, cfg = load_pretrained("partglee-tiny")  # doctest: +SKIP

    Args:
        weights: a `.safetensors` file, or a name, as `Predictor.from_pretrained` takes them; with a configuration any
            file of our keys.
        overrides: `[KEY, VALUE, ...]` on top of the configuration.
        config: YAML file or name of the zoo; None = the configuration that the weights say.
        device: None = a GPU when there is one.
        training: keep what only training needs, such as the teacher of the text tower, and its training mode.

    Raises:
        ValueError: for weights that are not there, damaged, do not say their configuration, or do not fill the model.
    """
    target = usable_device(device)
    cfg = pretrained_config(weights, overrides, config=config, training=training)
    model = build_model(cfg)
    load_weights(model, _file(weights, config), ignore=[TABLE_KEY])
    return Pretrained(model.to(target).train(training), cfg)


def pretrained_config(
    weights: str | Path | None,
    overrides: Sequence[Any] = (),
    *,
    config: str | Path | None = None,
    training: bool = False,
) -> CN:
    """What `build_model` builds the model of these weights from; its name table is found.

    Args:
        weights: None: of the configuration alone, whose weights come from elsewhere.

    Raises:
        ValueError: for weights or a name table that are not there, or when neither says a configuration.
    """
    file = None if weights is None else _file(weights, config)
    if config is not None:
        cfg = load_config(config, overrides)
    elif file is not None:
        cfg = config_of(file, overrides)
    else:
        raise ValueError("a model needs weights that say their configuration, or a configuration; pass either")
    if file is not None and not cfg.MODEL.TEXT.TABLE.FILE and TABLE_NAMES in read_metadata(file):
        cfg.MODEL.TEXT.TABLE.FILE = str(file)  # exported weights carry their names
    if not training:
        cfg.MODEL.TEXT.MODE = "frozen"  # what training adds to the text tower, such as its teacher, is not needed
        if "DENSE_HEAD" in cfg.MODEL.get("OBJECT_DECODER", ()):
            cfg.MODEL.OBJECT_DECODER.DENSE_HEAD = False
    if backend_kind(cfg).reads_table and cfg.MODEL.TEXT.TABLE.FILE:
        cfg.MODEL.TEXT.TABLE.FILE = str(find_table(cfg.MODEL.TEXT.TABLE.FILE))
    return cfg


def _file(weights: str | Path, config: str | Path | None) -> Path:
    return Path(weights) if config is not None and Path(weights).suffix else find_weights(weights)
