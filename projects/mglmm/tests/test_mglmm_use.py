"""Answers, their pictures and pages; runs of the recipe; features kept on disk."""

from __future__ import annotations

import json

import mglmm_helpers as helpers
import numpy as np
import pytest
import torch
from mglmm import SegCap, list_configs, load_config
from mglmm.answer import Answer, phrases_of
from mglmm.cli import main
from mglmm.config import RANGES, build_model
from mglmm.data.loader import build_conversation_loader
from mglmm.data.marked import parse
from mglmm.feature_cache import FeatureCache
from mglmm.masks import MapMasks, QueryMasks
from mglmm.recipe import build_step
from mglmm.step import targets_of
from mglmm.toy.language import toy_tokenizer
from mglmm.toy.scenes import described
from mglmm.toy.tokenizer import train_tokenizer

from partglee import Vocabulary
from partglee.annotate.masks import decode
from partglee.checkpoint import read_weights
from partglee.config.values import check_values
from partglee.data import get_dataset
from partglee.engine.image_input import ImageInput
from partglee.engine.run import run
from partglee.structures import ImageBatch

SMALL = [
    "MODEL.START", "", "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 2, "MODEL.ENCODER.NUM_LAYERS", 1,
    "MODEL.LANGUAGE.TOY.WIDTH", 32, "MODEL.LANGUAGE.TOY.NUM_HEADS", 2, "MODEL.LANGUAGE.TOY.NUM_LAYERS", 1,
    "MODEL.LANGUAGE.TOY.FFN_DIM", 32, "MODEL.LANGUAGE.TOY.SIZE", 64, "MODEL.MASKS.SIZE", 64,
    "DATALOADER.NUM_WORKERS", 0, "SOLVER.BATCH_SIZE", 2,
    "MODEL.BACKBONE.NAME", "mobilenetv2_050", "TEST.MAX_TOKENS", 12,
]  # fmt: skip


def answer(said: str = "A <p> red box </p> [SEG] has <p> a lid </p> [SEG].") -> Answer:
    parsed = parse(said)
    masks = torch.zeros(len(parsed.spans), 30, 40, dtype=torch.bool)
    for row, side in zip(range(len(masks)), (20, 8, 4), strict=False):
        masks[row, 5 : 5 + side, 6 : 6 + side] = True
    spans = [(parsed.text[span.start : span.end], (span.start, span.end)) for span in parsed.spans]
    return Answer(
        question="What <is> it?", text=parsed.text, said=said, whole=True, well_formed=parsed.well_formed,
        phrases=phrases_of(spans, masks, [0.9, 0.5, 0.3][: len(masks)]), pixels=helpers.picture(30, 40),
    )  # fmt: skip


def test_an_answer():
    one = answer()
    box, lid = one.phrases
    assert one.text == "A red box has a lid." and [p.text for p in one.phrases] == ["red box", "a lid"]
    assert box.box == (6, 5, 26, 25) and lid.parent == 0 and (box.level, lid.level) == ("object", "part")
    assert one.text[slice(*lid.span)] == "a lid" and not one.no_target
    assert one.prediction.parent.tolist() == [-1, 0] and one.draw().size[0] >= 40
    row = one.to_dict()
    assert (decode(row["phrases"][0]["segmentation"]) == box.mask.numpy()).all()
    none = answer("Sorry, there is none.")
    assert none.no_target and not none.mask.any() and none.draw() and none.to_dict()["phrases"] == []


def test_a_page():
    page = answer().to_html()
    assert page.count('class="phrase"') == page.count('class="mask"') == 2
    assert ">red box</span>" in page and "What &lt;is&gt; it?" in page
    bare = answer("Look <script> [SEG] here").to_html()
    assert "&lt;script&gt;" in bare and ">[1]</span>" in bare


def test_parents_by_queries():
    masks = torch.ones(3, 4, 4, dtype=torch.bool)
    spans = [("a", (0, 1))] * 3
    found = phrases_of(spans, masks, [1.0] * 3, [(1, 9, 4), (0, 4, -1), (1, 8, 7)])
    assert [p.parent for p in found] == [1, -1, -1] and [p.level for p in found] == ["part", "object", "part"]


