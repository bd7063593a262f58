"""`python -m ganrun` is the `ganrun` command."""

import sys

from ganrun.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
