"""Small copies of public data sets in their true raw formats, for tests and for trying commands without a download.

Every writer has the signature `write(root, *, num_images, seed) -> None` and fills a root of data sets as the downloads
would: folders, file names, ids, category lists (of Open Images 21 of 601 classes) and bit depths are the real ones, the
pictures are simple shapes. What a prepare script makes of a download is not written: run the script.
"""

from __future__ import annotations

from collections.abc import Callable

from partglee.testing.miniatures.boxes_alone import write_objects365, write_openimages, write_visual_genome
from partglee.testing.miniatures.coco import write_coco, write_lvis
from partglee.testing.miniatures.ov_parts import write_ade20k_part_234, write_pascal_part_116
from partglee.testing.miniatures.paco import write_paco_ego4d, write_paco_lvis
from partglee.testing.miniatures.partimagenet import write_partimagenet, write_partimagenet_seg
from partglee.testing.miniatures.pascal_part import write_pascal_part
from partglee.testing.miniatures.refcoco import write_grefcoco, write_mres_triples, write_refcoco, write_refcocom
from partglee.testing.miniatures.sa1b import write_sa1b

MINIATURES: dict[str, Callable[..., None]] = {
    "ade20k_part_234": write_ade20k_part_234,
    "coco": write_coco,
    "grefcoco": write_grefcoco,
    "lvis": write_lvis,
    "mres_triples": write_mres_triples,
    "objects365": write_objects365,
    "openimages": write_openimages,
    "paco_ego4d": write_paco_ego4d,
    "paco_lvis": write_paco_lvis,
    "partimagenet": write_partimagenet,
    "partimagenet_seg": write_partimagenet_seg,
    "pascal_part": write_pascal_part,
    "pascal_part_116": write_pascal_part_116,
    "refcoco": write_refcoco,
    "refcocom": write_refcocom,
    "sa1b": write_sa1b,
    "visual_genome": write_visual_genome,
}

__all__ = ["MINIATURES"]
