"""PartGLEE inside detectron2: import this, and `MODEL.META_ARCHITECTURE: PartGLEE` is a model like any other.

docs/detectron2.md shows each use. detectron2 is not installed with the library.
"""

try:
    import detectron2 as _detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "partglee.integrations.detectron2 needs detectron2, which is not installed; docs/detectron2.md says how"
    ) from error

from detectron2.utils.file_io import PathManager

from partglee.integrations.detectron2.classes import classes_of_metadata
from partglee.integrations.detectron2.config import add_partglee_config
from partglee.integrations.detectron2.datasets import register_from_detectron2, register_in_detectron2
from partglee.integrations.detectron2.instances import to_instances, to_prediction
from partglee.integrations.detectron2.mapper import HierarchyMapper
from partglee.integrations.detectron2.meta_arch import PartGLEE
from partglee.integrations.detectron2.optimizer import build_optimizer
from partglee.integrations.detectron2.part_maps import PartGLEEPartMaps, PartMapReplay
from partglee.integrations.detectron2.weights import ZooFiles

PathManager.register_handler(ZooFiles())

__all__ = [
    "HierarchyMapper",
    "PartGLEE",
    "PartGLEEPartMaps",
    "PartMapReplay",
    "ZooFiles",
    "add_partglee_config",
    "build_optimizer",
    "classes_of_metadata",
    "register_from_detectron2",
    "register_in_detectron2",
    "to_instances",
    "to_prediction",
]
