"""The endpoints of evals, runs and output items: one function each, from a `RequestContext` to an `Answer`.

Stored rows are returned as they are, without parsing. The endpoints of files are in `files`, those of graders in
`graders`.
"""

from collections.abc import Sequence

from evals_async._json import JSONObject
from evals_async._store import Connection, Kind, Row, UnknownCursor, rows
from evals_async._store.gaps import Gaps, gap_of
from evals_async.server import checks
from evals_async.server.answers import Answer, Problem, incomplete, list_answer, no_such_file, not_found
from evals_async.server.execution.source import row_source
from evals_async.server.runs import stored_object
from evals_async.server.service import RequestContext, Service
from evals_async.server.shapes import new_eval, new_run


RUN_STATUSES = ("queued", "in_progress", "completed", "canceled", "failed")
ITEM_STATUSES = ("fail", "pass")


async def listing(
    service: Service,
    call: RequestContext,
    kind: Kind,
    parents: Sequence[str] = (),
    *,
    label: str | None = None,
    default: int = 20,
    most: int = 100,
    order: rows.Order = "asc",
) -> Answer:
    """Return the page of `kind` that the query requests."""
    limit = checks.limit(call.query, default=default, most=most)
    given = checks.choice(call.query, "order", ("asc", "desc")) or order
    by = (
        checks.choice(call.query, "order_by", ("created_at", "updated_at")) if kind == "evals" else None
    ) or "created_at"
    after = call.query.get("after") or None
    if service.gaps != Gaps() and (why := await service.database.call(gap_of, kind, parents)) is not None:
        raise incomplete(why)
    try:
        page = await service.database.call(
            rows.page,
            kind,
            parents,
            after=after,
            limit=limit,
            order="asc" if given == "asc" else "desc",
            order_by="updated_at" if by == "updated_at" else "created_at",
            label=label,
        )
    except UnknownCursor:
        raise Problem(404, f"No such object to list after: {after}", param="after", code="not_found") from None
    return list_answer(page)


async def stored(service: Service, kind: Kind, key: Sequence[str], thing: str) -> Answer:
    """Return one stored row."""
    text = await service.database.call(rows.get, kind, key)
    if text is None:
        raise not_found(thing, key[-1])
    return Answer.text(200, text)


async def request_object(service: Service, call: RequestContext) -> JSONObject:
    return checks.json_object(await call.body(service.limits.body))


# --- evals ----------------------------------------------------------------------------------------------------------


async def list_evals(service: Service, call: RequestContext) -> Answer:
    return await listing(service, call, "evals")


async def create_eval(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    checks.required(body, "data_source_config", checks.data_source_config)
    criteria = checks.required(body, "testing_criteria", checks.array)
    graders = [checks.criterion(entry, f"testing_criteria[{index}]") for index, entry in enumerate(criteria)]
    checks.optional(body, "name", checks.text)
    checks.optional(body, "metadata", checks.metadata)
    made = new_eval(service.ids, body, graders)
    await service.database.atomic(rows.put, "evals", [Row.of("evals", made, updated_at=service.clock.time())])
    return Answer.of(201, made)


async def retrieve_eval(service: Service, call: RequestContext) -> Answer:
    return await stored(service, "evals", call.ids, "eval")


async def update_eval(service: Service, call: RequestContext) -> Answer:
    body = await request_object(service, call)
    name = checks.optional(body, "name", checks.text)
    metadata = checks.optional(body, "metadata", checks.metadata)
    changes: dict[str, object] = {}
    if name is not None:
        changes["name"] = name
    if metadata is not None:
        changes["metadata"] = metadata

    def write(connection: Connection) -> str | None:  # in one transaction, so that two updates do not undo each other
        text = rows.get(connection, "evals", call.ids)
        if text is None:
            return None
        row = Row.of("evals", {**stored_object(text), **changes}, updated_at=service.clock.time())
        rows.put(connection, "evals", [row])
        return row.text

    changed = await service.database.atomic(write)
    if changed is None:
        raise not_found("eval", call.ids[0])
    return Answer.text(200, changed)


async def delete_eval(service: Service, call: RequestContext) -> Answer:
    (eval_id,) = call.ids
    if not await service.runs.delete(eval_id):
        raise not_found("eval", eval_id)
    return Answer.of(200, {"object": "eval.deleted", "deleted": True, "eval_id": eval_id})


# --- runs -----------------------------------------------------------------------------------------------------------


async def list_runs(service: Service, call: RequestContext) -> Answer:
    (eval_id,) = call.ids
    status = checks.choice(call.query, "status", RUN_STATUSES)
    if not await service.database.call(rows.exists, "evals", call.ids):
        raise not_found("eval", eval_id)
    await service.runs.advance(eval_id)
    return await listing(service, call, "runs", call.ids, label=status)


async def create_run(service: Service, call: RequestContext) -> Answer:
    (eval_id,) = call.ids
    body = await request_object(service, call)
    data_source = checks.required(body, "data_source", checks.data_source)
    checks.optional(body, "name", checks.text)
    checks.optional(body, "metadata", checks.metadata)
    source = row_source(data_source)
    if source.get("type") == "file_id" and not await service.database.call(rows.exists, "files", (str(source["id"]),)):
        raise no_such_file(str(source["id"]), status=400, param="data_source.source.id")
    run = new_run(service.ids, eval_id, body, service.base_url)
    await service.runs.begin(run)
    return Answer.of(201, run)


async def retrieve_run(service: Service, call: RequestContext) -> Answer:
    await service.runs.advance(*call.ids)
    return await stored(service, "runs", call.ids, "run")


async def cancel_run(service: Service, call: RequestContext) -> Answer:
    eval_id, run_id = call.ids
    return Answer.of(200, await service.runs.cancel(eval_id, run_id))


async def delete_run(service: Service, call: RequestContext) -> Answer:
    eval_id, run_id = call.ids
    if not await service.runs.delete(eval_id, run_id):
        raise not_found("run", run_id)
    return Answer.of(200, {"object": "eval.run.deleted", "deleted": True, "run_id": run_id})


# --- output items ---------------------------------------------------------------------------------------------------


async def list_output_items(service: Service, call: RequestContext) -> Answer:
    eval_id, run_id = call.ids
    status = checks.choice(call.query, "status", ITEM_STATUSES)
    if not await service.database.call(rows.exists, "runs", call.ids):
        raise not_found("run", run_id)
    await service.runs.advance(eval_id, run_id)
    return await listing(service, call, "output_items", call.ids, label=status)


async def retrieve_output_item(service: Service, call: RequestContext) -> Answer:
    await service.runs.advance(*call.ids[:2])
    return await stored(service, "output_items", call.ids, "output item")
