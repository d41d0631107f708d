"""The documentation as a reader sees it: the built pages in a browser, at the width of a telephone."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from waiting import LONGEST


if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parents[2] / "docs"
TELEPHONE = {"width": 390, "height": 844}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LITERAL_MARKUP = re.compile(
    r":::|\{(?:important|note|warning|eval-rst|toctree)\}|^#{1,4} |\]\([^)\s]+\)|\*\*\w[^*\n]*\*\*", re.MULTILINE
)
PROSE = """() => {
  const copy = document.querySelector('article, body').cloneNode(true)
  copy.querySelectorAll('pre, code, script, style').forEach(node => node.remove())
  return copy.textContent
}"""


def missing() -> str | None:
    """Why these tests cannot run here, if they cannot."""
    if CHROMIUM is None:
        return "no Chromium: install Debian's package chromium"
    needed = ("playwright", "sphinx", "furo", "myst_parser", "sphinx_copybutton", "sphinx_llm_friendly")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-n",
        "-W",
        "-b",
        "html",
        "-d",
        str(out / ".trees"),
        str(DOCS),
        str(out),
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def page() -> Iterator["Page"]:
    """A page of a browser as wide as a telephone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport=TELEPHONE)  # type: ignore[arg-type]  # a TypedDict of theirs
        browser.close()


def html_pages(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts and path.name != "search.html")


def test_every_page_reads_well(site: Path, page: "Page") -> None:
    """No page shows markup, scrolls sideways, or has an error in the browser's console; each has a title."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in html_pages(site):
        page.goto(path.as_uri())
        name = path.relative_to(site)
        prose: str = page.evaluate(PROSE)
        assert not (found := LITERAL_MARKUP.search(prose)), f"{name} shows {found}"
        wide: int = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= TELEPHONE["width"], f"{name} is {wide} pixels wide"
        assert page.title(), name
    assert errors == []


def test_every_link_leads_somewhere(site: Path, page: "Page") -> None:
    """Each link within the site leads to a page that is there, and to a place on it that is there."""
    links: set[tuple[str, str]] = set()
    anchors: dict[Path, set[str]] = {}
    for path in html_pages(site):
        page.goto(path.as_uri())
        found: list[str] = page.evaluate("Array.from(document.links, link => link.href)")
        links |= {(str(path.relative_to(site)), target) for target in found if target.startswith("file:")}
        anchors[path] = set(page.evaluate("Array.from(document.querySelectorAll('[id]'), node => node.id)"))
    assert links
    for source, target in sorted(links):
        address, anchor = urldefrag(target)
        path = Path(unquote(urlsplit(address).path))
        assert path.exists(), f"{source} links to {path.name}, which is not there"
        if anchor and path in anchors:
            assert unquote(anchor) in anchors[path], f"{source} links to #{anchor} on {path.name}, which is not there"


def test_code_can_be_copied(site: Path, page: "Page") -> None:
    """Blocks of code have a copy button."""
    page.goto((site / "quickstart.html").as_uri())
    assert page.locator("button.copybtn").count() >= 1


def test_the_landing_page_leads_on(site: Path, page: "Page") -> None:
    """The landing page says how to install, shows a program, and links to the first guides."""
    page.goto((site / "index.html").as_uri())
    article = page.locator("article")
    text = article.inner_text()
    assert "pip install" in text
    assert "async with EvalsClient()" in text
    for target in ("quickstart", "before-30-november", "guides/after"):
        assert article.locator(f"a[href*='{target}']").count() >= 1, target


def test_there_is_a_text_for_machines(site: Path) -> None:
    """`llms.txt` lists every page, and each has its text beside it."""
    listed = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text())
    assert "quickstart.md" in listed
    assert not [name for name in listed if not (site / name).exists()]
