"""Scripts in a fresh interpreter, for what only a process of its own can show."""

import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
from waiting import LONGEST


TESTS = Path(__file__).parent


@attrs.frozen
class Scripts:
    """Scripts that begin with the same lines."""

    common: str

    def child(self, script: str, *options: str) -> subprocess.Popen[str]:
        """A fresh interpreter that runs the script."""
        source = textwrap.dedent(self.common) + textwrap.dedent(script)
        return subprocess.Popen(
            [sys.executable, *options, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(TESTS), "PATH": ""},
        )

    def output(self, script: str, *options: str) -> tuple[str, str]:
        """What it prints, and what it complains of; it must end by itself, in order."""
        process = self.child(script, *options)
        out, err = process.communicate(timeout=LONGEST)
        assert 0 == process.returncode, err
        return out.strip(), err
