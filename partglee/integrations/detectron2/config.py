"""The keys that PartGLEE adds to a configuration of detectron2, and the model's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from partglee.checkpoint import read_weights
from partglee.checkpoint.notes import read_note
from partglee.config import config_from_text
from partglee.engine.pretrained import pretrained_config
from partglee.integrations.detectron2.weights import local_weights
from partglee.modeling import MultiLabel, PostprocessOptions


def add_partglee_config(cfg: Any, weights: str = "", vocabulary: str = "", config: str = "") -> None:
    """Add `MODEL.PARTGLEE` to a configuration of detectron2, and name the meta-architecture.

    Args:
        cfg: of `detectron2.config.get_cfg()`; changed in place.
        weights: becomes `MODEL.WEIGHTS`; the sizes of test images become those of the weights' own configuration, and
            pixels are read as RGB.
        vocabulary: becomes `MODEL.PARTGLEE.VOCABULARY`.
        config: becomes `MODEL.PARTGLEE.CONFIG`, for weights that do not say their configuration.

    Raises:
        ValueError: for weights that are not there or say no configuration.
    """
    cfg.MODEL.META_ARCHITECTURE = "PartGLEE"
    cfg.MODEL.MASK_ON = True  # DatasetMapper keeps masks
    cfg.INPUT.MASK_FORMAT = "bitmask"  # masks as run lengths are read in this form alone
    cfg.MODEL.PARTGLEE = partglee_node()
    cfg.MODEL.PARTGLEE.VOCABULARY = vocabulary
    cfg.MODEL.PARTGLEE.CONFIG = config
    if weights:
        cfg.MODEL.WEIGHTS = weights
        cfg.INPUT.FORMAT = "RGB"
        own = model_config(cfg)
        cfg.INPUT.MIN_SIZE_TEST = own.INPUT.TEST.SHORT_SIDE
        cfg.INPUT.MAX_SIZE_TEST = own.INPUT.TEST.MAX_SIDE


def partglee_node() -> Any:
    """The keys with their defaults; a configuration without them has these."""
    node = CfgNode()
    node.CONFIG = ""  # YAML file or name of the zoo; "" = the configuration that MODEL.WEIGHTS says
    node.OVERRIDES = []  # [KEY, VALUE, ...] of that configuration, such as ["MODEL.BACKBONE.WEIGHTS", "R-50.pkl"]
    # "car: wheel, door; person", a file, a built-in name; "" = what the metadata of the data sets lists
    node.VOCABULARY = ""
    node.PART_FORMAT = "{object} {part}"  # how a part of the metadata's list reads for the text encoder
    node.OBJECT_FORMAT = "{object}"
    node.PRECISION = "float32"  # of prediction: float32, bfloat16, float16
    node.SAMPLED_NAMES = 0  # names of a training batch at each level: those of its images and random others; 0 = all
    node.SCORE_THRESHOLD = -1.0  # objects below it are dropped with their parts; -1 = as the weights' configuration
    node.PART_SCORE_THRESHOLD = -1.0  # -1 = as for objects
    node.MAX_PARTS_PER_OBJECT = -1  # -1 = all
    node.RESTRICT_PARTS = True  # a part may only appear under an object that has it
    node.OBJECT_OVERLAP = 0.7  # of equally named objects that overlap more, the best stays; 1 = all
    node.ACROSS_NAMES = False  # the same for objects of any names
    node.PART_OVERLAP = 0.7  # of equally named parts of one object that overlap more, the best stays; 1 = all
    node.PART_INSIDE = 0.9  # of equally named parts of one object that lie more in one another, the best stays; 1 = all
    node.MASKS = True
    # True: every name of every query is a candidate, as in the released evaluation; then nothing above counts but MASKS
    node.MULTI_LABEL = False
    node.PART_MAPS = ""  # of PartMapReplay: folder of predicted part maps
    return node


def keys_of(cfg: Any) -> Any:
    """`MODEL.PARTGLEE`, or its defaults where the configuration does not have it."""
    return cfg.MODEL.PARTGLEE if "PARTGLEE" in cfg.MODEL else partglee_node()


def model_config(cfg: Any) -> Any:
    """The model's own configuration: `MODEL.PARTGLEE.CONFIG`, or what `MODEL.WEIGHTS` says, with `OVERRIDES`.

    Raises:
        ValueError: when neither says one, and for a backbone in the place of the model's weights.
    """
    keys, weights = keys_of(cfg), str(cfg.MODEL.WEIGHTS)
    overrides, config = list(keys.OVERRIDES), keys.CONFIG or None
    if Path(weights).suffix == ".pkl":
        raise ValueError(
            f"MODEL.WEIGHTS {weights} is of a model of detectron2; of it a ResNet alone can be used: MODEL.WEIGHTS '', "
            f"MODEL.PARTGLEE.CONFIG 'joint_r50', MODEL.PARTGLEE.OVERRIDES ['MODEL.BACKBONE.WEIGHTS', '{weights}']"
        )
    if not weights:
        if config is None:
            raise ValueError("set MODEL.WEIGHTS to weights of PartGLEE, or MODEL.PARTGLEE.CONFIG to a configuration")
        return pretrained_config(None, overrides, config=config, training=True)
    file = local_weights(weights)
    if file.suffix == ".safetensors":
        return pretrained_config(file, overrides, config=config, training=True)
    if config is not None:
        return pretrained_config(None, overrides, config=config, training=True)
    said = read_note(read_weights(PathManager.get_local_path(str(file)))).get("config")
    if said is None:
        raise ValueError(
            f"MODEL.WEIGHTS {weights} does not say its configuration; set MODEL.PARTGLEE.CONFIG "
            "(config= of add_partglee_config)"
        )
    return config_from_text(said, overrides, source=weights)


def options_of(cfg: Any, own: Any) -> PostprocessOptions:
    """What is kept of an image.

    Args:
        own: of `model_config`.
    """
    keys = keys_of(cfg)
    return PostprocessOptions(
        score_threshold=own.TEST.SCORE_THRESHOLD if keys.SCORE_THRESHOLD < 0 else keys.SCORE_THRESHOLD,
        part_score_threshold=None if keys.PART_SCORE_THRESHOLD < 0 else keys.PART_SCORE_THRESHOLD,
        max_objects=cfg.TEST.DETECTIONS_PER_IMAGE,
        max_parts_per_object=None if keys.MAX_PARTS_PER_OBJECT < 0 else keys.MAX_PARTS_PER_OBJECT,
        restrict_parts=keys.RESTRICT_PARTS,
        object_overlap=keys.OBJECT_OVERLAP if keys.OBJECT_OVERLAP < 1 else None,
        across_names=keys.ACROSS_NAMES,
        part_overlap=keys.PART_OVERLAP if keys.PART_OVERLAP < 1 else None,
        mask_box=own.TEST.MASK_BOX or None,
        part_inside=keys.PART_INSIDE if keys.PART_INSIDE < 1 else None,
        masks=keys.MASKS,
        multi_label=multi_label_of(own) if keys.MULTI_LABEL else None,
    )


def multi_label_of(own: Any) -> MultiLabel:
    """The released evaluation with the numbers of the model's own configuration."""
    overlap = own.TEST.PART_OVERLAP
    return MultiLabel(
        object_queries=own.TEST.OBJECT_QUERIES,
        part_queries=own.TEST.PART_QUERIES,
        detections=own.TEST.DETECTIONS,
        part_overlap=overlap if overlap < 1 else None,
    )
