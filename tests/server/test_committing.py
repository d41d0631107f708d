"""Finished rows share transactions, because each transaction waits for the disk."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from evals_async._store import Database
from evals_async._store.executions import FinishedRow, add_execution, add_rows
from evals_async.server.execution.committing import ENOUGH, ItemText, RowCommitter


RUN = ("eval_1", "run_1")


class CountingDatabase(Database):
    """A store that remembers how many rows each transaction wrote."""

    sizes: list[int]

    async def atomic(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        finished: Sequence[FinishedRow] = args[0]
        self.sizes.append(len(finished))
        return await super().atomic(work, *args, **kwargs)


async def sizes_of_transactions(late: int, rows: int) -> list[int]:
    """The sizes of the transactions for rows of which each finishes `late` passes of the event loop after another."""
    async with await CountingDatabase.open() as database:
        database.sizes = []
        await database.call(add_execution, RUN, 1.0)
        await database.call(add_rows, RUN, [(number, "{}") for number in range(rows)])
        ids = itertools.count()
        committer = RowCommitter(database, lambda: f"item_{next(ids):03}", lambda: 1.0)

        async def finish(number: int) -> None:
            for _ in range(late * number):
                await asyncio.sleep(0)
            await committer.commit(RUN, number, ItemText('{"status":"pass"}', "pass"), {})

        await asyncio.gather(*map(finish, range(rows)))
        return database.sizes


async def test_rows_that_finish_one_after_the_other_share_a_transaction() -> None:
    """As long as each pass of the event loop brings another one, up to a number of rows."""
    sizes = await sizes_of_transactions(1, ENOUGH + 8)
    assert (max(sizes), sum(sizes)) == (ENOUGH, ENOUGH + 8)
    assert len(sizes) <= 3


async def test_a_row_does_not_wait_for_a_slow_one() -> None:
    """A pass of the event loop without another row ends the wait."""
    assert await sizes_of_transactions(100, 3) == [1, 1, 1]
