"""What contributors are told to run is what CI runs, and what tests promise about themselves is so."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest


ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci" / "run"


@pytest.mark.skipif(not CI.exists(), reason="a source distribution has no CI")
def test_ci_runs_what_contributors_are_told_to_run() -> None:
    """Every session of plain `nox` is run by CI: the tests by the README's own lines, the others by name."""
    nox = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    [sessions] = re.findall(r"^nox\.options\.sessions = \[(.*)\]$", nox, re.MULTILINE)
    ci = CI.read_text(encoding="utf-8")
    [named] = re.findall(r"^\.venv/bin/nox -s (.*)$", ci, re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```shell\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert ".venv/bin/pytest" in blocks[1]  # CI runs the second block
    assert "README.md" in ci
    assert set(re.findall(r'"(\w+)"', sessions)) <= {"tests", *named.split()}
    assert "nox" in (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")


@attrs.define
class CollectedTest:
    """A test as pytest collects it, with the names of its marks, where repeating is possible or not."""

    marks: set[str]
    can_repeat: bool = True

    @property
    def config(self) -> Any:
        return self

    @property
    def pluginmanager(self) -> Any:
        return self

    def has_plugin(self, name: str) -> bool:
        return self.can_repeat and name == "rerunfailures"

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, mark: str) -> None:
        self.marks.add(mark)


def conftest() -> ModuleType:
    spec = spec_from_file_location("conftest_of_all_tests", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_tests_that_measure_time_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that fails now and then has a race, and must stay red; only one that compares real seconds is repeated."""
    measuring, plain, alone = (
        CollectedTest({"measures_time"}),
        CollectedTest({"slow"}),
        CollectedTest({"measures_time"}),
    )
    alone.can_repeat = False
    module = conftest()

    def flaky(*, reruns: int) -> str:
        return f"{reruns} times at most"

    monkeypatch.setattr(module, "pytest", SimpleNamespace(mark=SimpleNamespace(flaky=flaky)))  # needs no plugin
    module.pytest_collection_modifyitems([measuring, plain, alone])
    assert {"measures_time", "2 times at most"} == measuring.marks
    assert ({"slow"}, {"measures_time"}) == (plain.marks, alone.marks)
    assert "reruns" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "--reruns" not in (ROOT / "noxfile.py").read_text(encoding="utf-8")
