"""Mask decoders behind one interface: Segment Anything, its successor, PartGLEE's own queries, and one
that trains from a backbone."""

from mglmm.masks.base import DecodedMasks, Hierarchy, MaskDecoder
from mglmm.masks.maps import MapMasks
from mglmm.masks.queries import QueryMasks
from mglmm.masks.sam import Sam2Masks, SamMasks

__all__ = ["DecodedMasks", "Hierarchy", "MapMasks", "MaskDecoder", "QueryMasks", "Sam2Masks", "SamMasks"]
