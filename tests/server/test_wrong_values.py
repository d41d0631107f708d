"""Every value of every request body replaced by every kind of wrong value: refused or accepted, but never an error of
the server.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from doubles import FakeClock
from plainhttp import EXACT, PlainHttp, eval_request, row, run_request

from evals_async._json import as_array, as_object


WRONG: tuple[Any, ...] = (
    ...,
    None,
    True,
    0,
    -1.5,
    2**70,
    "",
    "x",
    "{{item.",
    "{{sample.x}}",
    "\ud800",
    [],
    [[]],
    {},
    {"type": "x"},
)

MESSAGES = [{"type": "message", "role": "user", "content": {"type": "input_text", "text": "{{item.answer}}"}}]
JUDGE = {"type": "score_model", "name": "J", "model": "m", "input": MESSAGES, "range": [0, 1], "pass_threshold": 0.5}
LABELS = {"type": "label_model", "name": "L", "model": "m", "input": MESSAGES, "labels": ["a"], "passing_labels": ["a"]}
CLOSE = {**EXACT, "type": "text_similarity", "name": "C", "evaluation_metric": "rouge_1", "pass_threshold": 0.5}
MULTI = {"type": "multi", "name": "M", "graders": {"a": EXACT, "c": CLOSE}, "calculate_output": "a + c ^ 2"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything inside a JSON value."""
    fields = as_object(value)
    entries: Iterable[tuple[Any, Any]] = fields.items() if fields is not None else enumerate(as_array(value) or ())
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def variants(body: Any) -> Iterator[Any]:
    """The body with one of its values replaced, or left out."""
    for *way, last in places(body):
        for wrong in WRONG:
            changed = copy.deepcopy(body)
            inner = changed
            for step in way:
                inner = inner[step]
            if wrong is not ...:
                inner[last] = wrong
            else:
                del inner[last]
            yield changed


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/evals", eval_request(EXACT, CLOSE, LABELS, JUDGE, metadata={"k": "v"})),
        ("/fine_tuning/alpha/graders/run", {"grader": MULTI, "model_sample": "a", "item": {"answer": "a"}}),
        ("/fine_tuning/alpha/graders/validate", {"grader": MULTI}),
    ],
)
async def test_no_body_is_an_error_of_the_server(http: PlainHttp, path: str, body: object) -> None:
    """Whatever is wrong in a body is a 400, or is let through."""
    statuses = {(await http.post(path, variant)).status for variant in variants(body)}
    assert statuses == ({201, 400} if path == "/evals" else {200, 400})


async def test_no_run_is_an_error_of_the_server(http: PlainHttp, clock: FakeClock) -> None:
    """Runs that were accepted end, and all their items can be read, whatever stands in their rows."""
    parent = (await http.post("/evals", eval_request(EXACT, CLOSE))).json["id"]
    sample: dict[str, object] = {
        "choices": [{"message": {"content": "a", "tool_calls": []}}],
        "usage": {"total_tokens": 1},
        "model": "m",
    }
    request: Any = run_request({"item": {"answer": "a"}, "sample": sample}, row("a", "a", seed=1), kind="completions")
    request["data_source"] |= {"model": "m", "input_messages": {"type": "template", "template": MESSAGES}}
    ids: list[str] = []
    for variant in variants(request):
        answer = await http.post(f"/evals/{parent}/runs", variant)
        assert answer.status in (201, 400), variant
        if answer.status == 201:
            ids.append(answer.json["id"])
    clock.now += 100
    for run_id in ids:
        run = await http.get(f"/evals/{parent}/runs/{run_id}")
        items = await http.get(f"/evals/{parent}/runs/{run_id}/output_items")
        assert (run.status, run.json["status"], items.status) == (200, "completed", 200)
        assert run.json["result_counts"]["total"] == len(items.json["data"])
    assert len(ids) > 100
