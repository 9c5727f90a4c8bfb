"""`python -m glmae`: the command line, for front ends that have no installed script."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
