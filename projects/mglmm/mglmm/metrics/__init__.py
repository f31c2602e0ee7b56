"""How grounded captions and the masks of LISA-like models are scored by the published tools."""

from mglmm.metrics.captions import cider_d, meteor_score
from mglmm.metrics.masks import lisa_meters, matched_ious, phrase_recall_hits
from mglmm.metrics.meteor import meteor

__all__ = ["cider_d", "lisa_meters", "matched_ious", "meteor", "meteor_score", "phrase_recall_hits"]
