"""The scoring protocols of referring expressions: masks, boxes of any number of targets, parts beside objects.

Their options are the fields of `ReferringRules`, and `rules` the name of a set of them: `--option rules=rela`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from partglee.data import Records
from partglee.evaluation.base import Evaluator, Results
from partglee.evaluation.evaluators import check_options
from partglee.evaluation.expression_files import score_expressions, score_generalized_boxes, score_part_expressions
from partglee.evaluation.protocols import EXPRESSIONS, Protocol, ScoringOptions, register_protocol
from partglee.evaluation.referring import PartExpressionEvaluator, ReferringEvaluator, ReferringRules
from partglee.evaluation.referring_boxes import GeneralizedBoxEvaluator, GroundingBoxEvaluator


def referring_rules(options: ScoringOptions) -> ReferringRules:
    """The rules that the options of a score ask for.

    Raises:
        ValueError: for unknown options, or ones that expressions do not have.
    """
    if options.kinds:
        raise ValueError("answers to expressions are scored by boxes and masks, without --kinds and --objects")
    given = dict(options.arguments)
    return ReferringRules.named(given.pop("rules", "ours"), **given)


def _score_masks(file: Path, records: Records, options: ScoringOptions) -> Results:
    return score_expressions(file, records, rows=options.rows, rules=referring_rules(options), strict=options.strict)


def _mask_metrics(records: Records, options: ScoringOptions) -> tuple[str, ...]:
    _check_records(records, options)
    evaluators: dict[str, Evaluator] = {
        "box": GroundingBoxEvaluator(),
        "mask": ReferringEvaluator(rules=referring_rules(options)),
    }
    return tuple(f"{group}/{key}" for group, evaluator in evaluators.items() for key in evaluator.metric_names())


def _box_evaluator(options: ScoringOptions) -> GeneralizedBoxEvaluator:
    if options.kinds:
        raise ValueError("answers to expressions are scored without --kinds and --objects")
    check_options(GeneralizedBoxEvaluator, options.arguments)
    return GeneralizedBoxEvaluator(strict=options.strict, **options.arguments)


def _score_boxes(file: Path, records: Records, options: ScoringOptions) -> Results:
    return score_generalized_boxes(file, records, _box_evaluator(options), rows=options.rows)


def _box_metrics(records: Records, options: ScoringOptions) -> tuple[str, ...]:
    _check_records(records, options)
    return _box_evaluator(options).metric_names()


def _score_parts(file: Path, records: Records, options: ScoringOptions) -> Results:
    rules = referring_rules(options)
    return score_part_expressions(file, records, rows=options.rows, rules=rules, strict=options.strict)


def _part_metrics(records: Records, options: ScoringOptions) -> tuple[str, ...]:
    _check_records(records, options)
    names = records.vocabulary.part_names
    return PartExpressionEvaluator(part_names=names, rules=referring_rules(options)).metric_names()


def _check_records(records: Records, options: ScoringOptions) -> None:
    # Imported late: it brings the transforms of training, hence torchvision, which takes as long as torch itself.
    from partglee.data.expression_views import rows_with_expressions

    if not rows_with_expressions(records):
        raise ValueError(
            f"data set {options.spec.name!r} is scored by {options.spec.evaluator!r} but has no referring expressions; "
            "choose an evaluator of detections"
        )


_sentences = Protocol(
    name="referring", reads=EXPRESSIONS, score=_score_masks, metrics=_mask_metrics, title="referring expressions"
)
_boxes = Protocol(
    name="grec", reads=EXPRESSIONS, score=_score_boxes, metrics=_box_metrics, title=GeneralizedBoxEvaluator.name
)
_parts = Protocol(
    name="referring_parts", reads=EXPRESSIONS, score=_score_parts, metrics=_part_metrics,
    title=PartExpressionEvaluator.name,
)  # fmt: skip
for _protocol in (_sentences, replace(_sentences, name="refcoco_boxes"), _boxes, _parts):
    register_protocol(_protocol)
