"""USCDF: text and marks, records, wordings, readers of published data, sources and their batches."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mglmm.data import Record, RegionMask, Said, Span, library_source, parse, read_uscdf, uscdf_source, with_marks
from mglmm.data import miniatures as mini
from mglmm.data.check import check_uscdf
from mglmm.data.loader import build_conversation_loader, register_source, true_masks
from mglmm.data.make import Asked, Scene, numbered, segment
from mglmm.data.readers import (
    ade20k,
    coco_stuff,
    image_caption_as_region,
    mapillary,
    read_coco_captions,
    read_flickr30k,
    read_flickr_gcg,
    read_grandf,
    read_llava,
    read_mgsc,
    read_muse,
    read_refcocog_gcg,
    read_visual_genome,
    reasonseg_records,
    refclef,
    region_records,
)
from mglmm.data.record import record_to_json, run_lengths, write_uscdf
from mglmm.data.wordings import Wordings, english

from partglee.annotate.masks import decode, encode
from partglee.config import run_defaults
from partglee.testing import register_toy_referring
from partglee.testing.miniatures import MINIATURES
from partglee.testing.toy import ToyRecords

RNG = np.random.default_rng


def record(**changes):
    pixels, masks = mini.scene()
    made = Record(
        name="r1", image="a.jpg", size=mini.SIZE, task="gcg",
        turns=(Said("user", wording="gcg"),
               Said("assistant", "A red box by a green one.", (Span(2, 9, 0), Span(15, 20, 1)))),
        masks=tuple(RegionMask(encode(mask), "box") for mask in masks[:2]), pixels=pixels,
    )  # fmt: skip
    return replace(made, **changes)


# -- text and marks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "text", "spans", "well"),
    [
        ("It is <p> car </p> [SEG].", "It is car.", [(6, 9)], True),
        ("<p> car </p> [SEG]", "car", [(0, 3)], True),
        ("<p>a dog</p>[SEG] and <p> b </p> [SEG], c", "a dog and b, c", [(0, 5), (10, 11)], True),
        ("Sorry, I see none.", "Sorry, I see none.", [], True),
        ("Look [SEG] here", "Look here", [(4, 4)], False),
        ("<p> car </p> and [SEG]", "car and", [(7, 7)], False),
        ("<p> car </p>", "car", [], False),
        ("<p> car [SEG]", "car", [(3, 3)], False),
        ("<p> a </p> [SEG] [SEG]", "a", [(0, 1), (1, 1)], False),
    ],
)
def test_parsing_answers(said, text, spans, well):
    found = parse(said)
    assert found.text == text and found.well_formed == well
    assert [(span.start, span.end) for span in found.spans] == spans
    assert [span.mask for span in found.spans] == list(range(len(spans)))


def test_marks_and_back():
    rng = RNG(0)
    words = ["a", "red", "box,", "two", "cats.", "on", "it"]
    for _ in range(100):
        text = " ".join(rng.choice(words, size=int(rng.integers(1, 12))))
        starts = [0, *(i + 1 for i, sign in enumerate(text) if sign == " ")]
        chosen = sorted(rng.choice(len(starts), size=min(len(starts), int(rng.integers(0, 4))), replace=False).tolist())
        spans = []
        for row, place in enumerate(chosen):
            end = starts[place] + len(text[starts[place] :].split()[0])
            spans.append(Span(starts[place], end, row))
        again = parse(with_marks(text, spans))
        assert again.text == text and list(again.spans) == spans and again.well_formed


# -- records -----------------------------------------------------------------------------------------------------------


def test_records_travel(tmp_path):
    turns = (Said("user", "What?"), Said("assistant", "Nothing."))
    first, second = record(pixels=None), record(name="r2", masks=record().masks[:1], pixels=None, turns=turns)
    file = tmp_path / "a.uscdf.jsonl"
    assert write_uscdf([first, second], file) == 2
    assert [record_to_json(one) for one in read_uscdf(file)] == [record_to_json(first), record_to_json(second)]
    assert first.announced() == [0, 1]
    masks = true_masks(first)
    assert masks.shape == (2, *mini.SIZE) and (masks[0] == mini.scene()[1][0]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "guess"}, "record 'r1': unknown task"),
        ({"turns": (Said("user", "hi"),)}, "must end with an answer"),
        ({"turns": (Said("assistant", "hi"), Said("user", "hi"))}, "turn 0 is of 'assistant'"),
        ({"turns": (Said("user", " "), Said("assistant", "hi"))}, "turn 0 says nothing"),
        ({"turns": (Said("user", "a"), Said("assistant", "b [SEG]"))}, r"holds \[SEG\]"),
        ({"turns": (Said("user", "a"), Said("assistant", "abc", (Span(1, 9, 0),)))}, "no phrase of a text of 3"),
        ({"turns": (Said("user", "a"), Said("assistant", "abc", (Span(0, 2, 0), Span(1, 3, 1))))}, "begins before"),
        ({"turns": (Said("user", "a"), Said("assistant", "abc", (Span(0, 2, 5),)))}, "means mask 5, there are 2"),
        ({"turns": (Said("user", "abc", (Span(0, 2, 0),)), Said("assistant", "abc"))}, "a question has no masks"),
        ({"masks": (RegionMask({"size": [48, 64], "counts": "0"}, "x"),) * 2}, "record 'r1', mask 0 'x'"),
        ({"masks": (RegionMask(encode(np.ones((3, 3), bool))),) * 2}, "has a mask of size"),
        ({"masks": (RegionMask(encode(np.ones(mini.SIZE, bool)), parent=0),) * 2}, "mask 0 has parent 0"),
    ],
)
def test_bad_records_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes).check()


def test_bad_files(tmp_path):
    file = tmp_path / "a.uscdf.jsonl"
    good = record_to_json(record())
    for line, message in (
        (json.dumps({**good, "size": [1]}), "line 1 of .* is no record of USCDF"),
        (json.dumps({**good, "masks": []}), "line 1 of .*record 'r1'.*there are 0"),
        (f"{json.dumps(good)}\n{json.dumps(good)}", "line 2 .*there is a record 'r1' before"),
    ):
        file.write_text(line)
        with pytest.raises(ValueError, match=message):
            list(read_uscdf(file))


def test_data_check(tmp_path, capsys):
    import mglmm  # noqa: F401  makes the form known

    from partglee.cli import main

    file = tmp_path / "a.uscdf.jsonl"
    good = record_to_json(record())
    unsaid = {**good, "name": "r2", "turns": [{"role": "user", "wording": "nothing such"},
                                              {"role": "assistant", "text": "Hm."}]}  # fmt: skip
    broken = {**good, "name": "r3", "masks": [{**good["masks"][0], "counts": "1"}, good["masks"][1]]}
    file.write_text("\n".join(map(json.dumps, (good, good, unsaid, broken))))
    report = check_uscdf(file, tmp_path)
    assert set(report.errors) == {
        "a line is no record", "a name comes twice", "an unknown wording", "an image is not as said",
    }  # fmt: skip
    assert report.warnings["a mask that no phrase means"] == 1 and report.summary["records"] == 4
    assert main(["data", "check", str(file)]) == 1
    assert "a name comes twice" in capsys.readouterr().out
    file.write_text(json.dumps(good))
    assert main(["data", "check", str(file)]) == 0


# -- wordings ----------------------------------------------------------------------------------------------------------


def test_wordings():
    words = english()
    assert len(words.of("segment_one")) == 8 and len(words.of("segment_several")) == 4
    text, spans = words.draw_answer("answer_several", RNG(0), ["a cat", "b", "c"])
    assert text == "Sure, a cat, b and c."
    assert with_marks(text, spans) == "Sure, <p> a cat </p> [SEG], <p> b </p> [SEG] and <p> c </p> [SEG]."
    with pytest.raises(ValueError, match="have no 'segment_on'; did you mean"):
        words.of("segment_on")
    with pytest.raises(ValueError, match="must be a list of sentences"):
        Wordings({"a": "text"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="for what it announces"):
        words.draw_answer("gcg", RNG(0), ["a"])


def test_segmenting():
    pixels, masks = mini.scene()
    scene = Scene("s", "s.jpg", mini.SIZE, pixels)
    runs = [encode(mask) for mask in masks]
    one = segment(scene, [Asked("box", (runs[0], runs[1]))], english(), RNG(1)).check()
    assert "box" in one.turns[0].text and one.turns[1].marked.count("[SEG]") == 1
    assert (true_masks(one)[0] == masks[0] | masks[1]).all()
    none = segment(scene, [Asked("dog", ())], english(), RNG(1)).check()
    assert none.turns[1].text == "Sorry, I don't see any dog in this image." and none.announced() == []
    both = segment(
        scene, [Asked("box", (runs[0],)), Asked("dog", ()), Asked("lid", (runs[2],))], english(), RNG(1)
    ).check()
    assert both.turns[1].marked == (
        "Sure, <p> box </p> [SEG] and <p> lid </p> [SEG]. Sorry, I don't see any dog in this image."
    )
    assert "the box, the dog and the lid" in both.turns[0].text
    assert numbered(["car", "dog", "car"]) == ["car-1", "dog", "car-2"]
    with pytest.raises(ValueError, match="nothing is asked"):
        segment(scene, [], english(), RNG(0))


# -- readers -----------------------------------------------------------------------------------------------------------


def marked(records):
    return [one.check().turns[-1].marked for one in records]


def test_gcg(tmp_path):
    ha = read_grandf(mini.write_grandf(tmp_path))
    assert marked(ha)[0] == "<p> A red box </p> [SEG] and <p> a green box </p> [SEG] stand before a blue box."
    masks = mini.scene(0)[1]
    assert (true_masks(ha[0]) == np.stack([masks[0], masks[1] | masks[2]])).all()
    refs = read_refcocog_gcg(mini.write_refcocog_gcg(tmp_path), tmp_path / "train2014")
    assert marked(refs) == ["The <p> red box </p> [SEG] is on the left."]
    assert (true_masks(refs[0])[0] == mini.scene(9)[1][0]).all()
    flickr = read_flickr_gcg(mini.write_flickr_gcg(tmp_path))
    assert marked(flickr) == ["<p> A blue box </p> [SEG] beside <p> a green box </p> [SEG]"]
    assert flickr[0].turns[0].wording == "gcg" and flickr[0].image == "36979.jpg"


def test_mgsc(tmp_path):
    root, subtree = read_mgsc(mini.write_mgsc(tmp_path))
    assert root.task == "mgsc_root" and subtree.task == "mgsc_subtree" and subtree.turns[0].about == "red box"
    assert root.turns[1].marked == "There is <p> a red box </p> [SEG]. On the right is <p> a blue box </p> [SEG]."
    assert [mask.label for mask in root.masks] == ["red box", "blue box"]
    assert (true_masks(root)[1] == mini.scene(10)[1][2]).all()
    file = tmp_path / "annotations" / "sa_10.json"
    content = json.loads(file.read_text())
    content[0]["k0"]["mask"] = '{"size": [48, 64], "counts": "@"}'
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"entry 0 of .*sa_10.json' \(image 'sa_10.jpg'\).*record 'sa_10_0', mask 0"):
        read_mgsc(file)


def test_reasoning(tmp_path):
    folder = mini.write_reasonseg(tmp_path)
    records = reasonseg_records(folder, folder.parent / "explanatory" / "train.json")
    assert len(records) == 3 and records[0].turns[1].text == "Boxes hold gifts. It is what is meant."
    assert records[1].turns[0].about == "What is the café box in this image?"
    target = true_masks(records[0])[0]
    assert target[15, 15] and not target[7, 7] and target.sum() == 121
    muse = read_muse(mini.write_muse(tmp_path))
    assert marked(muse) == ["You can fill the <p> red box </p> [SEG] or use <p> crate </p> [SEG]."]
    assert muse[0].image == "train2017/000000000009.jpg"


def test_words(tmp_path):
    mini.write_captions(tmp_path)
    coco = read_coco_captions(tmp_path / "coco" / "annotations" / "captions_train2017.json")
    assert [one.turns[1].text for one in coco] == ["Three boxes.", "Boxes in a row"]
    whole = image_caption_as_region(coco[0])
    assert whole.turns[0].about == "[0, 0, 999, 999]" and whole.task == "region_caption"
    flickr = read_flickr30k(
        tmp_path / "flickr30k" / "results_20130124.token", tmp_path / "flickr30k" / "flickr30k-images"
    )
    assert [one.name for one in flickr] == ["1000/0", "1000/1"] and flickr[0].size == mini.SIZE
    talk = read_llava(tmp_path / "llava_instruct_150k.json", tmp_path / "coco" / "train2017")[0]
    assert [turn.text for turn in talk.turns] == [
        "What is there?", "Three boxes.", "Of which colors?", "Red, green, blue.",
    ]  # fmt: skip


def test_region_captions(tmp_path):
    MINIATURES["visual_genome"](tmp_path, num_images=1, seed=0)
    where = next(tmp_path.rglob("image_data.json"))
    data = json.loads(where.read_text())
    regions = [{"id": data[0]["image_id"], "regions": [
        {"region_id": 5, "image_id": data[0]["image_id"], "phrase": "a red thing", "x": 0, "y": 0,
         "width": data[0]["width"], "height": data[0]["height"] / 2}]}]  # fmt: skip
    (tmp_path / "region_descriptions.json").write_text(json.dumps(regions))
    one = read_visual_genome(tmp_path / "region_descriptions.json", where)[0]
    assert one.turns[0].about == "[0, 0, 999, 500]" and one.turns[1].text == "a red thing"
    toy = region_records(ToyRecords(num_images=3, seed=4), "toy")
    assert any(" of " in one.turns[1].text for one in toy) and all(one.check() for one in toy)


def test_label_maps(tmp_path):
    mini.write_label_maps(tmp_path)
    masks = mini.scene(9)[1]
    for maps, names in (
        (ade20k(tmp_path / "ADEChallengeData2016"), {"red box": masks[0], "green box": masks[1]}),
        (coco_stuff(tmp_path / "coco"), {"red box": masks[0], "wall": masks[1]}),
        (mapillary(tmp_path / "vistas"), {"box": masks[0]}),
    ):
        maps.absent = 0.0
        made = maps.draw(0, RNG(0)).check()
        assert {mask.label for mask in made.masks} == set(names)
        for mask in made.masks:
            assert (decode(mask.segmentation) == names[mask.label]).all()
        maps.absent = 1.0
        assert "Sorry" in maps.draw(0, RNG(0)).turns[1].text


def test_refclef(tmp_path):
    source = refclef(mini.write_refclef(tmp_path), tmp_path / "saiapr_tc-12")
    made = source.draw(0, RNG(0)).check()
    assert made.turns[1].marked.count("[SEG]") == 2 and made.image == "112.jpg"
    assert (true_masks(made) == np.stack(mini.scene(4)[1][:2])).all()


def test_bad_readings_name_the_entry(tmp_path):
    file = mini.write_grandf(tmp_path)
    content = json.loads(file.read_text())
    del content[1]["caption"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"entry 1 of .*GranDf.*\(image 'sa_1.jpg'\): has no 'caption'"):
        read_grandf(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match="must be a list, got dict"):
        read_grandf(file)
    muse = mini.write_muse(tmp_path)
    content = json.loads(muse.read_text())
    content[0]["text_answers"] = ["one {seg} alone"]
    muse.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="1 slots for 2 masks"):
        read_muse(muse)


# -- sources -----------------------------------------------------------------------------------------------------------


def test_library_sources():
    """Referring, semantic and hierarchical records of one data set: phrases and masks of what is there."""
    register_toy_referring()
    records = ToyRecords(num_images=12, seed=5)
    for make, task in (("semantic", "semantic"), ("hierarchical", None), ("everything", "all_objects")):
        source = library_source("toy_referring_train", make, records=records)
        tasks = set()
        for index in range(12):
            made = source.draw(index, RNG(index))
            if made is None:
                continue
            tasks.add(made.task)
            known = records[index]
            masks = true_masks(made)
            assert masks.shape[0] == made.turns[1].marked.count("[SEG]")
            objects = [decode(run_lengths(o.segmentation, (known.height, known.width), "")) for o in known.objects]
            union = np.any([*objects, np.zeros((known.height, known.width), bool)], axis=0)
            assert all((mask <= union).all() for mask in masks)
        assert tasks == ({task} if task else {"mgsc_root", "mgsc_subtree"})
    source = library_source("toy_referring_train", "referring")
    made = [source.draw(index, RNG(0)) for index in range(6)]
    assert all(one.task == "referring" and len(one.announced()) <= 3 for one in made if one)
    with pytest.raises(ValueError, match="no way to make records 'semantics'; did you mean"):
        library_source("toy_referring_train", "semantics")


def test_batches_of_sources(tmp_path):
    write_uscdf([record(name=f"r{n}", image="a.jpg", pixels=None) for n in range(4)], tmp_path / "own.uscdf.jsonl")
    mini.picture(tmp_path / "a.jpg", 0)
    register_source("own_uscdf", lambda: uscdf_source(tmp_path / "own.uscdf.jsonl", tmp_path), replace=True)
    register_source("own_toy", lambda: library_source("toy_referring_train", "hierarchical"), replace=True)
    register_toy_referring()
    cfg = run_defaults()
    cfg.DATASETS.TRAIN, cfg.DATASETS.RATIOS = ["own_uscdf", "own_toy"], [1.0, 3.0]
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.BATCH_SIZE = 0, 2
    batches = [batch for _, batch in zip(range(12), build_conversation_loader(cfg), strict=False)]
    assert {batch.source for batch in batches} == {"own_uscdf", "own_toy"}
    assert sum(batch.source == "own_toy" for batch in batches) > 6
    again = [batch for _, batch in zip(range(12), build_conversation_loader(cfg), strict=False)]
    for one, two in zip(batches, again, strict=True):
        assert [s.conversation.turns for s in one.samples] == [s.conversation.turns for s in two.samples]
    sample = batches[0].samples[0]
    assert sample.conversation.turns[0].images == 1 and len(sample.masks) == sum(
        turn.text.count("[SEG]") for turn in sample.conversation.turns
    )
    cfg.DATASETS.TRAIN, cfg.DATASETS.RATIOS = ["toy_referring_train"], []
    with pytest.raises(ValueError, match="is none of conversations"):
        next(iter(build_conversation_loader(cfg)))
