#!/usr/bin/env python
"""PASCAL-Part -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.pascal_part import main

if __name__ == "__main__":
    raise SystemExit(main())
