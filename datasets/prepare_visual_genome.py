#!/usr/bin/env python
"""Visual Genome -> hierarchical COCO JSON. See datasets/README.md for where the data comes from and lies."""

from partglee.data.prepare.visual_genome import main

if __name__ == "__main__":
    raise SystemExit(main())
