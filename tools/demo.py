"""Parse a few real photos end to end, say what was found of what ought to be, and where the pictures are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from torchvision.ops import box_iou

from partglee import Prediction, Predictor
from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import write_jpeg
from partglee.data import get_dataset
from partglee.structures import Vocabulary

EXPECTED = Path(__file__).with_name("demo_photos.yaml")
PHOTOS = Path(__file__).resolve().parents[1] / "docs" / "photos"
# Photos that travel with the library, and what is asked of them.
BUNDLED = {
    "officer.jpg": "person: hair, eye, ear, nose, mouth",
    "photographer.jpg": "person: hair, coat, trousers",
}
# Photos that training has not seen, of the data sets that the shipped weights are best at, and what is asked of them.
BEST = {
    "car_parts_val": "car: wheel, door, mirror, headlight, taillight, bumper, hood, windshield, trunk, window",
    "clothing_val": "partglee_tiny",
}
SHOWS = {"car_parts_val": "cars with their parts", "clothing_val": "people in what they wear"}
OF_EACH = 2
OWN_PHOTO = """Your own photo, with all names that these weights know, or with those that you are after:
    .venv/bin/partglee predict PHOTO.jpg
    .venv/bin/partglee predict PHOTO.jpg --vocabulary "person: hair, jacket, shoe; car: wheel, door\""""
LEAST_OVERLAP = 0.5  # intersection over union with the box that was written down


def main() -> None:
    """Run the demo."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="partglee-tiny", help="a .safetensors file, or the name of weights")
    parser.add_argument("--output", default="demo_output")
    parser.add_argument("--threshold", type=float, help="lowest score that is drawn; default: the model's")
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="your own, instead of those of the demo")
    parser.add_argument("--vocabulary", help="for your own photos; default: partglee_tiny")
    arguments = parser.parse_args()
    predictor = Predictor.from_pretrained(arguments.weights)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    whole, asked = [], 0
    for name, photo, vocabulary, expected in photos(arguments):
        prediction = predictor(photo, vocabulary, score_threshold=arguments.threshold)
        file = output / f"{name.replace(' ', '_')}.jpg"
        write_jpeg(prediction.draw(panel=True, scale=None), file)
        print(f"{file}: {prediction}\n{prediction.tree()}")
        if expected:
            missing = [line[0] for line in expected if not is_found(prediction, *line)]
            asked += 1
            whole += [] if missing else [name]
            print(f"  found {len(expected) - len(missing)} of the {len(expected)} that were written down"
                  + (f"; missing: {', '.join(missing)}" if missing else ""))  # fmt: skip
    if asked:
        print(f"All that was written down was found on {len(whole)} of {asked} photos: {', '.join(whole) or 'none'}")
    print(f"Pictures are in {output.resolve()}")
    if not arguments.photos:
        print(OWN_PHOTO)


def photos(arguments: argparse.Namespace) -> Iterator[tuple[str, Any, Vocabulary, list[Any]]]:
    """(name, image, vocabulary, what ought to be found) of each photo."""
    if arguments.photos:
        chosen = Vocabulary.parse(arguments.vocabulary or "partglee_tiny")
        for path in arguments.photos:
            yield Path(path).stem, path, chosen, []
        return
    for name, entry in yaml.safe_load(EXPECTED.read_text()).items():
        image = find(entry)
        if image is None:
            print(f"{name}: {entry['coco']} of COCO val2017 is not under $PARTGLEE_DATASETS/coco; left out")
        else:
            yield name, image, Vocabulary(entry["vocabulary"]), entry["expected"]
    for file_name, vocabulary in BUNDLED.items():
        yield Path(file_name).stem, PHOTOS / file_name, Vocabulary.parse(vocabulary), []
    for name, vocabulary in BEST.items():
        for file in photos_of(name):
            yield f"{name}_{file.stem}", file, Vocabulary.parse(vocabulary), []


def photos_of(dataset: str) -> list[Path]:
    """The first photos of a data set; none where it has not been prepared."""
    try:
        records = get_dataset(dataset).read()
    except (OSError, ValueError):
        print(
            f"{dataset} is not under $PARTGLEE_DATASETS (datasets/README.md says how to get it); left out, and with it "
            f"the photos of {SHOWS.get(dataset, dataset)}, which are not ours to copy"
        )
        return []
    return [Path(records[row].file) for row in range(min(OF_EACH, len(records)))]


def find(entry: dict[str, Any]) -> Any:
    """A photo that travels with scikit-image, or one of COCO where it lies on this disk; None where it does not."""
    if "skimage" in entry:
        import skimage.data

        return getattr(skimage.data, entry["skimage"])()
    root = Path(os.environ.get("PARTGLEE_DATASETS", "datasets")) / "coco"
    return next(
        (folder / entry["coco"] for folder in sorted(root.glob("*")) if (folder / entry["coco"]).is_file()), None
    )


def is_found(prediction: Prediction, name: str, *share: float) -> bool:
    """Whether a row of this name ("person", "person: hair") lies where it was written down, as shares of the image."""
    height, width = prediction.image_size
    scale = prediction.boxes.new_tensor([width, height, width, height])
    box = prediction.boxes.new_tensor(share)[None] * scale
    for row in range(len(prediction)):
        parent = int(prediction.parent[row])
        full = prediction.names[row] if parent < 0 else f"{prediction.names[parent]}: {prediction.names[row]}"
        if full == name and float(box_iou(prediction.boxes[row][None], box)) >= LEAST_OVERLAP:
            return True
    return False


if __name__ == "__main__":
    main()
