#!/usr/bin/env python
"""Train or evaluate: `tools/train_net.py --config-file FILE [--num-gpus N] [--resume] [--eval-only] [KEY VALUE ...]`.

The same as `partglee train`; also for `torchrun` and `accelerate launch`.
"""

from __future__ import annotations

import sys

from partglee.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
