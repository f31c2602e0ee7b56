"""From a training checkpoint to one small file that a `Predictor` needs nothing else for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode as CN
from torch import Tensor

from partglee.checkpoint import read_metadata, read_weights, write_weights
from partglee.config import config_from_text
from partglee.config.values import check_values
from partglee.engine.weight_files import CONFIG_TEXT, TABLE_KEY, TABLE_NAMES, TRAINING_ONLY, find_table
from partglee.text import TableBackend, backend_kind
from partglee.text.table import read_table

PROJECTION_KEY = "text_encoder.projection"
_RIDGE = 5e-6  # of the mean square of a column: below it the rounding of half precision is fitted
_KEPT_SECTIONS = ("MODEL", "INPUT", "TEST")
_FREE_KEYS = (  # no weight depends on these
    "INPUT.TEST.", "TEST.", "MODEL.OBJECT_DECODER.NUM_PARSED", "MODEL.OBJECT_DECODER.SELECTION",
    "MODEL.OBJECT_DECODER.UNSEEN_SHIFT",
)  # fmt: skip


def export_weights(
    checkpoint: str | Path,
    out: str | Path,
    *,
    half: bool = True,
    remarks: Mapping[str, str] | None = None,
    overrides: Sequence[Any] = (),
) -> Path:
    """Write weights that know their configuration, and their names where they come from a table.

    With a name table, the file also holds every name of the table after the learned text projection, so that it is a
    table itself (`MODEL.TEXT.TABLE.FILE`); the original embeddings are not in it.

    Args:
        checkpoint: a weights file, or a checkpoint folder of a run, of which the averaged weights are preferred.
        out: a `.safetensors` file.
        half: store float16; loading widens them again.
        remarks: text entries for the file, such as the training data and its terms.
        overrides: configuration keys and values, alternating, that the file shall say in place of those of the
            training: `INPUT.TEST`, `TEST`, `MODEL.OBJECT_DECODER.NUM_PARSED`, `.SELECTION` and
            `.UNSEEN_SHIFT`.

    Raises:
        ValueError: when the checkpoint does not say its configuration, its name table is not there, or an override
            would not fit the weights.
    """
    file = _weights_file(Path(checkpoint))
    metadata = read_metadata(file)
    if CONFIG_TEXT not in metadata:
        raise ValueError(f"{file} does not say its configuration; export a checkpoint that training wrote")
    if fixed := [str(key) for key in overrides[::2] if not str(key).startswith(_FREE_KEYS)]:
        raise ValueError(f"{fixed[0]} belongs to the training; an export may change {', '.join(_FREE_KEYS)} alone")
    cfg = config_from_text(metadata[CONFIG_TEXT], overrides, source=str(file))
    if overrides:
        check_values(cfg)
    state = {key: value for key, value in read_weights(file).items() if not key.startswith(TRAINING_ONLY)}
    told = {key: str(value) for key, value in (remarks or {}).items()}
    if taken := sorted({TABLE_NAMES, CONFIG_TEXT, "format", "trained_steps"} & set(told)):
        raise ValueError(f"the remark {taken[0]!r} is an entry of the file itself; choose another key")
    if backend_kind(cfg).reads_table:
        names, state[TABLE_KEY] = _projected_table(cfg, state)
        told[TABLE_NAMES] = "\n".join(names)
    cfg.MODEL.WEIGHTS = cfg.MODEL.BACKBONE.WEIGHTS = ""
    if "DENSE_HEAD" in cfg.MODEL.get("OBJECT_DECODER", ()):
        cfg.MODEL.OBJECT_DECODER.DENSE_HEAD, cfg.INPUT.TRAIN.TEACHER = False, ""
    kept = CN({section: cfg[section] for section in _KEPT_SECTIONS})
    told |= {CONFIG_TEXT: kept.dump(), "trained_steps": metadata.get("iteration", "unknown")}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        lost = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
        if lost:
            raise ValueError(f"{lost[0]} does not fit into float16; export with half=False")
    write_weights(state, out, told)
    return Path(out)


def unproject_weights(weights: str | Path, table: str | Path, out: str | Path, *, without: Sequence[str] = ()) -> float:
    """Exported weights -> weights that training with the original name table starts from.

    The text projection, which exported weights have no more, is the linear map that takes the vectors of `table` to the
    embeddings of the same names in the file, by ridge regression. Further names of `table` go the same way.

    Args:
        weights: a file of `export_weights` with a name table.
        table: the name table that it was trained with, or one with those names and more.
        out: a `.safetensors` file.
        without: beginnings of keys that are left out, such as "backbone.".

    Returns:
        How far the mapped embeddings are from those of the file, relative to their norm.

    Raises:
        ValueError: for weights without a name table, or without a name of `table`.
    """
    file = _weights_file(Path(weights))
    metadata, state = read_metadata(file), read_weights(file)
    if TABLE_KEY not in state or TABLE_NAMES not in metadata:
        raise ValueError(f"{file} has no name table; expected a file that `partglee export` wrote")
    names, embeddings = read_table(find_table(str(table)))
    rows = {name: row for row, name in reversed(list(enumerate(names)))}
    known = [(place, rows[name]) for place, name in enumerate(metadata[TABLE_NAMES].split("\n")) if name in rows]
    if not known:
        raise ValueError(f"{table} has none of the names of {file}; expected the table that it was trained with")
    places, chosen = zip(*known, strict=True)
    wanted = state.pop(TABLE_KEY)[list(places)].double()
    vectors = embeddings[list(chosen)].double()
    gram = vectors.T @ vectors
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    projection = torch.linalg.solve(gram + ridge, vectors.T @ wanted)
    kept = {key: value for key, value in state.items() if not key.startswith(tuple(without))}
    write_weights({**kept, PROJECTION_KEY: projection.float().contiguous()}, out, {"format": "pt"})
    return float((vectors @ projection - wanted).norm() / wanted.norm())


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("ema.safetensors", "model.safetensors"):
            if (path / name).is_file():
                return path / name
        raise ValueError(f"no weights in {path}; pass one checkpoint folder (.../checkpoints/step_...) or a file")
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}; pass a .safetensors file or a checkpoint folder")
    return path


def _projected_table(cfg: CN, state: dict[str, Tensor]) -> tuple[tuple[str, ...], Tensor]:
    """The names, each once, and their vectors as the model compares them; the projection leaves `state`."""
    t = cfg.MODEL.TEXT.TABLE
    if not t.FILE:
        raise ValueError("the checkpoint's configuration has no MODEL.TEXT.TABLE.FILE; there is no table to export")
    table = TableBackend(file=find_table(t.FILE), width=t.WIDTH, projected=t.PROJECTED)
    rows = {name: row for row, name in reversed(list(enumerate(table.names)))}  # of equal names the first counts
    names = tuple(sorted(rows, key=rows.__getitem__))
    embeddings = table.embeddings[[rows[name] for name in names]]
    if PROJECTION_KEY in state:
        embeddings = embeddings @ state.pop(PROJECTION_KEY).float()
    t.FILE, t.PROJECTED, t.WIDTH = "", True, int(embeddings.shape[1])
    return names, embeddings
