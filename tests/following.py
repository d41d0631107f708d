"""A person who does what the program says: runs commands, reads the hints, and runs those as they are printed."""

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from commandline import KEY, Ended

from evals_async.cli import main
from evals_async.cli.hints import Hint
from evals_async.server import LocalServer, SampleTree


PROCESS = shlex.join([sys.executable, "-m", "evals_async"])


class Person:
    """Someone at a shell whose environment names a server. `run` runs a command, `follow` what it hinted at."""

    def __init__(
        self,
        server: LocalServer,
        tree: SampleTree,
        place: Path,
        patch: pytest.MonkeyPatch,
        captured: pytest.CaptureFixture[str],
    ) -> None:
        self.server = server
        self.place = place
        self.patch = patch
        self.eval_id = str(tree["evals"][0]["id"])
        self.run_ids = [str(run["id"]) for run in tree["runs"] if run["eval_id"] == self.eval_id]
        self.followed: list[Hint] = []
        self._captured = captured
        patch.chdir(place)
        self.names_the_server()

    def names_the_server(self, server: LocalServer | None = None) -> None:
        """Set the environment: the server's address and its key."""
        self.patch.setenv("OPENAI_BASE_URL", (server or self.server).base_url)
        self.patch.setenv("OPENAI_API_KEY", KEY)

    async def run(self, *words: str) -> Ended:
        """Run a command in a thread of this process."""
        code = await asyncio.to_thread(main, list(words))
        captured = self._captured.readouterr()
        return Ended(code, captured.out, captured.err)

    def hinted(self, hint: Hint, ended: Ended) -> str:
        """The text of a hint that a command printed, as it stands on stderr."""
        pattern = re.sub(r"\\{\w+\\}", ".*", re.escape(hint))
        told = [line.removeprefix("next: ") for line in ended.err.splitlines() if line.startswith("next: ")]
        [text] = [line for line in told if re.fullmatch(pattern, line)]
        self.followed.append(hint)
        return text

    def command_in(self, hint: Hint, ended: Ended, **filled: str) -> str:
        """The command of a hint, as it is printed, with the words in capital letters filled in."""
        text = self.hinted(hint, ended)
        name = PROCESS if PROCESS in text else "evals-async"
        before, program, rest = text.rpartition(f"{name} ")
        assert program
        assert before == "" or before.endswith(": "), f"no command can be copied from: {text}"
        for placeholder, value in filled.items():
            word = "FILE.db" if placeholder == "FILE" else placeholder
            assert word in rest, text
            rest = rest.replace(word, shlex.quote(value))
        return rest

    async def follow(self, hint: Hint, ended: Ended, code: int = 0, **filled: str) -> Ended:
        """Run the command of a hint; it ends with this code."""
        again = await self.run(*shlex.split(self.command_in(hint, ended, **filled)))
        assert code == again.code, again.err
        return again

    @asynccontextmanager
    async def serve(self, hint: Hint, ended: Ended, *more: str, **filled: str) -> AsyncGenerator[str]:
        """Run the command of a hint, which starts a server, through a shell; until it is left. Yields its base URL.

        With `--port 0`: on the default port something else may run on this machine.
        """
        command = f"{self.command_in(hint, ended, **filled)} {shlex.join(more)}"
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", f"exec {PROCESS} {command}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                yield (await process.stdout.readline()).decode().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        assert 0 == process.returncode
