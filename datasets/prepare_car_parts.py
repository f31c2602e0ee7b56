#!/usr/bin/env python
"""Car-Parts -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.scripts import car_parts_main

if __name__ == "__main__":
    raise SystemExit(car_parts_main())
