#!/usr/bin/env python
"""PartImageNet -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.partimagenet import main

if __name__ == "__main__":
    raise SystemExit(main())
