"""Published data by the names that configurations use, where their downloads lie under the root of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mglmm.data import readers
from mglmm.data.loader import register_source
from mglmm.data.source import FixedRecords, Sentences, Source, library_source, uscdf_source
from partglee.data.catalog import get_dataset
from partglee.data.spec import datasets_root


def fixed(name: str, read: Callable[..., Any], paths: Sequence[str], images: str) -> Source:
    """Records that a reader makes of paths under the root."""
    root = datasets_root()
    return FixedRecords(name, read(*(root / path for path in paths)), images=root / images)


def of_maps(read: Callable[..., Source], path: str) -> Source:
    """Label maps under the root."""
    return read(datasets_root() / path)


def own_form(file: str, images: str) -> Source:
    """A file of USCDF under the root."""
    return uscdf_source(datasets_root() / file, datasets_root() / images)


def regions(name: str) -> Source:
    """Captions of the objects and parts of a data set of the library."""
    return FixedRecords(f"{name}/regions", readers.region_records(get_dataset(name).read(), name))


def sentences(name: str) -> Source:
    """The sentences of a data set of the library, one by one."""
    return Sentences(name, get_dataset(name).read())


_FIXED: dict[str, tuple[Callable[..., Any], tuple[str, ...], str]] = {  # reader, its files, folder of the images
    "gcg_grandf_ha": (readers.read_grandf, ("GranDf/GranDf_HA_GCG_train.json",), "sa_images"),
    "gcg_openpsg": (readers.read_grandf, ("GranDf/OpenPsgGCG_train.json",), "coco"),
    "gcg_refcocog": (
        readers.read_refcocog_gcg, ("GranDf/RefCOCOg_GCG_train.json", "coco/train2014"), "coco/train2014",
    ),
    "gcg_flickr": (readers.read_flickr_gcg, ("GranDf/flickr_mergedGT_GCG_train.json",), "flickr30k/flickr30k-images"),
    "mgsc_train": (readers.read_mgsc, ("MGSCData/annotations",), "MGSCData/images"),
    "reasonseg_train": (readers.reasonseg_records, ("ReasonSeg/train",), "ReasonSeg/train"),
    "muse_train": (readers.read_muse, ("MUSE/MUSE_train.json",), "coco"),
    "coco_captions": (readers.read_coco_captions, ("coco/annotations/captions_train2017.json",), "coco/train2017"),
    "flickr30k_captions": (
        readers.read_flickr30k, ("flickr30k/results_20130124.token", "flickr30k/flickr30k-images"),
        "flickr30k/flickr30k-images",
    ),
    "gcg_val": (
        readers.read_gcg_truth,
        ("GranDf/val_gcg_coco_caption_gt.json", "GranDf/val_gcg_coco_mask_gt.json"), "sa_images",
    ),
    "gcg_test": (
        readers.read_gcg_truth,
        ("GranDf/test_gcg_coco_caption_gt.json", "GranDf/test_gcg_coco_mask_gt.json"), "sa_images",
    ),
    "reasonseg_val": (readers.reasonseg_records, ("ReasonSeg/val",), "ReasonSeg/val"),
    "reasonseg_test": (readers.reasonseg_records, ("ReasonSeg/test",), "ReasonSeg/test"),
    "nocaps_captions": (readers.read_coco_captions, ("nocaps/nocaps_val_4500_captions.json",), "nocaps/images"),
    "llava_150k": (readers.read_llava, ("llava/llava_instruct_150k.json", "coco/train2017"), "coco/train2017"),
    "vg_regions": (
        readers.read_visual_genome, ("visual_genome/region_descriptions.json", "visual_genome/image_data.json"),
        "visual_genome",
    ),
}  # fmt: skip
_MAPS: dict[str, tuple[Callable[..., Source], str]] = {
    "ade20k_semantic": (readers.ade20k, "ADEChallengeData2016"),
    "coco_stuff_semantic": (readers.coco_stuff, "coco"),
    "mapillary_semantic": (readers.mapillary, "mapillary_vistas"),
}
_LIBRARY = {  # data sets of the library, and what is made of them
    "paco_semantic": ("paco_lvis_v1_train", "semantic"),
    "refcoco_referring": ("refcoco-unc-train", "referring"),
    "refcocoplus_referring": ("refcocoplus-unc-train", "referring"),
    "refcocog_referring": ("refcocog-umd-train", "referring"),
    "grefcoco_referring": ("grefcoco-unc-train", "referring"),
}

_PROTOCOLS = {
    "gcg_val": "gcg", "gcg_test": "gcg", "mgsc_train": "mgsc", "reasonseg_val": "reasonseg",
    "reasonseg_test": "reasonseg", "coco_captions": "captions", "flickr30k_captions": "captions",
    "nocaps_captions": "captions",
}  # fmt: skip
_SENTENCES = {  # splits of the library whose sentences are asked one by one, and how answers are scored
    "refcoco_val": ("refcoco-unc-val", "res"),
    "refcoco_testA": ("refcoco-unc-testA", "res"),
    "refcoco_testB": ("refcoco-unc-testB", "res"),
    "refcocoplus_val": ("refcocoplus-unc-val", "res"),
    "refcocoplus_testA": ("refcocoplus-unc-testA", "res"),
    "refcocoplus_testB": ("refcocoplus-unc-testB", "res"),
    "refcocog_val": ("refcocog-umd-val", "res"),
    "refcocog_test": ("refcocog-umd-test", "res"),
    "grefcoco_val": ("grefcoco-unc-val", "gres"),
    "grefcoco_testA": ("grefcoco-unc-testA", "gres"),
    "grefcoco_testB": ("grefcoco-unc-testB", "gres"),
}

_REGIONS = "paco_lvis_v1_train"  # whose objects and parts are captions of regions


def refclef_train() -> Source:
    """RefCLEF's training split."""
    return readers.refclef(datasets_root() / "refer/refclef", datasets_root() / "saiapr_tc-12")


def register_published() -> None:
    """Make them known by name; nothing is read before a run asks for it."""
    for name, (read, paths, images) in _FIXED.items():
        register_source(
            name, partial(fixed, name, read, paths, images), needs=(*paths, images),
            protocol=_PROTOCOLS.get(name, ""), replace=True,
        )  # fmt: skip
    for name, (read_maps, path) in _MAPS.items():
        register_source(name, partial(of_maps, read_maps, path), needs=(path,), replace=True)
    for name, (dataset, make) in _LIBRARY.items():
        spec = get_dataset(dataset)
        register_source(
            name, partial(library_source, dataset, make), needs=(spec.annotations, spec.images), replace=True
        )
    for name, (dataset, protocol) in _SENTENCES.items():
        spec = get_dataset(dataset)
        register_source(
            name, partial(sentences, dataset), needs=(spec.annotations, spec.images), protocol=protocol, replace=True
        )
    spec = get_dataset(_REGIONS)
    register_source("paco_regions", partial(regions, _REGIONS), needs=(spec.annotations, spec.images), replace=True)
    register_source("refclef_referring", refclef_train, needs=("refer/refclef", "saiapr_tc-12"), replace=True)
    # What GLaMM's 11 million images come as is not described where we could read it: convert them to USCDF
    grand = ("grand/grand.uscdf.jsonl", "grand/images")
    register_source("grand_train", partial(own_form, *grand), needs=grand, replace=True)
