"""Marks in any tokenizer, rows for them, and where a mask is announced."""

from __future__ import annotations

from dataclasses import replace

import mglmm_helpers as helpers
import pytest
import torch
from mglmm.chat import Chat, Conversation, Turn, without_marks
from mglmm.positions import counts, states_that_predict, take
from mglmm.tokens import GAP, MARKS, add_marks, grow_tables, mark_ids, token_tables


def test_marks_are_added_once():
    tokenizer = helpers.tokenizer({"image_token": "<image>"})
    before = len(tokenizer)
    with pytest.raises(ValueError, match=r"no token '\[SEG\]'; .*add_marks"):
        mark_ids(tokenizer)
    first = add_marks(tokenizer)
    assert len(tokenizer) == before + 3
    assert add_marks(tokenizer) == first == mark_ids(tokenizer)
    assert len(tokenizer) == before + 3
    assert tokenizer.convert_ids_to_tokens(list(first.all)) == list(MARKS)
    text = "a <p>dog</p>[SEG]."
    assert [i for i in tokenizer(text)["input_ids"] if i in first.all] == [first.open, first.close, first.seg]


@pytest.mark.parametrize("tied", [False, True])
def test_tables_grow_and_stay_tied(tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = helpers.tokenizer({"image_token": "<image>"})
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    )  # fmt: skip
    old = [table.weight.detach().clone() for table in token_tables(model).values()]
    marks = add_marks(tokenizer)
    grow_tables(model, tokenizer)
    tables = token_tables(model)
    assert set(tables) == ({"input"} if tied else {"input", "output"})
    for table, before in zip(tables.values(), old, strict=True):
        assert len(table.weight) == len(tokenizer) == len(before) + 3
        torch.testing.assert_close(table.weight[: len(before)], before)
        torch.testing.assert_close(table.weight[marks.seg], before.mean(0))
    again = [table.weight.clone() for table in tables.values()]
    grow_tables(model, tokenizer)
    assert all(torch.equal(a, t.weight) for a, t in zip(again, token_tables(model).values(), strict=True))


def test_positions_by_hand():
    ids = torch.tensor([[5, 9, 1, 9, 0], [0, 0, 4, 4, 9]])
    places = states_that_predict(9, ids)
    assert places.row.tolist() == [0, 0, 1] and places.column.tolist() == [0, 2, 3]
    assert counts(places, 2).tolist() == [2, 1]
    states = torch.arange(10.0).view(2, 5, 1)
    assert take(states, places)[:, 0].tolist() == [0, 2, 8]
    only = states_that_predict(9, ids, answer=torch.tensor([[0, 0, 0, 1, 0], [0] * 5]).bool())
    assert only.column.tolist() == [2]
    with pytest.raises(ValueError, match="row 1 begins with token 9"):
        states_that_predict(9, torch.tensor([[1, 9], [9, 1]]))


@pytest.mark.parametrize("family", helpers.FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_of_any_model(family, side):
    """Image tokens expanded, either padding, several images and turns: each state is before a [SEG], read as text."""
    _, chat = helpers.language(family)
    said = list(helpers.dialogues())
    batch = chat.encode(said, side=side)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert (~mask.bool()).any() and mask[:, 0 if side == "left" else -1].sum() < len(said)
    places = states_that_predict(chat.marks.seg, ids, answer=batch.answer)
    assert counts(places, 3).tolist() == [1, 3, 1]
    assert bool((ids[places.row, places.column + 1] == chat.marks.seg).all())
    before = [chat.tokenizer.decode(ids[row, : column + 1][mask[row, : column + 1].bool()]) for row, column in
              zip(*map(torch.Tensor.tolist, places), strict=True)]  # fmt: skip
    assert [text.rstrip().rpartition("<p>")[2] for text in before] == [
        " car </p>", " dog </p>", " cat </p>", " wheel </p>", " red </p>"
    ]  # fmt: skip


@pytest.mark.parametrize("family", helpers.FAMILIES)
def test_what_is_trained_is_what_is_generated(family):
    """The ids before an answer are those of a prompt that waits for it, and the answer's ids end with a stop id."""
    _, chat = helpers.language(family)
    one = helpers.dialogues()[1]
    whole = chat.encode([one])
    first = int(whole.answer[0].nonzero()[0, 0])
    prompt = chat.encode([replace(one, turns=one.turns[:1])], side="left").inputs["input_ids"][0]
    assert whole.inputs["input_ids"][0, :first].tolist() == prompt.tolist()
    ends = (whole.answer[0, :-1] & ~whole.answer[0, 1:]).nonzero()[:, 0].tolist()
    last = whole.inputs["input_ids"][0, [*ends, -1] if bool(whole.answer[0, -1]) else ends]
    assert len(last) == 2 and set(last.tolist()) <= set(chat.stop_ids())
    spoken = whole.inputs["input_ids"][0][whole.answer[0]]
    assert chat.text_of(spoken.tolist()).replace(" ", "") == "A<p>dog</p>[SEG]and<p>cat</p>[SEG].<p>wheel</p>[SEG]"


def test_seams_do_not_move():
    """A template that ends a prompt with a space, and one that does not: answers stand behind the same ids."""
    processor = helpers.language()[1].processor
    plain = "{% for m in messages %}{{ m['role'] }}:{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}SPACE{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"  # noqa: E501
    ids = []
    for space in (" ", ""):
        processor.chat_template = plain.replace("SPACE", space)
        batch = Chat(processor=processor).encode([helpers.dialogues()[0]])
        ids.append(batch.inputs["input_ids"][0][batch.answer[0]].tolist())
    assert ids[0] != ids[1]
    assert processor.tokenizer.decode(ids[0]) == " " + processor.tokenizer.decode(ids[1])


def test_bad_conversations():
    _, chat = helpers.language()
    picture = helpers.picture()
    user = Turn("user", "What is it?", 1)
    with pytest.raises(ValueError, match="record 7: turn 1 must be the assistant's"):
        chat.encode([Conversation((user, user), (picture,), "record 7")])
    with pytest.raises(ValueError, match="speak of 1 images, there are 0"):
        chat.encode([Conversation((user,), ())])
    with pytest.raises(ValueError, match="says nothing"):
        chat.encode([Conversation((Turn("user", " "),))])
    with pytest.raises(ValueError, match="says nothing"):
        chat.encode([Conversation((Turn("user", f"a {GAP}"),))])
    with pytest.raises(ValueError, match=r"record 9: \d+ tokens, more than the 20"):
        Chat(processor=chat.processor, max_tokens=20).encode([Conversation((user, Turn("assistant", "long " * 30)),
                                                                           (picture,), "record 9")])  # fmt: skip
    with pytest.raises(ValueError, match="side must be"):
        chat.encode([Conversation((user,), (picture,))], side="up")
    assert without_marks("the <p> dog </p> [SEG] there") == "the dog there"


def test_templates_that_drop_something():
    processor = helpers.language()[1].processor
    one = helpers.dialogues()[0]
    good = processor.chat_template
    processor.chat_template = good.replace("<image>", "")
    with pytest.raises(ValueError, match="first: the chat template shows 0 of 1 images"):
        Chat(processor=processor).encode([one])
    processor.chat_template = "{% for m in messages %}{% if m['role'] == 'user' %}<image>hi{% endif %}{% endfor %}"
    with pytest.raises(ValueError, match="first: the chat template shows 0 of 1 answers"):
        Chat(processor=processor).encode([one])
    processor.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        Chat(processor=processor)
