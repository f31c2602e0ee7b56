"""What readers and files must refuse, or must not lose: other kinds of values, phrases inside words, missing keys."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from mglmm.data import Record, RegionMask, Said, Span, read_uscdf, write_uscdf
from mglmm.data import miniatures as mini
from mglmm.data import readers as published
from mglmm.data.record import record_to_json
from mglmm.evaluation import Pair, grounded_captions, read_predictions, write_predictions
from mglmm.evaluation.predictions import predicted_of

from partglee.annotate.masks import decode, encode
from partglee.testing.miniatures import MINIATURES

MASKS = mini.scene()[1]
RUNS = [encode(mask) for mask in MASKS]


def record(**changes):
    turns = (Said("user", "What?"), Said("assistant", "A box.", (Span(2, 5, 0),)))
    made = Record(name="r", image="a.jpg", size=mini.SIZE, task="gcg", turns=turns, masks=(RegionMask(RUNS[0], "box"),))
    return replace(made, **changes)


def save(content, file):
    file.write_text(json.dumps(content))
    return file


# -- USCDF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name must be text, got None"),
        ({"image": 5}, "image must be text, got 5"),
        ({"size": [20.9, 20.2]}, "whole number, got 20.9"),
        ({"size": [-20, 20], "masks": []}, "at least one pixel"),
        ({"size": [0, 0], "masks": []}, "at least one pixel"),
        ({"size": [float("inf"), 4]}, "whole number, got inf"),
        ({"turns": [{"role": "user", "text": None}]}, "text must be text, got None"),
        (
            {"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b", "spans": [[0, 1e999, 0]]}]},
            "inf",
        ),
        ({"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b", "spans": [[0, 0.9, 0]]}]}, "0.9"),
        ({"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b", "spans": {}}]}, "must be a list"),
        ({"turns": ["a"]}, "must be an object"),
        ({"masks": [{**RUNS[0], "label": None}]}, "label must be text"),
        ({"masks": [{**RUNS[0], "parent": "0"}]}, "parent must be a whole number"),
        ({"ignored": {"size": [1, 1], "counts": "01"}}, "what is ignored"),
    ],
)
def test_values_of_another_kind(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        list(read_uscdf(save({**record_to_json(record()), **changes}, tmp_path / "a.uscdf.jsonl")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 0), "masks": (), "turns": (Said("user", "a"), Said("assistant", "b"))}, "at least one pixel"),
        ({"name": None}, "its name must be text"),
        ({"turns": (Said("user", "a"), Said("assistant", None))}, "text of turn 1 must be text"),  # type: ignore[arg-type]
        ({"masks": (RegionMask(RUNS[0], "a", 1), RegionMask(RUNS[1], "b", 0))}, "mask 0 belongs to itself"),
    ],
)
def test_records_made_in_code(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes).check()


def test_names_and_what_is_ignored_travel(tmp_path):
    file = tmp_path / "a.uscdf.jsonl"
    made = record(ignored=RUNS[1])
    assert write_uscdf([made, replace(made, name="s")], file) == 2
    assert (next(read_uscdf(file)).ignored_pixels() == MASKS[1]).all()
    with pytest.raises(ValueError, match="two records 'r'"):
        write_uscdf([made, made], tmp_path / "b.uscdf.jsonl")
    assert not (tmp_path / "b.uscdf.jsonl").exists()


# -- predictions -------------------------------------------------------------------------------------------------------


def phrase(**changes):
    return {"span": [0, 1], "segmentation": RUNS[0], "score": 0.5, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "text must be text, got None"),
        ({"no_target": "false"}, "no_target must be true or false"),
        ({"teacher_forced": "false"}, "teacher_forced must be true or false"),
        ({"phrases": None}, "phrases must be a list"),
        ({"phrases": [phrase(span=[-3, -1])]}, "phrase 0 has the span"),
        ({"phrases": [phrase(span=[5, 2])]}, "phrase 0 has the span"),
        ({"phrases": [phrase(span=[0, 9999])]}, "text of 5 characters"),
        ({"phrases": [phrase(span=[0, 1.5])]}, "whole number, got 1.5"),
        ({"phrases": [phrase(span=[0, float("inf")])]}, "whole number, got inf"),
        ({"phrases": [phrase(span=[0, 1, 2])]}, "phrase 0 has the span"),
        ({"phrases": [phrase(score="0.5")]}, "finite number, got '0.5'"),
    ],
)
def test_predictions_of_another_kind(changes, message):
    with pytest.raises(ValueError, match=message):
        predicted_of({"text": "A box", **changes}, record())


def test_spans_that_stand():
    said = predicted_of({"text": "A box", "phrases": [phrase(span=[2, 5]), phrase(span=[6, 6])]}, record())
    assert [one.text for one in said.phrases] == ["box", ""]  # a mask that no phrase announces, after a cut space


def test_names_that_come_twice(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text("")
    with pytest.raises(ValueError, match="two records are asked about as 'r'"):
        list(read_predictions(file, [record(), record(image="b.jpg")]))
    with pytest.raises(ValueError, match="record 'r' is answered twice"):
        write_predictions([("r", {}), ("r", {})], tmp_path / "q.jsonl")
    save({"name": 5, "text": "a"}, file)
    with pytest.raises(ValueError, match=r"line 1 .* has no name of a record"):
        list(read_predictions(file, [record(name="5")]))


# -- phrases of published captions -------------------------------------------------------------------------------------


def gcg_truth(folder, *captions):
    """The files for captions of the image `sa_5`, each with its labels; masks in order."""
    files = mini.write_gcg_truth(folder)
    content, shapes = (json.loads(file.read_text()) for file in files)
    content["annotations"] = [
        {"id": row, "image_id": "sa_5", "caption": text, "labels": labels}
        for row, (text, labels) in enumerate(captions)
    ]
    shapes["annotations"] = [{"image_id": "sa_5", "segmentation": RUNS[row]} for row in range(len(captions[0][1]))]
    save(content, files[0])
    save(shapes, files[1])
    return published.read_gcg_truth(*files)


@pytest.mark.parametrize(
    ("caption", "labels", "marked", "order"),
    [
        ("A woman and a man.", ["woman", "man"], "A <p> woman </p> [SEG] and a <p> man </p> [SEG].", [0, 1]),
        ("A dog and a dog.", ["dog", "dog"], "A <p> dog </p> [SEG] and a <p> dog </p> [SEG].", [0, 1]),
        ("A red box by a box.", ["box", "red box"], "A <p> red box </p> [SEG] by a <p> box </p> [SEG].", [1, 0]),
        ("İİ dog here", ["dog"], "İİ <p> dog </p> [SEG] here", [0]),
        ("Two dogs.", ["dog", "dogs"], "Two <p> dogs </p> [SEG].", [1, 0]),
        ("Nothing.", ["dog"], "Nothing.", [0]),
    ],
)
def test_phrases_are_words_and_no_mask_is_lost(tmp_path, caption, labels, marked, order):
    (made,) = gcg_truth(tmp_path, (caption, labels))
    assert made.turns[-1].marked == marked
    assert [mask.label for mask in made.masks] == [labels[row] for row in order]
    assert all((decode(mask.segmentation) == MASKS[row]).all() for mask, row in zip(made.masks, order, strict=True))
    said = predicted_of(
        {"text": " ".join(labels), "phrases": [
            phrase(span=[(start := len(" ".join([*labels[:row], ""]))), start + len(label)], segmentation=RUNS[row])
            for row, label in enumerate(labels)
        ]}, made,
    )  # fmt: skip
    found = grounded_captions([Pair(made, said)])
    assert [found[f"strict/{name}"] for name in ("recall", "mIoU", "AP50")] == pytest.approx([100] * 3)
    missed = grounded_captions([Pair(made, predicted_of({"text": "none"}, made))])
    assert missed["strict/recall"] == 0


def test_two_captions_of_an_image(tmp_path):
    made = gcg_truth(tmp_path, ("A dog.", ["dog"]), ("The dog.", ["dog"]))
    assert [one.name for one in made] == ["val_gcg/sa_5", "val_gcg/sa_5/1"]


def test_training_phrases_are_words(tmp_path):
    file = mini.write_refcocog_gcg(tmp_path)
    content = json.loads(file.read_text())
    content["9"]["caption"], content["9"]["refs"][0]["sentence"] = "A woman and a man.", "man"
    (made,) = published.read_refcocog_gcg(save(content, file), tmp_path / "train2014")
    assert made.turns[-1].marked == "A woman and a <p> man </p> [SEG]."
    muse = mini.write_muse(tmp_path)
    content = json.loads(muse.read_text())
    content[0]["answers"][0][0] |= {"category_name": "man", "rephrased_name": ""}
    content[0]["text_answers"] = ["The woman {seg} or {seg}."]
    (made,) = published.read_muse(save(content, muse))
    assert made.turns[-1].marked.startswith("The woman <p> man </p> [SEG] or")


# -- damaged files -----------------------------------------------------------------------------------------------------


def test_files_without_their_lists(tmp_path):
    empty, one = save({}, tmp_path / "empty.json"), save([{}], tmp_path / "one.json")
    words = save({"images": [5], "annotations": []}, tmp_path / "words.json")
    (tmp_path / "config_v1.2.json").write_text("{}")
    for read, message in (
        (lambda: published.read_flickr_gcg(empty), "has no 'annotations'"),
        (lambda: published.read_gcg_truth(empty, empty), "has no 'annotations'"),
        (lambda: published.read_coco_captions(empty), "has no 'images'"),
        (lambda: published.read_coco_captions(words), "entry 0 of 'images' must be an object, got 5"),
        (lambda: published.read_refcocog_gcg(save({"9": 5}, tmp_path / "r.json"), tmp_path), "entry 9 of"),
        (lambda: published.mapillary(tmp_path), "has no 'labels'"),
        (lambda: published.read_visual_genome(one, one), "entry 0 of .*has no 'image_id'"),
        (lambda: published.read_visual_genome(one, save([{"image_id": 1}], tmp_path / "i.json")), "has no 'regions'"),
        (lambda: published.reasonseg_records(tmp_path, one), "entry 0 of .*has no 'outputs'"),
    ):
        with pytest.raises(ValueError, match=message):
            read()


def test_captions_that_are_none(tmp_path):
    mini.write_captions(tmp_path)
    file = tmp_path / "coco" / "annotations" / "captions_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["caption"] = None
    with pytest.raises(ValueError, match=r"entry 1 of .*caption must be text, got None"):
        published.read_coco_captions(save(content, file))
    content["images"][0]["height"] = 20.5
    with pytest.raises(ValueError, match=r"whole number, got 20\.5"):
        published.read_coco_captions(save(content, file))
    maps = tmp_path / "ADEChallengeData2016" / "objectInfo150.txt"
    mini.write_label_maps(tmp_path)
    maps.write_text("Idx\tName\nx\tbox\n")
    with pytest.raises(ValueError, match=r"entry 2 of .*objectInfo150.txt"):
        published.ade20k(maps.parent)


@pytest.mark.parametrize(
    "caption", ["There is <k0>a red box</k0> and <k2>a blue box.", "<k0>a <k2>box</k2></k0>", "A."]
)
def test_mgsc_tags_must_be_closed(tmp_path, caption):
    file = mini.write_mgsc(tmp_path) / "sa_10.json"
    content = json.loads(file.read_text())[:1]
    content[0] |= {"gcg_caption": caption, "gcg_labels": []}
    with pytest.raises(ValueError, match=r"entry 0 of .*(not closed|announces nothing)"):
        published.read_mgsc(save(content, file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": [{"label": "target", "points": [[0, 0], [9, float("nan")], [9, 9]]}]}, "finite number, got nan"),
        ({"shapes": [{"label": "target", "points": [[0, 0], [9, 1e300], [9, 9]]}]}, "more than one side outside"),
        ({"is_sentence": "false"}, "is_sentence must be true or false"),
        ({"text": [None]}, "each text must be text"),
    ],
)
def test_reasonseg_of_another_kind(tmp_path, changes, message):
    file = mini.write_reasonseg(tmp_path) / "0_a.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=rf"0_a.*{message}"):
        published.read_reasonseg(save({**content, **changes}, file).parent)


def test_boxes_of_visual_genome(tmp_path):
    """Cut to the image; those without area in it are left out."""
    MINIATURES["visual_genome"](tmp_path, num_images=1, seed=0)
    where = next(tmp_path.rglob("image_data.json"))
    image = json.loads(where.read_text())[0]
    box = {"image_id": image["image_id"], "phrase": "a thing", "x": 0, "y": 0, "width": 10, "height": 10}
    half = {"x": -5, "y": -5, "width": image["width"] / 2 + 5, "height": image["height"] * 3}
    changes = [half, {"width": -5}, {"x": image["width"] + 5}, {"height": 0}]
    regions = [{"region_id": row, **box, **change} for row, change in enumerate(changes)]
    file = save([{"id": image["image_id"], "regions": regions}], tmp_path / "regions.json")
    (made,) = published.read_visual_genome(file, where)
    assert made.turns[0].about == "[0, 0, 500, 999]"
    save([{"id": image["image_id"], "regions": [{"region_id": 0, **box, "x": float("nan")}]}], file)
    with pytest.raises(ValueError, match=r"entry 0 of .*x must be a finite number"):
        published.read_visual_genome(file, where)
