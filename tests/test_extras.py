"""How extras are installed: the package is on no index, so no text may say that its name is enough."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

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


# --- the pages --------------------------------------------------------------------------------------------------------


GUIDES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
NEEDS = (
    (re.compile(r"evals-async "), "cli"),
    (re.compile(r"evals-async (report|compare .*--to)"), "report"),
    (re.compile(r"evals-async convert .*--to parquet"), "arrow"),
    (re.compile(r"evals-async regrade (?!.*--estimate)"), "arrow"),
    (re.compile(r"evals-async convert .*--to inspect"), "inspect"),
)
"""What a command of a page needs."""


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks, in order."""
    blocks = re.findall(r"^```shell\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_installs_before_it_uses(page: Path) -> None:
    """Who types the commands of a page from the top meets no missing extra: the line that installs it comes first."""
    installed: set[str] = set()
    for line in shell_lines(page):
        command = line.partition("  #")[0]
        for extras in re.findall(r"pip install .*\[([a-z,]+)\]", command):
            installed |= set(extras.split(","))
        missing = [extra for pattern, extra in NEEDS if pattern.search(command) and extra not in installed | {"all"}]
        if "pip install" not in line:
            assert [] == missing, line


def test_the_list_of_extras_is_complete() -> None:
    """The quickstart names every extra, and which of them `all` leaves out."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", page, re.MULTILINE))
    assert rows.keys() == optional.keys()
    everything = set(re.findall(r"[a-z]+", optional["all"][0].partition("[")[2]))
    left_out = {name for name, text in rows.items() if "not in `all`, because" in text}
    assert optional.keys() - {"all"} - left_out == everything
    assert set(re.findall(r"`([a-z]+)`", rows["all"])) == left_out
