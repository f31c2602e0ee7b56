"""Portraits with index maps: the person and its head, and small faces side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from partglee.data.prepare.faces import LABELS, face_objects, main, read_faces, small_faces
from partglee.data.prepare.mapping import load_mapping
from partglee.data.prepare.regions import Region

MAPPING = load_mapping("faces")


def face_map(size: int = 64) -> np.ndarray:
    """A square face with hair above, two eyes, two lips with a gap between, a neck and a shirt."""
    grid = np.zeros((size, size), np.uint8)

    def fill(name: str, y0: int, y1: int, x0: int, x1: int) -> None:
        grid[y0:y1, x0:x1] = LABELS.index(name) + 1

    fill("cloth", 54, 64, 8, 56)
    fill("neck", 44, 54, 24, 40)
    fill("hair", 4, 12, 14, 50)
    fill("skin", 12, 44, 16, 48)
    fill("l_eye", 18, 22, 20, 26)
    fill("r_eye", 18, 22, 38, 44)
    fill("nose", 22, 30, 29, 35)
    fill("u_lip", 32, 34, 26, 38)
    fill("mouth", 34, 36, 26, 38)
    fill("l_lip", 36, 38, 26, 38)
    return grid


def raw_folder(root: Path, count: int) -> Path:
    for number in range(count):
        for folder, image in (
            ("images", Image.fromarray(np.full((64, 64, 3), 5 * number, np.uint8))),
            ("masks", Image.fromarray(face_map())),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / f"{number:02d}.{'jpg' if folder == 'images' else 'png'}")
    return root


def pixels(region: Region) -> np.ndarray:
    return rle.decode(region.segmentation).astype(bool)


def test_the_person_and_the_head_share_their_parts() -> None:
    grid = face_map()
    person, head = face_objects(grid.astype(np.int64), MAPPING)
    assert (pixels(person) == (grid > 0)).all()
    below = [LABELS.index(name) + 1 for name in ("neck", "cloth")]
    assert (pixels(head) == ((grid > 0) & ~np.isin(grid, below))).all()
    of_person = [part.name for part in person.parts]
    assert of_person.count("person:eye") == 2 and of_person.count("person:lip") == 2
    assert "person:head" in of_person and "person:neck" in of_person
    of_head = [part.name for part in head.parts]
    assert of_head.count("head:eye") == 2 and "head:neck" not in of_head and "head:head" not in of_head
    eyes = [pixels(part) for part in person.parts if part.name == "person:eye"]
    assert all(
        (a == b).all() for a, b in zip(eyes, (pixels(p) for p in head.parts if p.name == "head:eye"), strict=True)
    )
    assert not (eyes[0] & eyes[1]).any()


def test_the_mouth_is_between_the_lips_and_has_them() -> None:
    grid = face_map().astype(np.int64)
    person, _ = face_objects(grid, MAPPING)
    (mouth,) = (part for part in person.parts if part.name == "person:mouth")
    assert mouth.box == (26, 32, 12, 6)


def test_a_map_without_a_face_is_left_out(tmp_path: Path) -> None:
    root = raw_folder(tmp_path, 2)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(root / "masks" / "00.png")
    assert [image.file_name for image in read_faces(root, MAPPING)] == ["images/01.jpg"]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    root = raw_folder(tmp_path, 1)
    Image.fromarray(np.full((64, 64), 19, np.uint8)).save(root / "masks" / "00.png")
    with pytest.raises(ValueError, match=r"00.png has labels \[19\]"):
        list(read_faces(root, MAPPING))
    (root / "images" / "00.jpg").unlink()
    with pytest.raises(ValueError, match=r"no photo .*00.jpg"):
        list(read_faces(root, MAPPING))


def test_small_faces_are_the_portraits_at_their_places(tmp_path: Path) -> None:
    root = raw_folder(tmp_path, 50)
    images = list(read_faces(root, MAPPING))
    first, second = small_faces(images, root, "small")
    assert (len(first.objects), len(second.objects)) == (72, 28)  # 36 persons with heads at 48 px, 14 of 25 at 64
    for image, face in ((first, 48), (second, 64)):
        shown = np.asarray(Image.open(root / image.file_name)).astype(int)
        assert shown.shape == (320, 320, 3)
        for person in image.objects[::2]:
            assert person.box[2:] == pytest.approx((face * 48 / 64, face * 60 / 64), abs=1)
            inside = shown[pixels(person)]
            assert inside.std() < 3, "each person lies on its own portrait, which has one grey"
        eyes = [part for part in image.objects[0].parts if part.name == "person:eye"]
        assert len(eyes) == 2 and eyes[0].area == pytest.approx(24 * (face / 64) ** 2, rel=0.4)
    greys = {round(float(np.asarray(Image.open(root / image.file_name))[:48].mean())) for image in (first, second)}
    assert len(greys) == 2


def test_the_last_two_tenths_are_shown_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = raw_folder(tmp_path, 20)
    assert main([str(root), "--output", str(root)]) == 0
    assert "small_test" in capsys.readouterr().out
    counts = {
        name: json.loads((root / f"{name}.json").read_text()) for name in ("train", "val", "small_test", "small_val")
    }
    assert [len(content["images"]) for content in counts.values()] == [18, 2, 1, 1]
    persons = [a for a in counts["small_val"]["annotations"] if a["category_id"] == 1]
    assert len(persons) == 2


def test_real_faces(shared: Path) -> None:
    folder = shared / "data" / "celebamask_1000"
    first = next(read_faces(folder, MAPPING))
    names = {part.name for part in first.objects[0].parts}
    assert {"person:head", "person:eye", "person:nose", "person:mouth", "person:hair"} <= names