def test_configurations():
    assert "mglmm_toy" in list_configs()
    for name in list_configs():
        cfg = load_config(name)
        check_values(cfg, RANGES)
        assert cfg.RECIPE == "mglmm" and all(get_dataset(source) for source in cfg.DATASETS.TRAIN)
        assert len(cfg.DATASETS.RATIOS) in (0, len(cfg.DATASETS.TRAIN))
        assert all(source.startswith("toy_") or get_dataset(source).needs for source in cfg.DATASETS.TRAIN)
    with pytest.raises(ValueError, match="has no class 'NoSuchModel'"):
        build_model(load_config("mglmm_toy", ["MODEL.LANGUAGE.NAME", "x", "MODEL.LANGUAGE.CLASS", "NoSuchModel"]))
    with pytest.raises(ValueError, match="does not load the language model '/no/such/folder'"):
        build_model(load_config("mglmm_toy", ["MODEL.LANGUAGE.NAME", "/no/such/folder"]))


def test_the_toy_tokenizer_reads_toy_captions():
    tokenizer = toy_tokenizer()
    for index in range(5):
        text = described(7, 10, (64, 64)).draw(index, np.random.default_rng(0)).turns[1].text
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text and len(ids) < 1.6 * len(text.split()) + 4
    again = train_tokenizer(iter(["a car and a car"]), size=300)
    assert again.get_vocab_size() <= 300


