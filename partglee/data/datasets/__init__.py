"""The data sets that the library knows by name: each module has its `SPECS`, this package has all of them."""

from partglee.data.datasets import (
    ade20k_part_234,
    car_parts,
    clothing,
    coco,
    lvis,
    objects365,
    openimages,
    paco,
    partimagenet,
    pascal_part,
    pascal_part_116,
    refcoco,
    sa1b,
    toy,
    visual_genome,
)
from partglee.data.spec import DatasetSpec

SPECS: tuple[DatasetSpec, ...] = (
    *ade20k_part_234.SPECS,
    *car_parts.SPECS,
    *clothing.SPECS,
    *coco.SPECS,
    *lvis.SPECS,
    *objects365.SPECS,
    *openimages.SPECS,
    *paco.SPECS,
    *partimagenet.SPECS,
    *pascal_part.SPECS,
    *pascal_part_116.SPECS,
    *refcoco.SPECS,
    *sa1b.SPECS,
    *toy.SPECS,
    *visual_genome.SPECS,
)

__all__ = ["SPECS"]
