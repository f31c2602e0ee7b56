#!/usr/bin/env python
"""Clothing Co-Parsing -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.scripts import clothing_main

if __name__ == "__main__":
    raise SystemExit(clothing_main())
