"""A mean of two weights of one architecture, of which one was trained further from the other (WiSE-FT, arXiv
2109.01903): often it keeps what the first knew and the second learned."""

from __future__ import annotations

from pathlib import Path

from partglee.checkpoint import read_metadata, read_weights, write_weights
from partglee.engine.weight_files import TRAINING_ONLY


def mix_weights(first: str | Path, second: str | Path, out: str | Path, *, share: float = 0.5) -> Path:
    """Write (1 - share) times the first and share times the second.

    Args:
        first, second: `.safetensors` files with the same keys and shapes, but for those that nothing reads after
            training, which are taken from the second. So is the metadata, such as the configuration.
        out: a `.safetensors` file.
        share: of the second, 0..1.

    Raises:
        ValueError: for files whose keys or shapes differ, or another share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, the second file's part of the mean, got {share!r}")
    ours, theirs = read_weights(first), read_weights(second)
    if apart := sorted(key for key in ours.keys() ^ theirs.keys() if not key.startswith(TRAINING_ONLY)):
        where = first if apart[0] in ours else second
        raise ValueError(f"{apart[0]} is only in {where}; expected two files of one architecture")
    both = {key: value for key, value in ours.items() if not key.startswith(TRAINING_ONLY)}
    for key, value in both.items():
        if value.shape != theirs[key].shape:
            raise ValueError(
                f"{key} is {tuple(value.shape)} in {first} and {tuple(theirs[key].shape)} in {second}; expected two "
                "files of one architecture"
            )
    mixed = {
        key: value.float().lerp(theirs[key].float(), share).to(theirs[key].dtype)
        if value.is_floating_point()
        else theirs[key]
        for key, value in both.items()
    }
    mixed |= {key: value for key, value in theirs.items() if key.startswith(TRAINING_ONLY)}
    write_weights(mixed, out, read_metadata(second))
    return Path(out)
