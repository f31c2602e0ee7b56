#!/usr/bin/env python
"""Unlabelled photos -> objects that several teachers see. See datasets/README.md for the teachers and the layout."""

from partglee.data.prepare.pseudo_labels import main

if __name__ == "__main__":
    raise SystemExit(main())
