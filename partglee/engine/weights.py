"""The weights that training starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN
from torch import Tensor

from partglee.checkpoint import LoadReport, load_weights, read_detectron2_resnet, read_weights
from partglee.checkpoint.detectron2 import convert_resnet, is_detectron2_resnet
from partglee.config import DEFAULT_RECIPE
from partglee.config.habits import file_hint
from partglee.engine.logging import LOGGER
from partglee.engine.weight_files import TABLE_KEY, TRAINING_ONLY, find_weights, recipe_of
from partglee.modeling.backbone import Backbone

# Behind the last map in timm's classifiers; only keys that the extractor has no place for are compared with these.
_CLASSIFIER = ("classifier.", "fc.", "head.", "head_", "conv_head.", "bn2.", "norm.", "norm_pre.")


def load_initial_weights(
    cfg: CN,
    model: Any,
    complete: bool = False,
    *,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> None:
    """`MODEL.BACKBONE.WEIGHTS`, then `MODEL.WEIGHTS`, each where given; what stayed as initialised is logged.

    Args:
        model: any; with `MODEL.BACKBONE.WEIGHTS` its `backbone` is a `Backbone`.
        complete: every weight that inference needs must be in `MODEL.WEIGHTS`.
        rename: the tensors of that file, which may be of another model, under the names that they have here.

    Raises:
        ValueError: for a file that is missing, damaged, incomplete where it must not be, of another project's model, or
            fits nothing.
    """
    if "BACKBONE" in cfg.MODEL and cfg.MODEL.BACKBONE.WEIGHTS:
        LOGGER.info(str(load_backbone(model.backbone, cfg.MODEL.BACKBONE.WEIGHTS)))
    if cfg.MODEL.WEIGHTS:
        file = find_weights(cfg.MODEL.WEIGHTS)
        if (said := recipe_of(file)) not in (None, cfg.RECIPE, DEFAULT_RECIPE):
            raise ValueError(
                f"MODEL.WEIGHTS {file} is of a model {said!r}, which has little in common with {cfg.RECIPE!r}; "
                f"start from weights of {cfg.RECIPE!r} or of {DEFAULT_RECIPE!r} (its backbone and pixel decoder)"
            )
        weights = file if rename is None else rename(read_weights(file))
        report = load_weights(
            model, weights, allow_missing=TRAINING_ONLY if complete else True, ignore=[TABLE_KEY], verbose=False
        )
        report = replace(report, source=str(file))
        if not report.loaded:
            raise ValueError(f"{report}\nno tensor of MODEL.WEIGHTS fits this model; is it of another configuration?")
        LOGGER.info(str(report))


def load_backbone(backbone: Backbone, file: str) -> LoadReport:
    """Fill the timm feature extractor from a timm state dict (of the whole classifier, or of the extractor), or from a
    ResNet of detectron2's model zoo (`.pkl`).

    The classifier is dropped; half-precision files are widened.

    Raises:
        ValueError: when a weight of the extractor is missing or of another shape, and for a ResNet of detectron2 that
            would give other numbers here.
    """
    if hint := None if Path(file).exists() else file_hint(file):
        raise ValueError(hint)
    if Path(file).suffix == ".pkl":
        state = read_detectron2_resnet(file)
    else:
        state = read_weights(file)
        if is_detectron2_resnet(state):
            state = convert_resnet({"model": state}, source=file)
    body = backbone.body
    own = body.state_dict()
    renamed = {}
    for key, value in state.items():
        for candidate in (key, key.replace("layers.", "layers_", 1)):
            if candidate in own:
                renamed[candidate] = value
                break
        else:
            if not key.startswith(_CLASSIFIER) and not key.endswith("num_batches_tracked"):
                renamed[key] = value  # reported as unexpected
    renamed = {k: v.to(own[k].dtype) if k in own else v for k, v in renamed.items()}
    allowed = [k for k in own if k.endswith("num_batches_tracked")]
    report = load_weights(body, renamed, allow_missing=allowed, verbose=False)
    return LoadReport(file, report.loaded, report.missing, report.unexpected, report.wrong_shape)
