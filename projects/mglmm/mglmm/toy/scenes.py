"""Toy scenes as sources: described whole and object by object with masks, and segmented by name.

`toy_mgsc_train`, `toy_segment_train`: endless, drawn when asked for; `toy_dialogue_train`: four questions about each
scene, of both kinds. `toy_mgsc_val` and `toy_segment_val` are other scenes.
"""

from __future__ import annotations

from functools import partial

from mglmm.data.dialogues import Dialogues
from mglmm.data.loader import register_source
from mglmm.data.source import Scenes, hierarchical, semantic
from partglee.testing.toy import TRAIN_SEED, VAL_SEED, ToyRecords

SIZE = (128, 128)
NUM_VAL = 400
ENDLESS = 1_000_000


def described(seed: int, num_images: int, size: tuple[int, int] = SIZE) -> Scenes:
    """The whole image, or one object and its parts."""
    return Scenes("toy_mgsc", ToyRecords(num_images=num_images, seed=seed, size=size), hierarchical)


def segmented(seed: int, num_images: int, size: tuple[int, int] = SIZE) -> Scenes:
    """Up to three names, of objects and parts; a third of the questions are about what is not there."""
    return Scenes("toy_segment", ToyRecords(num_images=num_images, seed=seed, size=size), semantic, absent=0.33)


def talked_about(seed: int, num_images: int, size: tuple[int, int] = SIZE) -> Dialogues:
    """Four questions about each scene: three descriptions for two of segmentation."""
    records = ToyRecords(num_images=num_images, seed=seed, size=size)
    kinds = (Scenes("toy_mgsc", records, hierarchical, root=0.6), Scenes("toy_segment", records, semantic, absent=0.33))
    return Dialogues("toy_dialogue", kinds, shares=(3, 2), number=4)


def register_toy() -> None:
    """Make them known by name."""
    register_source("toy_mgsc_train", partial(described, TRAIN_SEED, ENDLESS), replace=True)
    register_source("toy_segment_train", partial(segmented, TRAIN_SEED, ENDLESS), replace=True)
    register_source("toy_dialogue_train", partial(talked_about, TRAIN_SEED, ENDLESS), replace=True)
    register_source("toy_mgsc_val", partial(described, VAL_SEED, NUM_VAL), protocol="mgsc", replace=True)
    register_source("toy_segment_val", partial(segmented, VAL_SEED, NUM_VAL), protocol="gres", replace=True)
