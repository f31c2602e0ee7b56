"""Predictions files and their scores: the worked examples, and answers that are right, wrong or missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mglmm.cli import main
from mglmm.data import Record, RegionMask, Said, Span, write_uscdf
from mglmm.data import miniatures as mini
from mglmm.data.readers import read_reasonseg, reasonseg_records
from mglmm.evaluation import Pair, Predicted, captions, grounded_captions, read_predictions, reasoning, referring, table
from mglmm.evaluation.grounded import word_similarity
from mglmm.evaluation.predictions import Said as Phrase
from mglmm.evaluation.segmentation import intersection_union
from mglmm.metrics import meteor, meteor_score
from mglmm.metrics.meteor import meteor_counts

from partglee.annotate.masks import encode

GOLDEN = json.loads((Path(__file__).resolve().parents[3] / "tests" / "golden" / "referring_golden.json").read_text())
TRUTH = [np.array(m, bool) for m in GOLDEN["fixtures_gcg"]["gt"]]
FOUND = [np.array(m, bool) for m in GOLDEN["fixtures_gcg"]["dt"]]
WORDS = ("dog", "cat", "hat")


def truth(name="a", words=WORDS, masks=TRUTH, task="gcg"):
    text = " ".join(words)
    starts = [text.index(word) for word in words]
    spans = tuple(
        Span(start, start + len(word), row) for row, (start, word) in enumerate(zip(starts, words, strict=True))
    )
    return Record(
        name=name, image=f"{name}.jpg", size=masks[0].shape, task=task,
        turns=(Said("user", "Describe."), Said("assistant", text, spans)),
        masks=tuple(RegionMask(encode(mask), word) for mask, word in zip(masks, words, strict=True)),
    ).check()  # fmt: skip


def said(words=WORDS, masks=FOUND, scores=None, **more):
    scores = scores or [1.0] * len(words)
    rows = tuple(Phrase(word, encode(mask), score) for word, mask, score in zip(words, masks, scores, strict=True))
    return Predicted("a", " ".join(words), rows, not rows, **more)


# -- words -------------------------------------------------------------------------------------------------------------


def test_meteor_is_that_of_the_jar():
    references = [["a dog on the grass"], ["two cups on a wooden table"]]
    hypotheses = ["a dog on grass", "two cups on a wooden table"]
    expected = GOLDEN["meteor_hyp0"]
    counts = meteor_counts(hypotheses[0], references[0][0])
    assert counts == ((2, 2), (2, 2), (2, 3), 2)
    assert meteor(references[:1], hypotheses[:1]) == pytest.approx(expected["score"], abs=1e-12)
    assert meteor(references, hypotheses) == pytest.approx(expected["corpus_of_both_by_jar"], abs=1e-7)
    assert meteor([["a b c", "x y"]], ["x y"]) == pytest.approx(1.0)
    assert meteor([["x"]], [""]) == 0


def test_alignment_takes_long_runs_first():
    counts = meteor_counts("the cat and the dog", "the dog and the cat")
    assert sum(counts.matched) == 5 and counts.chunks == 3  # "and the" stays together
    by_hand = meteor_score(matched=counts.matched, hypothesis=counts.hypothesis, reference=counts.reference, chunks=3)
    assert meteor([["the dog and the cat"]], ["the cat and the dog"]) == pytest.approx(by_hand)


def test_similarity():
    assert word_similarity("a red car", "red car a") == pytest.approx(1.0)
    assert word_similarity("dog", "cat") == 0 == word_similarity("", "cat")


# -- masks -------------------------------------------------------------------------------------------------------------


def test_grounded_captions_by_the_worked_example():
    expected, ap = GOLDEN["gcg"], GOLDEN["gcg_ap"]
    found = grounded_captions([Pair(truth(), said())])
    assert found["reference/mIoU"] == pytest.approx(100 * expected["mIoU"])
    assert found["strict/mIoU"] == pytest.approx(100 * expected["mIoU_over_gt"])
    assert found["reference/recall"] == pytest.approx(100 * expected["recall"])
    assert found["reference/AP50"] == pytest.approx(100 * ap["order_tp_tp_fp"][1])
    order = [2, 0, 1]
    other = said([WORDS[i] for i in order], [FOUND[i] for i in order], [0.1, 0.9, 0.8])
    turned = grounded_captions([Pair(truth(), other)])
    assert turned["reference/AP50"] == pytest.approx(100 * ap["order_fp_tp_tp"][1])
    assert turned["strict/AP50"] == pytest.approx(100 * ap["scored"][1])
    wrong = grounded_captions([Pair(truth(), said(("bird", "cat", "hat")))])
    assert wrong["reference/recall"] == pytest.approx(100 * expected["recall_bad_phrase_reference"])
    assert wrong["strict/recall"] == pytest.approx(100 * expected["recall_bad_phrase_continue"])


def test_what_nobody_answered():
    """The published tools drop it; strictly it counts."""
    pairs = [Pair(truth("a"), said(masks=TRUTH)), Pair(truth("b"), None)]
    found = grounded_captions(pairs)
    assert found["reference/mIoU"] == found["reference/recall"] == 100 and found["unanswered"] == 1
    assert found["strict/mIoU"] == found["strict/recall"] == 50
    with pytest.raises(ValueError, match="no record"):
        grounded_captions([])


def test_referring():
    none = Record(name="n", image="n.jpg", size=(4, 4), task="referring",
                  turns=(Said("user", "dog?"), Said("assistant", "Sorry, no dog.")))  # fmt: skip
    one = truth("o", ("dog",), TRUTH[:1])
    right = referring([Pair(one, said(("dog",), TRUTH[:1])), Pair(none, said((), ()))])
    assert right["gIoU"] == 100 and right["N-acc"] == 100
    wrong = referring([Pair(one, said(("dog",), FOUND[:1])), Pair(none, said(("dog",), TRUTH[:1]))])
    assert wrong["gIoU"] == pytest.approx(40) and wrong["N-acc"] == 0
    assert wrong["lisa/gIoU"] == pytest.approx(100 * (4 / (5 + 1e-5)) / 2)


def test_reasoning_ignores():
    expected = GOLDEN["reasonseg_ignore"]
    target = np.zeros((4, 4), np.int64)
    target[:2] = [1, 1, 255, 0]
    output = np.zeros((4, 4), bool)
    output[0], output[1, 2] = True, True
    assert intersection_union(output, target == 1, target == 255) == (expected["I"], expected["U"])
    assert intersection_union(output, target == 1)[1] == expected["ignore_as_background_U"]
    record = truth("a", ("x",), [target == 1], "reasoning")
    found = reasoning([Pair(record, said(("x",), [output]))], {"a": target == 255})
    assert found["gIoU"] == found["cIoU"] == pytest.approx(100 * expected["IoU"])
    assert found["mglmm/gIoU"] == pytest.approx(100 * expected["ignore_as_background_IoU"], abs=1e-3)


def test_reasonseg_from_files(tmp_path):
    folder = mini.write_reasonseg(tmp_path)
    records = reasonseg_records(folder)
    ignored = {
        f"{one.file.stem}/{n}": one.target == 255 for one in read_reasonseg(folder) for n in range(len(one.texts))
    }
    pairs = [Pair(record, said(("x",), [ignored[record.name] | (record.masks[0].decoded(record.size, "") > 0)]))
             for record in records]  # fmt: skip
    found = reasoning(pairs, ignored)
    assert found["gIoU"] == 100 and found["mglmm/gIoU"] < 20


def test_captions():
    def one(name, image, text):
        return Record(name=name, image=image, size=(4, 4), task="caption",
                      turns=(Said("user", "?"), Said("assistant", text)))  # fmt: skip

    records = [one("1", "a", "a dog on the grass"), one("2", "b", "two cups on a wooden table")]
    texts = ["a dog on grass", "two cups on a wooden table"]
    found = captions([Pair(r, Predicted(r.name, t, (), True)) for r, t in zip(records, texts, strict=True)])
    assert found["CIDEr"] == pytest.approx(100 * GOLDEN["cider"]["mean"])


# -- files -------------------------------------------------------------------------------------------------------------


def line(**changes):
    rows = [{"span": [0, 3], "segmentation": encode(FOUND[0]), "score": 0.5}]
    return {"name": "a", "size": [4, 4], "text": "dog", "phrases": rows, **changes}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "x"}], "line 1 .* has no name"),
        ([line(name="z")], "no record 'z' is asked about"),
        ([line(), line()], "line 2 .*record 'a' was answered before"),
        ([line(phrases=[{"span": [0, 1], "segmentation": {"size": [4, 4], "counts": "@"}}])], "record 'a': .*phrase 0"),
        ([line(phrases=[{"span": [0, 1], "segmentation": encode(np.ones((2, 2), bool))}])], "mask of size"),
        (
            [line(phrases=[{"span": [0, 1], "segmentation": encode(FOUND[0]), "score": float("nan")}])],
            "the score of phrase 0 .*nan",
        ),
        ([line(phrases=[{"span": [0, 1]}])], "segmentation"),
    ],
)
def test_bad_predictions(tmp_path, lines, message):
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=message):
        list(read_predictions(file, [truth()]))


def test_the_command(tmp_path, capsys):
    write_uscdf([truth("a"), truth("b")], tmp_path / "t.uscdf.jsonl")
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(line(teacher_forced=True)))
    command = ["eval", "gcg", str(file), "--truth", str(tmp_path / "t.uscdf.jsonl")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert (
        "(teacher-forced: the true text was given)" in told and "| AP50 |" in told and "| reference | strict |" in told
    )
    file.write_text("{}")
    assert main(command) == 2
    assert "has no name" in capsys.readouterr().err
    assert "| a | 1.00 |" in table("t", {"a": 1.0})
