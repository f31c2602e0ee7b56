#!/usr/bin/env python
"""PASCAL-Part -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.scripts import pascal_part_main

if __name__ == "__main__":
    raise SystemExit(pascal_part_main())
