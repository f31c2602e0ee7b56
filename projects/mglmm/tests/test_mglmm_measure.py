"""What the measurement of toy scenes says of answers that are known: the truth, nothing, other things."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mglmm.answer import Answer, phrases_of
from mglmm.cli import main
from mglmm.data.loader import true_masks
from mglmm.data.marked import parse
from mglmm.toy.measure import measure, names_in, questions, right_things

SCENES = 4
KNOWN = {
    (record.pixels.tobytes(), record.turns[-2].text): record
    for asked in questions(SCENES)
    for record in asked
}  # fmt: skip


def answer_of(question, pixels, said, masks):
    parsed = parse(said)
    spans = [(parsed.text[span.start : span.end], (span.start, span.end)) for span in parsed.spans]
    phrases = phrases_of(spans, torch.from_numpy(masks), [0.9] * len(masks))
    return Answer(question=question, text=parsed.text, said=said, phrases=phrases, whole=True,
                  well_formed=parsed.well_formed, pixels=pixels)  # fmt: skip


def truth(pixels, question):
    record = KNOWN[pixels.tobytes(), question]
    return answer_of(question, pixels, record.turns[-1].marked, true_masks(record))


def test_the_truth_is_right(tmp_path):
    results = measure(truth, SCENES, pictures=tmp_path)
    for name in ("whole: right things", "one: right things", "both: right things", "whole: the very sentence",
                 "another question, other masks", "well-formed", "absent: no mask", "whole: strict/AP50",
                 "one: strict/mIoU", "one: reference/recall"):  # fmt: skip
        assert results[name] == pytest.approx(100), name
    assert len(list(tmp_path.glob("*.jpg"))) == 3 * SCENES


def test_saying_nothing_is_right_about_what_is_absent():
    def sorry(pixels, question):
        return answer_of(question, pixels, "Sorry, I see none.", np.zeros((0, *pixels.shape[:2]), bool))

    results = measure(sorry, SCENES)
    assert results["absent: no mask"] == 100 and results["well-formed"] == 100
    assert results["both: right things"] == results["whole: strict/mIoU"] == results["one: reference/recall"] == 0
    assert results["another question, other masks"] == 0


def test_the_same_answer_to_every_question():
    """Right about the whole image alone: a prompt that is not listened to changes nothing."""

    def deaf(pixels, question):
        record = next(r for (seen, _), r in KNOWN.items() if seen == pixels.tobytes() and r.task == "mgsc_root")
        return answer_of(question, pixels, record.turns[-1].marked, true_masks(record))

    results = measure(deaf, SCENES)
    assert results["whole: right things"] == 100 and results["one: right things"] == results["both: right things"] == 0
    assert results["absent: no mask"] == results["another question, other masks"] == 0


def test_things_are_told_by_their_names():
    assert names_in(["kite on the left", "second ball from the top", "Car", "a zebra"]) == {
        "kite": 1, "ball": 1, "car": 1, "": 1,
    }  # fmt: skip
    (asked,) = questions(1)
    said = [asked.whole.turns[-1].text[span.start : span.end] for span in asked.whole.turns[-1].spans]
    backwards = " and ".join(f"<p> {phrase} </p> [SEG]" for phrase in reversed(said))
    masks = np.zeros((len(said), *asked.whole.size), bool)
    assert right_things(asked.whole, answer_of("?", asked.whole.pixels, backwards, masks))
    fewer = " and ".join(f"<p> {phrase} </p> [SEG]" for phrase in said[1:])
    assert not right_things(asked.whole, answer_of("?", asked.whole.pixels, fewer or "None.", masks[1:]))


def test_bad_arguments(tmp_path, capsys):
    assert main(["measure", "x", "--scenes", "0"]) == 2
    assert "--scenes must be at least 1" in capsys.readouterr().err
    assert main(["measure", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err
