"""Python graders: `def grade(sample, item)`, run in child processes.

The sandbox (bubblewrap) is for code that you wrote or reviewed. It has no network, no files of the machine, and limits
on memory, time and processes. It does not protect against malicious code. `trusted` is a child process without a
sandbox, with limits on memory and time. It is for your own code on your own machine.
"""

import ast
import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, Self, TypeAlias, get_args

import attrs

from evals_async import ConfigurationError, EvalsError, InvalidArgument
from evals_async._closing import Closing
from evals_async._json import JSONObject, NotJSON, as_object, dump, parse
from evals_async.grading.sandbox import PACKAGES, environment, filter_file, sandboxed, trusted
from evals_async.grading.similarity import Unavailable
from evals_async.grading.templates import json_text


PythonMode: TypeAlias = Literal["off", "sandbox", "trusted"]
"""The mode of python graders."""

OFF = (
    "python graders are off; `--python-graders sandbox` (or `PythonGraders('sandbox')`) runs them in a sandbox, "
    "`trusted` in child processes without a sandbox"
)
LONGEST_SOURCE = 256 * 1024  # bytes; the limit of the service
START_SECONDS = 30.0
END_SECONDS = 2.0
MOST_FILE_BYTES = 64 * 2**20
LONGEST_LINE = 64 * 1024
SERVER_ERROR = "python_grader_server_error"


