"""Rows that are finished at about the same time are written in one transaction: a disk makes some hundred a second."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs

from evals_async._json import text_of_parsed
from evals_async._store import Database, Row, executions
from evals_async._store.executions import FinishedRow, RunId, Sums


WOKEN = 4  # rows that go on before the loop goes round


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class ItemText:
    """An output item without id and time, as JSON text, and its status."""

    text: str = attrs.field(repr=False)
    status: str

    @classmethod
    def of(cls, item: Mapping[str, object]) -> "ItemText":
        """The text of an item. Raises `NotJSON` for what JSON cannot hold."""
        return cls(text_of_parsed(item), str(item["status"]))


@attrs.define  # not frozen: each row makes one, and a frozen one takes twice as long
class WaitingRow:
    """A finished row, and who waits until it is written."""

    run: RunId
    number: int
    item: ItemText
    sums: Sums
    written: "asyncio.Future[None]"


class RowCommitter:
    """Writes finished rows: each whole or not at all, and those that came while the last ones were written together.

    Output items get their ids and times in the order in which they are written, so that who reads a listing while the
    run goes on misses none.
    """

    def __init__(self, database: Database, new_id: Callable[[], str], now: Callable[[], float]) -> None:
        self._database = database
        self._new_id = new_id
        self._now = now
        self._waiting: list[WaitingRow] = []
        self._task: asyncio.Task[None] | None = None

    async def commit(self, run: RunId, number: int, item: ItemText, sums: Sums) -> None:
        """Write a finished row; it is kept once this returns. Raises `ArchiveError`.

        Whoever is cancelled meanwhile stops waiting; the row is written all the same.
        """
        written = asyncio.get_running_loop().create_future()
        self._waiting.append(WaitingRow(run, number, item, sums, written))
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        await written

    async def close(self) -> None:
        """Write what waits."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write(batch)
        finally:
            self._task = None

    async def _write(self, batch: list[WaitingRow]) -> None:
        error: BaseException | None = None
        try:
            now = int(self._now())
            await self._database.atomic(executions.finish_rows, [self._finished(each, now) for each in batch])
        except Exception as reason:  # noqa: BLE001  # told to all who wait
            error = reason
        for number, each in enumerate(batch, 1):
            with suppress(asyncio.InvalidStateError):  # who waited was cancelled
                each.written.set_result(None) if error is None else each.written.set_exception(error)
            if number % WOKEN == 0:  # else requests to the server would wait for all of them
                await asyncio.sleep(0)

    def _finished(self, each: WaitingRow, now: int) -> FinishedRow:
        item_id = self._new_id()
        text = f'{{"id":"{item_id}","created_at":{now},{each.item.text[1:]}'
        row = Row(key=(*each.run, item_id), label=each.item.status, created_at=now, updated_at=now, text=text)
        return FinishedRow(each.run, each.number, row, each.sums)
