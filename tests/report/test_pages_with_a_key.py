"""Report pages of a server that has a key: the browser asks for it as a password, and nobody else can use that."""

import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from evals_async.server import LocalServer

from .conftest import EVAL, item_of, run_of


if TYPE_CHECKING:
    from playwright.async_api import Browser

KEY = "sk-pages-ä:1"
HTML, JSON = "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"
PATHS = ["/", "/v1", "/v1/evals", f"/v1/evals/{EVAL}", f"/v1/evals/{EVAL}/runs/short", "/v1/compare?a=x&b=y"]


@pytest.fixture
async def locked() -> AsyncIterator[LocalServer]:
    """A server with a key, an eval and a run."""
    async with LocalServer(api_key=KEY) as server:
        await server.seed(
            evals=[{"object": "eval", "id": EVAL, "name": "Locked", "created_at": 1, "testing_criteria": []}],
            runs=[run_of("short")],
            output_items=[item_of("short", number) for number in range(4)],
        )
        yield server


def basic(password: str, user: str = "me") -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def get(
    server: LocalServer, path: str, authorization: str | None = None, accept: str = HTML, method: str = "GET"
) -> tuple[int, str, Any]:
    """Status, body and headers of an answer."""
    headers = {"Accept": accept} | ({} if authorization is None else {"Authorization": authorization})
    url = server.base_url.removesuffix("/v1") + path
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        return response.status, await response.text(), response.headers


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_key_a_page_asks_for_a_password(locked: LocalServer, path: str) -> None:
    """Every page: nothing of the store is shown, and the browser is told to ask."""
    status, body, headers = await get(locked, path)
    assert (401, 'Basic realm="evals-async", charset="UTF-8"') == (status, headers["WWW-Authenticate"])
    assert "text/html; charset=utf-8" == headers["Content-Type"]
    assert "Enter it as the password" in body
    assert "Locked" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("user", ["", "me", "a b"])
async def test_with_the_key_as_the_password_pages_open(locked: LocalServer, user: str) -> None:
    """Whatever the user name is; a bearer token will do as well."""
    for path in PATHS[:-1]:
        for authorization in (basic(KEY, user), f"Bearer {KEY}"):
            status, body, headers = await get(locked, path, authorization)
            assert (200, True, False) == (status, "Locked" in body or "The run short" in body, KEY in body)
            assert "WWW-Authenticate" not in headers


@pytest.mark.parametrize(
    "authorization",
    [basic("wrong"), basic(""), basic(KEY[:-1]), "Basic", "Basic !!!", "Basic " + b64encode(KEY.encode()).decode()[:5]],
)
async def test_a_wrong_password_is_asked_for_again(locked: LocalServer, authorization: str) -> None:
    """Also a broken one."""
    status, body, headers = await get(locked, "/v1/evals", authorization)
    assert (401, True, False) == (status, "WWW-Authenticate" in headers, "Locked" in body)


@pytest.mark.parametrize("path", [*PATHS[2:5], "/v1/files"])
async def test_the_api_accepts_no_password(locked: LocalServer, path: str) -> None:
    """A browser adds a password to requests that other sites make it send: the API refuses it, and does not ask."""
    status, _, headers = await get(locked, path, basic(KEY), JSON)
    assert (401, False) == (status, "WWW-Authenticate" in headers)
    status, _, headers = await get(locked, f"/v1/evals/{EVAL}", basic(KEY), HTML, "DELETE")
    assert (401, False) == (status, "WWW-Authenticate" in headers)
    assert 200 == (await get(locked, "/v1/evals", f"Bearer {KEY}", JSON))[0]


async def test_the_password_is_in_no_log(locked: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither as it is, nor as the header has it."""
    with caplog.at_level(logging.DEBUG):
        assert 200 == (await get(locked, "/v1/evals", basic(KEY)))[0]
        assert 401 == (await get(locked, "/v1/evals", basic(KEY + "x")))[0]
    for told in (caplog.text, repr(list(locked.requests)), repr(locked)):
        assert KEY not in told
        assert basic(KEY)[6:] not in told


async def test_without_the_extra_the_answer_is_plain_text(locked: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question for the password needs no page."""

    def absent(name: str) -> None:
        raise ImportError(name=name)

    monkeypatch.setattr("evals_async.report.pages.import_module", absent)
    status, body, headers = await get(locked, "/v1/evals")
    assert (401, True) == (status, "WWW-Authenticate" in headers)
    assert "Enter it as the password" in body


async def test_in_a_browser(browser: "Browser", locked: LocalServer) -> None:
    """The person enters the key once, and goes from page to page; with a wrong one there is no page."""
    good = await browser.new_context(http_credentials={"username": "", "password": KEY})
    page = await good.new_page()
    await page.goto(f"{locked.base_url}/evals")
    await page.get_by_text("Locked").first.click()
    await page.get_by_text("The run short").first.click()
    assert await page.get_by_text("Answer 3 of the model").count()
    assert KEY not in page.url
    await good.close()
    bad = await browser.new_context(http_credentials={"username": "", "password": "wrong"})
    page = await bad.new_page()
    answer = await page.goto(f"{locked.base_url}/evals")
    assert answer is not None
    assert 401 == answer.status
    await bad.close()
