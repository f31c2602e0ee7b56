#!/usr/bin/env python
"""ADE20K-Part-234 -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.ade20k_part_234 import main

if __name__ == "__main__":
    raise SystemExit(main())
