"""Pages in a real browser: filters, paging, keyboard, a hostile author; no error, and no request beyond the server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evals_async import EvalRun, OutputItem, decode
from evals_async.report import write_report
from evals_async.server import LocalServer

from .conftest import EVAL, Watched, hostile_item, item_of, run_of


if TYPE_CHECKING:
    from playwright.async_api import Browser

ITEMS = "details.item:visible"
NAMELESS = """() => [...document.querySelectorAll(
    'input:not([type=hidden]), select, button, [role=region], svg[role=img]')]
  .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length)))
  .map(e => e.outerHTML)"""
# The ratio of WCAG 2, of every element that has a text of its own.
CONTRAST = """() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
  }
  const ground = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor
      if (!/, 0\\)|transparent/.test(color)) return color
    }
    return 'rgb(255, 255, 255)'
  }
  const hasText = e => [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
  return [...document.querySelectorAll('main *')].filter(e => hasText(e) && e.offsetParent).map(e => {
    const a = light(getComputedStyle(e).color), b = light(ground(e))
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className || e.tagName]
  })
}"""


def address(server: LocalServer, rest: str) -> str:
    return f"{server.base_url}/evals/{EVAL}{rest}"


async def written(file: Path, count: int) -> str:
    """The address of a file with a run of that many items and a hostile one."""
    items = [*(item_of("run", number) for number in range(count)), {**hostile_item(), "run_id": "run", "id": "hostile"}]
    models = [decode(json.dumps(item).encode(), OutputItem) for item in items]
    await write_report(file, decode(json.dumps(run_of("run")).encode(), EvalRun), models)
    return file.as_uri()


async def test_pages_fit_a_telephone_and_ask_for_nothing(server: LocalServer, watched: Watched) -> None:
    """Every page fits 390 pixels, without a request beyond its own, and without a word on the console."""
    compare = f"{server.base_url}/compare?a={EVAL}/short&b={EVAL}/hostile"
    pages = [f"{server.base_url}/evals", address(server, ""), address(server, "/runs/short"), compare]
    for url in pages:
        await watched.page.goto(url)
        assert await watched.page.evaluate("document.documentElement.scrollWidth") <= 390, url
        assert 1 == await watched.page.locator("h1").count()
    assert pages == watched.asked


async def test_from_the_index_to_a_comparison(server: LocalServer, watched: Watched) -> None:
    """A person gets from the list of evals to a run, and on to a comparison, by links and forms."""
    page = watched.page
    await page.goto(server.base_url.removesuffix("/v1"))
    await page.get_by_role("link", name="Pages & <b>more</b>").click()
    await page.get_by_role("link", name="The run long").click()
    assert "The run long" == await page.get_by_role("heading", level=1).inner_text()
    await page.get_by_label("Compare with the run").select_option(f"{EVAL}/short")
    await page.get_by_role("button", name="Compare").click()
    assert "Comparison" == await page.get_by_role("heading", level=1).inner_text()
    assert await page.get_by_text("10 rows aligned").is_visible()


async def test_filters_and_paging_on_the_server(server: LocalServer, watched: Watched) -> None:
    """A verdict is chosen at once, a text with Enter; pages lead through all that fit."""
    page = watched.page
    await page.goto(address(server, "/runs/long"))
    assert 50 == await page.locator(ITEMS).count()
    await page.get_by_role("link", name="Next").click()
    assert "Answer 50 of the model" in await page.locator(ITEMS).first.inner_text()
    await page.get_by_role("link", name="Previous").click()
    await page.locator("input[name=verdict][value=error]").check()
    await page.wait_for_url("**verdict=error**")
    assert 24 == await page.locator(ITEMS).count()
    await page.get_by_role("searchbox").fill("question 114?")
    await page.get_by_role("searchbox").press("Enter")
    await page.wait_for_url("**q=question**")
    assert 1 == await page.locator(ITEMS).count()
    assert await page.locator("input[name=verdict][value=error]").is_checked()


async def test_filters_in_a_file(file: Path, watched: Watched) -> None:
    """In a file the same form filters what is there, and says how many are shown."""
    from playwright.async_api import expect

    page = watched.page
    await page.goto(await written(file, 20))
    assert 21 == await page.locator(ITEMS).count()
    await page.locator("input[name=verdict][value=fail]").check()
    await expect(page.locator(ITEMS)).to_have_count(9)
    await page.get_by_role("searchbox").fill("ANSWER 13")
    await expect(page.locator(ITEMS)).to_have_count(1)
    assert (await page.get_by_role("status").inner_text()).startswith("1 of 21 shown.")
    await page.get_by_role("button", name="Open all").click()
    assert await page.get_by_text("It is so, 13.").is_visible()


async def test_keyboard(file: Path, watched: Watched) -> None:
    """Without a mouse: the first key press leads to the content, j and k go through the items, / goes to the search."""
    page = watched.page
    await page.goto(await written(file, 5))
    await page.keyboard.press("Tab")
    assert "Skip to the content" == await page.evaluate("document.activeElement.textContent")
    for key in ("j", "j", "k", "j"):
        await page.keyboard.press(key)
    await page.keyboard.press("Enter")
    assert await page.locator("details.item").nth(1).get_attribute("open") is not None
    await page.keyboard.press("/")
    assert "q" == await page.evaluate("document.activeElement.name")


@pytest.mark.parametrize("where", ["server", "file"])
async def test_a_hostile_author(server: LocalServer, file: Path, watched: Watched, where: str) -> None:
    """Scripts, marks that turn the writing and five megabytes of text do nothing, and the page stays usable."""
    page = watched.page
    await page.goto(address(server, "/runs/hostile") if where == "server" else await written(file, 3))
    await page.get_by_role("button", name="Open all").click()
    assert await page.get_by_text("more characters are not shown here").first.is_visible()
    assert await page.evaluate("window.hacked === undefined")
    assert 0 == await page.locator("main script, main img, main a[href^=javascript]").count()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    assert 1 == len(watched.asked)


async def test_screen_readers(server: LocalServer, watched: Watched) -> None:
    """Every field, table and region has a name, verdicts are words, and headings do not skip a level at the top."""
    page = watched.page
    await page.goto(address(server, "/runs/short"))
    nameless = await page.evaluate(NAMELESS)
    assert [] == nameless
    first = await page.locator("details.item > summary").nth(2).inner_text()
    assert "fail" in first
    levels = await page.evaluate("[...document.querySelectorAll('h1, h2')].map(e => e.tagName)")
    assert "H1" == levels[0]
    assert {"H2"} == set(levels[1:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast(server: LocalServer, browser: "Browser", scheme: str) -> None:
    """Text stands out from its ground by the ratio that WCAG asks for, 4.5, in both schemes."""
    page = await browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
    await page.goto(address(server, "/runs/short"))
    ratios = await page.evaluate(CONTRAST)
    assert len(ratios) > 30
    assert [] == [entry for entry in ratios if entry[0] < 4.5]
