"""What trains: a list, not a hope. Low-rank adapters, new token rows, the projector, the prompt, the mask decoder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mglmm.extras import library
from mglmm.model import MGLMM
from mglmm.tokens import token_tables

PROJECTORS = ("multi_modal_projector", "connector", "visual.merger", "vision_embed_tokens", "embed_vision")
"""Where models of transformers keep what leads from their image encoder to their language model."""

PARTS = ("adapters", "tokens", "projector", "prompt", "masks")


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model is trained.

    Args:
        mode: "adapters": the language model and its image encoder stay as they are but for adapters and new rows;
            "all": the language side trains whole, its image encoder too.
        rank, alpha, dropout: of the adapters (MGLMM: 8, 16, 0.05).
        targets: modules of the language model that get adapters.
        projector, masks: whether these train.
    """

    mode: str = "adapters"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    projector: bool = True
    masks: bool = True

    def __post_init__(self) -> None:
        if self.mode not in ("adapters", "all"):
            raise ValueError(f"mode must be adapters or all, got {self.mode!r}")
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"expected rank >= 1, alpha > 0, 0 <= dropout < 1, got {self.rank}, {self.alpha}, {self.dropout}"
            )
        if not self.targets or not all(isinstance(name, str) and name for name in self.targets):
            raise ValueError(f"targets must be names of modules, one or more, such as q_proj, got {self.targets}")


def tune(model: MGLMM, tuning: Tuning, new_tokens: Sequence[int]) -> None:
    """Set up what trains; once for a model.

    Args:
        new_tokens: ids whose rows train, in every token table that is one of its own.

    Raises:
        ValueError: for a language model without the modules to adapt, or one whose projector is not known.
    """
    lmm = model.lmm
    if tuning.mode == "all":
        lmm.requires_grad_(True)
    else:
        _add_adapters(lmm, tuning, new_tokens)
        if tuning.projector:
            projector_of(lmm).requires_grad_(True)
    model.prompt.requires_grad_(True)
    for _, weight in model.masks.learning():
        weight.requires_grad_(tuning.masks)


def parts_that_learn(model: MGLMM) -> dict[str, list[str]]:
    """Names of the weights that train, by what they are of (`PARTS`, and "language" where it trains whole)."""
    found: dict[str, list[str]] = {}
    projector = _name_of(model.lmm, projector_of(model.lmm)) if _has_projector(model.lmm) else None
    for name, _ in model.learning():
        found.setdefault(_part_of(name, projector), []).append(name)
    return found


def projector_of(lmm: Any) -> nn.Module:
    """What leads from the image encoder to the language model.

    Raises:
        ValueError: where it has none of the known names.
    """
    for name in PROJECTORS:
        try:
            module: nn.Module = lmm.model.get_submodule(name)
        except AttributeError:
            continue
        return module
    raise ValueError(
        f"{type(lmm).__name__} keeps its projector under none of the names {', '.join(PROJECTORS)}; add its name to "
        "mglmm.tuning.PROJECTORS"
    )


def language_layers(lmm: Any) -> str:
    """Name of the language model inside an image-text-to-text model."""
    return _name_of(lmm, lmm.get_decoder())


def set_gradient_checkpointing(model: MGLMM, on: bool) -> None:
    """Compute states of the language model again in the backward pass in place of keeping them."""
    if on:
        model.lmm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.lmm.gradient_checkpointing_disable()


def _add_adapters(lmm: Any, tuning: Tuning, new_tokens: Sequence[int]) -> None:
    peft = library("peft")
    inside = language_layers(lmm)
    wanted = re.compile(rf"{re.escape(inside)}\..*\b({'|'.join(map(re.escape, tuning.targets))})")
    if not any(wanted.fullmatch(name) for name, _ in lmm.named_modules()):
        raise ValueError(f"the language model {inside!r} has no modules {', '.join(tuning.targets)} to adapt")
    tables = {_name_of(lmm, table).rpartition(".")[2]: sorted(new_tokens) for table in token_tables(lmm).values()}
    config = peft.LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=wanted.pattern,
        trainable_token_indices=tables or None,
    )
    peft.inject_adapter_in_model(config, lmm)


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def _has_projector(lmm: Any) -> bool:
    try:
        projector_of(lmm)
    except ValueError:
        return False
    return True


def _part_of(name: str, projector: str | None) -> str:
    if name.startswith("masks."):
        return "masks"
    if name.startswith("prompt."):
        return "prompt"
    if ".lora_" in name:
        return "adapters"
    if "trainable_tokens_delta" in name:
        return "tokens"
    return "projector" if projector and name.startswith(f"lmm.{projector}.") else "language"


def frozen_names(model: MGLMM) -> Iterator[str]:
    """Names of the weights that stay."""
    return (name for name, weight in model.named_parameters() if not weight.requires_grad)
