"""`python -m rela`."""

import sys

from rela.cli import main

if __name__ == "__main__":
    sys.exit(main())
