"""Evaluation inside a run, several questions about one image, sentences one by one, what Java adds."""

from __future__ import annotations

import json
import subprocess
import sys

import mglmm_helpers as helpers
import numpy as np
import pytest
import torch
from mglmm import load_config
from mglmm.cli import main
from mglmm.config import CONFIGS
from mglmm.data import Dialogues, Scenes, library_source
from mglmm.data import miniatures as mini
from mglmm.data.dialogues import joined
from mglmm.data.loader import register_source, true_masks
from mglmm.data.readers import read_gcg_truth
from mglmm.data.source import Sentences, hierarchical, semantic
from mglmm.data.wordings import english
from mglmm.evaluation import PROTOCOLS, captions, metric_names
from mglmm.evaluation.predictions import Pair, Predicted
from mglmm.metrics import java
from mglmm.recipe import MGLMM_RECIPE
from mglmm.run_evaluation import metrics_of
from mglmm.toy.scenes import described, talked_about
from test_mglmm_use import SMALL

from partglee.data import get_dataset
from partglee.engine.run import run
from partglee.testing import register_toy_referring
from partglee.testing.toy import ToyRecords

RNG = np.random.default_rng


def test_several_questions_about_one_image():
    """Turns and masks of each question as if it were asked alone; the image is introduced once."""
    source = talked_about(3, 20, (64, 64))
    known = ToyRecords(num_images=20, seed=3, size=(64, 64))
    counts = set()
    for index in range(12):
        made = source.draw(index, RNG(index))
        questions = [turn.text for turn in made.turns[::2]]
        assert len(set(questions)) == len(questions) <= 4 and len(made.turns) == 2 * len(questions)
        introduced = [text.startswith(tuple(english().of("image"))) for text in questions]
        assert introduced == [True] + [False] * (len(questions) - 1)
        assert len(true_masks(made)) == sum(len(turn.spans) for turn in made.turns)
        assert all(mask.parent < len(made.masks) for mask in made.masks)
        assert (made.pixels == known[index].pixels).all()
        counts.add(len(questions))
    assert max(counts) > 2


def test_joined_records_keep_their_masks():
    source = described(3, 20, (64, 64))
    roots = [record for index in range(20) if (record := source.made(index, RNG(1))).task == "mgsc_subtree"]
    one = roots[0]
    both = joined([one, one])
    assert both.turns[0] == one.turns[0] and len(both.masks) == 2 * len(one.masks)
    masks, alone = true_masks(both), true_masks(one)
    assert (masks == np.concatenate([alone, alone])).all()
    assert [mask.parent for mask in both.masks[len(one.masks) :]] == [
        mask.parent + len(one.masks) if mask.parent >= 0 else -1 for mask in one.masks
    ]
    with pytest.raises(ValueError, match="records of one image"):
        joined([roots[0], roots[1]])


def test_bad_dialogues():
    records = ToyRecords(num_images=4, size=(64, 64))
    one, other = Scenes("a", records, hierarchical), Scenes("b", ToyRecords(num_images=5, size=(64, 64)), semantic)
    with pytest.raises(ValueError, match=r"sources over the same images, got \[4, 5\] rows"):
        Dialogues("c", [one, other], shares=(1, 1))
    with pytest.raises(ValueError, match="one share for each of 1 sources"):
        Dialogues("c", [one], shares=(1, 1))
    with pytest.raises(ValueError, match="and a question or more"):
        Dialogues("c", [one], shares=(1,), number=0)


def test_sentences_one_by_one():
    """Every sentence of every image is asked once."""
    register_toy_referring(num_val=6)
    records = get_dataset("toy_referring_val").read()
    source = Sentences("each", records)
    assert len(source) == sum(len(records[row].expressions) for row in range(len(records)))
    made = [source.draw(index, RNG(0)) for index in range(len(source))]
    assert len({one.name for one in made}) == len(made) and all(len(one.turns) == 2 for one in made)
    first = records[0].expressions[0]
    assert first.text.rstrip(".") in made[0].turns[0].text
    assert bool(made[0].masks) != first.no_target
    assert len(library_source("toy_referring_val", "referring", records=records)) == len(records)


def test_truth_of_gcg(tmp_path):
    (record,) = read_gcg_truth(*mini.write_gcg_truth(tmp_path))
    assert record.turns[-1].marked == "<p> A red box </p> [SEG] stands before <p> a blue box </p> [SEG]"
    masks = mini.scene(5)[1]
    assert (true_masks(record) == np.stack([masks[0], masks[2]])).all() and record.image == "sa_5.jpg"
    file = tmp_path / "val_gcg_coco_mask_gt.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"entry 0 of .*caption_gt.json' \(image 'sa_5'\): 2 labels, but 1 masks"):
        read_gcg_truth(tmp_path / "val_gcg_coco_caption_gt.json", file)


