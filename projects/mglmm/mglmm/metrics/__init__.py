"""How grounded captions and the masks of LISA-like models are scored by the published tools."""

from mglmm.metrics.captions import cider_d, meteor_score
from mglmm.metrics.masks import lisa_meters, matched_ious, phrase_recall_hits

__all__ = ["cider_d", "lisa_meters", "matched_ious", "meteor_score", "phrase_recall_hits"]
