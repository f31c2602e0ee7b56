"""Stands for a model that sees, in worker processes too: it imports little."""

from __future__ import annotations

import json
import re

from mglmm.mgsc.label import asking_again


def labeller_by_size(weights, **options):
    """What is wide is a building, what is small a window."""
    del weights

    def answer(image, question):
        box = [int(value) for value in re.findall(r"\d+", question)[:4]]
        width = box[2] - box[0]
        label = "building" if width > 600 else "car" if width > 200 else "window"
        assert image.shape == (40, 40, 3) and options == {"marker": 1}
        return json.dumps({"label": label, "caption": f"A {label}. It stands there."})

    return asking_again(answer)
