"""What a notebook shows of runs, items, pages and evals: HTML in which everything is escaped."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from evals_async import EvalsClient, _html
from evals_async._codec import structure
from evals_async.models import Eval, EvalRun, OutputItem
from evals_async.server import LocalServer, sample_tree


EVIL = "<script>alert('x')</script>\"&"


def html_of(thing: Any) -> str:
    """What IPython asks a thing for."""
    shown: str = thing._repr_html_()
    return shown


class Reader(HTMLParser):
    """Reads HTML: which tags there are, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def read(html: str) -> Reader:
    """HTML that is read, and well formed."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert [] == reader.open
    return reader


def everything(body: dict[str, Any]) -> Any:
    """A body in which every text "evil" is hostile."""
    return json.loads(json.dumps(body).replace('"evil"', json.dumps(EVIL)))


THINGS: list[tuple[type[Any], dict[str, Any]]] = [
    (
        EvalRun,
        {
            **dict.fromkeys(("id", "eval_id", "status", "name", "model"), "evil"),
            "error": {"code": "evil", "message": "evil"},
            "result_counts": {"total": 2, "passed": 1, "failed": 1, "errored": 0},
            "per_model_usage": [{"model_name": "evil", "total_tokens": 3}],
            "per_testing_criteria_results": [{"testing_criteria": "evil", "passed": 1, "failed": 1}],
        },
    ),
    (
        OutputItem,
        {
            **dict.fromkeys(("id", "run_id", "status", "datasource_item_id"), "evil"),
            "datasource_item": {EVIL: "evil"},
            "results": [{"name": "evil", "score": 0.5, "passed": False, "reason": "evil"}],
            "sample": {"output": [{"role": "assistant", "content": "evil"}], "error": {"message": "evil"}},
        },
    ),
    (
        Eval,
        {
            **dict.fromkeys(("id", "name"), "evil"),
            "testing_criteria": [
                {"type": "string_check", "name": "evil", "input": "", "reference": "", "operation": "eq"},
                {"type": "evil", "name": "evil"},
            ],
        },
    ),
]


@pytest.mark.parametrize(("shape", "body"), THINGS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_servers_send_is_never_markup(shape: type[Any], body: dict[str, Any]) -> None:
    """Ids, names, errors, rows and answers are text, whatever stands in them."""
    thing = structure(everything(body), shape)
    shown = read(html_of(thing))  # what IPython calls
    assert EVIL in shown.text
    assert {"div", "strong", "table", "tr", "th", "td", "em"} >= shown.tags
    listed = read(_html.listed(EVIL, [thing]))
    assert "script" not in listed.tags
    assert EVIL in listed.text


async def test_a_run_and_a_page_show_what_matters() -> None:
    """A run shows its pass rate, counts, criteria and tokens; a page a line for each thing; long lists are cut."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(runs=300, items=6))
        async with EvalsClient(base_url=server.base_url, api_key="k") as client:
            evaluation = await anext(aiter(client.evals.list()))
            page = await client.evals.runs.list(evaluation.id, limit=60, status="completed")
            items = await client.evals.runs.output_items.list(page[0])
    run = page[0]
    assert run.result_counts is not None
    shown = read(html_of(run)).text
    assert f"{run.pass_rate:.4g}" in shown
    assert f"{run.result_counts.passed:,} passed" in shown
    assert str(run.total_tokens) in shown
    assert "Criteria" in shown
    html = html_of(page)
    assert run.id in html
    assert "and 10 more" in html
    assert str(items[0].datasource_item_id) in read(html_of(items[0])).text
    assert evaluation.name is not None
    assert evaluation.name in read(html_of(evaluation)).text


def test_nothing_is_shown_of_nothing() -> None:
    """Things with ids alone give their ids; long texts are cut."""
    assert "evalrun_1" in read(html_of(EvalRun(id="evalrun_1", status="queued"))).text
    assert "item_1" in read(html_of(OutputItem(id="item_1", status="pass"))).text
    assert "" == _html.bar({"passed": 0, "failed": None})
    assert 301 == len(_html.text_of("x" * 1000))