def test_a_run_and_what_it_leaves(tmp_path, capsys):
    """Train two steps, go on for a third, ask: what is saved is what trains, and it answers as it did."""
    ours = ["SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "SOLVER.CHECKPOINT_PERIOD", 2, "OUTPUT_DIR", str(tmp_path)]
    options = [*SMALL, *ours]
    assert run(config_file=str(_toy()), overrides=options, num_gpus=0) == 0
    options[options.index("SOLVER.MAX_ITER") + 1] = 3
    assert run(config_file=str(_toy()), overrides=options, num_gpus=0, resume=True) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines and all(any("ce" in key.split("/") for key in line) for line in lines), lines
    model = SegCap.from_pretrained(tmp_path, device="cpu")
    state = read_weights(tmp_path / "model_final.safetensors")
    assert set(state) == {name for name, _ in model.model.learning()}
    picture = helpers.picture(50, 70)
    first = model(picture, "Describe all objects in the image in detail.")
    model.save(tmp_path / "again.safetensors")
    second = SegCap.from_pretrained(tmp_path / "again.safetensors", device="cpu")
    assert second(picture, "Describe all objects in the image in detail.").said == first.said
    _ask_everything(model, picture)
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "a.png")
    arguments = [
        "ask",
        str(tmp_path / "a.png"),
        "What is it?",
        "And there?",
        "--weights",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a_0.jpg", "a_0.html", "a_1.jpg", "a_1.html"}
    assert main(["ask", str(tmp_path / "none.png"), "What?", "--weights", str(tmp_path), "--device", "cpu"]) == 2
    assert "does not exist" in capsys.readouterr().err


def _ask_everything(model: SegCap, picture: np.ndarray) -> None:
    talk = model.dialogue(picture)
    talk.ask("What is it?")
    talk.ask("And what has it?")
    assert len(talk.answers) == 2
    pieces = list(model.stream(picture, "What is it?"))
    assert isinstance(pieces[-1], Answer) and pieces[-1].said == talk.answers[0].said
    together = model.batch([picture, picture], ["What is it?", "What is it?"])
    assert [one.said for one in together] == [talk.answers[0].said] * 2
    said = "It is <p> car </p> [SEG] and <p> wheel </p> [SEG]."
    forced = model.teacher_forced(picture, "What is it?", said)
    assert forced.teacher_forced and len(forced.phrases) == 2 and forced.phrases[0].mask.shape == (50, 70)
    with pytest.raises(ValueError, match="write what to say"):
        model(picture, "?!")
    with pytest.raises(ValueError, match="more than the"):
        model(picture, "what " * 2000)
    for wrong in ({"max_tokens": 0}, {"max_tokens": -3}, {"temperature": -0.5}, {"temperature": float("nan")}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            model(picture, "What is it?", **wrong)
    assert model(picture, "What is it?", max_tokens=1).whole is False


def _toy():
    from mglmm.config import CONFIGS

    return CONFIGS / "mglmm_toy.yaml"


def test_the_decoder_of_maps_learns_all_of_itself():
    cfg = load_config("mglmm_toy", SMALL)
    model = build_model(cfg).train()
    assert isinstance(model.masks, MapMasks) and not model.masks.frozen
    step = build_step(cfg, model)
    loader = iter(build_conversation_loader(cfg))
    batch = next(one for one in loader if any(len(sample.masks) for sample in one.samples))
    output = step(batch)
    output.loss.backward()
    assert {"mglmm/ce", "mglmm/bce", "mglmm/dice", "total"} == set(output.terms)
    silent = {name for name, weight in model.learning() if weight.grad is None}
    # positions of the decoder's levels and rows that no token named stay; nothing else may
    assert all("vision_tower" in name and ("mask_features" in name or "lateral" in name or "output" in name)
               for name in silent), silent  # fmt: skip
    with pytest.raises(ValueError, match="features cannot be kept"):
        FeatureCache("x", model.masks)


def test_masks_go_where_their_image_goes():
    from mglmm.chat import Conversation, Turn
    from mglmm.data.loader import Sample

    masks = np.zeros((1, 40, 60), bool)
    masks[0, 10:20, 30:60] = True
    sample = Sample(Conversation((Turn("user", "a"),), ()), masks)
    found = targets_of([sample], ImageBatch(torch.zeros(1, 3, 64, 64), ((20, 30),)))
    assert found.masks.shape == (1, 64, 64) and found.number == (1,)
    rows, columns = found.masks[0].nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (5, 9, 15, 29)


def test_features_are_kept(tmp_path):
    decoder = helpers.sam()
    cache = FeatureCache(tmp_path, decoder)
    pixels = helpers.picture()
    read = decoder.image_input.read(pixels)
    images = decoder.batch([read.resized], decoder.canvas)
    asked = []

    def make():
        asked.append(1)
        return decoder.features(images.tensor)

    first, second = cache.get(pixels, make), cache.get(pixels, make)
    assert len(asked) == 1 and torch.equal(first, second) and first.dtype == torch.float32
    torch.testing.assert_close(first, decoder.features(images.tensor), atol=1e-2, rtol=1e-2)
    cache.get(helpers.picture(seed=5), make)
    assert len(asked) == 2
    for file in tmp_path.rglob("*.pt"):
        file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(cache.get(pixels, make), first)
    assert len(asked) == 3  # what was cut off is made anew
    other = helpers.sam(seed=1)
    assert FeatureCache(tmp_path, other).folder != cache.folder
    with torch.no_grad():
        for _, weight in decoder.learning():
            weight.add_(1)
    assert FeatureCache(tmp_path, decoder).folder == cache.folder  # what learns changes no feature
    fine = FeatureCache(tmp_path, helpers.sam2())
    kept = fine.get(pixels, lambda: helpers.sam2().features(images.tensor))
    again = fine.get(pixels, make)
    assert isinstance(again, tuple) and all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_answers_of_partglees_queries_know_their_level(tiny):
    """The whole way with PartGLEE as the mask decoder: every phrase has a level, parts the place of their object."""
    names = Vocabulary.parse("dog: head, tail; person: arm, lower leg; cat")
    masks = QueryMasks(model=tiny, vocabulary=names, image_input=ImageInput(short_side=64, max_side=96))
    model, chat = helpers.whole(masks=masks)
    model.chat = chat
    said = " and ".join(f"<p> thing {place} </p> [SEG]" for place in range(6))
    answer = SegCap(model, load_config("mglmm_toy")).teacher_forced(helpers.picture(), "What is there?", said)
    assert len(answer.phrases) == 6 and answer.well_formed
    for phrase in answer.phrases:
        assert phrase.level in ("object", "part") and phrase.mask.shape == (40, 60)
        assert phrase.parent < 0 or (phrase.level == "part" and answer.phrases[phrase.parent].level == "object")
    assert answer.draw() and len(answer.prediction.names) == 6
