"""The whole model: losses, answers token by token, what trains."""

from __future__ import annotations

import math

import mglmm_helpers as helpers
import pytest
import torch
from mglmm.chat import Conversation, Turn
from mglmm.generate import TextStream, generate
from mglmm.losses import dice_loss, mask_losses, token_loss, weighted
from mglmm.model import MGLMM, MaskTargets
from mglmm.positions import states_that_predict, take
from mglmm.tokens import token_tables
from mglmm.tuning import PARTS, Tuning, parts_that_learn, projector_of, set_gradient_checkpointing, tune
from torch.nn import functional as F


def batch_of(model, chat, number=2):
    """Conversations with whole answers, features of their first pictures, masks."""
    said = helpers.dialogues()[:number]
    read = [model.masks.image_input.read(one.images[0]) for one in said]
    images = model.masks.batch([image.resized for image in read], model.masks.canvas)
    wanted = [sum(turn.text.count("[SEG]") for turn in one.turns) for one in said]
    torch.manual_seed(3)
    masks = torch.rand(sum(wanted), *images.canvas) > 0.6
    return chat.encode(said), model.masks.features(images.tensor), MaskTargets(masks, tuple(wanted), images.sizes)


def waiting(*questions):
    return [Conversation((Turn("user", text, 1),), (helpers.picture(seed=n),)) for n, text in enumerate(questions)]


# -- losses ------------------------------------------------------------------------------------------------------------


