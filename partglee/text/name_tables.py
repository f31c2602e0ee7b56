"""Making name tables: from a text tower, from a table of another text tower, from words alone.

R names, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from partglee.basics.files import whole_file
from partglee.text.table import plain_name, plain_rows, read_table
from partglee.text.word_space import Floats, SentenceEncoder, WordSpace, unit

_BRIDGE_RIDGE = 0.1


def write_table(names: Sequence[str], vectors: Floats, file: Path) -> None:
    """An `.npz` name table in half precision: `names` (R,) and `embeddings` (R, W).

    Raises:
        ValueError: for another kind of file, or as many vectors as names.
    """
    if file.suffix != ".npz":
        raise ValueError(f"a name table is written as .npz, got {file}; name it {file.stem}.npz")
    if len(names) != len(vectors):
        raise ValueError(f"expected one vector for each of {len(names)} names, got {vectors.shape}")
    with whole_file(file) as beside:
        np.savez_compressed(beside, names=np.array(names), embeddings=np.asarray(vectors, np.float16))


def encode_names(names: Sequence[str], *, model: str, pretrained: str, template: str = "a {}") -> Floats:
    """(R, W) CLIP text vectors of length 1, by any open_clip model.

    Args:
        model, pretrained: as open_clip lists them, or a file of weights as `pretrained`.
        template: what is read for a name.

    Raises:
        ValueError: for a model that open_clip does not have, or weights that are not to be had.
    """
    import open_clip

    if "{}" not in template:
        raise ValueError(f"the template must have {{}} for the name, got {template!r}")
    try:
        tower = open_clip.create_model(model, pretrained=pretrained, require_pretrained=True).eval()
        tokenizer = open_clip.get_tokenizer(model)
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(
            f"open_clip cannot load {model!r} with weights {pretrained!r} ({error}); open_clip.list_pretrained() shows "
            "what it has, and a file of weights can be named instead"
        ) from error
    rows: list[NDArray[np.float32]] = []
    with torch.no_grad():
        for start in range(0, len(names), 256):
            texts = [template.format(plain_name(name)) for name in names[start : start + 256]]
            rows.append(tower.encode_text(tokenizer(texts)).float().numpy())
    return unit(np.concatenate(rows).astype(np.float64))


def bridge(
    names: Sequence[str], vectors: Floats, other_names: Sequence[str], other: Floats, wanted: Sequence[str]
) -> Floats:
    """Names of another text tower's table in the space of this one: a linear map, fitted on the names that both have.

    Args:
        names, vectors: this table, (R, W).
        other_names, other: the other table, (R', W').
        wanted: N names of the other table.

    Returns:
        (N, W) of length 1.

    Raises:
        ValueError: when fewer names are common than a map could be fitted on, or one is wanted that is not there.
    """
    row, other_row = plain_rows(names), plain_rows(other_names)
    common = [name for name in row if name in other_row]
    if len(common) < 50:
        raise ValueError(f"the two tables have {len(common)} names in common; a map needs at least 50")
    if missing := [name for name in wanted if plain_name(name) not in other_row]:
        raise ValueError(f"the other table lacks {', '.join(map(repr, missing[:5]))}")
    source, target = unit(np.asarray(other, np.float64)), unit(np.asarray(vectors, np.float64))
    x, y = source[[other_row[name] for name in common]], target[[row[name] for name in common]]
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    weights = np.linalg.solve(x.T @ x + _BRIDGE_RIDGE * np.eye(x.shape[1]), x.T @ y)
    return unit((source[[other_row[plain_name(name)] for name in wanted]] - x_mean) @ weights + y_mean)


def extended(
    file: Path,
    *,
    bridge_from: Path | None = None,
    words: Sequence[str] = (),
    encoder: SentenceEncoder | None = None,
) -> tuple[tuple[str, ...], Floats]:
    """A table with the names that another tower's table has beyond it, and with words placed by what they mean.

    What a table has stays as it is; of both additions the other table's names come first.

    Args:
        bridge_from: table of another text tower.
        words: placed by `WordSpace` with `encoder`.
    """
    names, found = read_table(file)
    vectors: Floats = found.double().numpy()
    if bridge_from is not None:
        other_names, other = read_table(bridge_from)
        new = _beyond(names, other_names)
        if new:
            vectors = _below(vectors, bridge(names, vectors, other_names, other.double().numpy(), new))
            names = (*names, *new)
    if new := _beyond(names, words):
        rows = plain_rows(names)
        space = WordSpace(list(rows), vectors[list(rows.values())], encoder=encoder)
        vectors = _below(vectors, space.place(new))
        names = (*names, *new)
    return names, vectors


def _below(vectors: Floats, new: Floats) -> Floats:
    """Both, the new ones as long as the others are on average."""
    return np.concatenate([vectors, new * np.linalg.norm(vectors, axis=1).mean()])


def _beyond(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """In plain form, each once, what `names` lacks."""
    known = plain_rows(names)
    return [name for name in plain_rows(others) if name and name not in known]
