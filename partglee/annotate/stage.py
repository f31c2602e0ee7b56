"""A stage of a pipeline: what it takes and gives, how many images at once, what it runs on."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from partglee.annotate.sample import Sample
from partglee.basics.names import nearest


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage needs. Fractions share: two workers with half a GPU each lie on one."""

    cpus: float = 1.0
    gpus: float = 0.0


class Stage:
    """One step over images. Its constructor takes values of a recipe, keyword by keyword, and costs nothing; what is
    large is loaded by `open`, in the process that will run it.

    A stage works on the samples that it is given and hands nothing back. Whatever it raises on a sample is that image's
    failure, not the job's; what `open` raises ends the job.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = "1"  # counts up when the same values give other rows
    batch_size: int = 1
    resources: Resources = Resources()
    time_limit: float | None = None  # seconds for one image; None = the job's
    kind: str = ""  # under which it is registered
    name: str = ""  # in its recipe
    arguments: Mapping[str, Any] = {}  # of the recipe
    _tag: str = ""

    def open(self) -> None:
        """Load models; called once in each process before the first batch."""

    def run(self, samples: Sequence[Sample]) -> None:
        """Work on up to `batch_size` samples, in place.

        Raises:
            ValueError: and anything else, for a batch of which one image cannot be worked on.
        """
        raise NotImplementedError

    def weight_files(self) -> Sequence[Path]:
        """Files of learned values; their content is part of the job's fingerprint."""
        return ()

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Input and output columns of this stage as it is set; those of its class unless its values change them."""
        return self.inputs, self.outputs

    def identity(self) -> dict[str, Any]:
        """Everything that decides what this stage gives, as JSON."""
        return {
            "kind": self.kind, "name": self.name, "version": self.version, "arguments": dict(self.arguments),
            "weights": {file.name: sha256(file) for file in self.weight_files()},
        }  # fmt: skip

    def tag(self) -> str:
        """The stage in one word for the catalogue: name, version, and the first digits of its weights' hashes."""
        if not self._tag:
            hashes = "+".join(sha256(file)[:12] for file in self.weight_files())
            self._tag = f"{self.name}@{self.version}" + (f":{hashes}" if hashes else "")
        return self._tag


_hashes: dict[tuple[str, int, int], str] = {}


def sha256(file: Path) -> str:
    """Of a file's content; looked at again only when its size or time changed."""
    status = file.stat()
    key = str(file), status.st_size, status.st_mtime_ns
    if key not in _hashes:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


# -- registry --------------------------------------------------------------------------------------------------------

_STAGES: dict[str, Callable[[], type[Stage]]] = {}


def register_stage(kind: str, stage: Callable[[], type[Stage]], *, replace: bool = False) -> None:
    """Make a stage known to recipes; `stage` gives its class, so that nothing is imported before it is used.

    Raises:
        ValueError: for a name that is taken.
    """
    if kind in _STAGES and not replace:
        raise ValueError(f"a stage {kind!r} is registered already; choose another name, or pass replace=True")
    _STAGES[kind] = stage


def list_stages() -> tuple[str, ...]:
    """Names of all stages, sorted."""
    return tuple(sorted(_STAGES))


def stage_class(kind: str) -> type[Stage]:
    """The class of a registered stage.

    Raises:
        ValueError: for an unknown one, with the nearest known names.
    """
    if kind not in _STAGES:
        raise ValueError(f"no stage {kind!r}{nearest(kind, _STAGES) or ';'} stages: {', '.join(list_stages())}")
    return _STAGES[kind]()


_OF_ENGINES = ("batch_size", "cpus", "gpus", "time_limit")  # what a recipe may say of any stage


def build_stage(kind: str, name: str, values: Mapping[str, Any]) -> Stage:
    """A stage from the values of a recipe.

    Raises:
        ValueError: for an unknown stage or value, a missing one, or one that the stage refuses.
    """
    made = stage_class(kind)
    parameters = inspect.signature(made.__init__).parameters if made.__init__ is not object.__init__ else {}
    own = {key: value for key, value in parameters.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}
    for key in values:
        if key not in own and key not in _OF_ENGINES:
            known = [*own, *_OF_ENGINES]
            raise ValueError(f"stage {name!r} has no value {key!r}{nearest(key, known) or ';'} it takes {known}")
    needed = [key for key, value in own.items() if value.default is inspect.Parameter.empty and key not in values]
    if needed:
        raise ValueError(f"stage {name!r} ({kind}) needs {', '.join(needed)}")
    arguments = {key: value for key, value in values.items() if key in own}
    hints = _hints(made)
    for key, value in arguments.items():
        if not _fits(value, hints.get(key, Any)):
            raise ValueError(f"stage {name!r}: {key} must be {_named(hints[key])}, got {value!r:.60}")
    try:
        stage = made(**arguments)
    except TypeError as error:
        raise ValueError(f"stage {name!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"stage {name!r}: {error}") from error
    stage.kind, stage.name, stage.arguments = kind, name, arguments
    _set_for_engines(stage, values)
    return stage


def _hints(made: type[Stage]) -> Mapping[str, Any]:
    try:
        return get_type_hints(made.__init__)
    except (NameError, TypeError):  # names that are there for a type checker alone
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a recipe is of the type that a constructor writes down, as far as plain YAML goes."""
    if hint is Any:
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    plain = get_origin(hint) or hint
    if isinstance(value, bool) and plain in (int, float):
        return False
    if plain is float:
        return isinstance(value, (int, float))
    if plain is Sequence:
        return isinstance(value, (list, tuple)) and all(_fits(entry, get_args(hint)[0]) for entry in value)
    return isinstance(value, plain) if isinstance(plain, type) else True


def _named(hint: Any) -> str:
    words = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_named(one) for one in get_args(hint))
    plain = get_origin(hint) or hint
    return words.get(plain, "a list" if plain is Sequence else "a mapping" if plain is Mapping else str(hint))


def _set_for_engines(stage: Stage, values: Mapping[str, Any]) -> None:
    for key in _OF_ENGINES:
        value = values.get(key, 1)
        least = 0 if key in ("cpus", "gpus") else 1e-9
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise ValueError(f"stage {stage.name!r}: {key} must be a number of at least {least:g}, got {value!r}")
    batch = values.get("batch_size", stage.batch_size)
    if not math.isfinite(batch) or int(batch) != batch:
        raise ValueError(f"stage {stage.name!r}: batch_size must be a whole number, got {batch!r}")
    stage.batch_size = int(batch)
    stage.time_limit = values.get("time_limit", stage.time_limit)
    usual = stage.resources
    stage.resources = Resources(float(values.get("cpus", usual.cpus)), float(values.get("gpus", usual.gpus)))
