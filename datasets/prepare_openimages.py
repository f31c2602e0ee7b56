#!/usr/bin/env python
"""Open Images -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.open_images import main

if __name__ == "__main__":
    raise SystemExit(main())
