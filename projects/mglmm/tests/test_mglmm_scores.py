"""Scores of conversations, of pixels to ignore, of other scripts; what metrics refuse."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mglmm.data import Record, RegionMask, Said, Span
from mglmm.data import miniatures as mini
from mglmm.data.dialogues import joined
from mglmm.data.readers import reasonseg_records
from mglmm.evaluation import Pair, captions, grounded_captions, predict, reasoning, referring, score
from mglmm.evaluation.grounded import word_similarity
from mglmm.evaluation.predictions import predicted_of
from mglmm.metrics import cider_d, lisa_meters, matched_ious, meteor, meteor_score, phrase_recall_hits
from mglmm.metrics.meteor import words_of

from partglee.annotate.masks import encode

PIXELS, MASKS = mini.scene()


def asked(name, row, task="gcg"):
    turns = (Said("user", f"Where is the {name}?"), Said("assistant", f"A {name}.", (Span(2, 2 + len(name), 0),)))
    mask = RegionMask(encode(MASKS[row]), name)
    return Record(name=name, image="a.jpg", size=mini.SIZE, task=task, turns=turns, masks=(mask,), pixels=PIXELS)


def answered(record, row=1):
    """The last answer, word by word, with one mask."""
    text, span = record.turns[-1].text, record.turns[-1].spans[0]
    return {"text": text, "phrases": [{"span": [span.start, span.end], "segmentation": encode(MASKS[row])}]}


# -- conversations -----------------------------------------------------------------------------------------------------


def test_the_last_answer_is_scored():
    """Of two questions the last alone is asked, so masks of the first answer are none of its truth."""
    made = joined([asked("box", 0), asked("crate", 1)]).check()
    pairs = [Pair(made, predicted_of(answered(made), made))]
    assert referring(pairs)["gIoU"] == reasoning(pairs)["gIoU"] == 100
    found = grounded_captions(pairs)
    assert [found[f"strict/{name}"] for name in ("recall", "mIoU", "AP50")] == pytest.approx([100] * 3)


def test_nothing_is_asked():
    for protocol in (grounded_captions, referring, reasoning, captions):
        with pytest.raises(ValueError, match="no record is asked about"):
            protocol([])


def test_earlier_turns_are_history(tmp_path):
    told = []

    class Talk:
        def __call__(self, pixels, question, history=()):
            told.append((question, [(one.question, one.said) for one in history]))
            return history[0] if history else self.teacher_forced(pixels, question, "")

        def teacher_forced(self, pixels, question, said):
            from mglmm.answer import Answer

            return Answer(
                question=question, text="A.", said="A.", phrases=(), whole=True, well_formed=True, pixels=pixels
            )

    made = replace(joined([asked("box", 0), asked("crate", 1)]), name="both")
    assert predict(Talk(), [made, asked("box", 0)], tmp_path / "p.jsonl") == 2
    first = ("Where is the box?", "A <p> box </p> [SEG].")
    assert told == [("Where is the crate?", [first]), ("Where is the box?", [])]
    with pytest.raises(ValueError, match="record 'both' asks 2 questions"):
        predict(Talk(), [made], tmp_path / "q.jsonl", teacher_forced=True)
    with pytest.raises(ValueError, match="two records are asked about as 'both'"):
        predict(Talk(), [made, made], tmp_path / "q.jsonl")
    assert not (tmp_path / "q.jsonl").exists()


def test_what_is_ignored_reaches_the_score(tmp_path):
    records = reasonseg_records(mini.write_reasonseg(tmp_path))
    lines = [
        {"name": one.name, "text": "x", "phrases": [
            {"span": [0, 1], "segmentation": encode(one.ignored_pixels() | one.masks[0].decoded(one.size, ""))}]}
        for one in records
    ]  # fmt: skip
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    found = score("reasonseg", file, records)
    assert found["gIoU"] == found["cIoU"] == 100 and found["mglmm/gIoU"] < 20
    everything = score("reasonseg", file, [replace(one, ignored=None) for one in records])
    assert everything["gIoU"] < 20
    with pytest.raises(ValueError, match="what is ignored of"):
        reasoning([Pair(records[0], None)], {records[0].name: np.zeros((2, 2), bool)})


# -- words -------------------------------------------------------------------------------------------------------------


def spoken(name, image, task, question, text):
    turns = (Said("user", question), Said("assistant", text))
    return Record(name=name, image=image, size=(4, 4), task=task, turns=turns)


def test_captions_of_regions_are_not_pooled():
    texts = ["a red dog on the grass", "two cups on a wooden table", "the sky over the old town"]
    records = [
        spoken(str(row), "ab"[row // 2], "region_caption", f"What is in box {row}?", text)
        for row, text in enumerate(texts)
    ]
    found = captions([Pair(one, predicted_of({"text": text}, one)) for one, text in zip(records, texts, strict=True)])
    assert found["CIDEr"] == pytest.approx(1000) and found["METEOR"] == pytest.approx(100)
    half = captions([Pair(one, predicted_of({"text": texts[0]}, one)) for one in records])
    assert half["CIDEr"] < 400
    whole = [spoken(str(row), "ab"[row // 2], "caption", f"Wording {row}?", text) for row, text in enumerate(texts)]
    pooled = captions([Pair(one, predicted_of({"text": text}, one)) for one, text in zip(whole, texts, strict=True)])
    assert pooled["METEOR"] == pytest.approx(100) and pooled["CIDEr"] < 900  # two references of one image


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's 2nd toy_box, isn't it?", ["a", "dog's", "2nd", "toy", "box", "isn't", "it"]),
        ("Красная машина.", ["красная", "машина"]),
        ("Café cafe\u0301 cafè", ["café", "café", "cafè"]),
        ("红色的车、 car", ["红", "色", "的", "车", "car"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("L'été d'Élise", ["l'été", "d'élise"]),
        ("… — ・!", []),
    ],
)
def test_words_of_any_script(text, words):
    assert words_of(text) == words


def test_other_scripts_are_scored():
    said = "Красная машина на дороге"
    assert meteor([[said]], [said]) == pytest.approx(1.0) and word_similarity(said, said) == pytest.approx(1.0)
    assert word_similarity("café", "cafè") == 0


# -- what metrics refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "hypotheses", "kind", "message"),
    [
        (["a dog on grass", "two cups"], ["a dog", "two"], TypeError, "image 0 must be a list of sentences"),
        ([["a"]], "a", TypeError, "hypotheses must be a list"),
        ("a", ["a"], TypeError, "references must be a list"),
        ([[None]], ["a"], TypeError, "image 0: a sentence must be text"),
        ([], [], ValueError, "one image or more"),
        ([["a"]], ["a", "b"], ValueError, "those of 1 and 2 sentences"),
        ([[]], ["a"], ValueError, "image 0 has no reference"),
    ],
)
def test_sentences(references, hypotheses, kind, message):
    for metric in (cider_d, meteor):
        with pytest.raises(kind, match=message):
            metric(references, hypotheses)


def test_numbers():
    good = np.full((2, 2), 0.5)
    for iou in (good * np.nan, good * 3, -good, good[0]):
        with pytest.raises(ValueError, match="a table of IoUs"):
            matched_ious(iou)
        with pytest.raises(ValueError, match="a table of IoUs"):
            phrase_recall_hits(iou, good)
    for threshold in (0, -1, 2, float("nan")):
        with pytest.raises(ValueError, match="threshold must be above 0"):
            phrase_recall_hits(good, good, threshold=threshold)
    for similarity in (good[:1], good * np.nan):
        with pytest.raises(ValueError, match="similarity must be finite numbers of shape"):
            phrase_recall_hits(good, similarity)
    with pytest.raises(ValueError, match="of one mask or more, got none"):
        lisa_meters([])
    with pytest.raises(ValueError, match=r"0 <= I <= U, got \(3, 2\)"):
        lisa_meters([(1, 2), (3, 2)])
    with pytest.raises(ValueError, match="1 content words match, of 0"):
        meteor_score(matched=(1, 0), hypothesis=(0, 0), reference=(1, 0), chunks=1)
    with pytest.raises(ValueError, match="cannot be 3 chunks"):
        meteor_score(matched=(1, 0), hypothesis=(1, 0), reference=(1, 0), chunks=3)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        cider_d([["a"]], ["a"], sigma=0)
