"""Pages for people, at the addresses of the API: an index, evals, runs, comparisons.

The API's own handlers answer first, so that a page shows what a program would read. This is the only module of the
server that knows models: pages are read, they are not part of the API. They are imported when the first is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import attrs

from evals_async._json import JSONObject, JSONValue, as_array, as_object, parse
from evals_async._store import UnknownCursor, rows
from evals_async._store.gaps import Gaps, gap_of
from evals_async.errors import DecodeError, InvalidArgument, MissingExtra
from evals_async.server import handlers
from evals_async.server.answers import Answer, Problem, not_found
from evals_async.server.service import RequestContext, Service


if TYPE_CHECKING:
    from evals_async.comparison import Pair, RunComparison, RunOutcomes
    from evals_async.models import Eval, EvalRun, OutputItem
    from evals_async.report.facts import RunFacts
    from evals_async.report.items import Filter, Verdict
    from evals_async.report.pages import FlippedRow, Link, Paging

T = TypeVar("T")
Page = Callable[[Service, RequestContext], Awaitable[Answer]]

BASE = "/v1"
ON_A_PAGE = 50  # evals, runs, items
BATCH = 500  # items that are read at once
SEARCHED = 20_000  # items that one request looks through for a text
FLIPS = 100  # rows on the page of a comparison
CACHED = 64  # runs whose facts are kept
VERDICTS = ("pass", "fail", "error")
LONGEST_QUERY = 200


def wants_page(method: str, accept: str) -> bool:
    """Whether a browser asks, and not a program: only browsers name HTML."""
    return method == "GET" and "text/html" in accept


def page(make: Page) -> Page:
    """A handler whose problems are told on a page too."""

    @wraps(make)
    async def handler(service: Service, call: RequestContext) -> Answer:
        try:
            return await make(service, call)
        except MissingExtra as error:
            return Answer(501, f"{error}\n".encode(), "text/plain; charset=utf-8")
        except Problem as problem:
            return message(problem.status, "Not found" if problem.status == 404 else "Not possible", problem.message)
        except (DecodeError, InvalidArgument) as error:
            return message(422, "This cannot be shown", str(error))

    return handler


def html(parts: Iterator[str], status: int = 200) -> Answer:
    from evals_async.report.pages import headers

    return Answer(status, "".join(parts).encode(), "text/html; charset=utf-8", headers())


def message(status: int, title: str, text: str) -> Answer:
    from evals_async.report.pages import message_page

    return html(message_page(title, text, [home()]), status)


def home() -> Link:
    from evals_async.report.pages import Link

    return Link("Evals", f"{BASE}/evals")


def eval_href(eval_id: str) -> str:
    return f"{BASE}/evals/{quote(eval_id, safe='')}"


def run_href(eval_id: str, run_id: str) -> str:
    return f"{eval_href(eval_id)}/runs/{quote(run_id, safe='')}"


def with_query(href: str, **fields: str | None) -> str:
    given = {name: value for name, value in fields.items() if value}
    return f"{href}?{urlencode(given)}" if given else href


# --- reading ----------------------------------------------------------------------------------------------------------


async def listed(
    handler: Page, service: Service, call: RequestContext, kind: rows.Kind, ids: tuple[str, ...]
) -> tuple[list[JSONObject], str | None]:
    """A page of a listing of the API, newest first, and where it goes on. Where the API refuses to list what an
    incomplete archive has, people are shown what is there; `missing` says what is not.
    """
    query = {"limit": str(ON_A_PAGE), "order": "desc", "after": call.query.get("after", "")}
    if await missing(service, kind, ids) is not None:
        after = query["after"] or None
        try:
            read = await service.database.call(rows.page, kind, ids, after=after, limit=ON_A_PAGE, order="desc")
        except UnknownCursor:
            raise Problem(404, f"There is nothing here to go on from: {after}") from None
        found = [as_object(parse(text.encode())) or {} for text in read.texts]
        return found, read.ids[-1] if read.has_more else None
    answer = await handler(service, RequestContext(ids, query, call.request))
    body = as_object(parse(answer.body)) or {}
    last = body.get("last_id")
    entries = [entry for entry in map(as_object, as_array(body.get("data")) or ()) if entry is not None]
    return entries, str(last) if body.get("has_more") and last else None


async def missing(service: Service, kind: rows.Kind, ids: tuple[str, ...]) -> str | None:
    """What an incomplete archive lacks of these objects; `None` where nothing is missing."""
    return None if service.gaps == Gaps() else await service.database.call(gap_of, kind, ids)


def model(value: JSONValue | bytes, shape: type[T]) -> T:
    from evals_async import _json, decode

    return decode(value if isinstance(value, bytes) else _json.dump(value), shape)


async def run_of(service: Service, call: RequestContext, ids: tuple[str, ...]) -> EvalRun:
    from evals_async.models import EvalRun

    answer = await handlers.retrieve_run(service, RequestContext(ids, {}, call.request))
    return model(answer.body, EvalRun)


async def eval_of(service: Service, call: RequestContext, eval_id: str) -> Eval:
    from evals_async.models import Eval

    answer = await handlers.retrieve_eval(service, RequestContext((eval_id,), {}, call.request))
    return model(answer.body, Eval)


async def items_of(
    service: Service,
    ids: tuple[str, ...],
    *,
    after: str | None = None,
    order: rows.Order = "asc",
    label: str | None = None,
) -> AsyncIterator[OutputItem]:
    """The items of a run; one that no model can hold is left out. Other requests get their turn meanwhile."""
    from evals_async.models import OutputItem

    while True:
        try:
            read = await service.database.call(
                rows.page, "output_items", ids, after=after, limit=BATCH, order=order, label=label
            )
        except UnknownCursor:
            raise Problem(404, f"No such item to go on from: {after}") from None
        for text in read.texts:
            try:
                yield model(text.encode(), OutputItem)
            except DecodeError:
                continue
        if not read.has_more:
            return
        after = read.ids[-1]
        await asyncio.sleep(0)


async def facts_of(service: Service, ids: tuple[str, ...], run: EvalRun) -> RunFacts:
    """The facts of a run; those of a run that is over are kept, as long as it has as many items."""
    from evals_async.report.facts import RunFacts

    count = await service.database.call(rows.count, "output_items", ids)
    kept = service.page_cache.get(ids)
    if isinstance(kept, RunFacts) and kept.run == run and kept.expected == count:
        return kept
    facts = RunFacts(run, count)
    async for item in items_of(service, ids):
        facts.add(item)
    if run.is_terminal:
        service.page_cache.pop(ids, None)
        service.page_cache[ids] = facts
        while len(service.page_cache) > CACHED:
            del service.page_cache[next(iter(service.page_cache))]
    return facts


# --- the items on a page ----------------------------------------------------------------------------------------------


@attrs.define
class Listed:
    """The items on a page, the first and the last that were looked at, and whether there are more before and after."""

    items: list[OutputItem] = attrs.Factory(list["OutputItem"])
    looked_at: int = 0
    last: str | None = None
    more: bool = False


async def choose(
    service: Service, ids: tuple[str, ...], facts: RunFacts, wanted: Filter, after: str | None, order: rows.Order
) -> Listed:
    """The next items that fit, from `after` on; the search for a text ends after so many items, to go on from there."""
    from evals_async.report.items import fits

    found = Listed()
    # Where the status is the verdict, the store finds it by its index.
    label = wanted.verdict if facts.statuses <= set(VERDICTS) else None
    async for item in items_of(service, ids, after=after, order=order, label=label):
        if len(found.items) == ON_A_PAGE or found.looked_at == SEARCHED:
            found.more = True
            break
        found.looked_at += 1
        found.last = item.id
        if fits(item, wanted):
            found.items.append(item)
    return found


def filter_of(call: RequestContext) -> Filter:
    from evals_async.report.items import Filter

    known: dict[str, Verdict] = {"pass": "pass", "fail": "fail", "error": "error"}
    verdict = known.get(call.query.get("verdict", ""))
    return Filter(verdict=verdict, text=call.query.get("q", "")[:LONGEST_QUERY].strip())


# --- pages ------------------------------------------------------------------------------------------------------------


@page
async def index(service: Service, call: RequestContext) -> Answer:
    """All evals, the newest first."""
    from evals_async.models import Eval
    from evals_async.report.pages import EvalSummaryView, index_page

    entries, following = await listed(handlers.list_evals, service, call, "evals", ())
    views: list[EvalSummaryView] = []
    for entry in entries:
        evaluation = model(entry, Eval)
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
    """One eval: its criteria, and its runs, the newest first."""
    from evals_async.models import EvalRun
    from evals_async.report.pages import RunSummaryView, eval_page as made

    (eval_id,) = call.ids
    evaluation = await eval_of(service, call, eval_id)
    entries, following = await listed(handlers.list_runs, service, call, "runs", call.ids)
    runs = [model(entry, EvalRun) for entry in entries]
    views = [RunSummaryView(run=run, href=run_href(eval_id, run.id)) for run in runs]
    more = following and with_query(eval_href(eval_id), after=following)
    warning = await missing(service, "runs", call.ids)
    return html(made(evaluation, views, [home()], more, f"{BASE}/compare", warning))


@page
async def run_page(service: Service, call: RequestContext) -> Answer:
    """One run: its facts, and a page of its items."""
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
    """Where the list goes on, and what it leaves out."""
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
        note += f"; {found.looked_at:,} items were looked through, and there are more: go on with Next"
        last = found.last
    return Paging(
        first=link() if before or after else None,
        previous=link(before=first) if backward else None,
        following=link(after=last or found.last) if forward and (last or found.last) else None,
        note=note + ".",
    )


async def other_runs(service: Service, eval_id: str, run_id: str) -> list[EvalRun]:
    """The newest other runs of the eval that are completed."""
    from evals_async.models import EvalRun

    read = await service.database.call(rows.page, "runs", (eval_id,), limit=ON_A_PAGE, order="desc", label="completed")
    return [model(text.encode(), EvalRun) for id, text in zip(read.ids, read.texts, strict=True) if id != run_id]


@page
async def compare_page(service: Service, call: RequestContext) -> Answer:
    """Two runs, row by row: `a` and `b` are EVAL_ID/RUN_ID, `cluster` may name a field of the item."""
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
        raise Problem(400, f"Name two runs to compare: {name} is EVAL_ID/RUN_ID.")
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
