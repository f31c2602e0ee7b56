"""The toy data set: endless scenes of simple objects with parts, for tests and for learning in minutes.

Names are those of the CLIP name tables, so that a model with a table serves them. `partglee data toy` writes the files
of the registered data sets `toy_train` and `toy_val`; `register_toy` makes others, also endless ones without files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.files import write_jpeg, write_json
from partglee.data import DatasetSpec, ImageRecord, Instance, register
from partglee.data.annotations.coco_json import read_coco
from partglee.structures import Vocabulary
from partglee.testing.toy_figures import PARTS
from partglee.testing.toy_scene import toy_categories, toy_scene

TOY_VOCABULARY = Vocabulary(PARTS)
Scene = Callable[..., tuple[NDArray[np.uint8], dict[str, Any]]]
TRAIN_SEED, VAL_SEED = 0, 1  # scenes of different seeds have nothing in common


class ToyRecords:
    """Scenes as a data set that is read; each is drawn when it is asked for.

    Args:
        num_images: length; scenes cost nothing until they are asked for, so a million is as cheap as one.
        seed: scene `i` is `toy_scene((seed, i), size)`.
        size: height and width in pixels.
        kinds: object names to choose from; None = all.
        scene: draws them, with the arguments of `toy_scene`.
    """

    vocabulary = TOY_VOCABULARY

    def __init__(
        self,
        *,
        num_images: int = 1_000_000,
        seed: int = TRAIN_SEED,
        size: tuple[int, int] = (128, 128),
        kinds: Sequence[str] | None = None,
        scene: Scene = toy_scene,
    ) -> None:
        self.num_images = num_images
        self.seed = seed
        self._size = size
        self._kinds, self._draw = kinds, scene
        self._scene = lru_cache(maxsize=1)(self._drawn)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> ImageRecord:
        if not 0 <= index < self.num_images:
            raise IndexError(f"scene {index} of {self.num_images}")
        image, content = self._scene(index)
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        objects: list[Instance] = []
        parts: list[Instance] = []
        row_of: dict[int, int] = {}
        for entry in content["annotations"]:
            kind, _, part = names[entry["category_id"]].partition(":")
            if part:
                label = self.vocabulary.part_columns(kind)[self.vocabulary.parts_of(kind).index(part)]
                parts.append(_instance(entry, label, row_of[entry["parent_id"]]))
            else:
                row_of[entry["id"]] = len(objects)
                objects.append(_instance(entry, self.vocabulary.object_row(kind), -1))
        height, width = self._size
        return ImageRecord(
            file=Path(f"toy_{self.seed}_{index}"), height=height, width=width, image_id=index + 1,
            objects=tuple(objects), parts=tuple(parts), pixels=image,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:  # the cache of the last scene does not travel to other processes
        return partial(
            ToyRecords, num_images=self.num_images, seed=self.seed, size=self._size, kinds=self._kinds, scene=self._draw
        ), ()  # fmt: skip

    def _drawn(self, index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return self._draw((self.seed, index), self._size, kinds=self._kinds)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), the same for all."""
        return self._size

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels of a scene; it is drawn for that."""
        record = self[index]
        return frozenset(o.label for o in record.objects), frozenset(p.label for p in record.parts)


def register_toy(
    name: str = "toy",
    *,
    num_images: int = 1_000_000,
    seed: int = TRAIN_SEED,
    size: tuple[int, int] = (128, 128),
    kinds: Sequence[str] | None = None,
    folder: str | Path | None = None,
) -> DatasetSpec:
    """Register toy scenes as a data set; a name that is taken is replaced.

    Args:
        folder: None: scenes are drawn when they are asked for, no file is written, and the data set is for training
            only. A folder: the scenes are written there first, and the data set can be evaluated too.
    """
    if folder is None:
        spec = DatasetSpec(
            name=name, annotations="", images="", reader=_read_endless, vocabulary=TOY_VOCABULARY,
            options={"num_images": num_images, "seed": seed, "size": size, "kinds": kinds},
        )  # fmt: skip
    else:
        file = write_toy_dataset(folder, num_images, seed, size, name=name, kinds=kinds)
        spec = DatasetSpec(
            name=name, annotations=str(file.resolve()), images=str(file.resolve().parent), reader=read_coco,
            evaluator="joint",
        )  # fmt: skip
    return register(spec, replace=True)


def _read_endless(spec: DatasetSpec) -> ToyRecords:
    return ToyRecords(**spec.options)


def write_toy_dataset(
    folder: str | Path,
    num_images: int,
    seed: int = TRAIN_SEED,
    size: tuple[int, int] = (128, 128),
    *,
    name: str = "annotations",
    kinds: Sequence[str] | None = None,
) -> Path:
    """Write scenes as JPEG files and hierarchical COCO JSON; the JSON comes last and appears whole.

    Returns:
        `folder/NAME.json`; images lie in `folder/NAME/`.

    Raises:
        ValueError: for no images, or what `toy_scene` refuses.
    """
    if num_images < 1:
        raise ValueError(f"a toy data set needs one image or more, got {num_images}")
    root = Path(folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        pixels, content = toy_scene((seed, index), size, kinds=kinds)
        file_name = f"{name}/{index:06d}.jpg"
        write_jpeg(Image.fromarray(pixels), root / file_name, quality=95)
        images.append({**content["images"][0], "id": index + 1, "file_name": file_name})
        first = len(annotations)
        for entry in content["annotations"]:
            link = {"parent_id": entry["parent_id"] + first} if "parent_id" in entry else {}
            annotations.append({**entry, "id": entry["id"] + first, "image_id": index + 1, **link})
    content = {
        "info": {"description": f"toy scenes, seed {seed}"},
        "images": images, "categories": toy_categories(), "annotations": annotations,
    }  # fmt: skip
    path = root / f"{name}.json"
    write_json(content, path)
    return path


def _instance(entry: dict[str, Any], label: int, parent: int) -> Instance:
    x, y, w, h = entry["bbox"]
    return Instance(
        label=label, box=(x, y, x + w, y + h), segmentation=entry["segmentation"], parent=parent,
        annotation_id=entry["id"],
    )  # fmt: skip
