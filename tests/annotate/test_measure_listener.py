"""The tool that chooses a listener's settings: what it plants, and what it chooses."""

from __future__ import annotations

import numpy as np
import pytest
from measure_listener import Judged, choose, planted

from partglee.annotate import masks


@pytest.mark.parametrize("wrong", ["here", "elsewhere"])
def test_wrong_captions_are_planted(wrong: str) -> None:
    scenes = list(planted(12, wrong=wrong))
    again = list(planted(12, wrong=wrong))
    right = [good for _, flags in scenes for good in flags]
    assert 0 < right.count(False) < right.count(True)
    assert [flags for _, flags in scenes] == [flags for _, flags in again]
    for sample, flags in scenes:
        assert len(sample.regions) == len(flags) >= 2
        here = " ".join(region.name for region in sample.regions)
        for region, good in zip(sample.regions, flags, strict=True):
            assert region.mask is not None and masks.areas([region.mask])[0] > 0
            if good and "everyone" not in str(region.caption) and "thing" not in str(region.caption):
                assert region.name in str(region.caption)
            if wrong == "here" and "thing" not in str(region.caption) and "everyone" not in str(region.caption):
                assert any(name in str(region.caption) for name in here.split())


def test_settings_lose_the_fewest_right_ones() -> None:
    seen = Judged(
        np.array([0.3, 0.4, 0.9, 0.5, 0.1]), np.array([0.2, 0.3, 0.4, -0.3, -0.1]), np.array([1, 1, 1, 0, 0], bool)
    )
    assert seen.rates(0.45, -1.0) == (0.5, pytest.approx(2 / 3))
    threshold, margin = choose(seen, 1.0, compare=False)
    assert margin == -1.0 and seen.rates(threshold, margin) == (1.0, pytest.approx(2 / 3))
    assert seen.rates(*choose(seen, 1.0, compare=True)) == (1.0, 0.0)
