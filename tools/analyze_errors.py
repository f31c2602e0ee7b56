#!/usr/bin/env python
"""What is wrong in a predictions file: `tools/analyze_errors.py --predictions FILE --dataset NAME --output DIR`.

Writes `DIR/report.md`: best and worst images, confused names, missed parts by size, confused parents, with pictures.
"""

from __future__ import annotations

import sys

from partglee.cli.analyze_errors import main

if __name__ == "__main__":
    sys.exit(main())
