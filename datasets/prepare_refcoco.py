#!/usr/bin/env python
"""RefCOCO, RefCOCO+, RefCOCOg -> COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.refer import main

if __name__ == "__main__":
    raise SystemExit(main())
