"""Exit codes, and the values that commands and actions share. Imports nothing of the SDK."""

from typing import Literal, TypeAlias


OK, ERROR, USAGE, AUTH, INTERRUPTED = 0, 1, 2, 4, 130
PIPE_CLOSED = 141  # 128 + SIGPIPE, which ends other programs whose reader has gone
REGRESSED = 5  # `compare --fail-on` found what it was set to find
NOT_COMPARABLE = 3  # no row is in both runs
LOSSY = 3  # `--strict`, and something was approximated or dropped
LIMIT_REACHED = 3  # `regrade --max-calls` or `--max-tokens`

FailOn: TypeAlias = Literal["regression", "flip"]

MOST_FAILURES = 3  # errors that are printed; others are counted
SAMPLE_RUNS = 300  # runs of the sample of `demo`, `serve --sample` and `--demo`
MAX_OUTAGE, FIRST_ANSWER = 300.0, 30.0  # seconds; the defaults of `export` and `verify`
AN_HOUR = 3600.0  # seconds; the default of `runs wait --deadline`
