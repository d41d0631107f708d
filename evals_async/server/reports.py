"""HTML pages at the URLs of the API: an index, evals, runs, comparisons.

The pages use the handlers of the API, so they show the same data as programs get. This module and `reading` are the
only ones of the server that use the models of the client: pages are not part of the API. The models are imported at the
first request for a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import attrs

from evals_async._json import NotJSON, as_object, parse
from evals_async._store import rows
from evals_async._store.rows import text_column
from evals_async.errors import DecodeError, InvalidArgument, MissingExtra
from evals_async.server import handlers
from evals_async.server.answers import Answer, Problem, not_found
from evals_async.server.reading import (
    ON_A_PAGE,
    SEARCHED,
    Listed,
    choose,
    eval_of,
    facts_of,
    filter_of,
    items_of,
    listed,
    missing,
    model,
    model_or_id,
    run_of,
)
from evals_async.server.service import Handler, RequestContext, Service


if TYPE_CHECKING:
    from evals_async.comparison import Pair, RunComparison, RunOutcomes
    from evals_async.models import EvalRun, OutputItem
    from evals_async.report.facts import RunFacts
    from evals_async.report.items import Filter
    from evals_async.report.pages import FlippedRow, Link, Paging


BASE = "/v1"
FLIPS = 100  # rows that are listed on a comparison page


def wants_page(method: str, accept: str) -> bool:
    """Whether the request comes from a browser: only browsers accept HTML by name."""
    return method == "GET" and "text/html" in accept


def page(make: Handler) -> Handler:
    """Make a handler that shows its errors as an HTML page."""

    @wraps(make)
    async def handler(service: Service, call: RequestContext) -> Answer:
        try:
            return await make(service, call)
        except MissingExtra as error:
            return Answer(501, f"{error}\n".encode(), "text/plain; charset=utf-8")
        except Problem as problem:
            return message(problem.status, "Not found" if problem.status == 404 else "Not possible", problem.message)
        except (DecodeError, InvalidArgument) as error:
            return message(422, "This page cannot be shown", str(error))
        except (NotJSON, RecursionError):
            return message(422, "This page cannot be shown", "The JSON of an object is nested too deeply.")

    return handler


def html(parts: Iterator[str], status: int = 200) -> Answer:
    from evals_async.report.pages import headers

    return Answer(status, "".join(parts).encode("utf-8", "backslashreplace"), "text/html; charset=utf-8", headers())


def message(status: int, title: str, text: str) -> Answer:
    from evals_async.report.pages import message_page

    return html(message_page(title, text, [home()]), status)


def locked(problem: Problem) -> Answer:
    """Return what a browser shows when no key, or a wrong one, was entered."""
    try:
        answer = message(problem.status, "The key is needed", problem.message)
    except MissingExtra:
        answer = Answer(problem.status, f"{problem.message}\n".encode(), "text/plain; charset=utf-8")
    return attrs.evolve(answer, headers={**answer.headers, **problem.headers})


def home() -> Link:
    from evals_async.report.pages import Link

    return Link("Evals", f"{BASE}/evals")


def eval_href(eval_id: str) -> str:
    return f"{BASE}/evals/{quote(text_column(eval_id), safe='')}"


def run_href(eval_id: str, run_id: str) -> str:
    return f"{eval_href(eval_id)}/runs/{quote(text_column(run_id), safe='')}"


def with_query(href: str, **fields: str | None) -> str:
    given = {name: value for name, value in fields.items() if value}
    return f"{href}?{urlencode(given)}" if given else href


# --- pages ------------------------------------------------------------------------------------------------------------


@page
async def index(service: Service, call: RequestContext) -> Answer:
    """Return the page of all evals, newest first."""
    from evals_async.models import Eval
    from evals_async.report.pages import EvalSummaryView, index_page

    entries, following = await listed(handlers.list_evals, service, call, "evals", ())
    views: list[EvalSummaryView] = []
    for entry in entries:
        evaluation = model_or_id(entry, Eval)
        count = await service.database.call(rows.count, "runs", (evaluation.id,))
        newest = await service.database.call(rows.page, "runs", (evaluation.id,), limit=1, order="desc")
        created = [(as_object(parse(text.encode())) or {}).get("created_at") for text in newest.texts]
        views.append(
            EvalSummaryView(
                evaluation=evaluation,
                runs=count,
                newest=next((value for value in created if isinstance(value, int)), None),
                href=eval_href(evaluation.id),
            )
        )
    more = following and with_query(f"{BASE}/evals", after=following)
    return html(index_page(views, [home()], more, await missing(service, "evals", ())))


@page
async def eval_page(service: Service, call: RequestContext) -> Answer:
    """Return the page of one eval: its criteria, and its runs, newest first."""
    from evals_async.models import EvalRun
    from evals_async.report.pages import RunSummaryView, eval_page as made

    (eval_id,) = call.ids
    evaluation = await eval_of(service, call, eval_id)
    entries, following = await listed(handlers.list_runs, service, call, "runs", call.ids)
    runs = [model_or_id(entry, EvalRun) for entry in entries]
    views = [RunSummaryView(run=run, href=run_href(eval_id, run.id)) for run in runs]
    more = following and with_query(eval_href(eval_id), after=following)
    warning = await missing(service, "runs", call.ids)
    return html(made(evaluation, views, [home()], more, f"{BASE}/compare", warning))


@page
async def run_page(service: Service, call: RequestContext) -> Answer:
    """Return the page of one run: its facts, and its items."""
    from evals_async.report.items import item_view
    from evals_async.report.pages import Link, RunPage, run_page as made

    eval_id, run_id = call.ids
    run, evaluation = await run_of(service, call, call.ids), await eval_of(service, call, eval_id)
    facts, wanted = await facts_of(service, call.ids, run), filter_of(call)
    before, after = call.query.get("before"), call.query.get("after")
    found = await choose(service, call.ids, facts, wanted, before or after, "desc" if before else "asc")
    shown = found.items[::-1] if before else found.items
    return html(
        made(
            RunPage(
                mode="server",
                run=run,
                evaluation=evaluation,
                facts=facts,
                items=[item_view(item) for item in shown],
                filter=wanted,
                paging=paging_of(run_href(eval_id, run_id), wanted, found, facts, before, after),
                path=[home(), Link(evaluation.name or eval_id, eval_href(eval_id))],
                item_href=f"{run_href(eval_id, run_id)}/output_items",
                compare_href=f"{BASE}/compare",
                others=await other_runs(service, eval_id, run_id),
                warning=await missing(service, "output_items", call.ids),
            )
        )
    )


def paging_of(
    href: str, wanted: Filter, found: Listed, facts: RunFacts, before: str | None, after: str | None
) -> Paging:
    """Return the links to the previous and next page, and a note about what was searched."""
    from evals_async.report.pages import Paging

    def link(**place: str | None) -> str:
        return with_query(href, verdict=wanted.verdict, q=wanted.text, **place) + "#items"

    first, last = (found.items[0].id, found.items[-1].id) if found.items else (None, None)
    forward = found.more or bool(before)
    backward = (found.more if before else bool(after)) and first is not None
    if before:
        first, last = last, first
    note = f"{facts.items:,} items" if not wanted.verdict and not wanted.text else f"{len(found.items):,} shown"
    if found.looked_at >= SEARCHED and len(found.items) < ON_A_PAGE:
        note += f"; {found.looked_at:,} items were searched, and there are more: continue with Next"
        last = found.last
    return Paging(
        first=link() if before or after else None,
        previous=link(before=first) if backward else None,
        following=link(after=last or found.last) if forward and (last or found.last) else None,
        note=note + ".",
    )


async def other_runs(service: Service, eval_id: str, run_id: str) -> list[EvalRun]:
    """Return the newest other completed runs of the eval."""
    from evals_async.models import EvalRun

    read = await service.database.call(rows.page, "runs", (eval_id,), limit=ON_A_PAGE, order="desc", label="completed")
    texts = [text for id, text in zip(read.ids, read.texts, strict=True) if id != run_id]
    return [model_or_id(as_object(parse(text.encode())) or {}, EvalRun) for text in texts]


@page
async def compare_page(service: Service, call: RequestContext) -> Answer:
    """Return the page that compares two runs by row.

    The query parameters `a` and `b` are EVAL_ID/RUN_ID. `cluster` may name a field of the item.
    """
    from evals_async.comparison import compare
    from evals_async.report.pages import ComparisonPage, comparison_page

    a, b = key_of(call, "a"), key_of(call, "b")
    cluster = call.query.get("cluster") or None
    comparison = compare(
        await outcomes_of(service, call, a, cluster), await outcomes_of(service, call, b, cluster), cluster=cluster
    )
    flips = [*comparison.regressions, *comparison.improvements]
    made = ComparisonPage(
        mode="server",
        comparison=comparison,
        rows=[await flipped_row(service, comparison, pair, a, b) for pair in flips[:FLIPS]],
        left_out=max(0, len(flips) - FLIPS),
        path=[home()],
        a_href=run_href(*a),
        b_href=run_href(*b),
    )
    return html(comparison_page(made))


def key_of(call: RequestContext, name: str) -> tuple[str, str]:
    eval_id, _, run_id = call.query.get(name, "").partition("/")
    if not eval_id or not run_id:
        raise Problem(400, f"Two runs are needed for a comparison: write {name}=EVAL_ID/RUN_ID.")
    return eval_id, run_id


async def outcomes_of(service: Service, call: RequestContext, key: tuple[str, str], cluster: str | None) -> RunOutcomes:
    from evals_async.comparison import RunOutcomes

    outcomes = RunOutcomes(await run_of(service, call, key), cluster=cluster)
    async for item in items_of(service, key):
        outcomes.add(item)
    return outcomes


async def flipped_row(
    service: Service, comparison: RunComparison, pair: Pair, a: tuple[str, str], b: tuple[str, str]
) -> FlippedRow:
    from evals_async.report.pages import flipped_row as made

    return made(comparison, pair, await item_of(service, a, pair.a.item_id), await item_of(service, b, pair.b.item_id))


async def item_of(service: Service, key: Sequence[str], item_id: str) -> OutputItem:
    from evals_async.models import OutputItem

    text = await service.database.call(rows.get, "output_items", (*key, item_id))
    if text is None:
        raise not_found("output item", item_id)
    return model(text.encode(), OutputItem)
