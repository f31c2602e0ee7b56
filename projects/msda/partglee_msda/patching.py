"""The models of transformers with our operator in place of theirs, and back."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from threading import RLock
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, NamedTuple

import torch

from . import replacements
from .ops import status

# Folders of transformers.models whose attention is the operator in one of the forms below.
MODELS = (
    "d_fine", "deformable_detr", "deimv2", "grounding_dino", "lw_detr", "mask2former", "mm_grounding_dino",
    "omdet_turbo", "oneformer", "pp_doclayout_v2", "pp_doclayout_v3", "pp_doclayout_v4", "rf_detr", "rt_detr",
    "rt_detr_v2",
)  # fmt: skip
# These keep the function in each of their layers, where a patched module would not reach it.
KEPT_IN = {"d_fine": "DFineMultiscaleDeformableAttention", "deimv2": "Deimv2MultiscaleDeformableAttention"}
KEPT_AS = "ms_deformable_attn_core"
_ABSENT = object()


class Place(NamedTuple):
    """An attribute that is set to something else."""

    name: str
    owner: Any
    attribute: str
    replacement: object


class Patch:
    """What ``patch()`` did. As a context manager it leaves everything as it was before the call.

    Attributes:
        patched: names below ``transformers.models`` of what uses our operator now.
        left: model -> why it is as it was.
    """

    def __init__(self, *, patched: tuple[str, ...], left: Mapping[str, str], before: bool) -> None:
        self.patched = patched
        self.left = MappingProxyType(dict(left))
        self._before = before

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            patch()
        else:
            unpatch()

    def __repr__(self) -> str:
        return f"Patch(patched={list(self.patched)}, left={dict(self.left)})"


_lock = RLock()
_replaced: dict[str, tuple[Place, object]] = {}  # by name, with what was there
_left: dict[str, str] = {}


def patch() -> Patch:
    """Make the models of transformers use our operator: those that exist, and those built from now on.

    A second call changes nothing; one ``unpatch()`` takes back any number of calls. ``with patch():`` leaves what was
    before the call, so blocks may stand in each other. A model that ``torch.compile`` has compiled keeps what it was
    compiled with: patch first.

    Returns:
        What uses our operator now, and what was left with the reason.

    Raises:
        ImportError: transformers is not installed.
    """
    with _lock:
        before = bool(_replaced)
        if not before:
            if importlib.util.find_spec("transformers") is None:
                raise ImportError(
                    "patch() changes models of transformers, which is not installed: `pip install transformers`; "
                    "partglee_msda.ms_deform_attn works without"
                )
            _warn_without_library()
            _left.clear()
            for place in list(_places()):  # first everything is found, then everything is set
                _replaced[place.name] = (place, vars(place.owner).get(place.attribute, _ABSENT))
                setattr(place.owner, place.attribute, place.replacement)
        return Patch(patched=tuple(_replaced), left=_left, before=before)


def unpatch() -> None:
    """Take back what ``patch()`` did; nothing where nothing is patched.

    A place that somebody else has changed in the meantime stays theirs.
    """
    with _lock:
        for place, original in _replaced.values():
            if vars(place.owner).get(place.attribute) is not place.replacement:
                continue
            if original is _ABSENT:
                delattr(place.owner, place.attribute)
            else:
                setattr(place.owner, place.attribute, original)
        _replaced.clear()


def _warn_without_library() -> None:
    report = status()
    for device, there in (("cpu", True), ("cuda", torch.cuda.is_available())):
        if there and report["mode"] == "auto" and report[f"{device} path"] != "native":
            warnings.warn(
                f"partglee_msda: no compiled operator for {device} ({report[f'{device} library']}), so plain PyTorch "
                f"computes ({report[f'{device} path']}); install the package again where there is a C++ compiler "
                "(for CUDA also nvcc): `pip install --force-reinstall --no-deps`, with -v to see what the build says",
                RuntimeWarning,
                stacklevel=3,
            )


def _places() -> Iterator[Place]:
    for model in MODELS:
        try:
            module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
        except ImportError as error:  # an older release, or something that this model needs
            _left[model] = f"cannot be imported: {error}"
            continue
        found = list(_places_in(model, module))
        yield from found
        if not found:
            _left.setdefault(model, "has no attention in a form that is known")


def _places_in(model: str, module: ModuleType) -> Iterator[Place]:
    layer = getattr(module, "MultiScaleDeformableAttention", None)
    if layer is not None and _takes_the_same(model, layer.forward, replacements.layer_forward):
        yield Place(f"{model}.MultiScaleDeformableAttention", layer, "forward", replacements.layer_forward)
    plain = getattr(module, "multi_scale_deformable_attention", None)
    if plain is not None and _takes_the_same(model, plain, replacements.function):
        yield Place(f"{model}.multi_scale_deformable_attention", module, plain.__name__, replacements.function)
    second = getattr(module, "multi_scale_deformable_attention_v2", None)
    if second is None:
        return
    ours = replacements.function_v2(second)
    if not _takes_the_same(model, second, ours):
        return
    holder = getattr(module, KEPT_IN.get(model, ""), None)
    if holder is None:
        yield Place(f"{model}.multi_scale_deformable_attention_v2", module, second.__name__, ours)
    else:
        yield Place(f"{model}.{holder.__name__}", holder, KEPT_AS, _kept(second, ours))


def _takes_the_same(model: str, original: Callable[..., Any], ours: Callable[..., Any]) -> bool:
    theirs, known = (list(inspect.signature(function).parameters) for function in (original, ours))
    if theirs != known:
        _left[model] = f"{original.__qualname__} takes {', '.join(theirs)}, where {', '.join(known)} was expected"
    return theirs == known


def _kept(original: object, ours: object) -> property:
    """An attribute of a layer that is read as ``ours`` where ``original`` is kept; what is kept stays."""

    def read(self: torch.nn.Module) -> object:
        kept = vars(self).get(KEPT_AS, _ABSENT)
        if kept is _ABSENT:
            raise AttributeError(KEPT_AS)
        return ours if kept is original else kept

    def write(self: torch.nn.Module, value: object) -> None:
        vars(self)[KEPT_AS] = value

    return property(read, write)
