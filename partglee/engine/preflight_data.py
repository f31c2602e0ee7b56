"""What the annotations themselves show to be wrong, before the first step."""

from __future__ import annotations

from fvcore.common.config import CfgNode as CN

from partglee.basics.names import nearest
from partglee.data.annotations.coco_json import CocoRecords
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.expression_views import rows_with_expressions
from partglee.data.records import Expression, ImageRecord, Records
from partglee.evaluation.protocols import metric_names

_SHOWN = 30  # metrics that an error lists


def check_data(cfg: CN, *, train: bool = True, data: DataSets | None = None) -> None:
    """Referring expressions fit their objects, images to evaluate are there, `TEST.BEST` is a metric of its data set.

    Args:
        train: False: only what evaluation needs.
        data: what the run has read.

    Raises:
        ValueError: for the first that is found, with the data set, the image or the nearest metric.
    """
    data = data or DataSets()
    names = tuple(dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)))
    for name in names:
        try:
            records = data.records(name)
            _check_expressions(records, every=train and name in cfg.DATASETS.TRAIN)
            if name in cfg.DATASETS.TEST:
                _check_images(records)
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error
    if not train:  # evaluators are made next anyway
        return
    metrics = []
    for name in cfg.DATASETS.TEST:
        records = data.records(name)
        metrics += [f"{name}/{metric}" for metric in metric_names(get_dataset(name), records)]
    if cfg.TEST.BEST and cfg.TEST.BEST not in metrics:
        own = [metric for metric in metrics if metric.split("/")[0] == cfg.TEST.BEST.split("/")[0]]
        raise ValueError(
            f"TEST.BEST {cfg.TEST.BEST!r} is no metric of its data set{nearest(cfg.TEST.BEST, own) or ';'} "
            f"there are {', '.join(own[:_SHOWN])}{f' and {len(own) - _SHOWN} more' if len(own) > _SHOWN else ''}"
        )


def _check_expressions(records: Records, *, every: bool) -> None:
    rows = rows_with_expressions(records)
    told = [row for row in rows if speaks(records[row])]  # reading a record checks that its lists fit its objects
    if every and told and len(told) < len(records):
        silent = records[min(set(range(len(records))) - set(told))]
        raise ValueError(
            f"{len(told)} of {len(records)} images have a referring expression, but '{silent.file}' has none; data "
            "sets for training have one in every image or in no image: remove the others, or the expressions"
        )


def _check_images(records: Records) -> None:
    """Training survives a missing image; an evaluation without it would be another one, so it ends there."""
    if not isinstance(records, CocoRecords):  # others list the files that they find, or draw
        return
    lost = [row for row in range(len(records)) if not (records.images / records.file_name(row)).is_file()]
    if lost:
        raise ValueError(
            f"it is to be evaluated, but {len(lost)} of its {len(records)} images are missing, such as "
            f"'{records.images / records.file_name(lost[0])}'; bring them, or remove them from the annotations"
        )


def speaks(record: ImageRecord) -> bool:
    """Whether a sentence means something of the image that is no crowd, or says of something that it is not there."""

    def tells(said: Expression) -> bool:
        return said.no_target or any(not thing.crowd for thing in record.targets(said))

    return any(tells(said) for said in record.expressions)
