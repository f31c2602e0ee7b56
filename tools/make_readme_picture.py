"""Draw the README's picture: what `partglee-tiny` finds in a photo that travels with the library.

python tools/make_readme_picture.py [docs/images/parsed_person.jpg]
"""

from __future__ import annotations

from pathlib import Path

from partglee import Predictor
from partglee.basics.arguments import ArgumentParser

PHOTO = Path(__file__).resolve().parents[1] / "docs" / "photos" / "officer.jpg"
VOCABULARY = "person: hair, eye, ear, nose, mouth, neck"


def main() -> None:
    """Predict, draw, and say what was found."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=Path("docs/images/parsed_person.jpg"))
    parser.add_argument("--weights", default="partglee-tiny")
    arguments = parser.parse_args()
    found = Predictor.from_pretrained(arguments.weights)(PHOTO, VOCABULARY)
    picture = found.save(arguments.output, panel=True)
    print(f"{picture}, {picture.stat().st_size / 1000:.0f} kB\n{found.tree()}")


if __name__ == "__main__":
    main()
