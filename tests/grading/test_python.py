"""Python graders: what they give, and what the sandbox refuses."""

import asyncio
import errno
import os
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from waiting import LONGEST, until

from evals_async import ConfigurationError, InvalidArgument
from evals_async.grading import PythonGraders, check_source, grade
from evals_async.grading.python import GraderFault, PythonMode
from evals_async.grading.seccomp import (
    ALLOW,
    ANY_BIT,
    AT_LEAST,
    CLONE3,
    CLONE_THREAD,
    EQUAL,
    ERROR,
    KILL,
    LOAD,
    MACHINES,
    RETURN,
    filter_program,
)
from evals_async.grading.similarity import Unavailable


CHECK = "def grade(sample, item):\n    return 1.0 if sample['output_text'] == item['answer'] else 0.25\n"
EACH_MODE = pytest.mark.parametrize("mode", ["sandbox", "trusted"])


REASONS: dict[PythonMode, str | None] = {}


async def graders(mode: PythonMode, timeout: float = LONGEST, workers: int = 2) -> PythonGraders:
    """Graders of that mode, or the reason why the test is skipped."""
    if mode not in REASONS:
        async with PythonGraders(mode) as first:
            try:
                await first.check()
                REASONS[mode] = None
            except Unavailable as error:
                REASONS[mode] = str(error)
    if (reason := REASONS[mode]) is not None:
        pytest.skip(reason)
    return PythonGraders(mode, timeout=timeout, workers=workers)


@pytest.fixture
async def sandbox() -> AsyncIterator[PythonGraders]:
    async with await graders("sandbox") as python:
        yield python


def criterion(source: str, **more: object) -> dict[str, object]:
    return {"type": "python", "name": "own", "source": source, **more}


@EACH_MODE
async def test_a_grade_by_code(mode: PythonMode) -> None:
    """The function sees sample and item, and its number is the score; without a threshold 0.5 passes."""
    async with await graders(mode) as python:
        right = await grade(criterion(CHECK), item={"answer": "4"}, sample={"output_text": "4"}, python=python)
        wrong = await grade(criterion(CHECK), item={"answer": "4"}, sample={"output_text": "5"}, python=python)
        own = criterion(CHECK, pass_threshold=0.2)
        lenient = await grade(own, item={"answer": "4"}, sample={"output_text": "5"}, python=python)
    assert [(each.score, each.passed) for each in (right, wrong, lenient)] == [(1.0, True), (0.25, False), (0.25, True)]


@EACH_MODE
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return item['missing']", "KeyError: 'missing' (line 2)"),
        ("return 'x'", "grade returned str, which is not a number"),
        ("return None", "grade returned NoneType, which is not a number"),
        ("return float('nan')", "not a finite number"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("import os; os._exit(3)", "the process of the grader ended (exit code 3)"),
        ("return grade(sample, item)", "RecursionError"),
    ],
)
async def test_code_that_fails_gives_zero(mode: PythonMode, body: str, told: str) -> None:
    """An exception or a value that is no number: score 0, failed and not errored, the cause beside it."""
    async with await graders(mode) as python:
        given = await grade(criterion(f"def grade(sample, item):\n    {body}"), item={}, python=python)
    assert (given.score, given.passed, given.error) == (0.0, False, None)
    assert given.cause is not None
    assert given.cause["code"] == "python_grader_runtime_error"
    assert told in str(given.cause["message"])


@EACH_MODE
async def test_numbers_of_every_kind(mode: PythonMode) -> None:
    """True is 1, and numbers of libraries are numbers."""
    sources = {
        "def grade(sample, item):\n    return True": 1.0,
        "def grade(sample, item):\n    print('noise'); return 2": 2.0,
        "from fractions import Fraction\ndef grade(sample, item):\n    return Fraction(1, 4)": 0.25,
        "grade = lambda sample, item: 0.5": 0.5,
        "def grade(sample, item, *, extra=1):\n    return 1": 1.0,
    }
    async with await graders(mode) as python:
        assert [await python.score(source, {}, {}) for source in sources] == list(sources.values())


@EACH_MODE
async def test_an_endless_loop_is_ended(mode: PythonMode) -> None:
    """After the timeout the process is gone, the row has 0, and the next row gets a new process."""
    source = "def grade(sample, item):\n    while item['loop']: pass\n    return 1"
    async with await graders(mode, timeout=3) as python:
        with pytest.raises(GraderFault, match="more than 3 s"):
            await python.score(source, {}, {"loop": True})
        assert await python.score(source, {}, {"loop": False}) == 1.0


@EACH_MODE
async def test_memory_is_limited(mode: PythonMode) -> None:
    """Four gigabytes are not to be had."""
    async with await graders(mode) as python:
        with pytest.raises(GraderFault, match="MemoryError"):
            await python.score("def grade(sample, item):\n    return len(bytearray(4 * 2**30))", {}, {})


