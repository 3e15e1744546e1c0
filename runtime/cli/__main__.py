"""``python -m aweigh.runtime.cli``."""

import sys

from aweigh.runtime.cli.main import main

sys.exit(main())
