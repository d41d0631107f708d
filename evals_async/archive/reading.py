"""Read the objects of an archive as models, in batches, oldest first.

Objects that are no longer on the server are included. Nothing here writes or sends a request.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import attrs

from evals_async import decode
from evals_async._store import TABLES, Connection, Database, Kind, rows
from evals_async._store.lock import is_locked
from evals_async.archive.export import ledger
from evals_async.errors import InvalidArgument, shown
from evals_async.models import EvalRun, File, OutputItem


T = TypeVar("T")

BATCH = 200  # rows of one query


async def texts(
    database: Database, kind: Kind, parents: Sequence[str] = (), *, label: str | None = None
) -> AsyncIterator[str]:
    """Yield the exact JSON texts of the objects of `parents`, oldest first. `label` is a status (files: a purpose)."""
    after: str | None = None
    while True:
        page = await database.call(rows.page, kind, parents, after=after, limit=BATCH, label=label)
        for text in page.texts:
            yield text
        if not page.has_more:
            return
        after = page.ids[-1]


async def models(
    database: Database, kind: Kind, shape: type[T], parents: Sequence[str] = (), *, label: str | None = None
) -> AsyncIterator[T]:
    """Yield the objects of `parents` as class `shape`. Raises `DecodeError` for an object that does not fit."""
    async for text in texts(database, kind, parents, label=label):
        yield decode(text.encode(), shape)


async def eval_ids(database: Database) -> list[str]:
    """Return the ids of all evals, oldest first."""
    sql = "SELECT id FROM evals ORDER BY created_at, id"
    found: list[tuple[str]] = await database.call(lambda connection: connection.execute(sql).fetchall())
    return [row[0] for row in found]


async def all_runs(database: Database, eval_id: str | None, status: str | None) -> AsyncIterator[EvalRun]:
    """Yield the runs of one eval, or of every eval, one eval after the other."""
    for each in [eval_id] if eval_id is not None else await eval_ids(database):
        async for run in models(database, "runs", EvalRun, (each,), label=status):
            yield run


def key_of(run: EvalRun | tuple[str, str]) -> tuple[str, str]:
    """Return (eval id, run id) of a run. Raises `InvalidArgument` if the eval id is missing."""
    key = (run.eval_id or "", run.id) if isinstance(run, EvalRun) else run
    match key:
        case (str(eval_id), str(run_id)) if eval_id and run_id:
            return eval_id, run_id
        case _:
            raise InvalidArgument(
                f"pass the run as (eval_id, run_id), or as the result of `await archive.run(id)`, not {shown(run)}"
            )


async def all_items(database: Database, key: tuple[str, str], status: str | None) -> AsyncIterator[OutputItem]:
    """Yield the output items of a run."""
    async for item in models(database, "output_items", OutputItem, key, label=status):
        yield item


async def one(database: Database, kind: Kind, key: Sequence[str], shape: type[T]) -> T | None:
    """Return one object, or `None` if the archive does not have it."""
    text = await database.call(rows.get, kind, key)
    return None if text is None else decode(text.encode(), shape)


async def one_named(database: Database, kind: Kind, key: Sequence[str], shape: type[T]) -> T:
    """Return one object. Raises `InvalidArgument` if the archive does not have it."""
    found = await one(database, kind, key, shape)
    if found is None:
        raise InvalidArgument(f"there is no {kind.removesuffix('s').replace('_', ' ')} {key[-1]} in the archive")
    return found


async def one_run(database: Database, run_id: str, eval_id: str | None) -> EvalRun:
    """Return the run with this id. Raises `InvalidArgument` unless there is exactly one."""

    def read(connection: Connection) -> list[tuple[str, str]]:
        sql = "SELECT eval_id, body FROM runs WHERE id = ? AND eval_id = coalesce(?, eval_id) ORDER BY eval_id"
        return connection.execute(sql, (run_id, eval_id)).fetchall()

    found = await database.call(read)
    if not found:
        raise InvalidArgument(f"there is no run {run_id} in the archive")
    if len(found) > 1:
        names = ", ".join(f"{each}/{run_id}" for each, _ in found)
        raise InvalidArgument(f"more than one eval has a run {run_id}: {names}")
    return decode(found[0][1].encode(), EvalRun)


# --- summary ----------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class EvalSummary:
    """One eval in numbers; times in seconds since the epoch."""

    id: str
    name: str | None
    runs: int
    items: int
    newest_run: int | None
    missing: bool


@attrs.frozen(kw_only=True)
class ArchiveSummary:
    """The contents of an archive in numbers, and its last export.

    `counts` and `missing` count objects by kind: all, and those no longer on the server. `unfinished` and `damaged`
    count listings and objects of all exports. `writer` is the process that writes now: its id, host and start time in
    seconds since the epoch; `None` if there is none.
    """

    evals: tuple[EvalSummary, ...]
    counts: dict[str, int]
    missing: dict[str, int]
    content_bytes: int
    contents: int
    last: ledger.Pass | None
    unfinished: int
    damaged: int
    writer: tuple[int, str, float] | None


def summary_rows(connection: Connection) -> list[tuple[str, str, int, int, int | None, bool]]:
    # Columns only: an eval that cannot be decoded is in the summary too.
    sql = (
        "SELECT e.id, e.name, (SELECT count(*) FROM runs r WHERE r.eval_id = e.id), "
        "(SELECT count(*) FROM output_items i WHERE i.eval_id = e.id), "
        "(SELECT max(created_at) FROM runs r WHERE r.eval_id = e.id), e.missing_since IS NOT NULL "
        "FROM evals e ORDER BY e.created_at, e.id"
    )
    return connection.execute(sql).fetchall()


async def summary(database: Database) -> ArchiveSummary:
    """Return the summary of the archive."""

    def contents(connection: Connection) -> tuple[int, int]:
        sql = "SELECT count(*), coalesce(sum(length(bytes)), 0) FROM file_contents"
        row: tuple[int, int] = connection.execute(sql).fetchone()
        return row

    last = await database.call(ledger.last_pass)
    unfinished = await database.call(ledger.work_in, None, ledger.UNFINISHED)
    number, size = await database.call(contents)
    return ArchiveSummary(
        evals=tuple(
            EvalSummary(id=id, name=name or None, runs=runs, items=items, newest_run=newest, missing=bool(gone))
            for id, name, runs, items, newest, gone in await database.call(summary_rows)
        ),
        counts={kind: await database.call(rows.count, kind) for kind in TABLES},
        missing=dict(await database.call(ledger.missing)),
        content_bytes=size,
        contents=number,
        last=last,
        unfinished=len(unfinished),
        damaged=len(await database.call(ledger.damaged)),
        writer=await database.call(ledger.writer) if database.path is not None and is_locked(database.path) else None,
    )


async def all_files(database: Database, purpose: str | None) -> AsyncIterator[File]:
    """Yield the files, oldest first."""
    async for file in models(database, "files", File, label=purpose):
        yield file
