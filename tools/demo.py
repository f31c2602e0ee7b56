"""Parse a few real photos end to end and say where the pictures are.

Without `--weights` the model has the random weights that it starts training from: everything runs, nothing that it
finds means anything, and every picture says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from partglee import Predictor
from partglee.config import load_config
from partglee.modeling import build_model
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Vocabulary

PHOTOS = {  # photos that travel with scikit-image (CC0 or public domain), and what to look for
    "chelsea": "cat: head, ear, eye, nose, torso",
    "astronaut": "person: head, arm, hand, torso; flag: stripe, star",
    "coffee": "cup: handle, rim; spoon: handle, bowl; plate: rim",
}


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a .safetensors file; default: untrained weights")
    parser.add_argument("--output", default="demo_output")
    arguments = parser.parse_args()
    if arguments.weights:
        predictor, caption = Predictor.from_pretrained(arguments.weights), None
        options = PostprocessOptions(score_threshold=predictor.score_threshold)
    else:
        cfg = load_config("joint_r50")
        torch.manual_seed(0)
        model = build_model(cfg)
        predictor = Predictor(model=model, short_side=480, max_side=800)
        caption = "untrained weights: what is drawn here means nothing"
        # Untrained scores say nothing: look only at the queries that are parsed, so that there are parts to draw.
        options = PostprocessOptions(score_threshold=0.0, max_objects=2, max_parts_per_object=3, max_queries=50)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    import skimage.data

    for name, vocabulary in PHOTOS.items():
        photo = getattr(skimage.data, name)()
        prediction = next(predictor.stream([photo], Vocabulary.parse(vocabulary), options))
        file = output / f"{name}.jpg"
        prediction.draw(caption=caption, panel=True).convert("RGB").save(file, quality=90)
        print(f"{file}: {prediction}")
    if caption:
        print(f"Note: {caption}.")
    print(f"Pictures are in {output.resolve()}")


if __name__ == "__main__":
    main()
