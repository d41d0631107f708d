"""What type checkers make of code that uses this package.

`typing/accepts.py` is taken as it is, and of `typing/rejects.py` no marked line.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


HERE = Path(__file__).parent
ACCEPTS = HERE / "typing" / "accepts.py"
REJECTS = HERE / "typing" / "rejects.py"

MYPY = "  # type: ignore["
PYRIGHT = "  # pyright: ignore["


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a type checker says."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", [ACCEPTS, REJECTS], ids=["accepts", "rejects"])
def test_mypy(file: Path) -> None:
    """mypy --strict agrees with every line, and needs every mark in the rejected ones."""
    done = run("mypy", "--strict", "--config-file=", "--enable-error-code=ignore-without-code", os.fspath(file))
    assert (0, "Success: no issues found in 1 source file\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize("file", [ACCEPTS, REJECTS], ids=["accepts", "rejects"])
def test_pyright(file: Path, tmp_path: Path) -> None:
    """So does pyright (as basedpyright ships it) in its strict mode; mypy's marks mean nothing to it here."""
    settings = {
        "include": [os.path.relpath(file, tmp_path)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = run("basedpyright", "--project", os.fspath(config), "--pythonpath", sys.executable, "--outputjson")
    report = json.loads(done.stdout)
    found = [f"{d['range']['start']['line'] + 1}: {d['message']}" for d in report["generalDiagnostics"]]
    assert ([], 1, 0) == (found, report["summary"]["filesAnalyzed"], done.returncode)


def test_both_find_every_mistake() -> None:
    """A line that one of them rejects is rejected by the other, too, and there are enough of them to mean something."""
    lines = REJECTS.read_text(encoding="utf-8").splitlines()
    marked = [line for line in lines if MYPY in line or PYRIGHT in line]
    assert [] == [line for line in marked if not (MYPY in line and PYRIGHT in line)]
    assert len(marked) >= 30
