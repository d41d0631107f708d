"""Pages on the server, for browsers only, and as one file: what they say, and that nothing of a stranger gets out."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from evals_async import Eval, EvalRun, EvalsClient, MissingExtra, OutputItem, decode
from evals_async.archive import Archive
from evals_async.report import write_report
from evals_async.report.pages import asset, environment
from evals_async.report.texts import LONGEST, parts_of, shown
from evals_async.server import Fault, LocalServer

from .conftest import EVAL, HOSTILE, item_of, run_of


PNG, SVG = "data:image/png;base64,AA==", "data:image/svg+xml;base64,AA=="
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def get(server: LocalServer, path: str, accept: str | None = BROWSER["Accept"]) -> tuple[int, str, Any]:
    """Status, body and headers of an answer."""
    headers = {} if accept is None else {"Accept": accept}
    url = server.base_url.removesuffix("/v1") + path
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.text(), response.headers


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", ["Evals", "Pages &amp; &lt;b&gt;more&lt;/b&gt;"]),
        ("/v1", ["Evals"]),
        ("/v1/evals", ["Evals"]),
        (f"/v1/evals/{EVAL}", ["The run short", "The run long", "string check"]),
        (f"/v1/evals/{EVAL}/runs/short", ["50.0 %", "Answer 3 of the model", "It is so, 3.", "rate_limited: too many"]),
        (f"/openai/v1/evals/{EVAL}/runs/short", ["The run short"]),
        (f"/v1/compare?a={EVAL}/short&b={EVAL}/long", ["10 rows aligned", "110 rows only in B", "No row flipped"]),
    ],
)
async def test_pages_for_browsers(server: LocalServer, path: str, words: list[str]) -> None:
    """A browser finds a page at each address: evals, an eval, a run, a comparison."""
    status, body, headers = await get(server, path)
    assert 200 == status
    assert "text/html; charset=utf-8" == headers["Content-Type"]
    for word in words:
        assert word in body
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ("nosniff", "no-store", "Accept") == tuple(
        headers[name] for name in ("X-Content-Type-Options", "Cache-Control", "Vary")
    )


@pytest.mark.parametrize("accept", [None, "application/json", "*/*"])
async def test_programs_get_json_as_before(server: LocalServer, accept: str | None) -> None:
    """Who does not ask for HTML gets the API."""
    for path in ("/v1/evals", f"/v1/evals/{EVAL}", f"/v1/evals/{EVAL}/runs/short"):
        status, body, headers = await get(server, path, accept)
        assert (200, "application/json") == (status, headers["Content-Type"])
        assert json.loads(body)["object"] in ("list", "eval", "eval.run")
    async with EvalsClient(base_url=server.base_url, api_key="k") as client:
        assert "short" == (await client.evals.runs.retrieve("short", eval_id=EVAL)).id


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/evals/nowhere", 404),
        (f"/v1/evals/{EVAL}/runs/nowhere", 404),
        (f"/v1/evals/{EVAL}/runs/short?after=nowhere", 404),
        ("/v1/compare", 400),
        (f"/v1/compare?a={EVAL}/short&b={EVAL}/nowhere", 404),
        (f"/v1/compare?a={EVAL}/short&b={EVAL}/long&cluster=topic", 422),
    ],
)
async def test_what_is_not_there_is_told_on_a_page(server: LocalServer, path: str, status: int) -> None:
    """A browser is told on a page why there is none; the way back is on it."""
    found, body, _ = await get(server, path)
    assert status == found
    assert 'href="/v1/evals"' in body


async def test_the_policy_names_style_and_script(server: LocalServer) -> None:
    """The policy allows the page's own style and script by their hashes, and nothing else."""
    _, body, headers = await get(server, f"/v1/evals/{EVAL}/runs/short")
    policy = headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"<\w[^<>]*\s(?:style|on\w+)=", re.sub(r"<(style|script)>.*?</\1>", "", body, flags=re.DOTALL))


def test_the_script_is_short() -> None:
    """At most a hundred lines of plain JavaScript, which fetch nothing."""
    script = asset("script.js")
    assert len(script.splitlines()) <= 100
    assert not re.search(r"fetch|XMLHttp|innerHTML|import|eval|document\.write|https?:", script)


@pytest.mark.parametrize("where", [f"/v1/evals/{EVAL}/runs/hostile", f"/v1/evals/{EVAL}"])
async def test_nothing_of_a_stranger_gets_out(server: LocalServer, where: str) -> None:
    """Texts of a hostile author are escaped everywhere; marks that turn the writing are shown; long texts are cut."""
    status, body, _ = await get(server, where)
    assert 200 == status
    assert "<script>window" not in body
    assert "<img src=x" not in body
    assert "{{ 7*7 }}" in body
    assert "\u202e" not in body
    assert "\\u202e" in body
    assert len(body) < 400_000