def test_a_run_evaluates(tmp_path):
    """On the way and at the end: answers to a file for each data set, numbers by each protocol, the best weights."""
    options = [
        *SMALL, "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "TEST.PERIOD", 1, "TEST.MAX_RECORDS", 3,
        "TEST.IMAGES", 2, "DATASETS.TEST", ["toy_mgsc_val", "toy_segment_val"], "TEST.BEST", "toy_segment_val/gIoU",
        "OUTPUT_DIR", str(tmp_path),
    ]  # fmt: skip
    assert run(config_file=str(CONFIGS / "mglmm_toy.yaml"), overrides=options, num_gpus=0) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "eval/toy_mgsc_val/strict/mIoU" in line]
    assert len(told) == 2 and all(f"eval/toy_segment_val/{name}" in told[0] for name in metric_names("gres"))
    for name in ("toy_mgsc_val", "toy_segment_val"):
        files = list(tmp_path.rglob(f"{name}.jsonl"))
        assert files and all(len(file.read_text().splitlines()) == 3 for file in files)
    assert list(tmp_path.glob("model_best*"))


def test_what_cannot_be_evaluated(tmp_path):
    wrong = ["SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0, "OUTPUT_DIR", str(tmp_path)]
    toy = str(CONFIGS / "mglmm_toy.yaml")
    with pytest.raises(ValueError, match="'toy_mgsc_train' says no protocol; register it with protocol="):
        run(config_file=toy, overrides=[*SMALL, *wrong, "DATASETS.TEST", ["toy_mgsc_train"]], num_gpus=0)
    register_toy_referring()
    with pytest.raises(ValueError, match="is none of conversations"):
        run(config_file=toy, overrides=[*SMALL, *wrong, "DATASETS.TEST", ["toy_referring_val"]], num_gpus=0)
    with pytest.raises(ValueError, match="toy_mgsc_val/CIDEr"):
        best = ["DATASETS.TEST", ["toy_mgsc_val"], "TEST.BEST", "toy_mgsc_val/CIDER"]
        run(config_file=toy, overrides=[*SMALL, *wrong, *best], num_gpus=0)


def test_a_record_that_cannot_be_read_fails_the_evaluation(tmp_path):
    from mglmm.data import uscdf_source, write_uscdf
    from mglmm.run_evaluation import evaluate_run

    from partglee.data.catalog import DataSets
    from partglee.engine.build import build_accelerator
    from partglee.engine.evaluate import EvaluationFailed

    record = read_gcg_truth(*mini.write_gcg_truth(tmp_path))[0]
    write_uscdf([record], tmp_path / "own.uscdf.jsonl")
    (tmp_path / "sa_images" / "sa_5.jpg").write_bytes(b"no image")
    register_source("own", lambda: uscdf_source(tmp_path / "own.uscdf.jsonl", tmp_path / "sa_images"), protocol="gcg")
    cfg = load_config("mglmm_toy", [*SMALL, "DATASETS.TEST", ["own"]])
    model = MGLMM_RECIPE.build_model(cfg).train()
    accelerator = build_accelerator(cfg, cpu=True)
    with pytest.raises(EvaluationFailed, match=r"data set 'own': .*sa_5.jpg"):
        evaluate_run(cfg, model, accelerator, folder=tmp_path / "out", pictures=0, data=DataSets())
    assert model.training and not list((tmp_path / "out").glob("*"))
    assert tuple(metrics_of(get_dataset("own"), DataSets().records("own"))) == metric_names("gcg")


def test_names_of_metrics():
    assert {"METEOR", "CIDEr", "strict/AP50", "reference/recall"} <= set(metric_names("mgsc"))
    assert all(metric_names(protocol) for protocol in PROTOCOLS)


# -- Java --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """A pycocoevalcap that gives a number without Java; SPICE without its parser."""
    package = tmp_path / "pycocoevalcap"
    for name, value in (("meteor", 0.5), ("spice", 0.25)):
        (package / name).mkdir(parents=True)
        (package / name / f"{name}.py").write_text(
            f"class {name.title()}:\n    def compute_score(self, truth, said):\n"
            f"        assert truth == {{0: ['a b']}} and said == {{0: ['a']}}, (truth, said)\n"
            f"        return {value}, []\n"
        )
    (package / "spice" / "lib").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(java.shutil, "which", lambda name: "/usr/bin/java")
    _forget()
    yield package
    _forget()


def _forget():
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        del sys.modules[name]


def test_what_java_adds(fake_java):
    (record,) = (talked_about(3, 1, (64, 64)).sources[0].draw(0, RNG(0)),)
    turns = (record.turns[0], record.turns[1]._replace(text="A b.", spans=()))
    record = type(record)(name="r", image="a.jpg", size=record.size, task="caption", turns=turns)
    pairs = [Pair(record, Predicted("r", "A!", (), True))]
    assert captions(pairs, java=True)["METEOR (Java)"] == 50 and "SPICE" not in captions(pairs, java=True)
    assert "stanford-corenlp-3.6.0.jar" in java.why_no_spice()
    (fake_java / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").touch()
    assert captions(pairs, java=True)["SPICE"] == 25 and not java.why_no_spice()
    assert "METEOR (Java)" not in captions(pairs)


def test_java_is_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="need Java; install it, or leave --java out"):
        java.java_scores([["a"]], ["a"])
    file = tmp_path / "empty.jsonl"
    file.write_text("")
    command = ["eval", "gres", str(file), "--truth", "toy_segment_val", "--most", "2", "--java"]
    assert main(command) == 2
    assert "gres scores no captions" in capsys.readouterr().err


def test_meteor_beside_the_jar():
    """Close on sentences without stems or synonyms to find; the real jar, where it is installed."""
    pytest.importorskip("pycocoevalcap.meteor.meteor")
    if java.shutil.which("java") is None:
        pytest.skip("no Java here")
    from mglmm.metrics import meteor

    references = [["the car has body and wheel"], ["the image shows ball and kite"]]
    said = ["the car has wheel", "the image shows ball and kite"]
    assert 100 * meteor(references, said) == pytest.approx(java.java_scores(references, said)["METEOR (Java)"], abs=1)


def test_half_precision_learns_and_answers():
    """Weights in bfloat16, states of a token computed again in the backward pass: losses are finite, gradients arrive,
    answers come."""
    from mglmm import SegCap
    from mglmm.config import build_model
    from mglmm.data.loader import build_conversation_loader
    from mglmm.recipe import build_step

    cfg = load_config("mglmm_toy", [*SMALL, "MODEL.ACTIVATION_CHECKPOINTING", True, "SOLVER.BATCH_SIZE", 4])
    torch.manual_seed(0)
    model = build_model(cfg)
    model.lmm.to(torch.bfloat16)
    model.train()
    batch = next(iter(build_conversation_loader(cfg)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = build_step(cfg, model)(batch).loss
    loss.backward()
    assert loss.isfinite() and model.lmm.get_input_embeddings().weight.grad.abs().sum() > 0
    plain = build_model(cfg)
    plain.load_trained({name: weight.float() for name, weight in model.trained_state().items()})
    full = build_step(cfg, plain.train())(batch).loss
    assert float(loss) == pytest.approx(float(full), rel=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        answer = SegCap(model, cfg)(helpers.picture(), "What is it?")
    assert answer.said and len(answer.phrases) == answer.said.count("[SEG]") and answer.mask.shape == (40, 60)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["all", "adapters"])
def test_weights_spread_over_two_processes(tmp_path, mode):
    """Two steps, a third after resuming: whole weights are saved, all that trains has moved, a single process reads
    them."""
    words = [str(value) for value in SMALL]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m", "mglmm",
        "train", "--config-file", str(CONFIGS / "mglmm_toy.yaml"), "--num-gpus", "0", "--resume", *words,
        "SOLVER.SHARDED", "True", "SOLVER.WARMUP_ITERS", "1", "MODEL.TUNING.MODE", mode, "OUTPUT_DIR", str(tmp_path),
    ]  # fmt: skip
    for steps in ("2", "3"):
        subprocess.run([*command, "SOLVER.MAX_ITER", steps], check=True, timeout=600)
    from mglmm import SegCap
    from mglmm.config import build_model

    trained = SegCap.from_pretrained(tmp_path, device="cpu").model.trained_state()
    cfg = load_config("mglmm_toy", [*SMALL, "MODEL.TUNING.MODE", mode])
    torch.manual_seed(cfg.SOLVER.SEED)
    model = build_model(cfg)
    start, learns = model.trained_state(), {name for name, _ in model.learning()}
    assert trained.keys() == start.keys()
    moved = [name for name, value in trained.items() if not torch.equal(value, start[name])]
    assert learns.issuperset(moved)
    assert {name.split(".")[0] for name in moved} == {"lmm", "masks", "prompt"}
    assert len(moved) > 0.8 * len(learns)
