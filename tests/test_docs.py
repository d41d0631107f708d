"""The documentation is correct: its programs run, its command lines parse, its lists are complete.

A block of Python runs with the environment of a reader who has set a key and a base URL: both lead to a local server
with a sample tree. `eval_id`, `run_id` and `run_ids` are the reader's own ids. Blocks of one page share their names and
their event loop. What must not run has `<!-- not run: REASON -->` on the line before it.
"""

import ast
import asyncio
import importlib
import inspect
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import attrs
import pytest

import evals_async
import evals_async.models
from evals_async import EvalsClient
from evals_async._settings import VARIABLES
from evals_async.server import LocalServer, SampleTree, sample_tree


ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

SHELLS = ("shell", "sh", "bash", "console")
FENCE = re.compile(r"^(`{3,})\s*(\S*)")
NOT_RUN = re.compile(r"^<!-- not run: (\S.*) -->$")
EVADES = re.compile(
    r"\s+`{3,}|~~~|`{3,}\s*(py|python3|pycon|\{code.*)\b"
)  # fences that `blocks` would not take for Python
MOST_NOT_RUN = 8  # in all pages: prose that is not run is prose that will be wrong one day
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBkb2NzIQ=="


@attrs.frozen
class Block:
    """A fenced block of a page: its language, the line that it begins on, and why it is not run, if it is not."""

    page: Path
    language: str
    line: int
    text: str
    not_run: str | None

    @property
    def is_test(self) -> bool:
        return re.search(r"^(async )?def test_", self.text, re.MULTILINE) is not None

    @property
    def brings_a_loop(self) -> bool:
        return "asyncio.run(" in self.text


