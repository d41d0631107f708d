"""Runs for pages: a plain one, a long one, and one whose author is hostile; and a browser that tells what it saw."""

import importlib.util
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from evals_async.server import LocalServer


if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

EVAL = "eval_pages"
HOSTILE = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">\u202e\u2066\'"&{{ 7*7 }}'
LONG = "x" * 5_000_000

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def no_browser() -> str | None:
    """Why no browser can be had, if none can."""
    if CHROMIUM is None:
        return "no Chromium: install Debian's package chromium"
    return None if importlib.util.find_spec("playwright") else "not installed: playwright"


def judged(passed: bool, number: int) -> dict[str, Any]:
    answer = {
        "steps": [{"description": "Look closely.", "conclusion": f"It is so, {number}."}],
        "result": 0.25 + passed / 2,
    }
    return {
        "name": "Judge-11111111-1111-4111-8111-111111111111",
        "passed": passed,
        "score": answer["result"],
        "sample": {
            "model": "judge-2025",
            "input": [{"role": "user", "content": "Judge it."}],
            "output": [{"role": "assistant", "content": json.dumps(answer)}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            "error": None,
        },
    }


def item_of(run: str, number: int, **fields: Any) -> dict[str, Any]:
    """An item: two of five fail, one of five is an error."""
    kind = ("pass", "pass", "fail", "fail", "error")[number % 5]
    results = (
        [] if kind == "error" else [judged(kind == "pass", number), {"name": "Word", "passed": True, "score": 1.0}]
    )
    return {
        "object": "eval.run.output_item",
        "id": f"item_{number:06}",
        "run_id": run,
        "eval_id": EVAL,
        "created_at": 1_700_000_000 + number,
        "status": kind,
        "datasource_item_id": number,
        "datasource_item": {"question": f"Question {number}?", "answer": {"n": number}},
        "results": results,
        "sample": {
            "model": "model-2025",
            "input": [{"role": "user", "content": f"Question {number}?"}],
            "output": [{"role": "assistant", "content": f"Answer {number} of the model"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cached_tokens": 0},
            "error": {"code": "rate_limited", "message": "too many"} if kind == "error" else None,
        },
        **fields,
    }


def run_of(run: str, **fields: Any) -> dict[str, Any]:
    return {
        "object": "eval.run",
        "id": run,
        "eval_id": EVAL,
        "name": f"The run {run}",
        "status": "completed",
        "created_at": 1_700_000_000,
        "model": "model",
        "report_url": f"http://127.0.0.1/v1/evals/{EVAL}/runs/{run}",
        "data_source": {"type": "completions", "source": {"type": "file_id", "id": "file_1"}, "model": "model"},
        **fields,
    }


def hostile_item() -> dict[str, Any]:
    result = {"name": HOSTILE, "passed": False, "score": 0.0, "label": HOSTILE, "reason": HOSTILE, "type": HOSTILE}
    call = {"type": "function", "function": {"name": HOSTILE, "arguments": json.dumps({"x": HOSTILE})}}
    return item_of(
        "hostile",
        2,
        datasource_item={HOSTILE: HOSTILE, "long": LONG, "lone": "\ud800"},
        datasource_item_id=HOSTILE,
        results=[result],
        sample={
            "model": HOSTILE,
            "input": [{"role": HOSTILE, "content": [{"type": "input_image", "image_url": "javascript:alert(1)"}]}],
            "output": [{"role": "assistant", "content": HOSTILE + LONG, "tool_calls": [call]}],
            "finish_reason": HOSTILE,
        },
    )


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    """A server with an eval and three runs: of 10 items, of 120, and of a hostile author."""
    async with LocalServer() as running:
        definition = {"type": "string_check", "name": "Word", "input": "{{ sample.output_text }}", "operation": "eq"}
        await running.seed(
            evals=[
                {
                    "object": "eval",
                    "id": EVAL,
                    "name": "Pages & <b>more</b>",
                    "created_at": 1_700_000_000,
                    "testing_criteria": [{**definition, "reference": HOSTILE}],
                    "data_source_config": {"type": "custom", "schema": {}},
                }
            ],
            runs=[run_of("short"), run_of("long"), run_of("hostile", name=HOSTILE, metadata={HOSTILE: HOSTILE})],
            output_items=[
                *(item_of("short", number) for number in range(10)),
                *(item_of("long", number) for number in range(120)),
                hostile_item(),
            ],
        )
        yield running


@attrs.define
class Watched:
    """A page of a browser, what went wrong in it, and what it asked for."""

    page: "Page"
    trouble: list[str] = attrs.Factory(list[str])
    asked: list[str] = attrs.Factory(list[str])

    def requested(self, url: str) -> None:
        if not url.startswith("data:"):
            self.asked.append(url)


@pytest.fixture
async def browser() -> AsyncIterator["Browser"]:
    """A headless Chromium."""
    if reason := no_browser():
        pytest.skip(reason)
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        await running.close()


@pytest.fixture
async def watched(browser: "Browser") -> AsyncIterator[Watched]:
    """A page as wide as a telephone, in which nothing may go wrong."""
    page = await browser.new_page(viewport={"width": 390, "height": 844})
    found = Watched(page)
    page.on("console", lambda message: found.trouble.append(message.text))
    page.on("pageerror", lambda error: found.trouble.append(str(error)))
    page.on("request", lambda request: found.requested(request.url))
    yield found
    assert [] == found.trouble


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a page is written."""
    return tmp_path / "run.html"
