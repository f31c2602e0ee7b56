#!/usr/bin/env python
"""Pascal-Part-93 -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.pascal_part_93 import main

if __name__ == "__main__":
    raise SystemExit(main())
