"""Pages of objects that no page was made for: one strange object hides nothing but itself, and none is a 500."""

from typing import Any

import pytest
from plainhttp import PlainHttp

from evals_async.server import LocalServer


BIG = 10**400  # a valid JSON number that no float can hold
BROWSER = {"Accept": "text/html"}
SAMPLE = {"model": "m", "output": [{"role": "assistant", "content": "x"}]}


def deep(levels: int) -> object:
    made: object = 1
    for _ in range(levels):
        made = {"a": made}
    return made


def item(**fields: Any) -> dict[str, Any]:
    results = [{"name": "A", "passed": True, "score": 1.0}]
    ids = {"object": "eval.run.output_item", "id": "item", "run_id": "strange", "eval_id": "e"}
    row = {"datasource_item_id": 0, "datasource_item": {"q": "a question"}}
    return {**ids, "created_at": 1, "status": "pass", **row, "results": results, "sample": SAMPLE, **fields}


def scored(score: object, **fields: object) -> dict[str, Any]:
    return item(results=[{"name": "A", "passed": True, "score": score, **fields}])


def said(content: object) -> dict[str, Any]:
    return item(sample={"model": "m", "output": [{"role": "assistant", "content": content}]})


async def seeded(
    server: LocalServer, *, run: dict[str, Any] | None = None, evaluation: dict[str, Any] | None = None, **objects: Any
) -> None:
    """Store a plain eval with a plain run, and with a run named `strange`; `evaluation` is a second eval."""
    plain = {"object": "eval.run", "eval_id": "e", "status": "completed", "created_at": 1}
    others = [] if evaluation is None else [evaluation]
    await server.seed(
        evals=[{"object": "eval", "id": "e", "name": "The plain eval", "created_at": 1}, *others],
        runs=[{**plain, "id": "plain", "name": "The plain run"}, {**plain, "id": "strange", **(run or {})}],
        **objects,
    )


ITEMS = {
    "a score without a float": scored(BIG),
    "a threshold without a float": scored(0.5, threshold=BIG),
    "scores at both ends": item(
        results=[{"name": "A", "passed": True, "score": 1.7e308}, {"name": "A", "passed": True, "score": -1.7e308}]
    ),
    "counts without a float": item(sample={**SAMPLE, "usage": {"prompt_tokens": BIG, "total_tokens": -1}}),
    "a large seed": item(sample={**SAMPLE, "seed": BIG}),
    "a large position": item(datasource_item_id=BIG),
    "a deep row": item(datasource_item=deep(900)),
    "a deep message": said(deep(900)),
    "a judge who nests": scored(1.0, sample={"output": [{"role": "assistant", "content": "[" * 2000 + "]" * 2000}]}),
    "parts of any type": said([1, None, {"text": None}, {"type": "image_url", "image_url": {"url": 5}}]),
    "a lone surrogate in the id": item(id="i\ud800"),
    "nothing in it": item(results=None, sample=None, datasource_item=None),
}


@pytest.mark.parametrize("name", ITEMS)
async def test_items_of_any_kind_have_a_page(name: str) -> None:
    """Every page of the run is there, also a search in its items. A comparison is there, or says why not."""
    async with LocalServer() as server, PlainHttp(server, headers=BROWSER) as http:
        await seeded(server, output_items=[ITEMS[name]])
        for path in ("/evals/e/runs/strange", "/evals/e/runs/strange?q=zz", "/evals/e", "/evals"):
            assert 200 == (await http.send("GET", path)).status, path
        assert (await http.send("GET", "/compare?a=e/strange&b=e/strange")).status in (200, 422)


RUNS: dict[str, dict[str, Any]] = {
    "a name that is no text": {"name": 5},
    "a time that is no integer": {"created_at": 1.5},
    "a time without a date": {"created_at": BIG},
    "counts that are no counts": {"result_counts": {"total": -5, "passed": BIG}},
    "counts without passes": {"result_counts": {"total": 3, "failed": 3}},
    "deep metadata": {"metadata": {"a": deep(900)}},
    "a deep source": {"data_source": {"type": "jsonl", "extra": deep(900)}},
    "a lone surrogate in the id": {"id": "strange\ud800"},
    "a lone surrogate in the error": {"error": {"code": None, "message": "\ud800"}},
    "usage without a float": {"per_model_usage": [{"model_name": "m", "invocation_count": BIG}]},
}


@pytest.mark.parametrize("name", RUNS)
async def test_a_strange_run_hides_no_other_run(name: str) -> None:
    """The list of runs and the page of another run are there. The strange run has a page, or a page with the reason."""
    async with LocalServer() as server, PlainHttp(server, headers=BROWSER) as http:
        await seeded(server, run=RUNS[name], output_items=[item()])
        listed = await http.send("GET", "/evals/e")
        assert 200 == listed.status
        assert b"The plain run" in listed.body
        assert b"strange" in listed.body
        assert 200 == (await http.send("GET", "/evals/e/runs/plain")).status
        assert (await http.send("GET", "/evals/e/runs/strange")).status in (200, 404, 422)


EVALS: dict[str, dict[str, Any]] = {
    "a name that is no text": {"name": 5},
    "criteria that are no objects": {"testing_criteria": [5]},
    "a deep criterion": {"testing_criteria": [{"type": "x", "name": deep(900)}]},
    "a config that is no object": {"data_source_config": 5},
    "a time without a date": {"created_at": BIG},
    "a lone surrogate in the id": {"id": "strange\ud800"},
}


@pytest.mark.parametrize("name", EVALS)
async def test_a_strange_eval_hides_no_other_eval(name: str) -> None:
    """The list of evals has both. The strange one has a page, or a page with the reason."""
    async with LocalServer() as server, PlainHttp(server, headers=BROWSER) as http:
        await seeded(server, evaluation={"object": "eval", "id": "strange", "created_at": 2, **EVALS[name]})
        listed = await http.send("GET", "/evals")
        assert 200 == listed.status
        assert b"The plain eval" in listed.body
        assert b"strange" in listed.body
        assert 200 == (await http.send("GET", "/evals/e")).status
        assert (await http.send("GET", "/evals/strange")).status in (200, 404, 422)


async def test_items_that_cannot_be_shown_are_counted() -> None:
    """An item that cannot be decoded is left out, and the page says so."""
    async with LocalServer() as server, PlainHttp(server, headers=BROWSER) as http:
        await seeded(server, output_items=[item(), item(id="other", results=5)])
        shown = (await http.send("GET", "/evals/e/runs/strange")).body.decode()
    assert "1 item" in shown
    assert "1 cannot be shown" in shown


async def test_runs_without_their_eval_id_are_compared_by_the_eval_of_the_page() -> None:
    """The forms of both pages name the eval, also if the body of a run does not."""
    async with LocalServer() as server, PlainHttp(server, headers=BROWSER) as http:
        await seeded(server)
        await server.seed(runs=[{"id": "strange", "eval_id": "e", "status": "completed"}])
        page = (await http.send("GET", "/evals/e/runs/strange")).body.decode()
    assert 'name="b" value="e/strange"' in page
    assert 'value="e/plain"' in page
