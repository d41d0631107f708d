"""What the report pages show: listings, objects and items, read from the store through the handlers of the API.

The models of the client are imported at the first request for a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

import attrs

from evals_async._json import JSONObject, JSONValue, as_array, as_object, parse
from evals_async._store import UnknownCursor, rows
from evals_async._store.gaps import Gaps, gap_of
from evals_async.errors import DecodeError
from evals_async.server import handlers
from evals_async.server.answers import Problem
from evals_async.server.service import Handler, RequestContext, Service


if TYPE_CHECKING:
    from evals_async.models import Eval, EvalRun, OutputItem
    from evals_async.report.facts import RunFacts
    from evals_async.report.items import Filter, Verdict

T = TypeVar("T")

ON_A_PAGE = 50  # evals, runs or items on one page
BATCH = 500  # items that are read from the store at once
SEARCHED = 20_000  # items that one request searches for a text
CACHED = 64  # runs whose facts are cached
VERDICTS = ("pass", "fail", "error")
LONGEST_QUERY = 200


async def listed(
    handler: Handler, service: Service, call: RequestContext, kind: rows.Kind, ids: tuple[str, ...]
) -> tuple[list[JSONObject], str | None]:
    """Return a page of a listing, newest first, and the cursor of the next page.

    The API returns an error for an incomplete archive. This function returns the existing objects; `missing` describes
    the others.
    """
    query = {"limit": str(ON_A_PAGE), "order": "desc", "after": call.query.get("after", "")}
    if await missing(service, kind, ids) is not None:
        after = query["after"] or None
        try:
            read = await service.database.call(rows.page, kind, ids, after=after, limit=ON_A_PAGE, order="desc")
        except UnknownCursor:
            raise Problem(404, f"No such object to list after: {after}") from None
        found = [as_object(parse(text.encode())) or {} for text in read.texts]
        return found, read.ids[-1] if read.has_more else None
    answer = await handler(service, RequestContext(ids, query, call.request))
    body = as_object(parse(answer.body)) or {}
    last = body.get("last_id")
    entries = [entry for entry in map(as_object, as_array(body.get("data")) or ()) if entry is not None]
    return entries, str(last) if body.get("has_more") and last else None


async def missing(service: Service, kind: rows.Kind, ids: tuple[str, ...]) -> str | None:
    """Describe the missing objects of an incomplete archive. `None` if no objects are missing."""
    return None if service.gaps == Gaps() else await service.database.call(gap_of, kind, ids)


def model(value: JSONValue | bytes, shape: type[T]) -> T:
    from evals_async import _json, decode

    return decode(value if isinstance(value, bytes) else _json.dump(value), shape)


def model_or_id(value: JSONObject, shape: type[T]) -> T:
    """Decode an entry of a list. If it does not fit, only its ids and its status are used, so that it is in the list.

    Its own page shows the error.
    """
    try:
        return model(value, shape)
    except DecodeError:
        names = ("object", "id", "eval_id", "status")
        known = {name: text for name in names if isinstance(text := value.get(name), str)}
        return model({"status": "unknown", **known}, shape)


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
    """Yield the items of a run. Items that cannot be decoded are left out. Other requests run in between."""
    from evals_async import decode
    from evals_async.models import OutputItem

    while True:
        try:
            read = await service.database.call(
                rows.page, "output_items", ids, after=after, limit=BATCH, order=order, label=label
            )
        except UnknownCursor:
            raise Problem(404, f"No such item to list after: {after}") from None
        for text in read.texts:
            try:
                yield decode(text.encode(), OutputItem)
            except DecodeError:
                continue
        if not read.has_more:
            return
        after = read.ids[-1]
        await asyncio.sleep(0)


async def facts_of(service: Service, ids: tuple[str, ...], run: EvalRun) -> RunFacts:
    """Return the facts of a run. They are cached if the run has ended, and used while its number of items is the
    same.
    """
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


@attrs.define
class Listed:
    """The items of a page.

    `looked_at` counts the searched items. `last` is the id of the last one. `more` says whether more items follow.
    """

    items: list[OutputItem] = attrs.Factory(list["OutputItem"])
    looked_at: int = 0
    last: str | None = None
    more: bool = False


async def choose(
    service: Service, ids: tuple[str, ...], facts: RunFacts, wanted: Filter, after: str | None, order: rows.Order
) -> Listed:
    """Return the next matching items after `after`. A text search stops after `SEARCHED` items, and can continue
    from there.
    """
    from evals_async.report.items import fits

    found = Listed()
    # If the status is the verdict, the index of the store finds the items.
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
