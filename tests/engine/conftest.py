"""Makes `training_samples` importable; single thread, so that small sums come out the same."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