async def test_text_and_verdict_filters(server: LocalServer) -> None:
    """The form's fields filter on the server; a text is found wherever it stands, whatever its case."""
    path = f"/v1/evals/{EVAL}/runs/long"
    for query, count in (
        ("verdict=fail", 48),
        ("verdict=error", 24),
        ("q=answer+117+OF", 1),
        ("verdict=fail&q=It+is+so,+7.", 1),
        ("verdict=pass&q=It+is+so,+7.", 0),
        ("q=nothing+like+it", 0),
    ):
        _, body, _ = await get(server, f"{path}?{query}")
        assert count == body.count('<details class="item'), query
    _, body, _ = await get(server, f"{path}?q=%3Cscript%3E")
    assert 'value="&lt;script&gt;"' in body


async def test_pages_of_items(server: LocalServer) -> None:
    """All items are reached by Next, in order and once each, and Previous leads back."""
    path = f"/v1/evals/{EVAL}/runs/long"
    seen: list[str] = []
    trail: list[str] = []
    following: str | None = path
    body = ""
    while following is not None:
        trail.append(following)
        _, body, _ = await get(server, following)
        seen += re.findall(r"output_items/(item_\d+)", body)
        found = re.search(r'rel="next" href="([^"#]+)', body)
        following = found[1].replace("&amp;", "&") if found else None
    assert [f"item_{number:06}" for number in range(120)] == seen
    assert 3 == len(trail)
    back = re.search(r'rel="prev" href="([^"#]+)', body)
    assert back is not None
    _, body, _ = await get(server, back[1].replace("&amp;", "&"))
    assert [f"item_{number:06}" for number in range(50, 100)] == re.findall(r"output_items/(item_\d+)", body)


async def test_foundry_items_are_filtered_by_their_results(server: LocalServer) -> None:
    """Where every item is `completed`, the verdict is that of its results."""
    items = [
        {
            **item_of("foundry", number),
            "status": "completed",
            "sample": None,
            "results": [{"name": "x", "passed": number < 3}],
        }
        for number in range(8)
    ]
    await server.seed(runs=[run_of("foundry")], output_items=items)
    _, body, _ = await get(server, f"/v1/evals/{EVAL}/runs/foundry?verdict=pass")
    assert 3 == body.count('<details class="item pass')
    assert 0 == body.count('<details class="item fail')


async def test_a_run_on_its_way_is_shown_as_it_is(server: LocalServer) -> None:
    """The page of a run that is not over is counted anew each time; that of a finished run is kept."""
    await server.seed(runs=[run_of("moving", status="in_progress")])
    path = f"/v1/evals/{EVAL}/runs/moving"
    _, body, _ = await get(server, path)
    assert "There are no items yet: the run is in progress." in body
    await server.seed(output_items=[item_of("moving", 0)])
    _, body, _ = await get(server, path)
    assert "1 item<" in body.replace("1 item\n", "1 item<").replace("1 item.", "1 item<")


async def test_judges_without_structured_output_are_named(server: LocalServer) -> None:
    """The page says which judge answered without structured output, how often, and in which items."""
    items = [item_of("degraded", number) for number in range(3)]
    items[0]["results"][0]["sample"]["degraded"] = "plain text"
    await server.seed(runs=[run_of("degraded")], output_items=items)
    _, body, _ = await get(server, f"/v1/evals/{EVAL}/runs/degraded")
    assert "The judge <bdi>judge-2025</bdi> returned no structured output 1 time." in body
    assert 1 == body.count('class="fact warn"')


async def test_an_incomplete_archive_is_shown_with_a_warning(server: LocalServer, tmp_path: Path) -> None:
    """What an interrupted export has is shown to people, and each page says that something is missing."""
    file = tmp_path / "evals.db"
    server.faults.add(Fault(route="/evals/{eval_id}/runs/{run_id}/output_items", status=404, times=None))
    async with EvalsClient(base_url=server.base_url, api_key="k") as client, Archive.open(file) as archive:
        report = await archive.export(client)
    assert not report.complete
    async with LocalServer(file, read_only=True) as archived:
        status, body, _ = await get(archived, f"/v1/evals/{EVAL}/runs/short")
        assert (200, True) == (status, "The archive is incomplete." in body)
        assert 200 == (await get(archived, f"/v1/evals/{EVAL}"))[0]


async def test_a_listing_that_was_interrupted_is_shown(server: LocalServer, tmp_path: Path) -> None:
    """Where the API answers 409, because a listing is not whole, a page shows what there is."""
    file = tmp_path / "evals.db"
    server.faults.add(Fault(route="/evals/{eval_id}/runs", status=404, times=None))
    async with EvalsClient(base_url=server.base_url, api_key="k") as client, Archive.open(file) as archive:
        await archive.export(client)
    path = f"/v1/evals/{EVAL}"
    async with LocalServer(file, read_only=True) as archived:
        assert 409 == (await get(archived, path + "/runs", "application/json"))[0]
        status, body, _ = await get(archived, path)
        assert (200, True, True) == (status, "The archive is incomplete." in body, "There are no runs." in body)
        assert 404 == (await get(archived, path + "?after=nowhere"))[0]


