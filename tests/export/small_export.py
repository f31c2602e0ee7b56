"""A network that is exported in seconds."""

from __future__ import annotations

from pathlib import Path

from partglee.checkpoint import write_weights
from partglee.config import load_config
from partglee.engine.export import export_weights
from partglee.modeling import PartGLEE
from partglee.structures import Vocabulary
from partglee.testing import tiny_model

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"], "cat": []})
SMALL = (
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 12,
    "MODEL.OBJECT_DECODER.NUM_PARSED", 4, "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.QFORMER.NUM_QUERIES", 3,
    "MODEL.PART_DECODER.NUM_LAYERS", 1,
)  # fmt: skip


SIZES = ("INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 128, "TEST.SCORE_THRESHOLD", 0.1, "TEST.MASK_BOX", 0.6)


def small_model(table: Path, *overrides: object) -> PartGLEE:
    return tiny_model(table=table, overrides=[*SMALL, *overrides])


def small_weights(table: Path, folder: Path) -> Path:
    """Its exported weights."""
    cfg = load_config("tiny", ["MODEL.TEXT.TABLE.FILE", str(table), *SMALL, *SIZES])
    state = small_model(table).state_dict()
    write_weights(state, folder / "run.safetensors", {"partglee_config_text": cfg.dump(), "iteration": "1"})
    remarks = {"terms": "for tests alone"}
    return export_weights(folder / "run.safetensors", folder / "small.safetensors", half=False, remarks=remarks)