def blocks(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    before = ""
    for number, line in lines:
        if (fence := FENCE.match(line)) is None:
            before = line
            continue
        inside: list[str] = []
        for _, text in lines:
            if text == fence[1]:
                break
            inside.append(text)
        reason = NOT_RUN.match(before)
        yield Block(page, fence[2], number + 1, "\n".join(inside) + "\n", reason[1] if reason else None)
        before = ""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python" and block.not_run is None]


def compiled(block: Block) -> CodeType:
    """The block's code, with the page's line numbers."""
    text = "\n" * (block.line - 1) + block.text
    code: CodeType = compile(text, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


async def run_block(block: Block, names: dict[str, Any]) -> None:
    code = compiled(block)
    if code.co_flags & inspect.CO_COROUTINE:
        await eval(code, names)
    elif block.brings_a_loop:
        await asyncio.to_thread(exec, code, names)
    else:
        exec(code, names)


async def run_program(*arguments: str, directory: Path) -> str:
    """What a Python program prints. It must succeed, and say nothing on stderr."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await program.communicate()
    assert not program.returncode, (out + err).decode()
    assert not err, err.decode()
    return out.decode()


@pytest.fixture
def tree() -> SampleTree:
    return sample_tree(runs=40, items=5)


@pytest.fixture
async def reader(tree: SampleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The reader's place: an empty directory, a server, and an environment that leads to it."""
    monkeypatch.chdir(tmp_path)
    async with LocalServer(queued_seconds=0, running_seconds=0) as server:
        await server.seed(**tree)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-reader")
        monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key-of-the-reader")
        yield server


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
async def test_python_of_a_page_runs(page: Path, reader: LocalServer, tree: SampleTree, tmp_path: Path) -> None:
    """Every block of Python does what a reader would do with it, one after the other."""
    run = next(run for run in tree["runs"] if run["status"] == "completed")
    of_the_same_eval = [other["id"] for other in tree["runs"] if other["eval_id"] == run["eval_id"]]
    names: dict[str, Any] = {"__name__": "__main__", "eval_id": run["eval_id"], "run_id": run["id"]}
    names["run_ids"] = of_the_same_eval
    try:
        for block in python_blocks(page):
            if not block.is_test:
                await run_block(block, names)
    finally:
        for value in list(names.values()):
            if isinstance(value, EvalsClient):
                await value.close()
    if tests := [block.text for block in python_blocks(page) if block.is_test]:
        (tmp_path / "test_of_the_page.py").write_text("\n\n".join(tests))
        options = ("-q", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
        out = await run_program("-m", "pytest", *options, "test_of_the_page.py", directory=tmp_path)
        assert f"{sum(text.count('def test_') for text in tests)} passed" in out


@pytest.mark.parametrize("program", EXAMPLES, ids=name_of)
async def test_example_runs(program: Path, reader: LocalServer, tmp_path: Path) -> None:
    """Every example is a whole program that works as it stands, and prints something."""
    assert await run_program("-W", "error", str(program), directory=tmp_path) != ""


def test_few_blocks_are_not_run() -> None:
    """A block that is not run says why to those who read the source, and there are few of them."""
    not_run = [block for page in PAGES for block in blocks(page) if block.not_run]
    assert {"python"} >= {block.language for block in not_run}
    assert len(not_run) <= MOST_NOT_RUN
    evading = [line for page in PAGES for line in page.read_text().splitlines() if EVADES.match(line)]
    assert not evading, "write ```python at the beginning of a line, so that it is run"


# --- command lines ---------------------------------------------------------------------------------------------------


PROGRAMS = frozenset(
    [
        "celery",
        "curl",
        "eval",
        "evals-async",
        "export",
        "git",
        "gunicorn",
        "nox",
        "pip",
        "pytest",
        "python",
        "python3",
        "uvicorn",
    ]
)


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of each line in the shell blocks of a page, without comment and assignments."""
    for block in blocks(page):
        if block.language not in SHELLS:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_shell_line_is_one_command(page: Path) -> None:
    """Each line of a shell block starts with a program, and only there: no two lines were joined, none was split."""
    for first, *others in shell_lines(page):
        assert Path(first).name in PROGRAMS
        assert "pip install" not in " ".join(others[2:])  # `python -m pip install` is one command
        assert not {"evals-async", "git", "nox"}.intersection(others)


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of every `evals-async ...` in the shell blocks of a page."""
    for first, *words in shell_lines(page):
        if Path(first).name == "evals-async":
            end = next((i for i, word in enumerate(words) if re.match(r"[0-9]?[<>|&;]", word)), len(words))
            yield words[:end]


COMMANDS = sorted({tuple(words) for page in PAGES for words in command_lines(page)})


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_line_parses(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line has commands and options that there are: asked for help, it gives it."""
    from evals_async.cli import main

    monkeypatch.setattr(sys, "argv", ["evals-async", *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        sys.exit(main())
    assert not ended.value.code


# --- lists -----------------------------------------------------------------------------------------------------------

REACHED = ("resources", "webhooks", "client", "errors", "cli", "pytest_plugin")
"""Modules whose names are reached through a client, or are known at the top level."""

DIRECTIVE = re.compile(r"^\.\. (?:py:)?(?:autoclass|autoexception|autofunction|type|data):: (\w+)")
MODULE = re.compile(r"^\.\. currentmodule:: (\S+)")


def documented() -> list[str]:
    """The full names in the reference."""
    names: list[str] = []
    module = ""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for line in page.read_text().splitlines():
            if found := MODULE.match(line):
                module = found[1]
            elif found := DIRECTIVE.match(line):
                names.append(f"{module}.{found[1]}")
    return names


def public_names() -> set[str]:
    """The full names of what the package and its public packages list in `__all__`, each where it is made known."""
    models = set(evals_async.models.PLACES)
    names = {f"evals_async.{name}" for name in evals_async.PLACES if name not in models}
    for found in pkgutil.iter_modules(evals_async.__path__, "evals_async."):
        own = found.name.removeprefix("evals_async.")
        if own.startswith("_") or own in REACHED:
            continue
        module = importlib.import_module(found.name)
        names |= {
            f"{found.name}.{name}"
            for name in getattr(module, "__all__", ())
            if name not in evals_async.PLACES or own == "models"
        }
    return names


def test_reference_is_complete() -> None:
    """Every public name is in the reference, once; a name of two modules is where it is made or told about."""
    names = documented()
    reached = {name for name in names if name.startswith(("evals_async.resources.", "evals_async.webhooks."))}
    assert public_names() == set(names) - reached
    assert len(names) == len(set(names))


def test_environment_is_complete() -> None:
    """Every environment variable that is read has a row in the table, and the table has no other."""
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "environment.md").read_text(), re.MULTILINE)
    assert sorted(VARIABLES) == sorted(rows)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file that is there."""
    prose = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]
    assert not [target for target in targets if target and not (page.parent / target).exists()]
