"""Published data in the form that they come in -> records of USCDF."""

from mglmm.data.readers.common import AskedImages
from mglmm.data.readers.grounded import read_flickr_gcg, read_gcg_truth, read_grandf, read_mgsc, read_refcocog_gcg
from mglmm.data.readers.maps import LabelMaps, ade20k, coco_stuff, mapillary, refclef
from mglmm.data.readers.reasoning import read_muse, read_reasonseg, reasonseg_records
from mglmm.data.readers.words import (
    image_caption_as_region,
    read_coco_captions,
    read_flickr30k,
    read_llava,
    read_visual_genome,
    region_records,
)

__all__ = [
    "AskedImages",
    "LabelMaps",
    "ade20k",
    "coco_stuff",
    "image_caption_as_region",
    "mapillary",
    "read_coco_captions",
    "read_flickr30k",
    "read_flickr_gcg",
    "read_gcg_truth",
    "read_grandf",
    "read_llava",
    "read_mgsc",
    "read_muse",
    "read_reasonseg",
    "read_refcocog_gcg",
    "read_visual_genome",
    "reasonseg_records",
    "refclef",
    "region_records",
]
