"""The guide on reliability is correct: every row of its fault matrix names tests that there are, and its table of
what is sent again is the one in the code.
"""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from evals_async._transport.retry import MANY, RETRIES


TESTS = Path(__file__).parent.parent
GUIDE = (TESTS.parent / "docs" / "guides" / "reliability.md").read_text()
ROWS: dict[str, str] = dict(re.findall(r"^\| ([A-Z][0-9]{2}) \|.*\| (.+) \|$", GUIDE, re.MULTILINE))
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)(?:\[(\w+)\])?`")
COUNTS = {"S": 14, "R": 3, "C": 15, "B": 15, "P": 9, "I": 10, "W": 5, "L": 11, "V": 2}
WORDS = {0: "no", 1: "once", MANY: "yes"}


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@cache
def cases() -> list[str]:
    """The ids of all cases of the table of faults."""
    spec = importlib.util.spec_from_file_location("faults", TESTS / "transport" / "test_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [case.id for case in module.TABLE]


def test_no_row_is_missing() -> None:
    """All rows are there, each once, in order."""
    expected = [f"{letter}{number:02}" for letter, count in COUNTS.items() for number in range(1, count + 1)]
    assert expected == re.findall(r"^\| ([A-Z][0-9]{2}) \|", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("row", "named"), ROWS.items(), ids=ROWS)
def test_the_tests_of_a_row_are_there(row: str, named: str) -> None:
    """Each named test exists, with a case of that row where the row is in the table of faults."""
    tests = NAMED.findall(named)
    assert len(tests) == len(named.split(", ")) > 0
    for file, function, case in tests:
        assert function in functions_of(file), f"{file} has no {function}"
        assert not case or [found for found in cases() if found.startswith(f"{row} ")], f"no case of {row}"
        assert case in ("", row)


def test_what_is_sent_again_is_what_the_guide_says() -> None:
    """The words in the guide's table are the numbers in the code's."""
    section = GUIDE.split("## What is sent again")[1].split("##")[0]
    table = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    told = [[cell.strip() for cell in cells[1:]] for cells in table]
    kinds = ("read", "create", "update", "cancel", "delete")
    assert told == [[WORDS[row[kind]] for kind in kinds] for row in RETRIES.values()]  # type: ignore[index]
