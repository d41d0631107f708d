"""`python -m evals_async`: the command line."""

import sys

from evals_async.cli import main


sys.exit(main())
