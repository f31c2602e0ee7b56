#!/usr/bin/env python
"""SA-1B -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.object_scripts import sa1b_main

if __name__ == "__main__":
    raise SystemExit(sa1b_main())
