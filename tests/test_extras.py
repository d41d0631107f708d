"""How extras are installed: the package is on no index, so no text may say that its name is enough."""

import re
from importlib.metadata import version
from pathlib import Path

from evals_async._extras import extra_missing, how_to_install


ROOT = Path(__file__).parent.parent
BY_NAME = re.compile(r"pip install\s+(?:-\S+\s+)*['\"]?evals[-_]async(?!\S*\.whl)")


def test_the_words_name_a_clone_and_a_wheel() -> None:
    """Both ways are there, with the extras and with the version that is installed."""
    assert how_to_install("arrow", "graders") == (
        "pip install '.[arrow,graders]' in a clone of the repository, or "
        f"pip install 'evals_async-{version('evals-async')}-py3-none-any.whl[arrow,graders]' with a built wheel"
    )
    assert 'report pages need the extra "report"; install it with: pip install' in extra_missing(
        "report pages need", "report"
    )


def test_nothing_says_that_the_name_is_enough() -> None:
    """Neither a message of the program nor a page tells anybody to install it by its name from an index."""
    assert BY_NAME.search('pip install "evals-async[cli]"')
    assert not BY_NAME.search("pip install 'evals_async-0.1.0-py3-none-any.whl[cli]'")
    files = [*(ROOT / "evals_async").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    found = [
        f"{file.name}: {line}"
        for file in files
        if "_build" not in file.parts
        for line in file.read_text(encoding="utf-8").splitlines()
        if BY_NAME.search(line) and "does not work" not in line
    ]
    assert [] == found
