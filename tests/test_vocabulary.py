"""The words of the package are the usual ones of HTTP clients, and a class name stands for one class.

`WORDS` maps a word that must not occur to the one to write instead. See the rules in `docs/contributing.md`.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "evals_async").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

WORDS = {
    "house": "package",
    "room": "package, capacity, width, space",
    "floor": "layer, minimum",
    "doorway": "module, import site",
    "gate": "rate limiter",
    "turnstile": "rate limiter, queue",
    "patience": "timeout",
    "trip": "attempt",
    "weather": "retry state",
    "endure": "retry",
    "journey": "call",
    "crew": "workers",
    "tally": "progress, counts",
    "thaw": "unfrozen",
    "settle": "resolve",
    "night": "fault test",
    "seam": "interface",
    "truth": "expected value",
}
ENDINGS = r"(?:s|d|ed|ing)?"
BANNED = re.compile("|".join(rf"\b{re.sub('y$', '(?:y|ies?)', word)}{ENDINGS}\b" for word in WORDS), re.IGNORECASE)
ALLOWED = re.compile(r"round.trips?", re.IGNORECASE)  # the usual word for a request and its response
CODE = re.compile(r"`[^`]*`")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)

ONE_NAME_SEVERAL_CLASSES: dict[str, str] = {}
"""Class names that stand for several classes, each with the reason."""


def banned_in(text: str) -> list[str]:
    """The banned words in a text, without those in inline code."""
    return BANNED.findall(ALLOWED.sub("", CODE.sub("", text)))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def defined_names(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines: classes, functions, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def words_of(name: str) -> str:
    """The words of an identifier, in snake case or camel case."""
    return re.sub(r"_|(?<=[a-z0-9])(?=[A-Z])", " ", name)


def prose_of(path: Path) -> Iterator[str]:
    """The docstrings and comments of a module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def test_a_class_name_stands_for_one_class() -> None:
    """No two classes of the package have the same name, so a name in an error or a traceback is unambiguous."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in PACKAGE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    several = {name: found for name, found in places.items() if len(found) > 1}
    assert {} == {name: found for name, found in several.items() if name not in ONE_NAME_SEVERAL_CLASSES}
    assert ONE_NAME_SEVERAL_CLASSES.keys() <= several.keys()


def test_names_are_usual_words() -> None:
    """No module, class, function, argument or variable of the package or of its tests has a banned word in its name."""
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in [*PACKAGE, *TESTS]
        for name in [path.stem, *defined_names(tree_of(path))]
        if banned_in(words_of(name))
    }
    assert set() == found


def test_docstrings_and_comments_use_usual_words() -> None:
    """No docstring and no comment of the package has a banned word outside of inline code."""
    found = [
        (str(path.relative_to(ROOT)), word, text.strip()[:80])
        for path in PACKAGE
        for text in prose_of(path)
        for word in banned_in(text)
    ]
    assert [] == found


def test_pages_use_usual_words() -> None:
    """No page of the documentation has a banned word outside of code."""
    found = [
        (str(path.relative_to(ROOT)), word)
        for path in PAGES
        for word in banned_in(FENCE.sub("", path.read_text(encoding="utf-8")))
    ]
    assert [] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The floors, one crew and its tallies", ["floors", "crew", "tallies"]),
        ("It settled and endured the weather.", ["settled", "endured", "weather"]),
        ("A gateway, a triple, the nightly `room` and a round trip", []),
        (words_of("PatienceForMany"), ["Patience"]),
        (words_of("room_for"), ["room"]),
    ],
)
def test_banned_words_are_found(text: str, expected: list[str]) -> None:
    """Plurals, past forms and parts of identifiers are found; longer words, inline code and `round trip` are not."""
    assert expected == banned_in(text)
