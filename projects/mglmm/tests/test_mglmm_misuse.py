"""Odd images, text and options: taken rightly, or refused with a message before anything is asked or written."""

from __future__ import annotations

from types import SimpleNamespace

import mglmm_helpers as helpers
import numpy as np
import pytest
import torch
from mglmm import SegCap, load_config
from mglmm import cli as command
from mglmm import segcap as use
from mglmm.chat import Conversation, Turn
from mglmm.config import RANGES, build_model, mglmm_defaults
from mglmm.data import Record, Said, Span, parse, with_marks
from mglmm.data.loader import ConversationBatch
from mglmm.data.record import write_uscdf
from mglmm.feature_cache import FeatureCache, fingerprint_of
from mglmm.generate import Spoken, TextStream, generate
from mglmm.masks import QueryMasks
from mglmm.mgsc import label
from mglmm.model import MGLMM
from mglmm.step import ConversationStep
from mglmm.tokens import GAP
from mglmm.tuning import Tuning, tune
from PIL import Image
from torch import nn

from partglee import Vocabulary
from partglee.config import get_cfg
from partglee.config.values import RANGES as LIBRARY
from partglee.config.values import leaves
from partglee.engine.image_input import ImageInput


@pytest.fixture(scope="module")
def talker() -> SegCap:
    return helpers.talker()


@pytest.fixture
def saying(talker, monkeypatch):
    """What the model says, by its ids: `saying(*ids)`."""

    def set_up(*ids: int) -> SegCap:
        def generated(lmm, batch, *, on_token=None, **options):
            for token in ids if on_token is not None else ():
                on_token(token)
            return [Spoken(tuple(ids), torch.randn(len(ids), 32), True)]

        monkeypatch.setattr(use, "generate", generated)
        return talker

    return set_up


def spelled(chat, text: str) -> list[int]:
    """Ids of a text, none of them special."""
    ids = [i for sign in text for i in chat.tokenizer(sign, add_special_tokens=False)["input_ids"]]
    assert not {*ids} & {*chat.tokenizer.all_special_ids, *chat.marks.all}
    return ids


def two_colours(rows: int) -> np.ndarray:
    pixels = np.zeros((rows, 60, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 255
    return pixels


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 4, 5])
def test_images_of_few_rows(talker, rows):
    """Red on the left, blue on the right: one row of pixels is no colour channel."""
    images = talker.chat.processor.image_processor
    images.do_center_crop, images.size = False, {"height": 28, "width": 28}
    one = Conversation((Turn("user", "What is it?", 1),), (two_colours(rows),))
    seen = talker.chat.encode([one]).inputs["pixel_values"][0]
    assert float(seen[0, :, 0].min()) > float(seen[0, :, -1].max()) + 1
    assert float(seen[2, :, -1].min()) > float(seen[2, :, 0].max()) + 1


def test_labellers_see_images_of_few_rows(monkeypatch):
    seen = []

    class Processor:
        def apply_chat_template(self, messages, **options):
            return "?"

        def __call__(self, *, text, images, return_tensors):
            seen.append(images[0][0].size)
            raise ValueError("enough")

    made = SimpleNamespace(from_pretrained=lambda name: Processor())
    model = SimpleNamespace(from_pretrained=lambda name: nn.Identity())
    monkeypatch.setattr(label, "library", lambda name: SimpleNamespace(
        AutoProcessor=made, AutoModelForImageTextToText=model))  # fmt: skip
    with pytest.raises(ValueError, match="enough"):
        label.transformers_labeller("x")(two_colours(3), "what?", label.read_label)
    assert seen[0] == (60, 3)


# -- text --------------------------------------------------------------------------------------------------------------


def test_spans_shrink_to_their_words():
    said = with_marks("A dog sat.", [Span(1, 6, 0)])
    assert said == "A <p> dog </p> [SEG] sat."
    again = parse(said)
    assert again.text == "A dog sat." and again.spans == (Span(2, 5, 0),) and again.well_formed
    both = parse(with_marks("a cat, a dog", [Span(1, 6, 0), Span(6, 12, 1)]))
    assert both.text == "a cat, a dog" and both.spans == (Span(2, 6, 0), Span(7, 12, 1))


