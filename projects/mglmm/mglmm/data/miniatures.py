"""Small copies of published data in their true raw forms: folders, file names and keys are the real ones, the pictures
are simple shapes. Those of the library (`partglee.testing.miniatures`) have the rest."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.annotate.masks import encode
from partglee.basics.files import whole_file, write_jpeg, write_json

SIZE = (48, 64)
_NAMES = ("red box", "green box", "blue box")
_COLORS = ((220, 40, 40), (40, 180, 60), (50, 80, 230))


def scene(number: int = 0) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """A picture with three rectangles, and their masks."""
    rng = np.random.default_rng(number)
    pixels = np.full((*SIZE, 3), 200, np.uint8)
    masks = []
    for place, color in enumerate(_COLORS):
        top, left = int(rng.integers(4, 20)), 2 + 21 * place
        mask = np.zeros(SIZE, bool)
        mask[top : top + 18, left : left + 16] = True
        pixels[mask] = color
        masks.append(mask)
    return pixels, masks


def write_grandf(root: Path) -> Path:
    """`GranDf_HA_GCG_train.json`, with a phrase that the caption says twice and one of two masks."""
    entries = []
    for number in range(2):
        masks = picture(root / "sa_images" / f"sa_{number}.jpg", number)
        caption = "A red box and a green box stand before a blue box."
        entries.append({
            "file_name": f"sa_{number}.jpg", "caption": caption,
            "groundings": {
                "A red box": {"token_positives": [0, 9], "rle_masks": [encode(masks[0])]},
                "a green box": {"token_positives": [14, 25], "rle_masks": [encode(masks[1]), encode(masks[2])]},
                "box": {"token_positives": [22, 25], "rle_masks": [encode(masks[1])]},
            },
        })  # fmt: skip
    return _json(entries, root / "GranDf_HA_GCG_train.json")


def write_refcocog_gcg(root: Path) -> Path:
    """`RefCOCOg_GCG_train.json`, masks as polygons."""
    masks = picture(root / "train2014" / "COCO_train2014_000000000009.jpg", 9)
    refs = [{"sentence": "red box", "segmentation": _polygon(masks[0])}]
    content = {"9": {"img_file_name": "COCO_train2014_000000000009.jpg", "caption": "The red box is on the left.",
                     "refs": refs}}  # fmt: skip
    return _json(content, root / "RefCOCOg_GCG_train.json")


def write_gcg_truth(root: Path) -> tuple[Path, Path]:
    """`val_gcg_coco_caption_gt.json` and `val_gcg_coco_mask_gt.json`."""
    masks = picture(root / "sa_images" / "sa_5.jpg", 5)
    caption = "A red box stands before a blue box"
    captions = {
        "images": [{"id": "sa_5"}],
        "annotations": [{"id": 0, "image_id": "sa_5", "caption": caption, "labels": ["a blue box", "A red box"]}],
    }
    shapes = {
        "images": [{"id": "sa_5", "height": SIZE[0], "width": SIZE[1]}], "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": row, "image_id": "sa_5", "category_id": 1, "iscrowd": 0, "segmentation": encode(masks[place])}
            for row, place in enumerate((2, 0))
        ],
    }  # fmt: skip
    return _json(captions, root / "val_gcg_coco_caption_gt.json"), _json(shapes, root / "val_gcg_coco_mask_gt.json")


def write_flickr_gcg(root: Path) -> Path:
    """`flickr_mergedGT_GCG_train.json`."""
    masks = picture(root / "flickr30k-images" / "36979.jpg", 3)
    caption = "A blue box beside a green box"
    annotations = [
        {"id": 0, "image_id": 7, "tokens_positive": [[0, 10]], "sam_mask": encode(masks[2])},
        {"id": 1, "image_id": 7, "tokens_positive": [[18, 29]], "sam_mask": encode(masks[1])},
    ]
    image = {"id": 7, "file_name": "36979.jpg", "height": SIZE[0], "width": SIZE[1], "caption": caption}
    return _json({"images": [image], "annotations": annotations, "categories": []},
                 root / "flickr_mergedGT_GCG_train.json")  # fmt: skip


def write_mgsc(root: Path) -> Path:
    """`annotations/sa_10.json` as MGLMM's loader expects it."""
    masks = picture(root / "images" / "sa_10.jpg", 10)
    keys = {f"k{row}": {"label": name, "mask": json.dumps(dict(encode(mask)))}
            for row, (name, mask) in enumerate(zip(_NAMES, masks, strict=True))}  # fmt: skip
    root_entry = {"file_name": "sa_10.jpg", "type": "root", "label": "root", "gcg_labels": ["k0", "k2"], **keys,
                  "gcg_caption": "There is <k0>a red box</k0>. On the right is <k2>a blue box</k2>."}  # fmt: skip
    subtree = {"file_name": "sa_10.jpg", "type": "subtree", "label": "subtree:red box", "gcg_labels": ["k1"],
               "gcg_caption": "It has <k1>a lid</k1>.", **keys}  # fmt: skip
    return _json([root_entry, subtree], root / "annotations" / "sa_10.json").parent


