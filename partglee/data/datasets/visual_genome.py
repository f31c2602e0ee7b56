"""Visual Genome with levels, as `datasets/prepare_visual_genome.py` writes it: free phrases, boxes alone."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec

SPECS = (
    DatasetSpec(
        name="vg_train_joint",
        annotations="visual_genome/annotations/train_joint.json",
        images="visual_genome/images",
        reader=read_coco,
        # The wheels of most cars have no box. Objects are boxed densely; that other phrases name the same thing matters
        # little with names drawn from tens of thousands.
        part_background="unlabelled",
        sampled_names=200,
        counts=Counts(images=108077),
    ),
)