REFUSED = {
    "network": (
        "import socket\n",
        "socket.create_connection(('127.0.0.1', item['port']), 2)",
        "OSError|refused|unreachable",
    ),
    "names": ("import socket\n", "socket.getaddrinfo('localhost.example', 80)", "gaierror"),
    "files of the host": ("", "open(item['file']).read()", "FileNotFoundError"),
    "passwords": ("", "open('/etc/passwd').read()", "FileNotFoundError"),
    "this project": ("", "open(item['project']).read()", "FileNotFoundError"),
    "writing": ("", "open('/file', 'w')", "Read-only file system|PermissionError"),
    "packages are read-only": ("", "open('/packages/file', 'w')", "Read-only file system|PermissionError"),
    "a large file": ("", "open('/tmp/file', 'wb').write(bytes(2**27))", "OSError"),
    "forks": ("import os\n", "os.fork()", "PermissionError"),
    "programs": (
        "import subprocess, sys\n",
        "subprocess.run([sys.executable, '-c', ''])",
        "PermissionError|BlockingIOError",
    ),
    "processes": ("import multiprocessing as m\n", "m.Process(target=print).start()", "PermissionError|OSError"),
    "namespaces": ("import ctypes\n", "1 / (1 + ctypes.CDLL(None).unshare(0x10000000))", "ZeroDivisionError"),
    "signals to others": ("import os\n", "os.kill(item['pid'], 15)", "ProcessLookupError|PermissionError"),
    "more memory": (
        "import resource\n",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "ValueError|PermissionError",
    ),
    "packages that are not allowed": ("import pytest\n", "1", "pytest"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_sandbox_refuses(name: str, sandbox: PythonGraders, tmp_path: Path) -> None:
    """No network, no file of the machine, no new process, no way to raise the limits."""
    imports, call, told = REFUSED[name]
    secret = tmp_path / "secret"
    secret.write_text("secret")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        item = {
            "file": str(secret),
            "project": __file__,
            "port": server.sockets[0].getsockname()[1],
            "pid": os.getpid(),
        }
        with pytest.raises((GraderFault, Unavailable), match=told):
            await sandbox.score(f"{imports}def grade(sample, item):\n    {call}\n    return 1", {}, item)


async def test_what_the_sandbox_allows(sandbox: PythonGraders) -> None:
    """Libraries for numbers, threads, and files of its own in /tmp."""
    source = (
        "import threading, numpy\n"
        "def grade(sample, item):\n"
        "    thread = threading.Thread(target=lambda: open('/tmp/own', 'w').write('x'))\n"
        "    thread.start(); thread.join()\n"
        "    return numpy.float32(len(open('/tmp/own').read()) / 2)\n"
    )
    pytest.importorskip("numpy")
    assert await sandbox.score(source, {}, {}) == 0.5


@EACH_MODE
async def test_no_key_is_in_its_environment(mode: PythonMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker sees nothing of its parent's environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-parent")
    source = "import os\ndef grade(sample, item):\n    return float('sk-of-the-parent' in str(dict(os.environ)))"
    async with await graders(mode) as python:
        assert await python.score(source, {}, {}) == 0.0


@EACH_MODE
async def test_a_warm_process_serves_many_rows(mode: PythonMode) -> None:
    """One process for the rows of a source: its module is loaded once."""
    source = "import os\nseen = []\ndef grade(sample, item):\n    seen.append(1)\n    return len(seen)"
    async with await graders(mode, workers=1) as python:
        assert [await python.score(source, {}, {}) for _ in range(5)] == [1, 2, 3, 4, 5]


@EACH_MODE
async def test_workers_are_bounded_and_end(mode: PythonMode) -> None:
    """Many sources at once use at most two processes at a time, and none is left at the end."""
    sources = [f"import os\ndef grade(sample, item):\n    return {number}" for number in range(6)]
    async with await graders(mode, workers=2) as python:
        assert await asyncio.gather(*(python.score(source, {}, {}) for source in sources)) == list(range(6))
        assert 1 <= python.processes <= 2
    assert python.processes == 0
    with pytest.raises(Unavailable, match="closed"):
        await python.score(sources[0], {}, {})


async def test_a_cancelled_call_ends_its_process() -> None:
    """Nothing works on for a row that nobody waits for."""
    async with await graders("trusted", workers=1) as python:
        call = asyncio.ensure_future(python.score("def grade(sample, item):\n    while True: pass", {}, {}))
        await until(lambda: python.processes > 0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert python.processes == 0
        assert await python.score(CHECK, {"output_text": "a"}, {"answer": "a"}) == 1.0


async def test_closing_is_no_grade() -> None:
    """A call that `close` ends is an error: nobody's code failed, and no 0 is made up."""
    python = await graders("trusted")
    call = asyncio.ensure_future(
        grade(criterion("def grade(sample, item):\n    while True: pass"), item={}, python=python)
    )
    await until(lambda: python.processes > 0)
    await python.close()
    given = await call
    assert given.score is None
    assert given.error is not None
    assert given.error["message"] == "the PythonGraders object was closed"


async def test_a_process_that_cannot_limit_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where limits cannot be set nothing is run: an error, and not the code's fault."""
    broken = "import sys\nsys.stdin.readline()\nraise ImportError('no module resource')\n"
    monkeypatch.setattr("evals_async.grading.python.worker_program", lambda: broken)
    async with PythonGraders("trusted") as python:
        with pytest.raises(Unavailable, match=r"cannot be run here: .*ImportError: no module resource"):
            await python.score(CHECK, {"output_text": "a"}, {"answer": "a"})


async def test_off_says_how_to_switch_it_on() -> None:
    """Without graders, or with `off`, a python grader is an error that names the switch."""
    async with PythonGraders() as off:
        for python in (None, off):
            given = await grade(criterion(CHECK), item={}, python=python)
            assert given.score is None
            assert given.error is not None
            assert "--python-graders sandbox" in str(given.error["message"])


async def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox is refused with the reason; there is no other way that is taken instead."""
    monkeypatch.setenv("PATH", "/nowhere")
    async with PythonGraders("sandbox") as python:
        with pytest.raises(Unavailable, match="apt-get install bubblewrap"):
            await python.check()
        given = await grade(criterion(CHECK), item={}, python=python)
    assert given.error is not None
    assert given.error["code"] == "python_grader_server_error"


async def test_a_sandbox_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where user namespaces are off, bubblewrap's own words are the reason."""
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    async with PythonGraders("sandbox") as python:
        with pytest.raises(Unavailable, match=r"cannot be run here: .*bwrap: No permissions to create new namespace"):
            await python.check()


def verdict(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """What the kernel would say to a system call: the few instructions of the filter, carried out."""
    data = struct.pack("<IIQQ", number, arch, 0, argument)
    at = held = 0
    while True:
        code, then, otherwise, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == LOAD:
            (held,) = struct.unpack_from("<I", data, value)
        elif code == RETURN:
            return int(value)
        else:
            found = {EQUAL: held == value, AT_LEAST: held >= value, ANY_BIT: bool(held & value)}[code]
            at += then if found else otherwise


@pytest.mark.parametrize(
    ("machine", "read", "refused"),
    [("x86_64", 0, {"fork": 57, "vfork": 58, "unshare": 272}), ("aarch64", 63, {"unshare": 97, "ptrace": 117})],
)
def test_the_filter_of_system_calls(machine: str, read: int, refused: dict[str, int]) -> None:
    """New processes and namespaces are refused, threads are not, and calls of another machine end the process."""
    program, known = filter_program(machine), MACHINES[machine]
    denied = ERROR | errno.EPERM
    assert verdict(program, known.arch, read) == ALLOW
    assert {name: verdict(program, known.arch, number) for name, number in refused.items()} == dict.fromkeys(
        refused, denied
    )
    assert verdict(program, known.arch, known.clone, 0x11) == denied
    assert verdict(program, known.arch, known.clone, 0x11 | CLONE_THREAD) == ALLOW
    assert verdict(program, known.arch, CLONE3) == ERROR | errno.ENOSYS
    assert verdict(program, known.arch, read + 0x40000000) == denied
    assert verdict(program, known.arch + 1, read) == KILL


def test_a_machine_that_is_not_known_is_refused() -> None:
    """Without the numbers of its system calls there is no filter, and so no sandbox."""
    with pytest.raises(Unavailable, match="not riscv64"):
        filter_program("riscv64")


async def test_a_package_that_is_missing_is_an_error() -> None:
    """That a library is not there is no fault of the code: the row is errored, with the library's name."""
    async with await graders("trusted") as python:
        given = await grade(criterion("import nosuch_library\n" + CHECK), item={}, python=python)
    assert given.error is not None
    assert "nosuch_library" in str(given.error["message"])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "no function `grade` at its top level"),
        ("class A:\n    def grade(self, sample, item): return 1", "no function `grade`"),
        ("def grade(sample): return 1", "must take exactly two arguments"),
        ("def grade(sample, item, more): return 1", "must take exactly two arguments"),
        ("def grade(sample, item", "is not valid Python"),
        ("def grade(sample, item):\n    return 1\n\0", "is not valid Python"),
        ("#" * (256 * 1024 + 1), "more than 256 kB"),
        ("(" * 10_000, "is not valid Python"),
    ],
)
def test_a_source_that_cannot_be_a_grader(source: str, told: str) -> None:
    """Told before any run, with what is missing."""
    with pytest.raises(InvalidArgument, match=told):
        check_source(source)


@pytest.mark.parametrize(
    "source", [CHECK, "from x import grade", "grade = print", "def grade(*args): ...", "def grade(s, i, n=1): ..."]
)
def test_sources_that_may_be_graders(source: str) -> None:
    """Whatever binds the name at the top level is let through."""
    check_source(source)


@pytest.mark.parametrize("settings", [{"mode": "on"}, {"timeout": 0}, {"memory": 1}, {"workers": 0}])
def test_settings_are_checked(settings: dict[str, object]) -> None:
    """What cannot be right is refused when the graders are made."""
    with pytest.raises(ConfigurationError):
        PythonGraders(**settings)  # type: ignore[arg-type]  # on purpose
