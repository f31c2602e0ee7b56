"""What people who come from detectron2, timm or a hub type, answered with what to do here."""

from __future__ import annotations

import re

_SAME_AS = {
    "SOLVER.IMS_PER_BATCH": "SOLVER.BATCH_SIZE",
    "SOLVER.AMP.ENABLED": "SOLVER.PRECISION (no, bf16 or fp16)",
    "SOLVER.LR_SCHEDULER_NAME": "SOLVER.SCHEDULE (step or cosine)",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": "SOLVER.CLIP_GRADIENTS (a number, 0 = off)",
    "SOLVER.CLIP_GRADIENTS.ENABLED": "SOLVER.CLIP_GRADIENTS (a number, 0 = off)",
    "TEST.EVAL_PERIOD": "TEST.PERIOD",
    "TEST.DETECTIONS_PER_IMAGE": "TEST.DETECTIONS",
    "INPUT.MIN_SIZE_TRAIN": "INPUT.TRAIN.SHORT_SIDES, with INPUT.TRAIN.MODE resize",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.TRAIN.MAX_SIDE",
    "INPUT.MIN_SIZE_TEST": "INPUT.TEST.SHORT_SIDE",
    "INPUT.MAX_SIZE_TEST": "INPUT.TEST.MAX_SIDE",
    "INPUT.CROP.SIZE": "INPUT.TRAIN.SIZE, with INPUT.TRAIN.MODE jitter",
    "INPUT.RANDOM_FLIP": "INPUT.TRAIN.FLIP (a chance)",
    "MODEL.RESNETS.DEPTH": "MODEL.BACKBONE.NAME (resnet50, resnet101, ...)",
    "MODEL.RESNETS.NORM": "MODEL.BACKBONE.FROZEN_NORM",
    "MODEL.SWIN.EMBED_DIM": "MODEL.BACKBONE.NAME (swin_tiny_patch4_window7_224, ...)",
    "MODEL.META_ARCHITECTURE": "RECIPE",
    "SEED": "SOLVER.SEED",
    "DATALOADER.REPEAT_THRESHOLD": "DATASETS.REPEAT_THRESHOLDS",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": "MODEL.EMBED_DIM",
    "MODEL.MaskDINO.NUM_OBJECT_QUERIES": "MODEL.OBJECT_DECODER.NUM_QUERIES",
}
_NO_CLASSES = "the names of the data sets are the classes; DatasetSpec.vocabulary or VOCABULARY in DATASETS.CUSTOM"
_NOT_NEEDED = {
    "MODEL.DEVICE": "a GPU is taken when there is one; `--num-gpus 0` is the CPU",
    "MODEL.MASK_ON": "masks are always learned where annotations have them",
    "MODEL.ROI_HEADS.NUM_CLASSES": _NO_CLASSES,
    "MODEL.RETINANET.NUM_CLASSES": _NO_CLASSES,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _NO_CLASSES,
    "INPUT.FORMAT": "images are RGB",
    "CUDNN_BENCHMARK": "nothing has to be set for it",
    "VERSION": "configurations have none",
}


def key_hint(key: str) -> str | None:
    """What to set in place of a key of detectron2, None for any other.

    >>> key_hint("SOLVER.IMS_PER_BATCH")
    'that is a key of detectron2; here it is SOLVER.BATCH_SIZE'
    """
    if key in _SAME_AS:
        return f"that is a key of detectron2; here it is {_SAME_AS[key]}"
    if key in _NOT_NEEDED:
        return f"that is a key of detectron2, which is not needed: {_NOT_NEEDED[key]}"
    return None


_ZOO = re.compile(r"^(COCO|LVIS|Cityscapes|PascalVOC|ImageNet)[-A-Za-z]*/|(mask|faster)_rcnn_|retinanet_R_")


def file_hint(name: str) -> str | None:
    """What to do about an address, or a name of another library's model zoo, where a file or one of our names is
    wanted; None for anything else."""
    if name.startswith("detectron2://"):
        address = f"https://dl.fbaipublicfiles.com/detectron2/{name.removeprefix('detectron2://')}"
        return (
            f"{name} is an address of detectron2, and nothing is downloaded here; get {address} yourself. An ImageNet "
            "ResNet (R-50.pkl, R-101.pkl) goes to MODEL.BACKBONE.WEIGHTS as it is; its trained detectors fit no model "
            "here"
        )
    if re.match(r"(https?|s3|gs|torchvision|catalog)://", name):
        return f"{name} is an address, and nothing is downloaded here; get the file and name it"
    if name.startswith(("hf-hub:", "hf_hub:", "timm/", "timm:")):
        model = re.split(r"[:/]", name)[-1].split(".")[0]
        return (
            f"{name} is a name of timm on a hub, and nothing is downloaded here; MODEL.BACKBONE.NAME is {model}, and "
            f"MODEL.BACKBONE.WEIGHTS a file with the state dict of timm.create_model('{model}', pretrained=True)"
        )
    if _ZOO.search(name):
        return (
            f"{name} is of detectron2's model zoo, whose detectors fit no model here; `partglee info` lists what there "
            "is, and docs/detectron2.md says how to use it inside detectron2"
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and "." not in name.rpartition("/")[2]:
        return f"{name} looks like a name of a hub, and nothing is downloaded here; get the file and name it"
    return None
