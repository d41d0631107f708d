"""The floor plan holds: a module imports from lower floors only, and inside a room only from the modules above it."""

import ast
from pathlib import Path

import pytest

import evals_async


PACKAGE = Path(evals_async.__file__).parent

FLOORS: dict[str, int] = {
    "errors": 0,
    "clock": 0,
    "jsontext": 0,
    "settings": 1,
    "channel": 1,
    "fanout": 1,
    "listing": 1,
    "pagination": 1,
    "polling": 1,
    "sharing": 1,
    "models": 1,
    "store": 1,
    "codec": 2,
    "wire": 2,
    "server": 2,
    "webhooks": 3,
    "resources": 3,
    "client": 4,
    "archive": 5,
    "cli": 6,
    "pytest_plugin": 6,
    "__main__": 6,
    "__init__": 6,
}
"""The floor of every room and module at the top of the package."""

ORDER: dict[str, tuple[str, ...]] = {
    "": ("channel", "fanout", "listing", "pagination", "polling", "sharing", "models", "settings", "store"),
    "models": (
        *("base", "messages", "sources", "graders", "evals", "runs", "output_items"),
        *("files", "grader_runs", "events", "params"),
    ),
    "codec": ("mismatch", "leaves", "unions", "classes", "makers", "records"),
    "wire": (
        *("exchange", "auth", "trip", "delays", "failures"),
        *("retry", "limits", "connection", "transport", "pipeline"),
    ),
    "resources": ("base", "call", "output_items", "runs", "evals", "files", "graders"),
}
"""Who stands above whom inside a room, where that is not free: a module imports from those before it."""

FORBIDDEN: dict[str, set[str]] = {
    "server": {"codec", "models", "wire"},
    "wire": {"codec", "models"},
    "resources": {"client"},
}
"""What a room must not know although it is not higher."""

DOORWAYS: dict[str, set[str]] = {
    "aiohttp": {"wire/connection.py", "server"},
    "cattrs": {"codec"},
    "click": {"cli"},
    "msgspec": {"jsontext.py"},
    "pyarrow": {"archive"},
    "rich": {"cli"},
    "sqlite3": {"store"},
    "tenacity": {"wire/retry.py"},
}
"""Where alone a dependency may be imported, apart from annotations."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> tuple[str, str]:
    """The top-level name a file belongs to, and its own name within that room."""
    room, *rest = path.relative_to(PACKAGE).with_suffix("").parts
    return room, rest[0] if rest else ""


def imports_of(path: Path) -> list[tuple[str, str, bool]]:
    """Every import of ours in a file, hidden ones too: room, module in the room, and whether it is for annotations."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: list[tuple[str, str, bool]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "evals_async" and len(parts) > 1:
                found.append((parts[1], parts[2] if len(parts) > 2 else "", id(node) in guarded))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    """No module imports from its own floor's other rooms or from above, except down the order of its room."""
    room, module = room_of(path)
    assert room in FLOORS, f"{room} has no floor: add it to the plan"
    for other, inner, _ in imports_of(path):
        if other not in FLOORS:  # a public name of the package itself: only the top floor may use these
            assert FLOORS[room] == 6, f"{path.name} imports evals_async.{other}"
            continue
        assert other not in FORBIDDEN.get(room, set()), f"{room} must not know {other}"
        if other == room:
            order = ORDER.get(room, ())
            if module in order and inner in order:
                assert order.index(inner) < order.index(module), f"{room}/{module} imports {inner} from below itself"
        elif FLOORS[other] == FLOORS[room]:
            order = ORDER[""]
            if FLOORS[room] == 1:
                assert order.index(other) < order.index(room), f"{room} imports its neighbour {other}"
            else:
                assert FLOORS[room] == 6, f"{room} imports its neighbour {other}"
        else:
            assert FLOORS[other] < FLOORS[room], (
                f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_of_ours_is_for_annotations_only(path: Path) -> None:
    """A type that is needed above lives below; only the lazy package names what it exports under TYPE_CHECKING."""
    if path == PACKAGE / "__init__.py":
        return
    assert [] == [name for name, _, guarded in imports_of(path) if guarded]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_dependency_has_one_doorway(path: Path) -> None:
    """Third-party libraries are imported where the plan says, and nowhere else."""
    tree = ast.parse(path.read_text())
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    place = str(path.relative_to(PACKAGE))
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            doors = DOORWAYS.get(name.split(".")[0])
            assert doors is None or not doors.isdisjoint({place, place.split("/", maxsplit=1)[0]}), f"imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_says_what_lives_in_it(path: Path) -> None:
    """Every module has a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text()))
