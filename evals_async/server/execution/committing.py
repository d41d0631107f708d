"""Rows that finish at about the same time are written in one transaction, because a disk commits only some hundred
transactions per second.
"""

import asyncio
from collections.abc import Callable, Mapping

import attrs

from evals_async._json import text_of_parsed
from evals_async._store import Database, Row, executions
from evals_async._store.executions import AddedSums, FinishedRow, RunId


ENOUGH = 32  # rows for which a transaction does not wait for more: a transaction costs as much as some ten rows
WOKEN = 16  # rows that continue before other tasks run


@attrs.define  # not frozen: one is made for each row, and a frozen object takes longer to make
class ItemText:
    """An output item as JSON text, without id and time, and its status."""

    text: str = attrs.field(repr=False)
    status: str

    @classmethod
    def of(cls, item: Mapping[str, object]) -> "ItemText":
        """Encode an item. Raises `NotJSON` for a value that JSON does not have."""
        return cls(text_of_parsed(item), str(item["status"]))


@attrs.define  # not frozen: one is made for each row, and a frozen object takes longer to make
class WaitingRow:
    """A finished row, and the future of the worker that waits until it is written."""

    run: RunId
    number: int
    item: ItemText
    sums: AddedSums
    written: "asyncio.Future[None]"


class RowCommitter:
    """Writes finished rows. Rows that arrive during a transaction share the next one. Each row is written
    completely or not at all.

    Ids and times of output items increase in the order in which they are written. So a listing during the run misses no
    item.
    """

    def __init__(self, database: Database, new_id: Callable[[], str], now: Callable[[], float]) -> None:
        self._database = database
        self._new_id = new_id
        self._now = now
        self._waiting: list[WaitingRow] = []
        self._task: asyncio.Task[None] | None = None

    async def commit(self, run: RunId, number: int, item: ItemText, sums: AddedSums) -> None:
        """Write a finished row. It is committed when this returns. Raises `ArchiveError`.

        If the caller is cancelled, the row is still written.
        """
        written = asyncio.get_running_loop().create_future()
        self._waiting.append(WaitingRow(run, number, item, sums, written))
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        await written

    async def close(self) -> None:
        """Write the waiting rows."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting, []
                await self._write(batch)
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Wait as long as each pass of the event loop brings more rows, and until they are `ENOUGH`."""
        seen = 0
        while seen < len(self._waiting) < ENOUGH:
            seen = len(self._waiting)
            await asyncio.sleep(0)

    async def _write(self, batch: list[WaitingRow]) -> None:
        error: BaseException | None = None
        try:
            now = int(self._now())
            await self._database.atomic(executions.finish_rows, [self._finished(each, now) for each in batch])
        except Exception as reason:  # noqa: BLE001  # raised in all waiting workers
            error = reason
        for number, each in enumerate(batch, 1):
            if each.written.done():  # the waiting worker was cancelled
                pass
            elif error is None:
                each.written.set_result(None)
            else:
                each.written.set_exception(error)
            if number % WOKEN == 0:  # otherwise requests to the server would wait for all rows
                await asyncio.sleep(0)

    def _finished(self, each: WaitingRow, now: int) -> FinishedRow:
        item_id = self._new_id()
        text = f'{{"id":"{item_id}","created_at":{now},{each.item.text[1:]}'
        row = Row(key=(*each.run, item_id), label=each.item.status, created_at=now, updated_at=now, text=text)
        return FinishedRow(each.run, each.number, row, each.sums)