def write_reasonseg(root: Path) -> Path:
    """`ReasonSeg/train`: one question in UTF-8, one phrase in cp1252; a small target over a large one to ignore."""
    folder = root / "ReasonSeg" / "train"
    for number, sentence in enumerate((True, False)):
        picture(folder / f"{number}_a.jpg", number)
        shapes = [
            {"label": "target", "points": [[10, 10], [20, 10], [20, 20], [10, 20]]},
            {"label": "ignore", "points": [[5, 5], [40, 5], [40, 40], [5, 40]]},
            {"label": "flag", "points": [[0, 0], [1, 1], [0, 1]]},
        ]
        text = ["What could hold a gift – and is red?"] if sentence else ["the caf\u00e9 box", "the box"]
        content = json.dumps({"text": text, "is_sentence": sentence, "shapes": shapes}, ensure_ascii=False)
        with whole_file(folder / f"{number}_a.json") as beside:
            beside.write_bytes(content.encode("utf-8" if sentence else "cp1252"))
    told = [{"image": "0_a.jpg", "query": "What could hold a gift – and is red?", "outputs": "Boxes hold gifts."}]
    _json(told, root / "ReasonSeg" / "explanatory" / "train.json")
    return folder


def write_muse(root: Path) -> Path:
    """`MUSE_train.json`."""
    masks = picture(root / "train2017" / "000000000009.jpg", 9)
    answers = [
        {"category_name": "box", "rephrased_name": "red box", "segmentation": encode(masks[0])},
        {"category_name": "crate", "rephrased_name": "", "segmentation": encode(masks[1])},
    ]
    entry = {
        "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg", "height": SIZE[0], "width": SIZE[1],
        "ann_list": [1, 2], "questions": ["What can be filled?"], "answers": [answers],
        "text_answers": ["You can fill the red box {seg} or use {seg}."],
    }  # fmt: skip
    return _json([entry], root / "MUSE_train.json")


def write_captions(root: Path) -> None:
    """COCO's captions (NoCaps has the same form), Flickr30k's, LLaVA's conversations, one picture each."""
    picture(root / "coco" / "train2017" / "000000000009.jpg", 9)
    image = {"id": 9, "file_name": "000000000009.jpg", "height": SIZE[0], "width": SIZE[1]}
    captions = [
        {"id": n, "image_id": 9, "caption": text} for n, text in enumerate(["Three boxes.", " Boxes in  a row"])
    ]
    _json({"images": [image], "annotations": captions}, root / "coco" / "annotations" / "captions_train2017.json")
    picture(root / "flickr30k" / "flickr30k-images" / "1000.jpg", 1)
    with whole_file(root / "flickr30k" / "results_20130124.token") as beside:
        beside.write_text("1000.jpg#0\tThree boxes .\n1000.jpg#1\tA red box .\n", encoding="utf-8")
    turns = [{"from": "human", "value": "What is there?\n<image>"}, {"from": "gpt", "value": "Three boxes."},
             {"from": "human", "value": "Of which colors?"}, {"from": "gpt", "value": "Red, green, blue."}]  # fmt: skip
    _json([{"id": "000000000009", "image": "000000000009.jpg", "conversations": turns}],
          root / "llava_instruct_150k.json")  # fmt: skip