def check_source(source: str) -> None:
    """Raise `InvalidArgument` for an invalid python grader: too long, not Python, or without a function `grade`."""
    if len(source.encode("utf-8", "surrogatepass")) > LONGEST_SOURCE:
        raise InvalidArgument(f"the source of a python grader has more than {LONGEST_SOURCE // 1024} kB")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidArgument(f"the source of a python grader is not valid Python: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "grade":
            if not takes_two(node.args):
                raise InvalidArgument(
                    "the function `grade` of a python grader must take exactly two arguments: grade(sample, item)"
                )
            return
        if "grade" in names_bound(node):
            return
    raise InvalidArgument("the source of a python grader has no function `grade` at its top level: grade(sample, item)")


def takes_two(arguments: ast.arguments) -> bool:
    """Whether a function with these arguments can be called with two values."""
    named = len(arguments.posonlyargs) + len(arguments.args)
    needed = named - len(arguments.defaults)
    keywords = any(default is None for default in arguments.kw_defaults)
    return needed <= 2 and (named >= 2 or arguments.vararg is not None) and not keywords


def names_bound(node: ast.stmt) -> set[str]:
    """Return the names that an assignment or an import at the top level binds."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


class GraderFault(EvalsError):
    """The code of a grader failed, so the score is 0. The message has the reason."""


class PythonGraders(Closing):
    """Runs python graders in the given `mode`. `off` runs none.

        async with PythonGraders("sandbox") as python:
            await grade(criterion, item=item, sample=sample, python=python)

    Each source has its own process, which is kept for its next rows. At most `workers` processes work at once. A call
    may take `timeout` seconds and `memory` bytes. A sandboxed grader may import `packages` and their dependencies. If
    the sandbox does not work, no grader runs, and each grade has the reason as its error. Module variables of a source
    keep their values between rows; do not depend on this. Raises `ConfigurationError` for invalid settings.
    """

    def __init__(
        self,
        mode: PythonMode = "off",
        *,
        timeout: float = 120.0,
        memory: int = 2 * 2**30,
        workers: int = 2,
        packages: Iterable[str] = PACKAGES,
    ) -> None:
        if mode not in get_args(PythonMode):
            raise ConfigurationError(
                f"the mode of python graders is one of {', '.join(get_args(PythonMode))}, not {mode!r:.80}"
            )
        if not timeout > 0 or memory < 64 * 2**20 or workers < 1:
            raise ConfigurationError(
                "python graders need a timeout above 0, at least 64 MiB of memory, and at least one worker"
            )
        self.mode: PythonMode = mode
        self._timeout = timeout
        self._memory = memory
        self._packages = tuple(packages)
        self._workers = workers
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[tuple[str, Worker]] = []  # the last used worker is last
        self._busy: set[Worker] = set()
        self._closed = False

    @property
    def processes(self) -> int:
        """The number of child processes: working, or kept for the next row of their source."""
        return sum(worker.alive for worker in (*self._busy, *(worker for _, worker in self._idle)))

    async def check(self) -> None:
        """Raise `Unavailable` with the reason if graders cannot be run here. `off` is such a reason."""
        try:
            score = await self.score("def grade(sample, item):\n    return 1.0\n", {}, {})
        except GraderFault as fault:
            raise Unavailable(f"a test of a python grader failed: {fault}", code=SERVER_ERROR) from None
        if score != 1.0:
            raise Unavailable(f"a test of a python grader returned {score} instead of 1", code=SERVER_ERROR)

    async def score(self, source: str, sample: JSONObject | None, item: JSONObject) -> float:
        """Return the result of `grade(sample, item)` of this source.

        Raises `GraderFault` if the code fails, takes too long or does not return a number. Raises `InvalidArgument` for
        a source without `grade`, and `Unavailable` if it cannot be run here.
        """
        if self.mode == "off":
            raise Unavailable(OFF)
        self._check_open()
        check_source(source)
        try:
            line = json_text({"sample": sample or {}, "item": item}, ascii_only=True).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"the row cannot be encoded as JSON: {error}") from None
        async with self._slots:
            worker = await self._worker(source)
            self._busy.add(worker)
            try:
                self._check_open()  # `close` may have been called while the worker started
                answer = await worker.ask(line, self._timeout)
            except GraderFault:
                await worker.close()
                self._check_open()  # the process may have been ended by `close`, not by the code
                raise
            except BaseException:
                await worker.close()
                raise
            finally:
                self._busy.discard(worker)
            await self._keep(source, worker)
        return score_of(answer)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the PythonGraders object was closed", code=SERVER_ERROR)

    async def _worker(self, source: str) -> "Worker":
        """Return a process that has loaded this source: a kept one, or a new one."""
        for index in reversed(range(len(self._idle))):
            if self._idle[index][0] == source and self._idle[index][1].alive:
                return self._idle.pop(index)[1]
        start = {"source": source, "memory": self._memory, "files": MOST_FILE_BYTES}
        worker = await Worker.start(self.mode, worker_program(), self._packages)
        try:
            await worker.limited(dump(start))
            answer = await worker.answer(max(self._timeout, START_SECONDS))
            if "ready" not in answer:
                score_of(answer)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _keep(self, source: str, worker: "Worker") -> None:
        """Keep a worker for the next row of its source, and end the least recently used one."""
        if self._closed:
            await worker.close()
            return
        self._idle.append((source, worker))
        if len(self._idle) > self._workers:
            await self._idle.pop(0)[1].close()

    async def close(self) -> None:
        """End all processes. A second call has no effect."""
        self._closed = True
        workers = [*self._busy, *(worker for _, worker in self._idle)]
        self._idle.clear()
        for worker in workers:
            await worker.close()

    def __repr__(self) -> str:
        return f"PythonGraders({self.mode!r})"


@cache
def worker_program() -> str:
    """Return the text of the program that a child process runs."""
    return files("evals_async.grading").joinpath("_worker.py").read_text(encoding="utf-8")


def score_of(answer: Mapping[str, object]) -> float:
    """Return the score in a worker's line. Raises `GraderFault`, or `Unavailable` if a package is missing."""
    score = answer.get("score")
    if isinstance(score, int | float):
        return float(score)
    if answer.get("missing") is not None:
        raise Unavailable(f"a python grader needs the package {answer['missing']}, which cannot be imported here")
    raise GraderFault(str(answer.get("fault")))


@attrs.define(eq=False)
class Worker:
    """A child process for one source."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, mode: PythonMode, program: str, packages: tuple[str, ...]) -> Self:
        """Start a child process. Raises `Unavailable` if it cannot be started."""
        with contextlib.ExitStack() as kept:
            command = trusted(program)
            passed: tuple[int, ...] = ()
            if mode == "sandbox":
                rules = kept.enter_context(filter_file())
                command, passed = sandboxed(program, packages, rules), (rules,)
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment(),
                    limit=LONGEST_LINE,
                    pass_fds=passed,
                )
            except OSError as error:
                raise Unavailable(f"a python grader cannot be started: {error}", code=SERVER_ERROR) from None
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.process.returncode is None

    async def limited(self, start: bytes) -> None:
        """Send the first line, and wait until the process has set its limits. The source's code has not run yet.

        Raises `Unavailable` with the reason if the process fails before that.
        """
        try:
            answer = await self.ask(start, START_SECONDS)
        except GraderFault as fault:
            raise Unavailable(f"python graders cannot be run here: {fault}", code=SERVER_ERROR) from None
        if "limited" not in answer:
            raise Unavailable(
                "python graders cannot be run here: the process sent an unexpected line", code=SERVER_ERROR
            )

    async def ask(self, line: bytes, seconds: float) -> JSONObject:
        """Send a line and return the response. Raises `GraderFault` if the process takes too long or ends."""
        assert self.process.stdin is not None  # noqa: S101  # the process has pipes
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # the process has ended; `answer` raises the error
                    self.process.stdin.write(line + b"\n")
                    await self.process.stdin.drain()
        except TimeoutError:
            raise GraderFault(f"grade took more than {seconds:g} s") from None
        return await self.answer(seconds)

    async def answer(self, seconds: float) -> JSONObject:
        """Return the next line of the process. Raises `GraderFault` if it takes too long or ends."""
        assert self.process.stdout is not None  # noqa: S101  # the process has pipes
        try:
            async with asyncio.timeout(seconds):
                answer = await self.process.stdout.readline()
        except TimeoutError:
            raise GraderFault(f"grade took more than {seconds:g} s") from None
        except ValueError:
            raise GraderFault("the grader wrote to the pipe for results") from None
        try:
            found = as_object(parse(answer)) if answer else None
        except NotJSON:
            found = None
        if found is None:
            raise GraderFault(await self.end())
        return found

    async def end(self) -> str:
        """Describe why there is no response: the exit code, and the last line of stderr."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.process.wait()  # the process ends by itself, so it gets no signal
        assert self.process.stderr is not None  # noqa: S101  # the process has pipes
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        told = (await self.process.stderr.read(2000)).decode("utf-8", "replace").strip()
        await self.close()
        last = told.splitlines()[-1] if told else ""
        return f"the process of the grader ended (exit code {self.process.returncode}){': ' + last if last else ''}"

    async def close(self) -> None:
        """End the process, and wait until its pipes are closed. Otherwise asyncio warns about them at the end of
        the loop.
        """
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                for stream in (self.process.stdout, self.process.stderr):
                    await ended(stream)


async def ended(stream: asyncio.StreamReader | None) -> None:
    """Read and discard the rest of a stream. If another task reads it, that task gets the end."""
    with contextlib.suppress(RuntimeError):
        while stream is not None and await stream.read(LONGEST_LINE):
            pass
