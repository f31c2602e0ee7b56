"""The pipeline of MGSC: labels, tree, descriptions, records; and weights of other projects."""

from __future__ import annotations

import json
import re

import mglmm_helpers as helpers
import numpy as np
import pytest
import torch
from mglmm.cli import main
from mglmm.convert import convert_state, load_converted
from mglmm.data import read_uscdf
from mglmm.data.loader import true_masks
from mglmm.mgsc import Labelled, export_uscdf, highlighted, read_label
from mglmm.mgsc.label import asking_again
from PIL import Image

from partglee.annotate import Description, Region, Sample
from partglee.annotate.masks import encode

BUILDING = np.zeros((40, 40), bool)
BUILDING[0:30, 0:30] = True
SHAPES = {"building": (0, 0, 30, 30), "window a": (4, 4, 8, 8), "window b": (4, 16, 8, 20), "car": (32, 25, 40, 40)}


def coco(tmp_path):
    """An image with four masks that nobody has named."""
    Image.fromarray(helpers.picture(40, 40)).save(tmp_path / "a.png")
    annotations = []
    for number, (top, left, bottom, right) in enumerate(SHAPES.values()):
        mask = np.zeros((40, 40), bool)
        mask[top:bottom, left:right] = True
        annotations.append({
            "id": number + 1, "image_id": 1, "category_id": 1, "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum()), "iscrowd": 0, "segmentation": encode(mask),
        })  # fmt: skip
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}], "annotations": annotations,
               "categories": [{"id": 1, "name": "thing"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path / "a.json"


def test_from_masks_to_records(tmp_path):
    """Unnamed masks get labels, windows of one building become one, root and subtree are described."""
    recipe = {"name": "own", "tables": "jsonl", "stages": [
        {"stage": "mgsc_label", "labeller": "mglmm_labeller:labeller_by_size", "options": {"marker": 1}},
        {"stage": "mask_tree"}, {"stage": "describe", "by": "name"},
    ]}  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    from partglee.annotate import Job, open_source, read_recipe, run_local

    job = Job(folder=tmp_path / "job", recipe=read_recipe(file))
    source = open_source(str(coco(tmp_path)), masks=True)
    job.recipe.check(source.columns)
    job.prepare(source.items)
    assert run_local(job).failed == 0
    target = tmp_path / "a.uscdf.jsonl"
    assert main(["annotate", "uscdf", str(tmp_path / "job"), str(target)]) == 0
    root, subtree = read_uscdf(target)
    assert root.task == "mgsc_root" and subtree.task == "mgsc_subtree" and subtree.turns[0].about == "building"
    assert root.turns[1].marked == "The image shows <p> building </p> [SEG] and <p> car </p> [SEG]."
    assert subtree.turns[1].marked == "The building has <p> window </p> [SEG]."
    assert true_masks(subtree)[0].sum() == 32 and (true_masks(root)[0] == BUILDING).all()
    done = export_uscdf(tmp_path / "job", target)
    assert (done.records, done.images) == (2, 1) and not done.left_out


def test_what_cannot_be_written(tmp_path, capsys, monkeypatch):
    """Images without a description, or with one that does not fit, are left out and counted; none left is an error."""
    from mglmm.mgsc import export

    mask = encode(BUILDING)
    good = Description(node=-1, text="The image shows <p> building </p> [SEG].", regions=(0,))
    found = [
        Sample(image_id="a", file="a.png", size=(40, 40), regions=[Region(name="building", mask=mask)],
               descriptions=[description] if description else [])
        for description in (good, None, Description(node=-1, text="The image shows it.", regions=(0,)),
                            Description(node=-1, text="A <p> building </p> [SEG] and [SEG].", regions=(0, 0)))
    ]  # fmt: skip
    monkeypatch.setattr(export, "open_job", lambda folder: folder)
    monkeypatch.setattr(export, "samples", lambda job: iter(found))
    done = export_uscdf(tmp_path, tmp_path / "x.uscdf.jsonl")
    assert (done.records, done.images, sum(done.left_out.values())) == (1, 1, 3) and done.left_out[
        "no description"
    ] == 1
    monkeypatch.setattr(export, "samples", lambda job: iter(found[1:2]))
    assert main(["annotate", "uscdf", str(tmp_path), str(tmp_path / "y.uscdf.jsonl")]) == 2
    assert "1 images: no description" in capsys.readouterr().err and not (tmp_path / "y.uscdf.jsonl").exists()


def test_the_recipe_of_the_project():
    from mglmm.mgsc.label import PROMPT

    from partglee.annotate import read_recipe

    recipe = read_recipe(PROMPT.with_name("mgsc_label.yaml"))
    recipe.check(("region.name", "region.level", "region.box", "region.parent", "region.mask"))
    assert "{box}" in PROMPT.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [("a dog", "expected"), ('{"label": "dog"}', "expected"), ('{"label": "!", "caption": "x"}', "no words"),
     ('{"label": "a b c d e f g", "caption": "x"}', "no label of at most")],
)  # fmt: skip
def test_nonsense_is_asked_again(text, message):
    with pytest.raises(ValueError, match=message):
        read_label(text)
    answers = iter([text, 'Sure: {"label": "Dog.", "caption": "A  dog."} ok'])
    asked = []

    def answer(image, question):
        asked.append(question)
        return next(answers)

    assert asking_again(answer)(helpers.picture(), "What?", read_label) == Labelled("dog", "A dog.")
    assert asked[0] == "What?" and "could not be used" in asked[1]
    with pytest.raises(ValueError, match="in 3 tries"):
        asking_again(lambda image, question: text)(helpers.picture(), "What?", read_label)


def test_a_mask_is_highlighted():
    image, mask = np.full((10, 10, 3), 200, np.uint8), np.zeros((10, 10), bool)
    mask[2:7, 3:8] = True
    shown = highlighted(image, mask)
    assert (shown[4, 5] == 200).all() and (shown[0, 0] == 70).all() and (shown[2, 3] == (255, 60, 60)).all()


# -- weights of other projects -----------------------------------------------------------------------------------------


def theirs(model):
    """Our weights under the names of GLaMM and Segment Anything."""
    back = [
        (r"^lmm\.model\.language_model\.", "model."), (r"^lmm\.lm_head", "lm_head"),
        (r"^lmm\.model\.multi_modal_projector\.linear_1", "model.mm_projector.0"),
        (r"^lmm\.model\.multi_modal_projector\.linear_2", "model.mm_projector.2"),
        (r"^prompt\.layers\.", "model.text_hidden_fcs.0."),
        (r"^masks\.sam\.mask_decoder\.", "model.grounding_encoder.mask_decoder."),
        (r"\.(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.0\.", r".\1.layers.1."),
        (r"\.proj_in\.", ".layers.0."), (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."), (r"\.upscale_conv2\.", ".output_upscaling.3."),
        (r"transformer\.layer_norm_final_attn", "transformer.norm_final_attn"),
        (r"(mask_decoder\.transformer\.layers\.\d)\.layer_norm(\d)", r"\1.norm\2"),
        (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.proj_out\.", r"\1.layers.2."),
    ]  # fmt: skip
    found = {}
    for name, value in model.named_parameters():
        if "vision_tower" in name or (name.startswith("masks.") and ".mask_decoder." not in name):
            continue
        for ours, other in back:
            name = re.sub(ours, other, name)
        found[f"base_model.model.{name}"] = value.detach().clone()
    found["base_model.model.model.vision_tower.x"] = torch.zeros(1)
    return found


def test_weights_of_glamm_and_back():
    first, _ = helpers.whole(seed=3)
    state = theirs(first)
    assert "base_model.model.model.grounding_encoder.mask_decoder.output_upscaling.3.weight" in state
    converted = convert_state(state)
    assert converted.left_out == ("base_model.model.model.vision_tower.x",) and "UNVERIFIED" in str(converted)
    second, _ = helpers.whole(seed=4)
    stayed = load_converted(second, converted)
    assert all("vision_tower" in name or name.startswith("masks.sam.") for name in stayed)
    own = dict(second.named_parameters())
    for name, value in first.named_parameters():
        if name not in stayed:
            assert torch.equal(own[name], value), name
    short = convert_state({**state, "lm_head.weight": state["base_model.model.lm_head.weight"][:50]})
    load_converted(second, short)
    with pytest.raises(ValueError, match="is of an adapter"):
        convert_state({"model.layers.0.q.lora_A.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="is this a state dict of GLaMM"):
        convert_state({"x": torch.zeros(1)})
    wrong = {**state, "base_model.model.model.norm.weight": torch.zeros(5)}
    with pytest.raises(ValueError, match="is \\(32,\\) here and \\(5,\\)"):
        load_converted(second, convert_state(wrong))
