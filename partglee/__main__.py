"""`python -m partglee`."""

import sys

from partglee.cli import main

sys.exit(main())
