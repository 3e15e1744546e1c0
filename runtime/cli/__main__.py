"""``python -m aweigh.runtime.cli``."""

import sys

from aweigh.runtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
