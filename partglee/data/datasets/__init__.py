"""The data sets that the library knows by name. Importing this package registers them; one module for each."""

from partglee.data.datasets import (
    car_parts,
    clothing,
    coco,
    lvis,
    objects365,
    openimages,
    paco,
    partimagenet,
    pascal_part,
    refcoco,
    sa1b,
    toy,
    visual_genome,
)

__all__ = [
    "car_parts",
    "clothing",
    "coco",
    "lvis",
    "objects365",
    "openimages",
    "paco",
    "partimagenet",
    "pascal_part",
    "refcoco",
    "sa1b",
    "toy",
    "visual_genome",
]
