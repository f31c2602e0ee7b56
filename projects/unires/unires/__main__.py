"""`python -m unires`."""

import sys

from unires.cli import main

if __name__ == "__main__":
    sys.exit(main())
