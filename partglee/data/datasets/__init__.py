"""The data sets that the library knows by name: each module has its `SPECS`, this package has all of them."""

from partglee.data.datasets import objects, ov_parts, parts, refcoco
from partglee.data.spec import DatasetSpec

SPECS: tuple[DatasetSpec, ...] = (*objects.SPECS, *parts.SPECS, *ov_parts.SPECS, *refcoco.SPECS)

__all__ = ["SPECS"]