def test_special_tokens_in_text(talker):
    """Neither a question nor an answer may become tokens that control the model."""
    picture = helpers.picture()
    for token in ("</s>", "<pad>", "<image>", "<unk>"):
        user = Turn("user", f"What {token} is it?", 1)
        with pytest.raises(ValueError, match=f"record 'r': turn 0 holds '{token}'.*write it apart"):
            talker.chat.encode([Conversation((user,), (picture,), "record 'r'")])
        turns = (Turn("user", "What?", 1), Turn("assistant", f"It {token} is."))
        with pytest.raises(ValueError, match=f"record 'r': turn 1 holds '{token}'"):
            talker.chat.encode([Conversation(turns, (picture,), "record 'r'")])
        with pytest.raises(ValueError, match=f"holds '{token}'"):
            talker(picture, f"What {token} is it?")
    with pytest.raises(ValueError, match=r"the question 'What\?' and its answer: turn 1 holds '</s>'"):
        talker.teacher_forced(picture, "What?", "a </s> b")


def test_nothing_to_encode(talker):
    with pytest.raises(ValueError, match="no conversation to encode"):
        talker.chat.encode([])
    with pytest.raises(ValueError, match="the record has no turns"):
        Conversation((), (), "the record")
    with pytest.raises(ValueError, match="no conversation to encode"):
        ConversationStep(model=talker.model, chat=talker.chat)(ConversationBatch(()))
    assert talker.batch([], []) == []


def test_silence_does_not_end_a_dialogue(saying):
    talk = saying().dialogue(helpers.picture())
    silent = talk.ask("What is it?")
    assert silent.text == "" and silent.no_target
    assert talk.ask("And now?").text == "" and len(talk.answers) == 2
    said = talk.model.conversation(talk.pixels, "Now?", talk.answers)
    assert [turn.text for turn in said.turns] == ["What is it?", "", "And now?", "", "Now?"]
    batch = talk.model.chat.encode([said])
    ends = batch.inputs["input_ids"][batch.answer].tolist()
    assert ends == [talk.model.chat.tokenizer.eos_token_id] * 2


def test_marks_out_of_order_do_not_end_a_dialogue(talker, saying):
    marks = talker.chat.marks
    talk = saying(marks.close, marks.seg, marks.open).dialogue(helpers.picture())
    odd = talk.ask("What is it?")
    assert odd.said == GAP and not odd.well_formed and len(odd.phrases) == 1
    assert not talk.ask("And now?").well_formed
    said = talk.model.conversation(talk.pixels, "Now?", talk.answers)
    assert [(turn.text, turn.images) for turn in said.turns] == [("Now?", 1)]


def test_marks_that_are_spelled(talker, saying):
    """`[SEG]` of ordinary tokens has no state, so it is text; so is a spelled `</s>`, which history reads again."""
    chat = talker.chat
    marks = chat.marks
    ids = [marks.open, *spelled(chat, "dog"), marks.close, *spelled(chat, "[SEG]"), marks.seg, *spelled(chat, "</s>!")]
    talk = saying(*ids).dialogue(helpers.picture())
    answer = talk.ask("What is it?")
    assert answer.said == "<p>dog</p>[ SEG][SEG]< /s>!" and len(answer.phrases) == 1
    assert not talk.ask("And?").no_target
    only = saying(*spelled(chat, "a [SEG]"))(helpers.picture(), "What is it?")
    assert only.no_target and only.text == "a [ SEG]"
    pieces = list(saying(*ids).stream(helpers.picture(), "What is it?"))
    assert "".join(pieces[:-1]) == pieces[-1].said == answer.said


def test_half_a_character_at_the_end_is_told(talker):
    first = talker.chat.tokenizer("é", add_special_tokens=False)["input_ids"][0]
    pieces: list[str] = []
    stream = TextStream(talker.chat, pieces.append)
    for token in (*spelled(talker.chat, "a"), first):
        stream(token)
    assert pieces == ["a"]
    stream.end()
    assert pieces == ["a", "�"] and "".join(pieces) == talker.chat.text_of([*spelled(talker.chat, "a"), first])


# -- options -----------------------------------------------------------------------------------------------------------


