"""A network that is exported in seconds."""

from __future__ import annotations

from pathlib import Path

from partglee.modeling import PartGLEE
from partglee.structures import Vocabulary
from partglee.testing import tiny_model

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"], "cat": []})
SMALL = (
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 12,
    "MODEL.OBJECT_DECODER.NUM_PARSED", 4, "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.QFORMER.NUM_QUERIES", 3,
    "MODEL.PART_DECODER.NUM_LAYERS", 1,
)  # fmt: skip


def small_model(table: Path, *overrides: object) -> PartGLEE:
    return tiny_model(table=table, overrides=[*SMALL, *overrides])
