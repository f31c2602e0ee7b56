"""`python -m partglee.cli`."""

import sys

from partglee.cli import main

sys.exit(main())
