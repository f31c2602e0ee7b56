"""USCDF: one form for all data of MGLMM, readers of published data into it, and sources to train from."""

from mglmm.data.dialogues import Dialogues
from mglmm.data.marked import Parsed, Span, parse, with_marks
from mglmm.data.record import Record, RegionMask, Said, read_uscdf, write_uscdf
from mglmm.data.source import FixedRecords, Scenes, Source, library_source, uscdf_source

__all__ = [
    "Dialogues",
    "FixedRecords",
    "Parsed",
    "Record",
    "RegionMask",
    "Said",
    "Scenes",
    "Source",
    "Span",
    "library_source",
    "parse",
    "read_uscdf",
    "uscdf_source",
    "with_marks",
    "write_uscdf",
]