def test_loss_oracles():
    torch.manual_seed(0)
    logits, masks = [torch.randn(4, 5), torch.randn(3, 3)], [torch.rand(4, 5) > 0.5, torch.rand(3, 3) > 0.5]
    bce = dice = 0.0
    for one, mask in zip(logits, masks, strict=True):
        total, both, said, true = 0.0, 0.0, 0.0, 0.0
        for x, y in zip(one.flatten().tolist(), mask.flatten().tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            total -= math.log(p if y else 1 - p)
            both, said, true = both + p * y, said + p, true + y
        bce += total / one.numel() / 2
        dice += (1 - (2 * both / 1000 + 1e-6) / (said / 1000 + true / 1000 + 1e-6)) / 2
    found = mask_losses(logits, masks)
    assert float(found["bce"]) == pytest.approx(bce, abs=1e-6)
    assert float(found["dice"]) == pytest.approx(dice, abs=1e-6)
    logits64 = torch.randn(6, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([1.0, 0, 1, 1, 0, 0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, mask), logits64)


def test_token_loss():
    logits, wanted = torch.tensor([[2.0, 0, 0], [0, 1, 0]], requires_grad=True), torch.tensor([0, 2])
    by_hand = (math.log(math.e**2 + 2) - 2 + math.log(2 + math.e)) / 2
    assert float(token_loss(logits, wanted).detach()) == pytest.approx(by_hand, abs=1e-6)
    none = token_loss(logits[:0], wanted[:0])
    assert float(none.detach()) == 0 and none.requires_grad
    assert weighted({"a": torch.tensor(2.0), "b": torch.tensor(1.0), "c": torch.tensor(1.0)}, {"a": 3, "b": 0}) == {
        "a": 6.0, "c": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("family", helpers.FAMILIES)
def test_forward_is_the_sum_of_its_parts(family):
    """Cross-entropy of answer tokens alone; masks of the states before [SEG], compared where the image is."""
    model, chat = helpers.whole(family)
    batch, features, targets = batch_of(model, chat)
    with torch.no_grad():
        terms = model(batch, features, targets)
        ids = batch.inputs["input_ids"]
        logits = model.lmm(**batch.inputs, use_cache=False).logits
        losses, rows, states = [], [], model.states(batch.inputs)
        prompts = []
        for row in range(len(ids)):
            for column in range(1, ids.shape[1]):
                if batch.answer[row, column]:
                    losses.append(F.cross_entropy(logits[row, column - 1], ids[row, column]))
                    if ids[row, column] == chat.marks.seg:
                        prompts.append(states[row, column - 1])
                        rows.append(row)
        decoded = model.masks.decode(features, model.prompt(torch.stack(prompts)), torch.tensor(rows))
        large = F.interpolate(decoded.logits[None], size=(64, 64), mode="bilinear", align_corners=False)[0]
        cut = [(large[n, : targets.sizes[r][0], : targets.sizes[r][1]],
                targets.masks[n, : targets.sizes[r][0], : targets.sizes[r][1]])
               for n, r in enumerate(rows)]  # fmt: skip
        masks = mask_losses([one for one, _ in cut], [mask for _, mask in cut])
    assert rows == [0, 1, 1, 1]
    assert float(terms["ce"]) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
    assert float(terms["bce"]) == pytest.approx(2 * float(masks["bce"]), rel=1e-4)
    assert float(terms["dice"]) == pytest.approx(0.5 * float(masks["dice"]), rel=1e-4)


def test_masks_that_nobody_announces():
    model, chat = helpers.whole()
    batch, features, targets = batch_of(model, chat)
    with pytest.raises(ValueError, match=r"conversation 1 of the batch has 3 \[SEG\] in its answers and 2 masks"):
        model(batch, features, targets._replace(number=(1, 2)))
    with pytest.raises(ValueError, match="the model has rows for"):
        MGLMM(lmm=model.lmm, masks=model.masks, seg=len(chat.tokenizer) + 5)


def test_answers_without_masks():
    """Plain text: the loss is that of the words, and is connected to the mask side all the same."""
    model, chat = helpers.whole()
    said = [
        Conversation((Turn("user", "Where?", 1), Turn("assistant", "Sorry, I do not see any.")), (helpers.picture(),))
    ]
    read = model.masks.image_input.read(said[0].images[0])
    images = model.masks.batch([read.resized], model.masks.canvas)
    targets = MaskTargets(torch.zeros(0, 64, 64, dtype=torch.bool), (0,), images.sizes)
    terms = model(chat.encode(said), model.masks.features(images.tensor), targets)
    assert float(terms["bce"].detach()) == float(terms["dice"].detach()) == 0 < float(terms["ce"].detach())
    sum(terms.values()).backward()
    assert model.prompt.layers[0].weight.grad is not None


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", helpers.FAMILIES)
def test_cached_states_are_those_of_a_second_pass(family):
    """Collected step by step with the cache on, equal to one teacher-forced pass over prompt and answer."""
    model, chat = helpers.whole(family)
    ask = chat.encode(waiting("Describe the car in detail.", "What?"), side="left")
    answers = generate(model.lmm, ask, stop=chat.stop_ids(), pad=0, max_tokens=12)
    prompt = ask.inputs["input_ids"]
    longest = max(len(one.ids) for one in answers)
    assert longest > 3
    new = torch.tensor([[*one.ids, *[0] * (longest - len(one.ids))] for one in answers])
    whole = torch.cat((prompt, new), 1)
    inputs = {**ask.inputs, "input_ids": whole}
    for key, value in ask.inputs.items():
        if value.shape == prompt.shape and key != "input_ids":
            tail = torch.full_like(new, 1 if key == "attention_mask" else 0)
            inputs[key] = torch.cat((value, tail), 1)
    with torch.no_grad():
        states = model.states(inputs)
    for row, one in enumerate(answers):
        start = prompt.shape[1] - 1
        again = states[row, start : start + len(one.ids)]
        assert float((again - one.states).abs().max()) < 1e-4
        head = model.lmm.get_output_embeddings()(one.states)
        assert head.argmax(-1).tolist() == list(one.ids)


def test_batches_answer_as_one_does():
    model, chat = helpers.whole()
    asked = waiting("Describe the car in detail, with masks.", "What?")
    options = {"stop": chat.stop_ids(), "pad": 0, "max_tokens": 8}
    together = generate(model.lmm, chat.encode(asked, side="left"), **options)
    for one, ours in zip(asked, together, strict=True):
        alone = generate(model.lmm, chat.encode([one], side="left"), **options)[0]
        assert alone.ids == ours.ids
        torch.testing.assert_close(alone.states, ours.states, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="padded on the left"):
        generate(model.lmm, chat.encode(asked), **options)


def test_a_checkpoint_that_would_search_by_beams():
    """Its own settings must not bring rows that belong to no answer."""
    model, chat = helpers.whole()
    ask = chat.encode(waiting("Describe the car in detail.", "What?"), side="left")
    options = {"stop": chat.stop_ids(), "pad": 0, "max_tokens": 8}
    plain = generate(model.lmm, ask, **options)
    model.lmm.generation_config.num_beams = 3
    assert [one.ids for one in generate(model.lmm, ask, **options)] == [one.ids for one in plain]


def test_an_answer_ends():
    """A stop id ends it and is not part of it; without one it is cut off and says so."""
    model, chat = helpers.whole()
    ask = chat.encode(waiting("Describe."), side="left")
    free = generate(model.lmm, ask, stop=[2], pad=0, max_tokens=6)[0]
    assert len(free.ids) == len(free.states) == 6 and not free.whole
    stop = free.ids[2]
    ended = generate(model.lmm, ask, stop=[stop], pad=0, max_tokens=6)[0]
    first = free.ids.index(stop)
    assert ended.ids == free.ids[:first] and len(ended.states) == first and ended.whole


def test_text_is_streamed():
    model, chat = helpers.whole()
    pieces: list[str] = []
    stream = TextStream(chat, pieces.append)
    ask = chat.encode(waiting("Describe the car."), side="left")
    answer = generate(model.lmm, ask, stop=chat.stop_ids(), pad=0, max_tokens=8, on_token=stream)[0]
    assert chat.text_of(answer.ids).startswith("".join(pieces).rstrip())
    assert len(pieces) > 1
    with pytest.raises(ValueError, match="one conversation at a time"):
        generate(model.lmm, chat.encode(waiting("A?", "B?"), side="left"), stop=[2], pad=0, on_token=lambda token: None)


# -- what trains -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "masks"), [*((name, "sam") for name in helpers.FAMILIES), ("llava", "sam2")])
def test_gradient_reaches_exactly_what_is_meant(family, masks):
    model, chat = helpers.whole(family, {"sam": helpers.sam, "sam2": helpers.sam2}[masks]())
    batch, features, targets = batch_of(model, chat)
    tables = len(token_tables(model.lmm))
    assert tables == (1 if family in ("smolvlm", "internvl") else 2)  # tied or not, as their configurations say
    tune(model, Tuning(dropout=0.0), chat.marks.all)
    model.train()
    with torch.no_grad():  # adapters start at zero, and then A has no gradient in the first step
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    sum(model(batch, features, targets).values()).backward()
    parts = parts_that_learn(model)
    assert tuple(sorted(parts)) == tuple(sorted(PARTS))
    learn = {name for names in parts.values() for name in names}
    got = {name for name, weight in model.named_parameters() if weight.grad is not None and bool(weight.grad.any())}
    silent = {
        "output_hypernetworks_mlps.",
        "iou_prediction_head.",
        "pred_obj_score_head.",
        "iou_token",
        "obj_score_token",
    }
    assert got <= learn
    assert all(any(part in name for part in silent) or name.endswith("k_proj.bias") for name in learn - got), (
        learn - got
    )
    layers = model.lmm.get_decoder().layers
    assert len(parts["adapters"]) == len(layers) * 2 * 2
    assert len(parts["tokens"]) == tables, parts["tokens"]
    assert set(parts["projector"]) == {
        name for name, weight in model.named_parameters()
        if any(weight is own for own in projector_of(model.lmm).parameters())
    }  # fmt: skip
    if masks == "sam2":
        assert {"masks.sam.mask_decoder.conv_s0.weight", "masks.sam.mask_decoder.conv_s1.weight"} <= got


@pytest.mark.parametrize("family", ["llava", "smolvlm"])
def test_new_rows_alone_move(family):
    """One step: the rows of the marks change in both tables, tied or not, no other row does."""
    model, chat = helpers.whole(family)
    batch, features, targets = batch_of(model, chat)
    tune(model, Tuning(dropout=0.0), chat.marks.all)
    ids, states = torch.arange(len(chat.tokenizer))[None], torch.randn(1, 4, 32)
    read = lambda: (model.lmm.get_input_embeddings()(ids)[0].detach(), model.lmm.get_output_embeddings()(states)[0].T)  # noqa: E731
    before = read()
    optimizer = torch.optim.SGD([weight for _, weight in model.learning()], lr=0.5)
    sum(model.train()(batch, features, targets).values()).backward()
    optimizer.step()
    for old, new in zip(before, read(), strict=True):
        moved = (~torch.isclose(old, new).all(1)).nonzero()[:, 0].tolist()
        assert set(moved) == set(chat.marks.all)


def test_adapters_travel_alone():
    """Trained tensors of one model into another of the same base: the same numbers, and few bytes."""
    first, chat = helpers.whole()
    tune(first, Tuning(), chat.marks.all)
    with torch.no_grad():
        for _, weight in first.learning():
            weight.add_(0.05 * torch.randn_like(weight))
    state = {name: value.clone() for name, value in first.trained_state().items()}
    second, _ = helpers.whole()
    tune(second, Tuning(), chat.marks.all)
    batch, features, targets = batch_of(first, chat)
    with torch.no_grad():
        before = second.eval()(batch, features, targets)
        second.load_trained(state)
        ours, theirs = first.eval()(batch, features, targets), second.eval()(batch, features, targets)
    assert all(float(ours[key]) == float(theirs[key]) for key in ours) and float(before["ce"]) != float(ours["ce"])
    assert not any("vision_tower" in name or "vision_encoder" in name for name in state)
    third, _ = helpers.whole()
    tune(third, Tuning(rank=4), chat.marks.all)
    with pytest.raises(ValueError, match="another tuning: 0 are lacking, 0 are too many, 8 have another shape"):
        third.load_trained(state)
    del state[next(iter(state))]
    with pytest.raises(ValueError, match="1 are lacking"):
        second.load_trained(state)


def test_all_of_it_can_train():
    model, chat = helpers.whole()
    batch, features, targets = batch_of(model, chat)
    tune(model, Tuning(mode="all"), chat.marks.all)
    set_gradient_checkpointing(model.train(), True)
    sum(model(batch, features, targets).values()).backward()
    assert set(parts_that_learn(model)) == {"language", "projector", "prompt", "masks"}
    kept = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    assert any("language_model" in name for name in kept) and any("vision_tower" in name for name in kept)
    model.zero_grad()
    set_gradient_checkpointing(model, False)
    sum(model(batch, features, targets).values()).backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, kept[name], atol=1e-5, rtol=1e-4)


def test_tuning_refuses():
    model, chat = helpers.whole()
    with pytest.raises(ValueError, match="no modules w_nothing to adapt"):
        tune(model, Tuning(targets=("w_nothing",)), chat.marks.all)
    with pytest.raises(ValueError, match="mode must be"):
        Tuning(mode="half")
    with pytest.raises(ValueError, match="rank >= 1"):
        Tuning(rank=0)


def test_states_before_seg_prompt_the_decoder():
    """Swap two prompts and the masks swap: nothing else of an answer reaches the mask decoder."""
    model, chat = helpers.whole()
    batch, features, _ = batch_of(model, chat)
    with torch.no_grad():
        places = states_that_predict(chat.marks.seg, batch.inputs["input_ids"], answer=batch.answer)
        prompts = model.prompt(take(model.states(batch.inputs), places))
        image_of = torch.zeros(2, dtype=torch.long)
        one = model.masks.decode(features, prompts[1:3], image_of)
        two = model.masks.decode(features, prompts[1:3].flip(0), image_of)
    torch.testing.assert_close(one.logits.flip(0), two.logits)
