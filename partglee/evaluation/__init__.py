"""Evaluation: one class for each protocol over one small base. See docs/evaluation.md."""

from partglee.evaluation.base import Evaluator, format_table
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.evaluators import EVALUATORS, build_evaluator, dataset_evaluator
from partglee.evaluation.expression_protocols import referring_rules
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.hierarchical import HierarchicalEvaluator
from partglee.evaluation.instances import CocoEvaluator, LvisEvaluator
from partglee.evaluation.issues import PredictionError
from partglee.evaluation.joint import FederatedEvaluator, JointEvaluator, joint_evaluator
from partglee.evaluation.paco import PacoEvaluator
from partglee.evaluation.part_map_files import score_label_images
from partglee.evaluation.part_sets import PartImageNetEvaluator, PartSetEvaluator, PascalPartEvaluator
from partglee.evaluation.prediction_files import detect_format, read_detections, score_file
from partglee.evaluation.protocols import Protocol, ScoringOptions, get_protocol, protocol_of, register_protocol
from partglee.evaluation.referring import PartExpressionEvaluator, ReferringEvaluator, ReferringRules
from partglee.evaluation.referring_boxes import GeneralizedBoxEvaluator, GroundingBoxEvaluator
from partglee.evaluation.semantic_parts import SemanticPartEvaluator, compose_part_map

__all__ = [
    "EVALUATORS",
    "CategoryMap",
    "CocoEvaluator",
    "Evaluator",
    "FederatedEvaluator",
    "GeneralizedBoxEvaluator",
    "GroundTruth",
    "GroundingBoxEvaluator",
    "HierarchicalEvaluator",
    "JointEvaluator",
    "LvisEvaluator",
    "PacoEvaluator",
    "PartExpressionEvaluator",
    "PartImageNetEvaluator",
    "PartSetEvaluator",
    "PascalPartEvaluator",
    "PredictionError",
    "Protocol",
    "ReferringEvaluator",
    "ReferringRules",
    "ScoringOptions",
    "SemanticPartEvaluator",
    "build_evaluator",
    "compose_part_map",
    "dataset_evaluator",
    "detect_format",
    "format_table",
    "get_protocol",
    "joint_evaluator",
    "protocol_of",
    "read_detections",
    "referring_rules",
    "register_protocol",
    "score_file",
    "score_label_images",
]
