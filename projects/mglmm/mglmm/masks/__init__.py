"""Mask decoders behind one interface: Segment Anything, its successor, and PartGLEE's own queries."""

from mglmm.masks.base import DecodedMasks, Hierarchy, MaskDecoder
from mglmm.masks.queries import QueryMasks
from mglmm.masks.sam import Sam2Masks, SamMasks

__all__ = ["DecodedMasks", "Hierarchy", "MaskDecoder", "QueryMasks", "Sam2Masks", "SamMasks"]
