"""The programs of the guides that create and run evals: word for word with our client and with the official one."""

import ast
import inspect
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest


DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = "from evals_async import EvalsClient"
OFFICIAL = "from openai import AsyncOpenAI"


async def run(text: str, names: dict[str, Any]) -> None:
    """Run a block with bare awaits."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(text, "guide", "exec", flags=flags, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        await eval(code, names)
    else:
        exec(code, names)


def programs(page: str, heading: str) -> tuple[str, str]:
    """The first two blocks under a heading: what sets the place up, and the program."""
    section = (DOCS / page).read_text().split(f"\n## {heading}\n", 1)[1]
    setting, program, *_ = BLOCK.findall(section)
    return setting, program


def with_client(program: str, *, official: bool) -> str:
    """The program with the import and the constructor of one client, and nothing else changed."""
    ours, theirs = (OURS, OFFICIAL) if official else (OFFICIAL, OURS)
    found = program.replace(ours, theirs)
    return found.replace(f" {ours.split()[-1]}(", f" {theirs.split()[-1]}(")


@pytest.mark.parametrize(
    ("page", "heading"),
    [("quickstart.md", "Create and run"), ("guides/after.md", "Five minutes, without a model")],
    ids=["quickstart", "after"],
)
async def test_both_clients_run_the_program_with_equal_results(
    page: str, heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, counts, answers, scores and tokens are the same, line by line."""
    monkeypatch.chdir(tmp_path)
    setting, program = programs(page, heading)
    printed: list[list[str]] = []
    for official in (False, True):
        text = with_client(program, official=official)
        assert (OFFICIAL if official else OURS) in text
        names: dict[str, Any] = {}
        await run(setting, names)
        try:
            await run(text, names)
        finally:
            await names["server"].close()
            await names["scripted"].close()
        printed.append(sorted(capsys.readouterr().out.splitlines()))
    assert printed[0] == printed[1]
    assert len(printed[0]) >= 3