async def test_pages_need_their_extra(server: LocalServer, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Without Jinja2 a browser and a program are told what to install."""

    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("evals_async.report.pages.import_module", absent)
    environment.cache_clear()
    status, body, _ = await get(server, "/v1/evals")
    assert (501, True) == (status, "pip install '.[report]' in a clone" in body)
    with pytest.raises(MissingExtra):
        await write_report(file, decode(json.dumps(run_of("x")).encode(), EvalRun), [])


# --- one file ---------------------------------------------------------------------------------------------------------


def item(number: int, **fields: Any) -> OutputItem:
    return decode(json.dumps(item_of("run", number, **fields)).encode(), OutputItem)


RUN = decode(json.dumps(run_of("run", error={"code": "x", "message": "It broke."})).encode(), EvalRun)


async def test_a_file_needs_nothing(file: Path) -> None:
    """The file has no address of anything, its own policy, and all items."""

    async def items() -> AsyncIterator[OutputItem]:
        for number in range(25):
            yield item(number)

    facts = await write_report(file, RUN, items(), Eval(id=EVAL, name="Pages"))
    text = file.read_text(encoding="utf-8")
    assert 25 == facts.items == text.count('<details class="item')
    assert not re.findall(r'(?:src|href|action)="(?!#|data:)', text)
    assert 'http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;' in text
    assert "frame-ancestors" not in text
    assert "x: It broke." in text


async def test_long_runs_keep_failures_first(file: Path) -> None:
    """Numbers are over all items; of those the file lists, errors and failures come before passes."""
    facts = await write_report(file, RUN, (item(number) for number in range(100)), most_items=70)
    text = file.read_text(encoding="utf-8")
    assert (100, 40, 40, 20) == (facts.items, facts.verdicts["pass"], facts.verdicts["fail"], facts.verdicts["error"])
    assert "70 of 100 items are in this file, errors and failures first." in text
    kinds = re.findall(r'<details class="item (\w+)"', text)
    assert (10, 40, 20) == (kinds.count("pass"), kinds.count("fail"), kinds.count("error"))
    places = re.findall(r'<span class="place">(\d+)</span>', text)
    assert sorted(places, key=int) == places


async def test_facts_of_criteria(file: Path) -> None:
    """Each criterion has its counts without errors in the rate, and a histogram where scores say more than verdicts."""
    facts = await write_report(file, RUN, (item(number) for number in range(10)))
    judge, word = facts.criteria.values()
    assert (0.5, True, 0.5) == (judge.rate, judge.scored, judge.mean)
    assert [(0.25, 4), (0.75, 4)] == [(round(bin.low, 2), bin.count) for bin in judge.bins() if bin.count]
    assert (1.0, False) == (word.rate, word.scored)
    assert 1 == file.read_text(encoding="utf-8").count('class="histogram"')
    assert {"judge-2025": (8, 80, 40), "model-2025": (10, 30, 20)} == {
        name: (count.calls, count.prompt, count.completion) for name, count in facts.tokens()
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, []),
        ("text", [("text", None, None)]),
        ([{"type": "input_text", "text": "a"}, "b"], [("a", None, None), ("b", None, None)]),
        ({"type": "input_image", "image_url": "https://x/y.png"}, [("https://x/y.png", None, "image")]),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            [("", "data:image/png;base64,AA==", "image")],
        ),
        (
            {"type": "input_image", "image_url": "data:image/svg+xml;base64,AA=="},
            [("data:image/svg+xml;base64,AA==", None, "image")],
        ),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, [("wav, 3 bytes", None, "audio")]),
        ({"type": "new", "x": [1]}, [('{\n  "type": "new",\n  "x": [\n    1\n  ]\n}', None, "new")]),
        (7, [("7", None, None)]),
    ],
)
def test_parts_of_messages(content: Any, found: list[Any]) -> None:
    """Text is text; images are shown only if they are in the page already; what is unknown is shown as JSON."""
    assert found == [(part.text.text, part.image, part.kind) for part in parts_of(content)]


def test_texts_are_made_fit() -> None:
    """What cannot be seen is shown as its escape, line ends are one kind, and a cut is counted."""
    assert "a\\u202eb\\x00\nc\td" == shown("a\u202eb\x00\r\nc\td").text
    assert "\\ud800" == shown("\ud800").text
    assert 1 == shown("y" * (LONGEST + 1)).cut
    assert HOSTILE.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066") == shown(HOSTILE).text
