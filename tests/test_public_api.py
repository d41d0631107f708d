"""The public names: one sorted list each for the package, its models and its server, and a docstring for everything."""

import ast
import importlib
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import evals_async


SHOWN = [
    "evals_async",
    "evals_async.comparison",
    "evals_async.grading",
    "evals_async.inference",
    "evals_async.models",
    "evals_async.server",
]
MODULES = [*SHOWN, "evals_async.resources", "evals_async._transport"]
LAZY = ["evals_async", "evals_async.models", "evals_async.resources"]
"""The packages whose names are looked up when they are used."""

EACH_MODULE = pytest.mark.parametrize("name", MODULES)


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each in order: how ruff sorts such lists."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@EACH_MODULE
def test_lists_are_sorted(name: str) -> None:
    """Each list of public names is in order, without repetitions."""
    names = list(importlib.import_module(name).__all__)
    expected = sorted(set(names), key=None if name in LAZY else sort_key)
    assert expected == names


@EACH_MODULE
def test_what_is_listed_can_be_imported(name: str) -> None:
    """Every listed name is there, `from module import *` gives all of them, and `dir` shows them."""
    module = importlib.import_module(name)
    found: dict[str, object] = {}
    exec(f"from {name} import *", found)
    assert set(module.__all__) == set(found) - {"__builtins__"}
    assert set(module.__all__) <= set(dir(module))


def declared(package: ModuleType) -> Iterator[tuple[str, str]]:
    """The names of a package that type checkers see, with the modules they come from."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.name == alias.asname, "without `as` it is not re-exported"
            yield alias.name, node.module


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_what_is_there(name: str) -> None:
    """The imports for type checkers name what is looked up at run time: the same names, from the same modules."""
    package = importlib.import_module(name)
    assert {shown: f"{name}.{home}" for shown, home in package.PLACES.items()} == dict(declared(package))
    assert sorted(package.PLACES) == sorted(shown for shown, _ in declared(package))


def test_the_package_has_source_files_only() -> None:
    """No leftover of a tool becomes a part of the wheel."""
    folder = Path(evals_async.__file__).parent
    kinds = {each.suffix for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts}
    assert kinds == {".py", ".typed", ".html", ".css", ".js"}


def test_unknown_names() -> None:
    """A name that is not there is told as Python tells it."""
    with pytest.raises(AttributeError, match="module 'evals_async' has no attribute 'EvalClient'"):
        _ = evals_async.EvalClient  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]  # on purpose
    with pytest.raises(ImportError):
        exec("from evals_async import EvalClient")


def public_things() -> Iterator[Any]:
    for name in SHOWN:
        module = importlib.import_module(name)
        for listed in module.__all__:
            thing = getattr(module, listed)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{name}.{listed}")


@pytest.mark.parametrize("thing", list(public_things()))
def test_everything_public_is_explained(thing: Any) -> None:
    """Each public class and function is ours and has a docstring of its own, and so have a class's public methods."""
    assert thing.__module__.startswith("evals_async.")
    assert inspect.isfunction(thing) or "__doc__" in vars(thing)
    assert (thing.__doc__ or "").strip()
    silent: list[str] = []
    for name, member in vars(thing).items() if inspect.isclass(thing) else ():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and not name.startswith("_") and not inspect.getdoc(getattr(thing, name)):
            silent.append(name)
    assert silent == []


@pytest.mark.parametrize("name", sorted(evals_async.PLACES))
def test_public_classes_can_be_pickled_by_name(name: str) -> None:
    """A public class is found again under the name that it says it has."""
    thing = getattr(evals_async, name)
    if inspect.isclass(thing):
        assert thing is pickle.loads(pickle.dumps(thing))
