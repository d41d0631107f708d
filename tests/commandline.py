"""Commands as tests run them: in a thread of this process, or as a process of its own."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import attrs
from waiting import LONGEST


KEY = "sk-local-test"


@attrs.frozen
class Ended:
    """A command that is over."""

    code: int
    out: str
    err: str


Command = Callable[..., Awaitable[Ended]]


async def start(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    """A command as a process, in this environment with more variables."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "evals_async", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | variables,
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """What became of a process."""
    async with asyncio.timeout(LONGEST):
        out, err = await process.communicate()
    return Ended(-1 if process.returncode is None else process.returncode, out.decode(), err.decode())
