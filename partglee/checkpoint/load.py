"""Load weights into a module, and say in a few lines what happened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from partglee.checkpoint.files import read_weights


@dataclass(frozen=True)
class LoadReport:
    """What a load did. `str()` of it is for people."""

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # parameters and buffers of ours that the file lacks
    unexpected: tuple[str, ...]  # keys of the file that we have no place for
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # key, our shape, the file's shape

    @property
    def complete(self) -> bool:
        """True if every parameter of ours was filled."""
        return not self.missing and not self.wrong_shape

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.wrong_shape)
        lines = [f"{self.source}: loaded {len(self.loaded)} of {total} tensors"]
        for title, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            if keys:
                lines.append(f"  {title} {len(keys)}: {_grouped(keys)}")
        for key, ours, theirs in self.wrong_shape[:8]:
            lines.append(f"  wrong shape: {key} is {list(ours)} here, {list(theirs)} in the file")
        if len(self.wrong_shape) > 8:
            lines.append(f"  wrong shape: and {len(self.wrong_shape) - 8} more")
        return "\n".join(lines)


def load_weights(
    model: nn.Module,
    weights: str | Path | Mapping[str, Tensor],
    *,
    allow_missing: bool | Sequence[str] = False,
    ignore: Sequence[str] = (),
    verbose: bool = True,
) -> LoadReport:
    """Fill `model` from a file in our own key format (see `convert_checkpoint` for foreign ones).

    Args:
        allow_missing: True, or prefixes of keys that may stay as they are (missing, or of another shape).
        ignore: keys of the file that are not for the model.
        verbose: print the report.

    Raises:
        ValueError: when a parameter stays unfilled that was not allowed to; the model is not changed then.
    """
    if isinstance(weights, (str, os.PathLike)):
        source, state = str(weights), read_weights(weights)
    else:
        source, state = "state dict", dict(weights)
    for key in ignore:
        state.pop(key, None)
    own = model.state_dict()
    wrong = tuple(
        (k, tuple(own[k].shape), tuple(v.shape)) for k, v in state.items() if k in own and own[k].shape != v.shape
    )
    bad = {k for k, _, _ in wrong}
    fitting = {k: v for k, v in state.items() if k in own and k not in bad}
    report = LoadReport(
        source=source,
        loaded=tuple(fitting),
        missing=tuple(k for k in own if k not in state and not _filled_by_model(k, state)),
        unexpected=tuple(k for k in state if k not in own),
        wrong_shape=wrong,
    )
    unfilled = [k for k in (*report.missing, *bad) if not _allowed(k, allow_missing)]
    if unfilled:
        raise ValueError(f"{report}\n{_advice(report, state)}")
    broken = [k for k, v in fitting.items() if v.is_floating_point() and not v.is_meta and not torch.isfinite(v).all()]
    if broken:
        raise ValueError(
            f"{source}: {broken[0]} holds NaN or infinite values ({len(broken)} such tensors); training "
            "diverged before it was saved, or the file is damaged"
        )
    model.load_state_dict(fitting, strict=False)
    if verbose:
        print(report)
    return report


def _filled_by_model(key: str, state: Mapping[str, Tensor]) -> bool:
    """A text teacher that the file lacks is copied from the text tower that it has."""
    return ".teacher." in f".{key}" and key.replace("teacher.", "backend.", 1) in state


def _allowed(key: str, allow_missing: bool | Sequence[str]) -> bool:
    if isinstance(allow_missing, bool):
        return allow_missing
    return any(key.startswith(prefix) for prefix in allow_missing)


def _advice(report: LoadReport, state: Mapping[str, Tensor]) -> str:
    if any("sem_seg_head." in k or "_predictor." in k or "pixel_decoder.transformer." in k for k in state):
        return (
            "These are upstream's keys: run `partglee convert --from partglee|glee|maskdino IN OUT.safetensors` first"
        )
    if not report.loaded:
        return "No key fits: these weights belong to another program, or need `partglee convert` first"
    if report.wrong_shape:
        return (
            "The weights belong to another architecture: load them with the configuration that they were trained with"
        )
    return "Pass allow_missing (True, or prefixes of keys) to leave the missing parameters as initialised"


def _grouped(keys: Sequence[str], limit: int = 4) -> str:
    """'qformer (180), object_decoder.heads (5), ...' for long lists, the keys themselves for short ones."""
    if len(keys) <= limit:
        return ", ".join(keys)
    groups = Counter(".".join(k.split(".")[:2]) for k in keys)
    shown = ", ".join(f"{name} ({count})" for name, count in groups.most_common(limit))
    return shown + (f", and {len(groups) - limit} more groups" if len(groups) > limit else "")
