"""Which names of a data set a batch is scored against.

C names of one level in the data set's vocabulary, n of them in the batch.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray


def choose_names(
    *,
    num_names: int,
    positives: Collection[int],
    looked_for: Collection[int] = (),
    sampled: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """(n,) labels of the data set's vocabulary, ascending; their order tells nothing of which are in the images.

    Args:
        num_names: C.
        positives: labels that the batch's images have; all of them are chosen, even above `sampled`.
        looked_for: labels that annotators looked for and did not find (LVIS). They come before random others, which
            supervise nothing.
        sampled: n; 0 = all names.
        rng: draws the others.
    """
    if sampled == 0 or sampled >= num_names:
        return np.arange(num_names)
    chosen = sorted(set(positives))
    for pool in (sorted(set(looked_for) - set(chosen)), None):
        room = sampled - len(chosen)
        if room <= 0:
            break
        rest = np.setdiff1d(np.arange(num_names), chosen) if pool is None else np.array(pool, np.int64)
        chosen += rng.choice(rest, size=min(room, len(rest)), replace=False).tolist()
    return np.array(sorted(chosen), np.int64)