def test_limits_are_whole_numbers(talker):
    for wrong in (float("nan"), 1.5, True, 0, "8"):
        with pytest.raises(ValueError, match="max_tokens must be a whole number, at least 1"):
            talker(helpers.picture(), "What is it?", max_tokens=wrong)
        with pytest.raises(ValueError, match="max_tokens must be a whole number, at least 1"):
            talker.batch([helpers.picture()], ["What is it?"], max_tokens=wrong)
    for wrong in (-1, 0.5, True):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            talker(helpers.picture(), "What is it?", seed=wrong)
    with pytest.raises(ValueError, match="temperature must be"):
        talker(helpers.picture(), "What is it?", temperature=True)
    assert not talker(helpers.picture(), "What is it?", max_tokens=np.int64(1)).whole


def test_a_seed_repeats_an_answer(talker):
    ask = talker.chat.encode([Conversation((Turn("user", "What?", 1),), (helpers.picture(),))], side="left")
    options = {"stop": talker.chat.stop_ids(), "pad": 0, "max_tokens": 12, "temperature": 5.0}
    drawn = [generate(talker.model.lmm, ask, seed=seed, **options)[0].ids for seed in (1, 1, 2, None, None)]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 4
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    generate(talker.model.lmm, ask, seed=1, **options)
    assert torch.equal(torch.rand(3), wanted)  # other random numbers go on as they would


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.MASKS.KIND", "samm"], "MODEL.MASKS.KIND must be sam, sam2, partglee or maps, got 'samm'"),
        (["TEST.MAX_TOKENS", -5], "TEST.MAX_TOKENS must be at least 1, got -5"),
        (["MODEL.LANGUAGE.TOY.STRIDE", 0], "MODEL.LANGUAGE.TOY.STRIDE must be at least 1, got 0"),
        (["MODEL.TUNING.ALPHA", 0.0], "MODEL.TUNING.ALPHA must be more than 0"),
        (["MODEL.TUNING.MODE", "adapters", "MODEL.TUNING.TARGETS", []], "targets must be names of modules"),
    ],
)
def test_values_are_checked_before_anything_is_built(overrides, message):
    small = ["MODEL.START", "", "MODEL.BACKBONE.NAME", "mobilenetv2_050"]
    with pytest.raises(ValueError, match=message):
        build_model(load_config("mglmm_toy", [*small, *overrides]))


def test_every_number_has_a_range():
    ours = set(dict(leaves(mglmm_defaults()))) - set(dict(leaves(get_cfg())))
    numbers = {key for key, value in leaves(mglmm_defaults())
               if key in ours and isinstance(value, (int, float)) and not isinstance(value, bool)}  # fmt: skip
    assert numbers <= {*RANGES, *LIBRARY}


