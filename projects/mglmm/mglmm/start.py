"""The weights that training starts from: those of another run, whose language model may have had no adapters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from fvcore.common.config import CfgNode as CN
from torch import Tensor, nn

from mglmm.model import MGLMM
from partglee.engine.weights import load_initial_weights


def load_start(cfg: CN, model: MGLMM, complete: bool = False) -> None:
    """`MODEL.WEIGHTS`, where it is given; the model keeps all that it took, so that its own weights hold it too.

    Args:
        complete: everything that the model keeps must be in the file.

    Raises:
        ValueError: for `MODEL.BACKBONE.WEIGHTS`, or a file that is missing, incomplete where it must not be, or whose
            language model has no place here.
    """
    if "BACKBONE" in cfg.MODEL and cfg.MODEL.BACKBONE.WEIGHTS:
        raise ValueError(
            "MODEL.BACKBONE.WEIGHTS is not read here: a model has a backbone in its eyes, and may have another in its "
            "mask decoder; MODEL.START names weights of PartGLEE for both"
        )
    load_initial_weights(cfg, model, complete, rename=partial(_under_our_names, model, cfg.MODEL.WEIGHTS))


def _under_our_names(model: MGLMM, file: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file by the names that they have here, where adapters stand around what they adapt."""
    own = nn.Module.state_dict(model)
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        place, _, leaf = name.rpartition(".")
        inside = (name, f"{place}.base_layer.{leaf}", f"{place}.token_adapter.base_layer.{leaf}")
        renamed[next((other for other in inside if other in own), name)] = value
    for place, module in model.named_modules():  # rows that train are held apart from their table
        rows, table = f"{place}.trainable_tokens_delta.default", f"{place}.base_layer.weight"
        if rows in own and rows not in renamed and table in renamed and renamed[table].shape == own[table].shape:
            renamed[rows] = renamed[table][module.token_indices["default"]].clone()
    fitting = {name for name, value in renamed.items() if name in own and own[name].shape == value.shape}
    if lost := sorted(name for name in renamed.keys() - fitting if name.startswith("lmm.")):
        raise ValueError(
            f"MODEL.WEIGHTS {file}: {len(lost)} tensors of its language model have no place in this one, the first is "
            f"{lost[0]!r}; take MODEL.LANGUAGE and MODEL.TUNING (MODE, RANK, TARGETS) of the run that wrote it. "
            "Weights trained with MODE all start adapters as well, not the other way round"
        )
    model.keep(fitting)
    return renamed
