#!/usr/bin/env python
"""SA-1B -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.sa1b import main

if __name__ == "__main__":
    raise SystemExit(main())