def write_label_maps(root: Path) -> None:
    """ADE20K, COCO-Stuff and Mapillary Vistas: one picture each, as they number their labels."""
    for images, maps, shift in (
        ("ADEChallengeData2016/images/training", "ADEChallengeData2016/annotations/training", 1),
        ("coco/train2017", "coco/stuffthingmaps/train2017", 0),
        ("vistas/training/images", "vistas/training/v1.2/labels", 0),
    ):
        masks = picture(root / images / "000000000009.jpg", 9)
        labels = np.full(SIZE, 0 if shift else 255, np.uint8)
        for row, mask in enumerate(masks[:2]):
            labels[mask] = row + shift
        with whole_file(root / maps / "000000000009.png") as beside:
            Image.fromarray(labels).save(beside)
    with whole_file(root / "ADEChallengeData2016" / "objectInfo150.txt") as beside:
        rows = ["Idx\tRatio\tTrain\tVal\tName", "1\t0.1\t1\t1\tred box, crate", "2\t0.1\t1\t1\tgreen box",
                "3\t0.1\t1\t1\tsky"]  # fmt: skip
        beside.write_text("\n".join(rows), encoding="utf-8")
    with whole_file(root / "coco" / "stuffthingmaps" / "labels.txt") as beside:
        beside.write_text("0: unlabeled\n1: red box\n2: wall-stuff\n3: tree-other\n", encoding="utf-8")
    names = [{"name": "object--box", "readable": "Box", "evaluate": True},
             {"name": "void--car", "readable": "Ego Car", "evaluate": False},
             {"name": "nature--sky", "readable": "Sky", "evaluate": True}]  # fmt: skip
    _json({"labels": names}, root / "vistas" / "config_v1.2.json")


def write_refclef(root: Path) -> Path:
    """`refer/refclef`: `refs(unc).p` and `instances.json`, whose masks are lists of run lengths."""
    folder = root / "refer" / "refclef"
    masks = picture(root / "saiapr_tc-12" / "112.jpg", 4)
    annotations = [
        {"id": 10 + row, "image_id": 112, "category_id": 1, "bbox": [0, 0, 5, 5], "area": int(mask.sum()), "iscrowd": 0,
         "segmentation": {"size": list(SIZE), "counts": _counts(mask)}}
        for row, mask in enumerate(masks)
    ]  # fmt: skip
    refs = [
        {"ref_id": row, "ann_id": 10 + row, "category_id": 1, "image_id": 112, "file_name": "112.jpg", "split": "train",
         "sent_ids": [row], "sentences": [{"sent_id": row, "raw": text, "sent": text, "tokens": text.split()}]}
        for row, text in enumerate(("red box", "box in the middle"))
    ]  # fmt: skip
    image = {"id": 112, "file_name": "112.jpg", "height": SIZE[0], "width": SIZE[1]}
    _json({"images": [image], "annotations": annotations, "categories": []}, folder / "instances.json")
    with whole_file(folder / "refs(unc).p") as beside:
        beside.write_bytes(pickle.dumps(refs, protocol=2))
    return folder


def picture(file: Path, number: int) -> list[NDArray[np.bool_]]:
    """Write the picture of a scene; its masks."""
    pixels, masks = scene(number)
    write_jpeg(Image.fromarray(pixels), file, quality=95)
    return masks


def _json(content: Any, file: Path) -> Path:
    write_json(content, file)
    return file


def _polygon(mask: NDArray[np.bool_]) -> list[list[int]]:
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = (int(v) for v in (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    return [[left, top, right, top, right, bottom, left, bottom]]


def _counts(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths column by column, the first of what is not in the mask."""
    flat = mask.ravel(order="F")
    borders = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *borders, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs
