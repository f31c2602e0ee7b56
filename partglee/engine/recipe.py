"""What a run needs to know of a model: `run(recipe, arguments)` trains, resumes and evaluates any of them.

The library's own model is one recipe (`partglee.engine.partglee_recipe`), a project brings another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN
from torch import Tensor, nn

from partglee.basics.names import nearest
from partglee.checkpoint.convert import ConversionReport
from partglee.config import DEFAULT_RECIPE
from partglee.config.values import Range
from partglee.data.build import build_train_loader
from partglee.data.catalog import DataSets
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec
from partglee.engine.step import Batches
from partglee.engine.weights import load_initial_weights
from partglee.evaluation.protocols import metric_names

Evaluated = tuple[dict[str, float], dict[str, Any]]
"""`data set/metric` -> number, empty on all processes but the first; `data set/file name` -> (H, W, 3) picture."""


class Evaluation(Protocol):
    """Predicts on the data sets of `DATASETS.TEST`, writes the predictions, scores them.

    Every process takes a share of the images. The model is unwrapped, on its device; its mode must be left as it was.
    """

    def __call__(
        self, cfg: CN, model: Any, accelerator: Accelerator, *, folder: Path, pictures: int, data: DataSets
    ) -> Evaluated: ...


def backbone_and_rest(cfg: CN, name: str) -> tuple[str, float]:
    """What is under `backbone` learns at `SOLVER.BACKBONE_MULTIPLIER` times the rate of the rest."""
    return ("backbone", cfg.SOLVER.BACKBONE_MULTIPLIER) if name.startswith("backbone.") else ("rest", 1.0)


def train_batches(
    cfg: CN,
    accelerator: Accelerator,
    data: DataSets | None = None,
    *,
    loader: Callable[..., Iterable[Any]] = build_train_loader,
) -> Batches:
    """This process's share of the data sets of `DATASETS.TRAIN`.

    Args:
        data: what the run has read.
        loader: takes what `build_train_loader` takes; that one gives `TrainingBatch`es.
    """

    def start(step: int) -> Iterable[Any]:
        rank, world_size = accelerator.process_index, accelerator.num_processes
        return loader(cfg, start_step=step, rank=rank, world_size=world_size, data=data)

    return start


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of model, and how it is trained and evaluated.

    With several GPUs a recipe travels to new processes, so functions are those of modules, or `functools.partial` of
    them, not lambdas. `DataSets` is what the run has read: each data set once.
    """

    name: str  # what the key RECIPE of a configuration says
    defaults: Callable[[], CN]  # `get_cfg` or `run_defaults` and more keys; RECIPE set to `name`
    build_model: Callable[[CN], nn.Module]  # without weights; random numbers are seeded before
    # (cfg, model) -> module whose forward(batch) calls the model on a batch of `train_batches`, still on the CPU, and
    # gives a `StepOutput`; what learns is in the model alone
    build_step: Callable[[CN, Any], nn.Module]
    # this process's share; of another loader: `partial(train_batches, loader=...)`
    train_batches: Callable[[CN, Accelerator, DataSets], Batches] = train_batches
    # (cfg, model) -> what answers for the model in `engine.evaluate.evaluate`, see `engine.answerers`
    answerer: Callable[[CN, Any], Any] | None = None
    evaluate: Evaluation | None = None  # in place of that loop; neither: the model cannot be evaluated by a run
    # what the evaluation gives for a data set, each behind `NAME/`; TEST.BEST is one of them
    metric_names: Callable[[DatasetSpec, Records], Sequence[str]] = metric_names
    # (cfg, model, complete): what training starts from; complete: every weight must come from MODEL.WEIGHTS
    load_weights: Callable[[CN, Any, bool], None] = load_initial_weights
    group_of: Callable[[CN, str], tuple[str, float]] = backbone_and_rest  # parameter -> group, factor of SOLVER.BASE_LR
    embeddings: tuple[str, ...] = ()  # ends of names of learned vectors that are looked up or added: decay as norms do
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of keys that `defaults` adds: what they may be
    # (cfg, model, train, data): raises a ValueError for what can be known to be wrong before the first step
    check: Callable[[CN, Any, bool, DataSets], None] | None = None
    # name of a released form of weights, as `partglee convert --from` takes it -> function from its state dict to ours
    convert: Mapping[str, Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], ConversionReport]]] = field(
        default_factory=dict
    )


_RECIPES: dict[str, Recipe] = {}


def register_recipe(recipe: Recipe) -> Recipe:
    """Make a recipe known by its name.

    Raises:
        ValueError: when another one has this name, or its defaults say another.
    """
    if _RECIPES.get(recipe.name, recipe) is not recipe:
        raise ValueError(f"a recipe {recipe.name!r} is registered already; choose another name")
    if (said := recipe.defaults().RECIPE) != recipe.name:
        raise ValueError(f"the defaults of recipe {recipe.name!r} must set RECIPE to its name, got {said!r}")
    _RECIPES[recipe.name] = recipe
    return recipe


def converters() -> dict[str, Recipe]:
    """Every released form of weights -> the recipe that converts it."""
    get_recipe(DEFAULT_RECIPE)
    return {source: recipe for recipe in _RECIPES.values() for source in recipe.convert}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        ValueError: when nothing has registered it.
    """
    if name == DEFAULT_RECIPE:
        import partglee.engine.partglee_recipe  # noqa: F401  registers itself
    if name not in _RECIPES:
        raise ValueError(
            f"unknown recipe {name!r}{nearest(name, _RECIPES) or ';'} a project's recipe is known when the project is "
            "installed, or named: --import PROJECT"
        )
    return _RECIPES[name]
