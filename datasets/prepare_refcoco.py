#!/usr/bin/env python
"""RefCOCO, RefCOCO+, RefCOCOg -> COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.object_scripts import refcoco_main

if __name__ == "__main__":
    raise SystemExit(refcoco_main())
