"""The data sets that the library knows by name. Importing this package registers them; one module for each."""

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

__all__ = [
    "ade20k_part_234",
    "car_parts",
    "clothing",
    "coco",
    "lvis",
    "objects365",
    "openimages",
    "paco",
    "partimagenet",
    "pascal_part",
    "pascal_part_116",
    "refcoco",
    "sa1b",
    "toy",
    "visual_genome",
]
