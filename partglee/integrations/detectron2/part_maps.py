"""What OV-PARTS asks of a model: `{"sem_seg": (K, H, W)}` for the known object of an input, K part classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.data.segmentation import read_label_map
from partglee.engine.inference import decode_images, encode_images
from partglee.integrations.detectron2.batches import original_size, rgb
from partglee.integrations.detectron2.config import keys_of, model_config
from partglee.integrations.detectron2.meta_arch import PartGLEE
from partglee.modeling import Frame, part_map
from partglee.structures import Level


class PartGLEEPartMaps(PartGLEE):
    """Oracle-Obj: each input has `instances` whose `gt_classes[0]` is the known object, a place in `object_names`.

    Answers are one-hot: 1 for the part that a pixel belongs to, so that any argmax gives the label map that
    `partglee train --eval-only` writes.

    Args:
        object_names: of `gt_classes`; the `obj_classes` of the metadata.
        map_queries: part queries that a map is made of.
        arguments: of `PartGLEE`; the parts among its classes are the K classes of the answer, in their order.
    """

    def __init__(
        self, *arguments: Any, object_names: Sequence[str] = (), map_queries: int = 200, **keywords: Any
    ) -> None:
        if arguments:  # a configuration of detectron2
            (cfg,) = arguments
            names = MetadataCatalog.get(cfg.DATASETS.TEST[0]).get("obj_classes") if len(cfg.DATASETS.TEST) else None
            object_names, map_queries = names or object_names, model_config(cfg).TEST.PART_QUERIES
        super().__init__(*arguments, **keywords)
        self.object_names = tuple(object_names or self.classes.vocabulary.object_names)
        self.map_queries = map_queries

    def inference(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A map for each input, on the CPU."""
        return [{"sem_seg": self._answer(entry)} for entry in batched_inputs]

    def _answer(self, entry: Mapping[str, Any]) -> Tensor:
        vocabulary = self.classes.vocabulary
        name = self.object_names[known_object(entry)]
        image = rgb(entry, self.input_format)
        encoded = encode_images(self.model, [image], precision=self.precision)
        output = decode_images(self.model, encoded, self.model.embed(vocabulary), precision=self.precision)
        frame = Frame(encoded.batch.canvas, encoded.batch.sizes[0], original_size(entry))
        columns = vocabulary.part_columns(name) if name in vocabulary.object_names else ()
        class_of_column = torch.zeros(len(vocabulary.part_names), dtype=torch.long)
        parts = [k for k, level in enumerate(self.classes.level) if level == Level.PART]
        for number, k in enumerate(parts):
            class_of_column[self.classes.label[k]] = number
        if not columns:  # OV-PARTS has objects without parts; nothing of them is scored
            return torch.zeros(len(parts), *frame.original)
        labels = part_map(output, 0, frame, columns=columns, queries=self.map_queries)
        return one_hot(class_of_column[labels], len(parts))


class PartMapReplay(nn.Module):
    """Saved part maps as a model: answers for each input with the map of its image and object.

    Maps are named as ours are: `IMAGE_ID.png` with the class of the known object (or the `annotation_id` of the input),
    or `IMAGE.png` for all objects. Pixels without a part are 0 in every class.

    Args:
        folder: of the maps.
        num_classes: K.
    """

    def __init__(self, cfg: Any = None, *, folder: str | Path = "", num_classes: int = 0) -> None:
        super().__init__()
        if cfg is not None:
            folder = keys_of(cfg).PART_MAPS
            num_classes = len(MetadataCatalog.get(cfg.DATASETS.TEST[0]).get("stuff_classes") or ())
        self.folder = Path(folder)
        self.num_classes = num_classes
        if not str(folder) or not self.folder.is_dir() or num_classes < 1:
            raise ValueError(
                f"a replay needs a folder of part maps (MODEL.PARTGLEE.PART_MAPS, got {str(folder)!r}) and the "
                f"stuff_classes of DATASETS.TEST (got {num_classes})"
            )

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A map for each input.

        Raises:
            ValueError: for an input without a saved map, or a map of another size.
        """
        return [{"sem_seg": self._answer(entry)} for entry in batched_inputs]

    def _answer(self, entry: Mapping[str, Any]) -> Tensor:
        stem = Path(entry["file_name"]).stem
        number = entry.get("annotation_id", known_object(entry))
        files = [self.folder / f"{stem}_{number}.png", self.folder / f"{stem}.png"]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise ValueError(f"no part map for {entry['file_name']}: neither {files[0]} nor {files[1].name} is there")
        labels = torch.from_numpy(read_label_map(file))
        height, width = original_size(entry)
        if labels.shape != (height, width):
            raise ValueError(
                f"part map {file} is {tuple(labels.shape)}, but the image {(height, width)} (height, width)"
            )
        return one_hot(labels, self.num_classes)


def known_object(entry: Mapping[str, Any]) -> int:
    """The object that an input asks about.

    Raises:
        ValueError: for an input without `instances`.
    """
    if "instances" not in entry or not len(entry["instances"]):
        raise ValueError(
            f"{entry.get('file_name', 'an input')} has no instances; part maps are asked for with the known object "
            "(OV-PARTS: INPUT.DATASET_MAPPER_NAME obj_part_semantic, ..._obj_condition sets)"
        )
    return int(entry["instances"].gt_classes[0])


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(H, W) labels -> (K, H, W) float; labels from K on are no class."""
    known = labels.long().clamp(0, num_classes)
    return F.one_hot(known, num_classes + 1)[..., :num_classes].permute(2, 0, 1).float()


META_ARCH_REGISTRY.register(PartGLEEPartMaps)
META_ARCH_REGISTRY.register(PartMapReplay)
