"""Parse a few real photos end to end and say where the pictures are.

Without `--weights` the model is filled with weights that follow from their names alone: everything runs, nothing
that it finds means anything, and every picture says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from partglee import Predictor
from partglee.config import load_config
from partglee.modeling import build_model
from partglee.testing import fill_weights

PHOTOS = {  # photos that travel with scikit-image (CC0 or public domain), and what to look for
    "chelsea": "cat: head, ear, eye, nose, torso",
    "astronaut": "person: head, arm, hand, torso; flag",
    "coffee": "cup: handle, rim; spoon: handle, bowl; plate",
}


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a .safetensors file; default: filled weights")
    parser.add_argument("--output", default="demo_output")
    arguments = parser.parse_args()
    if arguments.weights:
        predictor, caption, options = Predictor.from_pretrained(arguments.weights), None, {}
    else:
        cfg = load_config("joint_r50")
        model = fill_weights(build_model(cfg))
        predictor = Predictor(model=model, short_side=480, max_side=800)
        caption = "filled weights, not trained: what is drawn here means nothing"
        options = {"score_threshold": 0.0, "max_objects": 2, "max_parts_per_object": 3}
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    import skimage.data

    for name, vocabulary in PHOTOS.items():
        prediction = predictor(getattr(skimage.data, name)(), vocabulary, **options)
        file = output / f"{name}.jpg"
        prediction.draw(caption=caption).convert("RGB").save(file, quality=90)
        print(f"{file}: {prediction}")
    if caption:
        print(f"Note: {caption}.")
    print(f"Pictures are in {output.resolve()}")


if __name__ == "__main__":
    main()
