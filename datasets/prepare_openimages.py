#!/usr/bin/env python
"""Open Images -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.object_scripts import openimages_main

if __name__ == "__main__":
    raise SystemExit(openimages_main())
