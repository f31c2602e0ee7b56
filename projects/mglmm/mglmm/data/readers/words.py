"""Texts without masks: captions (COCO, NoCaps, Flickr30k), visual question answering, captions of regions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mglmm.data import values
from mglmm.data.make import Scene
from mglmm.data.readers.common import entries_of, image_size_of, naming, objects_of
from mglmm.data.record import Record, Said
from partglee.annotate.stages.caption import location
from partglee.basics.files import read_text
from partglee.data.images import image_size
from partglee.data.records import Records


def read_coco_captions(file: str | Path) -> list[Record]:
    """`captions_train2017.json`, `nocaps_val_4500_captions.json`: images and captions of COCO's form. One record for
    each caption; those of an image share the first part of their name."""
    content = entries_of(file, dict)
    images = {}
    for number, entry in enumerate(objects_of(content, "images", file)):
        with naming(file, number, entry.get("file_name")):
            images[entry["id"]] = entry
    records = []
    for entry in objects_of(content, "annotations", file):
        with naming(file, entry.get("id"), entry.get("image_id")):
            if entry["image_id"] not in images:
                raise ValueError("there is no such image in the file")
            image = images[entry["image_id"]]
            name = f"{Path(file).stem}/{image['id']}/{entry['id']}"
            records.append(_caption(name, image["file_name"], image_size_of(image), entry["caption"]))
    return records


def read_flickr30k(file: str | Path, images: str | Path) -> list[Record]:
    """`results_20130124.token`: lines of NAME.jpg#NUMBER, a tab, a caption. Sizes are read from the images."""
    records = []
    sizes: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(read_text(file, "caption file").splitlines(), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        image, sharp, place = key.partition("#")
        with naming(file, number, image):
            if not tab or not sharp:
                raise ValueError("a line is NAME.jpg#NUMBER, a tab, and a caption")
            if image not in sizes:
                sizes[image] = image_size(Path(images) / image)
            records.append(_caption(f"{Path(image).stem}/{place}", image, sizes[image], caption))
    return records


def read_llava(file: str | Path, images: str | Path) -> list[Record]:
    """`llava_instruct_150k.json`: a list of {id, image, conversations [{from: human or gpt, value}]}."""
    records = []
    roles = {"human": "user", "gpt": "assistant"}
    for number, entry in enumerate(entries_of(file, list)):
        with naming(file, number, entry.get("image")):
            turns = tuple(
                Said(roles[turn["from"]], " ".join(values.text(turn["value"], "value").replace("<image>", " ").split()))
                for turn in entry["conversations"]
            )
            size = image_size(Path(images) / entry["image"])
            records.append(
                Record(name=f"{entry['id']}/{number}", image=entry["image"], size=size, task="vqa", turns=turns).check()
            )
    return records


def read_visual_genome(regions: str | Path, images: str | Path) -> list[Record]:
    """`region_descriptions.json` and `image_data.json` of Visual Genome: a caption for each box of an image. The
    published boxes reach beyond images here and there: they are cut, and those without area inside are left out."""
    known = {}
    for number, entry in enumerate(entries_of(images, list)):
        with naming(images, number, entry.get("url")):
            known[entry["image_id"]] = entry
    records = []
    for number, entry in enumerate(entries_of(regions, list)):
        with naming(regions, number, entry.get("id")):
            of_image = objects_of(entry, "regions", regions)
        for region in of_image:
            with naming(regions, number, region.get("image_id", entry.get("id"))):
                number_of_image = region["image_id"] if "image_id" in region else entry["id"]
                if number_of_image not in known:
                    raise ValueError(f"there is no such image in '{images}'")
                image = known[number_of_image]
                folder, name = str(image["url"]).split("/")[-2:]
                size = image_size_of(image)
                x, y, width, height = (values.number(region[key], key) for key in ("x", "y", "width", "height"))
                box = (max(x, 0.0), max(y, 0.0), min(x + width, size[1]), min(y + height, size[0]))
                if box[0] < box[2] and box[1] < box[3]:
                    scene = Scene(f"{image['image_id']}/{region['region_id']}", f"{folder}/{name}", size)
                    records.append(region_caption(scene, box, values.text(region["phrase"], "phrase")))
    return records


def region_records(records: Records, name: str) -> list[Record]:
    """Objects and parts of a data set of the library (PACO, PartImageNet, PASCAL-Part) as captions of boxes: "car", and
    "wheel of car"."""
    names = records.vocabulary
    found = []
    for row in range(len(records)):
        known = records[row]
        scene = Scene.of(known)
        said = [(one, names.object_names[one.label]) for one in known.objects if not one.crowd]
        for one in known.parts:
            if 0 <= one.parent < len(known.objects):
                owner = names.object_names[known.objects[one.parent].label]
                said.append((one, f"{names.part_names[one.label]} of {owner}"))
        for place, (one, text) in enumerate(said):
            own = Scene(f"{name}/{scene.name}/{place}", scene.image, scene.size, scene.pixels)
            found.append(region_caption(own, one.box, text))
    return found


def image_caption_as_region(record: Record) -> Record:
    """A caption of a whole image as that of the box that is all of it (the captioner of MRES learns three levels)."""
    height, width = record.size
    scene = Scene(f"{record.name}/region", record.image, record.size, record.pixels)
    return region_caption(scene, (0.0, 0.0, float(width), float(height)), record.turns[1].text)


def region_caption(scene: Scene, box: tuple[float, float, float, float], text: str) -> Record:
    """A question about a box, as two corners in thousandths of the image's sides, and its caption."""
    turns = (Said("user", wording="region_caption", about=location(box, scene.size)), Said("assistant", text.strip()))
    return scene.record("region_caption", turns, ()).check()


def _caption(name: str, image: str, size: tuple[int, int], caption: str) -> Record:
    turns = (Said("user", wording="caption"), Said("assistant", " ".join(values.text(caption, "caption").split())))
    return Record(name=name, image=image, size=size, task="caption", turns=turns).check()


def captions_by_image(records: list[Record]) -> Mapping[str, list[str]]:
    """Image -> its captions, for evaluation."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(record.image, []).append(record.turns[1].text)
    return found
