"""What somebody meets who uses the project for the first time: commands, messages, conversations that are too long."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import mglmm_helpers as helpers
import numpy as np
import pytest
import torch
from mglmm import SegCap, load_config
from mglmm import cli as command
from mglmm import segcap as use
from mglmm.chat import Conversation, TooLong, Turn
from mglmm.config import CONFIGS
from mglmm.data.loader import ConversationBatch, Sample
from mglmm.evaluation import COUNTS, PROTOCOLS, metric_names
from mglmm.generate import Spoken
from mglmm.step import ConversationStep, without_last_question
from PIL import Image

from partglee.data.catalog import register_custom


@pytest.fixture(scope="module")
def talker() -> SegCap:
    return helpers.talker()


@pytest.fixture
def bounded(talker):
    """`bounded(n)`: no conversation of more than n tokens is read."""

    def limit(tokens: int) -> SegCap:
        talker.chat.max_tokens = tokens
        return talker

    yield limit
    talker.chat.max_tokens = None


def length(talker: SegCap, one: Conversation) -> int:
    return int(talker.chat.encode([one]).inputs["input_ids"].shape[1])


# -- conversations that are too long -----------------------------------------------------------------------------------


def test_the_last_questions_of_a_long_conversation_are_left_out(talker, bounded):
    one = helpers.dialogues()[1]
    first = Conversation(one.turns[:2], one.images, one.name)
    masks = np.zeros((3, 30, 70), bool)
    masks[0, 3:20, 3:20] = masks[1, 5:9, 30:60] = masks[2, 1:3, 1:3] = True
    short = without_last_question(Sample(one, masks))
    assert short.conversation.turns == first.turns and np.array_equal(short.masks, masks[:2])
    wanted = ConversationStep(model=talker.model, chat=talker.chat)(ConversationBatch((short,))).loss
    step = ConversationStep(model=talker.model, chat=bounded(length(talker, first)).chat)
    assert torch.equal(step(ConversationBatch((Sample(one, masks),))).loss, wanted)
    bounded(5)
    with pytest.raises(TooLong, match=r"^second: \d+ tokens, more than the 5 .*MODEL.LANGUAGE.MAX_TOKENS"):
        step(ConversationBatch((Sample(one, masks),)))


def test_answers_end_where_conversations_do(talker, bounded, monkeypatch):
    seen = []

    def generated(lmm, batch, *, max_tokens, **options):
        seen.append(max_tokens)
        return [Spoken(tuple(talker.chat.tokenizer("a b c", add_special_tokens=False)["input_ids"]),
                       torch.zeros(9, 32), False)]  # fmt: skip

    monkeypatch.setattr(use, "generate", generated)
    asked = Conversation((Turn("user", "What?", 1), Turn("assistant", "")), (helpers.picture(),))
    before = length(talker, asked) - 1  # without the token that ends the answer
    talk = bounded(before + 7).dialogue(helpers.picture())
    talk.ask("What?")
    assert seen == [7]
    with pytest.raises(ValueError, match=r"tokens, more than the .*MODEL.LANGUAGE.MAX_TOKENS.*begin a new dialogue"):
        talk.ask("And what else is there to be seen?")
    bounded(before)
    with pytest.raises(ValueError, match=r"no room for an answer in the \d+ tokens.*shorten it$"):
        talker(helpers.picture(), "What?")


# -- calls -------------------------------------------------------------------------------------------------------------


def test_calls_of_another_form(talker):
    picture = helpers.picture()
    with pytest.raises(TypeError, match=r"history must hold answers .* got str"):
        talker(picture, "What?", history=["a"])
    with pytest.raises(TypeError, match="a question must be text, got list"):
        talker(picture, ["What?"])
    with pytest.raises(TypeError, match="questions must be a list"):
        talker.batch([picture] * 5, "What?")
    with pytest.raises(TypeError, match="images must be a list"):
        talker.batch("a.png", ["What?"] * 5)


def test_weights_that_are_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no folder output/mglmm_toy; `python -m mglmm train .* writes it"):
        SegCap.from_pretrained("output/mglmm_toy")
    (tmp_path / "output" / "mglmm_toy").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no model_final.safetensors: its run has not ended"):
        SegCap.from_pretrained("output/mglmm_toy")
    with pytest.raises(ValueError, match="is an address"):
        SegCap.from_pretrained("https://a.b/c")


def test_more_is_better_of_metrics():
    for protocol in PROTOCOLS:
        assert metric_names(protocol) and not {*metric_names(protocol)} & {*COUNTS}


def test_conversations_are_no_annotations(tmp_path, capsys):
    cfg = load_config(
        "mglmm_toy", ["DATASETS.CUSTOM", [{"NAME": "mine", "ANNOTATIONS": "a.uscdf.jsonl", "IMAGES": "x"}]]
    )
    with pytest.raises(ValueError, match=r"a.uscdf.jsonl holds conversations.*register the file as a source"):
        register_custom(cfg)
    (tmp_path / "p.jsonl").write_text("")
    assert command.main(["eval", "gcg", str(tmp_path / "p.jsonl"), "--truth", "none.uscdf.jsonl"]) == 2
    assert "--truth: no file none.uscdf.jsonl; it takes a file of USCDF" in capsys.readouterr().err


# -- commands ----------------------------------------------------------------------------------------------------------


def test_training_knows_the_projects_configurations(monkeypatch):
    from partglee import cli as library

    given = []
    monkeypatch.setattr(library, "main", lambda words: given.append(words) or 0)
    file = str(CONFIGS / "mglmm_toy.yaml")
    for words in (["--config-file", "mglmm_toy"], ["--config-file=mglmm_toy"], ["--config-file", file]):
        assert command.main(["train", *words, "OUTPUT_DIR", "mglmm_toy"]) == 0
        assert "=".join(given.pop()[3:-2]) == f"--config-file={file}"


def test_ask_says_what_came(talker, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "a.png"
    Image.fromarray(helpers.picture()).save(picture)
    answer = replace(
        talker.teacher_forced(helpers.picture(), "What?", "A caption."), whole=False, well_formed=False
    )  # fmt: skip
    talk = SimpleNamespace(ask=lambda question, **options: answer)
    monkeypatch.setattr(command, "_loaded", lambda arguments: SimpleNamespace(dialogue=lambda pixels: talk))
    assert command.main(["ask", str(picture), "What?", "--weights", "w", "--output", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert "no masks" in said and "no target" not in said and "cut off at TEST.MAX_TOKENS" in said
    assert "ill-formed" in said and f"-> {tmp_path / 'o' / 'a_0.jpg'}, {tmp_path / 'o' / 'a_0.html'}" in said
    monkeypatch.setattr(command, "_loaded", lambda arguments: pytest.fail("the model was loaded"))
    assert command.main(["ask", str(tmp_path / "none.png"), "What?", "--weights", "w"]) == 2
    assert "does not exist" in capsys.readouterr().err
