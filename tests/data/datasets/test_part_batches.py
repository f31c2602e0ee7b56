"""A training batch of every part data set, from the raw miniature through the prepare script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.prepare import ade20k_part_234, partimagenet, pascal_part_93, pascal_part_116
from partglee.structures import TrainingBatch
from partglee.testing.miniatures import MINIATURES

SETS = {  # registered name -> (miniature, prepare script, its arguments)
    "paco_lvis_v1_train": ("paco_lvis", None, ()),
    "paco_ego4d_v1_train": ("paco_ego4d", None, ()),
    "partimagenet_train": ("partimagenet", partimagenet.main, ()),
    "partimagenet_joint_train": ("partimagenet", partimagenet.main, ()),
    "partimagenet_seg_train": ("partimagenet_seg", partimagenet.main, ("--release", "seg")),
    "pascal_part_train": ("pascal_part", pascal_part_93.main, ()),
    "pascal_part_base_train": ("pascal_part", pascal_part_93.main, ()),
    "pascal_joint_train": ("pascal_part", pascal_part_93.main, ()),
    "pascalvoc_joint_train": ("pascal_part_116", pascal_part_116.main, ()),
    "pascalvoc_base_train": ("pascal_part_116", pascal_part_116.main, ()),
    "voc_obj_part_sem_seg_train_obj_condition": ("pascal_part_116", None, ()),
    "ade20k_joint_train": ("ade20k_part_234", ade20k_part_234.main, ()),
    "ade20k_base_train": ("ade20k_part_234", ade20k_part_234.main, ()),
    "ade_obj_part_sem_seg_train": ("ade20k_part_234", None, ()),
}


@pytest.mark.parametrize("name", SETS)
def test_batch(name: str, data_root: Path, first_batch: Callable[..., TrainingBatch]) -> None:
    miniature, script, arguments = SETS[name]
    MINIATURES[miniature](data_root, num_images=6, seed=5)
    if script is not None:
        assert script([*arguments, "--splits", "train"]) == 0
    batch = first_batch(name, 4)
    spec = get_dataset(name)
    vocabulary = spec.read().vocabulary
    assert batch.names is not None
    assert spec.supervises_objects or batch.supervision.objects.background == (False,) * 4
    assert set(batch.names.object_prompts) <= set(vocabulary.object_prompts)
    assert sum(len(target.parts) for target in batch.targets) > 0
    for target in batch.targets:
        if spec.supervises_objects:
            assert (target.part_parent >= 0).all()  # in the miniatures every part lies in its object
            owners = [batch.names.object_prompts[label] for label in target.objects.labels[target.part_parent].tolist()]
            for owner, label in zip(owners, target.parts.labels.tolist(), strict=True):
                row = vocabulary.object_prompts.index(owner)
                assert vocabulary.allowed[row, vocabulary.part_prompts.index(batch.names.part_prompts[label])]
        else:
            assert len(target.objects) == 0 and (target.part_parent == -1).all()
        assert torch.isfinite(target.parts.boxes).all()


@pytest.mark.parametrize("config", ["joint_r50", "joint_swinL"])
def test_the_part_sets_of_joint_training_are_known(config: str, root: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(root / f"configs/{config}.yaml"))
    ours = {name for name in cfg.DATASETS.TRAIN if name in SETS}
    assert ours == {
        "paco_lvis_v1_train", "ade20k_joint_train", "pascalvoc_joint_train", "pascal_joint_train",
        "partimagenet_joint_train",
    }  # fmt: skip
    assert all(get_dataset(name).supervises_objects and get_dataset(name).supervises_parts for name in ours)
