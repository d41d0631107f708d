"""The child process that runs one python grader.

Its text is passed to a new interpreter, and it imports no module of this package.

It reads lines of JSON from stdin: first `{"source", "memory", "files"}`, then `{"sample", "item"}` for each row. It
writes lines to the original stdout: `{"limited"}` when its limits are set, `{"ready"}` when the source is loaded, and
`{"score"}` for each row. Instead of the last two it may write `{"fault", "missing"}`.
"""

import json
import math
import os
import sys
from typing import Any


LONGEST_FAULT = 1000  # characters


def limit(memory: int, files: int) -> None:
    """Set the limits of this process. It cannot raise them again."""
    import resource

    for name, most in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_FSIZE", files),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
    ):
        which = getattr(resource, name, None)
        if which is not None:
            _, hard = resource.getrlimit(which)
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (allowed, allowed))


def fault_of(error: BaseException) -> dict[str, object]:
    """Describe an exception: its last line, and the line of the source that raised it."""
    at = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<grader>":
            at = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001  # the text of an author's exception may raise anything
        text = type(error).__name__
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return {"fault": text[:LONGEST_FAULT] + at, "missing": missing}


def score_of(value: Any) -> dict[str, object]:
    """Make the line for a value that `grade` returned."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        return {"fault": f"grade returned {type(value).__name__}, which is not a number", "missing": None}
    number = float(value)
    if not math.isfinite(number):
        return {"fault": f"grade returned {number}, which is not a finite number", "missing": None}
    return {"score": number}


def attempt(work: Any) -> dict[str, object]:
    try:
        found: dict[str, object] = work()
    except BaseException as error:  # noqa: BLE001  # also SystemExit, which the source may raise
        return fault_of(error)
    return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    rows = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    begin = json.loads(rows.readline())
    limit(begin["memory"], begin["files"])
    for fd in (0, 1, 2):  # the output of a grader is discarded
        os.dup2(nowhere, fd)
    if os.path.isdir("/packages"):  # noqa: PTH112  # a worker starts with few imports
        sys.path.append("/packages")
    answers.write('{"limited":true}\n')
    answers.flush()
    names: dict[str, Any] = {"__name__": "grader"}

    def load() -> dict[str, object]:
        exec(compile(begin["source"], "<grader>", "exec"), names)  # noqa: S102  # the purpose of this process
        return {"ready": True}

    def say(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say(attempt(load))
    for line in rows:
        row = json.loads(line)
        say(attempt(lambda row=row: score_of(names["grade"](row["sample"], row["item"]))))


if __name__ == "__main__":
    main()
