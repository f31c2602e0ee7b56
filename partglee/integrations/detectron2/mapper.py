"""A dataset mapper that carries the hierarchy: which object each part belongs to, by ids that survive augmentation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T


class HierarchyMapper:
    """As detectron2's `DatasetMapper`, and `gt_ids`, `gt_object_ids` (N,) of the instances.

    An annotation's `id` becomes its `gt_ids` (without one, its place in the image), its `object_id` its
    `gt_object_ids`; `parent_id`, as our COCO files have it, is read too. A part without either has -1. Masks become
    bitmasks, from polygons or run lengths.

    Args:
        is_train: keep annotations; otherwise the image alone is mapped.
        augmentations: of detectron2.
        image_format: colours of the image, `INPUT.FORMAT`.
        use_instance_mask: read masks.
        recompute_boxes: boxes around what is left of the masks, after crops.
    """

    @configurable  # type: ignore[misc, untyped-decorator]
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[Any],
        image_format: str,
        use_instance_mask: bool = True,
        recompute_boxes: bool = False,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.recompute_boxes = recompute_boxes

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        """Arguments of the constructor from a configuration of detectron2."""
        augmentations = detection_utils.build_augmentation(cfg, is_train)
        crop = is_train and cfg.INPUT.CROP.ENABLED
        if crop:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "recompute_boxes": crop and cfg.MODEL.MASK_ON,
        }

    def __call__(self, dataset_dict: Mapping[str, Any]) -> dict[str, Any]:
        """One dict of a data set in detectron2's format -> one input of a model."""
        entry = copy.deepcopy(dict(dataset_dict))
        image = detection_utils.read_image(entry["file_name"], format=self.image_format)
        detection_utils.check_image_size(entry, image)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        size = augmented.image.shape[:2]
        entry["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        annotations = entry.pop("annotations", None)
        if self.is_train and annotations is not None:
            entry["instances"] = self._instances(annotations, transforms, size)
        return entry

    def _instances(self, annotations: Sequence[dict[str, Any]], transforms: Any, size: tuple[int, int]) -> Any:
        kept = [(place, one) for place, one in enumerate(annotations) if not one.get("iscrowd", 0)]
        # Instances without a mask beside others with one cannot be told apart there: then boxes alone are learned.
        with_masks = self.use_instance_mask and all(one.get("segmentation") for _, one in kept)
        seen = []
        for _, one in kept:
            plain = {key: one[key] for key in ("bbox", "bbox_mode", "category_id")}
            if with_masks:
                plain["segmentation"] = one["segmentation"]
            seen.append(detection_utils.transform_instance_annotations(plain, transforms, size))
        instances = detection_utils.annotations_to_instances(seen, size, mask_format="bitmask")
        ids = [int(one.get("id", place)) for place, one in kept]
        owners = [int(_owner(one)) for _, one in kept]
        instances.gt_ids = torch.tensor(ids, dtype=torch.long)
        instances.gt_object_ids = torch.tensor(owners, dtype=torch.long)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return detection_utils.filter_empty_instances(instances)


def _owner(annotation: Mapping[str, Any]) -> int:
    for key in ("object_id", "parent_id"):
        if annotation.get(key) is not None:
            return int(annotation[key])
    return -1
