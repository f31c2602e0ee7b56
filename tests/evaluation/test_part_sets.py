"""Breakdowns of PartImageNet and Pascal-Part."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import dataset, feed, image, rect, result

from partglee.evaluation import PartImageNetEvaluator, PascalPartEvaluator
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import builtin_splits


def pascal_categories():
    parts = Vocabulary.builtin("pascal_part_93").to_dict()
    names = [f"{name}:{part}" for name, entries in parts.items() for part in entries]
    return [{"id": i + 1, "name": name} for i, name in enumerate(names)]


def test_pascal_split_has_77_and_16_parts():
    categories = pascal_categories()
    evaluator = PascalPartEvaluator(ground_truth=dataset([image(1)], [], categories))
    assert len(categories) == 93
    assert {group: len(members) for group, members in evaluator._groups.items()} == {"base": 77, "novel": 16}
    assert builtin_splits("pascal_part")["novel"] == ("bus", "dog")


def test_pascal_means_by_hand():
    categories = pascal_categories()
    key = {entry["name"]: entry["id"] for entry in categories}
    a, b = rect(0, 2, 0, 2), rect(2, 4, 2, 4)
    truth = dataset([image(1)], [(1, key["cat:head"], a), (1, key["dog:head"], a), (1, key["dog:tail"], b)], categories)
    rows = [result(1, key["cat:head"], a, 0.9), result(1, key["dog:head"], a, 0.8), result(1, key["dog:tail"], a, 0.7)]
    results = feed(PascalPartEvaluator(ground_truth=truth), rows)
    for kind in ("bbox", "segm"):
        assert results[f"{kind}/AP"] == pytest.approx(200 / 3)
        assert results[f"{kind}/AP-base"] == pytest.approx(100)
        assert results[f"{kind}/AP-novel"] == pytest.approx(50)
        assert results[f"{kind}/AP50-dog"] == pytest.approx(50)
        assert results[f"{kind}/AP50-dog:tail"] == 0
        assert np.isnan(results[f"{kind}/AP-bus"])


def test_partimagenet_names_and_joint_file():
    """Category ids from 0, names "Quadruped Head"; objects of a joint file are not scored."""
    parts = Vocabulary.builtin("partimagenet_40").to_dict()
    names = [name.title() for name in parts]
    names += [f"{name.title()} {part.title()}" for name, entries in parts.items() for part in entries]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    key = {name: i for i, name in enumerate(names)}
    a, b = rect(0, 2, 0, 2), rect(2, 4, 2, 4)
    found = [(1, key["Quadruped"], a), (1, key["Quadruped Head"], a), (1, key["Car Side Mirror"], b)]
    truth = dataset([image(1)], found, categories)
    truth["annotations"][0]["id"] = 0
    results = feed(PartImageNetEvaluator(ground_truth=truth), [result(1, key["Quadruped Head"], a, 0.5)])
    assert results["segm/AP"] == pytest.approx(50)
    assert results["segm/AP-Quadruped Head"] == pytest.approx(100)
    assert results["segm/AP-quadruped"] == pytest.approx(100)
    assert results["segm/AP-car"] == 0
    assert np.isnan(results["segm/AP-Quadruped"])
