#!/usr/bin/env python
"""Car-Parts -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.car_parts import main

if __name__ == "__main__":
    raise SystemExit(main())
