"""Models as files that run in other runtimes: `.pt2`, ONNX, OpenVINO. `docs/export.md` says how; the extra `export` has
their packages."""

from partglee.export.build import FORMATS, export_model
from partglee.export.card import Card
from partglee.export.graph import OUTPUTS, DetectionGraph
from partglee.export.int8 import quantize
from partglee.export.predictor import ExportedPredictor, Names

__all__ = ["Card", "DetectionGraph", "ExportedPredictor", "FORMATS", "Names", "OUTPUTS", "export_model", "quantize"]
