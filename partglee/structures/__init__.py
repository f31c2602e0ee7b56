"""What the stages of the library exchange: vocabularies, batches, targets, outputs and predictions."""

from partglee.structures.batch import BatchNames, TrainingBatch
from partglee.structures.class_list import ClassList
from partglee.structures.dense import DenseScores
from partglee.structures.features import DenoisingQueries, PartQueries, PixelFeatures
from partglee.structures.grounding import Grounding
from partglee.structures.images import ImageBatch, batch_images
from partglee.structures.known_parts import known_parts
from partglee.structures.mask_answer import MaskAnswer
from partglee.structures.outputs import DecoderOutput, LayerPrediction, ModelOutput
from partglee.structures.prediction import Prediction
from partglee.structures.prediction_formats import CocoCategory, CocoResult, PredictionLine
from partglee.structures.prediction_row import Level, PredictionRow
from partglee.structures.referring import ReferringBatch
from partglee.structures.supervision import LevelSupervision, Supervision
from partglee.structures.targets import HierarchicalTargets, LevelTargets
from partglee.structures.text import TextEmbeddings, TextTokens
from partglee.structures.vocabulary import Vocabulary, VocabularyLike

__all__ = [
    "BatchNames",
    "CocoCategory",
    "CocoResult",
    "ClassList",
    "DecoderOutput",
    "DenoisingQueries",
    "DenseScores",
    "Grounding",
    "HierarchicalTargets",
    "ImageBatch",
    "LayerPrediction",
    "Level",
    "LevelSupervision",
    "LevelTargets",
    "MaskAnswer",
    "ModelOutput",
    "PartQueries",
    "PixelFeatures",
    "Prediction",
    "PredictionLine",
    "PredictionRow",
    "ReferringBatch",
    "Supervision",
    "TextEmbeddings",
    "TextTokens",
    "TrainingBatch",
    "Vocabulary",
    "VocabularyLike",
    "batch_images",
    "known_parts",
]
