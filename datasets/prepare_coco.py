#!/usr/bin/env python
"""COCO instances -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.coco import main

if __name__ == "__main__":
    raise SystemExit(main())
