"""Parse a few real photos end to end and say where the pictures are."""

from __future__ import annotations

import argparse
from pathlib import Path

from partglee import Predictor
from partglee.basics.files import write_jpeg
from partglee.structures import Vocabulary

PHOTOS = {  # photos that travel with scikit-image (CC0 or public domain), and what to look for
    "chelsea": "cat: head, ear, eye, nose, torso, neck",
    "astronaut": "person: head, hair, eye, nose, mouth, neck, torso, arm, hand",
    "camera": "person: head, hair, torso, arm, hand, leg",
}


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="partglee-tiny", help="a .safetensors file, or the name of weights")
    parser.add_argument("--output", default="demo_output")
    parser.add_argument("--threshold", type=float, default=0.25, help="lowest score that is drawn")
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="your own, instead of those of scikit-image")
    parser.add_argument("--vocabulary", help="for your own photos; default: partglee_tiny")
    arguments = parser.parse_args()
    predictor = Predictor.from_pretrained(arguments.weights)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, photo, vocabulary in photos(arguments):
        prediction = predictor(photo, vocabulary, score_threshold=arguments.threshold)
        file = output / f"{name}.jpg"
        write_jpeg(prediction.draw(panel=True), file)
        print(f"{file}: {prediction}\n{prediction.tree()}")
    print(f"Pictures are in {output.resolve()}")


def photos(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    """(name, image, vocabulary) of each photo."""
    if arguments.photos:
        chosen = Vocabulary.parse(arguments.vocabulary or "partglee_tiny")
        for path in arguments.photos:
            yield Path(path).stem, path, chosen
        return
    import skimage.data

    for name, vocabulary in PHOTOS.items():
        yield name, getattr(skimage.data, name)(), Vocabulary.parse(vocabulary)


if __name__ == "__main__":
    main()