def test_overrides_of_weights(talker, tmp_path, capsys, monkeypatch):
    cfg = load_config("mglmm_toy")
    picture = tmp_path / "a.png"
    Image.fromarray(helpers.picture()).save(picture)
    monkeypatch.setattr(use, "find_weights", lambda name: name)
    monkeypatch.setattr(use, "config_of", lambda file, defaults: cfg.clone())
    for wrong, message in ((["MODEL.NOPE", "1"], "MODEL.NOPE"), (["TEST.MAX_TOKENS", "-5"], "must be at least 1")):
        arguments = ["ask", str(picture), "What?", "--weights", "x", "--set", *wrong]
        assert command.main(arguments) == 2 and message in capsys.readouterr().err
    assert command.main([*arguments[:5], "--temperature", "1", "--seed", "-1"]) == 2
    assert "seed must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["gcgg", "--weights", "w"], "no protocol 'gcgg'; there are gcg, mgsc"),
        (["res", "--java", "--weights", "w"], "scores no captions, so --java has nothing to add"),
        (["gcg", "--most", "0", "--weights", "w"], "--most must be at least 1, got 0"),
        (["gcg", "--most", "-1"], "--most must be at least 1, got -1"),
        (["gcg", "--teacher-forced"], "name it by --weights"),
        (["gcg", "--set", "TEST.MAX_TOKENS", "9"], "--set is about the model that --weights names"),
    ],
)
def test_eval_checks_before_it_asks(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setattr(command, "_loaded", lambda arguments: pytest.fail("the model was loaded"))
    truth, file = tmp_path / "t.uscdf.jsonl", tmp_path / "p.jsonl"
    turns = (Said("user", "What?"), Said("assistant", "A dog."))
    write_uscdf([Record(name="a", image="a.png", size=(4, 4), task="gcg", turns=turns)], truth)
    file.write_text("kept")
    protocol, *more = options
    assert command.main(["eval", protocol, str(file), "--truth", str(truth), *more]) == 2
    assert message in capsys.readouterr().err and file.read_text() == "kept"


def test_eval_wants_conversations(tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text("")
    said = ["eval", "res", str(tmp_path / "p.jsonl"), "--truth"]
    assert command.main([*said, "refcoco-unc-val"]) == 2
    assert "'refcoco-unc-val' is none of conversations" in capsys.readouterr().err
    (tmp_path / "t.uscdf.jsonl").write_text("")
    assert command.main([*said, str(tmp_path / "t.uscdf.jsonl")]) == 2
    assert "no record to ask about" in capsys.readouterr().err
    assert command.main(["eval", "res", str(tmp_path), "--truth", "toy_mgsc_val"]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert command.main([*said, "toy_mgsc_val", "--images", str(tmp_path)]) == 2
    assert "--images is for a file of USCDF" in capsys.readouterr().err


# -- what is kept ------------------------------------------------------------------------------------------------------


def with_norm(learns: bool) -> MGLMM:
    model, chat = helpers.whole()
    model.lmm.model.multi_modal_projector.norm = nn.BatchNorm1d(4)
    tune(model, Tuning(), chat.marks.all)
    model.lmm.model.multi_modal_projector.norm.requires_grad_(learns)
    return model


def test_running_statistics_are_saved():
    model = with_norm(True).train()
    norm = model.lmm.model.multi_modal_projector.norm
    norm(torch.randn(8, 4) * 3 + 5)
    state = model.state_dict()
    assert set(state) == set(model.trained_state())
    assert sorted(name.rpartition(".")[2] for name in state if ".norm.running" in name) == [
        "running_mean",
        "running_var",
    ]
    other = with_norm(True)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    ours = other.lmm.model.multi_modal_projector.norm
    assert torch.equal(ours.running_mean, norm.running_mean) and torch.equal(ours.running_var, norm.running_var)


def test_norms_that_do_not_learn_stay():
    """Their statistics are not saved, so training may not move them."""
    model = with_norm(False).train()
    norm = model.lmm.model.multi_modal_projector.norm
    norm(torch.randn(8, 4) * 3 + 5)
    assert float(norm.running_mean.abs().max()) == 0 and not any(".norm." in name for name in model.state_dict())


def test_names_are_part_of_a_cache(tiny):
    def decoder(names: str, **changes) -> QueryMasks:
        seen = ImageInput(**{"short_side": 64, "max_side": 96, **changes})
        return QueryMasks(model=tiny, vocabulary=Vocabulary.parse(names), image_input=seen)

    found = [decoder("car: wheel"), decoder("person: head, arm"), decoder("car: wheel", squash=(64, 64))]
    prints = [fingerprint_of(one) for one in found]
    found[0].size_divisibility *= 2
    assert len({*prints, fingerprint_of(found[0])}) == 4
    assert fingerprint_of(decoder("car: wheel")) == prints[0]


def test_kept_features_of_another_form_are_made_anew(tmp_path):
    cache = FeatureCache(tmp_path, helpers.sam2())
    large = (torch.full((1, 2, 3, 3), 1e6), torch.ones(1, 2, 2, 2))
    asked = []

    def make():
        asked.append(1)
        return large

    first = cache.get(helpers.picture(), make)
    again = cache.get(helpers.picture(), make)
    assert torch.equal(first[0], large[0]) and torch.equal(again[0], large[0])  # too large for half precision
    (file,) = tmp_path.rglob("*.pt")
    kept = torch.load(file)
    assert [value.dtype for value in kept["features"]] == [torch.float32, torch.float16]
    half = {**kept, "features": (torch.full((1, 2), torch.nan),)}
    for number, wrong in enumerate(({"a": torch.ones(1)}, (torch.full((1, 2), torch.nan),), torch.ones(1), half, "x")):
        torch.save(wrong, file)
        found = cache.get(helpers.picture(), make)
        assert isinstance(found, tuple) and torch.equal(found[0], large[0]) and len(asked) == number + 2
