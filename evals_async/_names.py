"""Names of packages that import a module when one of its names is first used (PEP 562).

`import evals_async` imports this module, so it imports nothing that the interpreter has not loaded already.
"""

import sys
from importlib import import_module


TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(package: str, places: "Mapping[str, str]") -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """Return `__getattr__` and `__dir__` of a package. `places` has the module of each name."""

    def look_up(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)  # so that the next look-up finds it without this function
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return look_up, listed
