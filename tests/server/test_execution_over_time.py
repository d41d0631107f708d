"""Runs that are carried out: growing counts, cancels, limits, restarts."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from executing import ECHO, Executing, executing, one, sampling
from plainhttp import EXACT, PlainHttp
from waiting import LONGEST

from evals_async._store import Connection
from evals_async._store.executions import RunId
from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer
from evals_async.server.execution.committing import ItemText
from evals_async.server.execution.executor import RunExecutor


# --- over time --------------------------------------------------------------------------------------------------------


async def test_counts_grow_while_the_run_goes_on() -> None:
    """Queued, in progress with the number of all rows and of those that are done, completed."""
    slow = Rule(contains="Say: slow", text="slow", latency=60)
    async with executing(slow, ECHO) as running:
        path = await running.eval_path(EXACT)
        made = (await running.http.post(f"{path}/runs", {"data_source": sampling("a", "b", "slow")})).json
        assert (made["status"], made["result_counts"]["total"]) == ("queued", 0)
        run_path = f"{path}/runs/{made['id']}"
        async with asyncio.timeout(LONGEST):
            while (run := (await running.http.get(run_path)).json)["result_counts"]["passed"] < 2:
                await asyncio.sleep(0.005)
        assert (run["status"], run["result_counts"]["total"]) == ("in_progress", 3)
        assert one(run, "per_model_usage")["invocation_count"] == 2
        [listed] = (await running.http.get(f"{path}/runs", status="in_progress")).json["data"]
        assert listed == run
        assert len((await running.http.get(f"{run_path}/output_items")).json["data"]) == 2


@pytest.mark.virtual_time
@pytest.mark.parametrize("suffix", ["", "/cancel"])
async def test_cancel_stops_within_a_second_and_keeps_what_is_done(suffix: str) -> None:
    """Canceled with the items and counts of the rows that were done; nothing is asked any more."""
    async with executing(Rule(contains="Say: slow", text="slow", latency=60), ECHO, run_concurrency=2) as running:
        run_path = await running.start(await running.eval_path(EXACT), sampling("a", "slow", "slow", "d"))
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        began = asyncio.get_running_loop().time()
        canceled = (await running.http.send("POST", run_path + suffix)).json
        assert asyncio.get_running_loop().time() - began < 1
        assert canceled["status"] == "canceled"
        run, items = await running.ended(run_path)
        assert run == canceled
        assert run["result_counts"] == {"total": 1, "errored": 0, "failed": 0, "passed": 1}
        assert [item["datasource_item"]["answer"] for item in items] == ["a"]
        assert (await running.http.send("POST", run_path + suffix)).json == canceled
        assert running.models.request_count == 3


async def test_a_deleted_run_is_stopped() -> None:
    """A run, and an eval with its runs, are gone although they were under way, and no call is made for them."""
    async with executing(Rule(text="slow", latency=60), run_concurrency=1) as running:
        path = await running.eval_path(EXACT)
        first, second = [await running.start(path, sampling("a", "b")) for _ in range(2)]
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 2:
                await asyncio.sleep(0.005)
        assert (await running.http.delete(first)).status == 200
        assert (await running.http.get(first)).status == 404
        assert (await running.http.delete(path)).status == 200
        assert (await running.http.get(second)).status == 404
        assert running.models.request_count == 2


@pytest.mark.parametrize("deleted", [True, False])
async def test_nothing_is_written_to_a_run_that_was_deleted_or_canceled(deleted: bool) -> None:
    """Work that ends late, a row, new counts or an end, changes nothing and restores nothing."""
    async with executing(Rule(contains="Say: slow", text="slow", latency=60), ECHO) as running:
        service = running.server._running  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        executor = service.runs
        assert isinstance(executor, RunExecutor)
        run_path = await running.start(await running.eval_path(EXACT), sampling("a", "slow"))
        async with asyncio.timeout(LONGEST):
            while (await running.http.get(run_path)).json["result_counts"]["passed"] < 1:
                await asyncio.sleep(0.005)
        [late] = executor._executions.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        ended = await (running.http.delete(run_path) if deleted else running.http.send("POST", f"{run_path}/cancel"))
        assert ended.status == 200
        late._unseen = 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await late.refresh()
        committer = executor._tools.committer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await committer.commit(late.record.key, 1, ItemText('{"x":1}', "pass"), Counter())
        assert await late.end("completed") is None
        stored = await service.database.call(counts_of_tables)
        kept = 0 if deleted else 1
        assert stored == {"runs": kept, "output_items": kept, **dict.fromkeys(EXECUTION_TABLES, 0)}
        read = await running.http.get(run_path)
        assert read.status == 404 if deleted else read.json == ended.json


EXECUTION_TABLES = ("executions", "execution_rows", "execution_sums")


def counts_of_tables(connection: Connection) -> dict[str, int]:
    """The number of rows in the tables of runs."""
    tables = ("runs", "output_items", *EXECUTION_TABLES)
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


async def test_a_run_that_was_canceled_or_deleted_meanwhile() -> None:
    """A cancel that finds the run ended or deleted answers as if it came later."""
    async with executing(Rule(text="slow", latency=60)) as running:
        path = await running.eval_path(EXACT)
        first, second = [await running.start(path, sampling("a")) for _ in range(2)]
        both = await asyncio.gather(*(running.http.send("POST", f"{first}/cancel") for _ in range(2)))
        assert [(each.status, each.json["status"]) for each in both] == [(200, "canceled")] * 2
        canceled, deleted = await asyncio.gather(
            running.http.send("POST", f"{second}/cancel"), running.http.delete(second)
        )
        assert (canceled.status in (200, 404), deleted.status) == (True, 200)
        assert (await running.http.get(second)).status == 404


async def test_rows_of_all_runs_share_the_server() -> None:
    """No more rows are worked on at once than the server allows, whatever the runs allow."""
    async with executing(Rule(text="x", latency=60), concurrency=3, run_concurrency=2) as running:
        path = await running.eval_path(EXACT)
        for _ in range(3):
            await running.start(path, sampling(*"abcd"))
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        for _ in range(20):
            await running.http.get(path)
        assert running.models.request_count == 3


async def test_a_limit_ends_the_run_as_failed_with_its_items() -> None:
    """No call beyond the limit is made; the run says which limit it was, and keeps what was paid for."""
    async with executing(max_calls=3) as running:
        run, items = await running.carry_out(sampling(*"abcdef"), EXACT)
        assert running.models.request_count == 3
    assert (run["status"], run["error"]["code"], len(items)) == ("failed", "max_calls_reached", 3)
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert one(run, "per_model_usage")["invocation_count"] == 3


async def test_tokens_are_limited_too() -> None:
    """No row is begun when so many tokens were used."""
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    async with executing(Rule(text="a", usage=usage), max_tokens=100, run_concurrency=1) as running:
        run, items = await running.carry_out(sampling(*"abcdef"), EXACT)
    assert (run["status"], run["error"]["code"], len(items)) == ("failed", "max_tokens_reached", 2)
    assert "100 tokens" in run["error"]["message"]


async def test_a_run_within_its_limits_completes() -> None:
    """Exactly as many calls as are allowed are no failure."""
    async with executing(max_calls=3) as running:
        run, _ = await running.carry_out(sampling(*"abc"), EXACT)
    assert run["status"] == "completed"


async def test_a_lost_answer_is_asked_for_again_and_counted() -> None:
    """What may have been billed twice is told."""
    async with executing(Rule(drop=True, times=1), ECHO) as running:
        run, (item,) = await running.carry_out(sampling("a"), EXACT)
    assert item["status"] == "pass"
    assert run["execution"]["billed_retries"] == 1


# --- after a restart --------------------------------------------------------------------------------------------------


async def test_the_next_server_goes_on_with_what_is_left(tmp_path: Path) -> None:
    """A server that was closed in the middle: the next one asks only about the rows that were not done."""
    store = tmp_path / "store.db"
    slow = Rule(contains="Say: slow", text="slow", latency=60)
    async with ScriptedModels(slow, ECHO) as models:
        async with LocalServer(store, models=models.base_url) as first, PlainHttp(first) as http:
            running = Executing(first, models, http)
            run_path = await running.start(await running.eval_path(EXACT), sampling("a", "b", "slow"))
            async with asyncio.timeout(LONGEST):
                while (await http.get(run_path)).json["result_counts"]["passed"] < 2:
                    await asyncio.sleep(0.005)
        models.rules[:] = [ECHO]
        models.requests.clear()
        async with LocalServer(store, models=models.base_url) as second, PlainHttp(second) as http:
            run, items = await Executing(second, models, http).ended(run_path)
        assert [request.prompt.splitlines()[-1] for request in models.requests] == ["Say: slow"]
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert [item["datasource_item"]["answer"] for item in items] == ["a", "b", "slow"]
    assert one(run, "per_model_usage")["invocation_count"] == 3


async def test_a_server_without_models_leaves_runs_to_be_carried_out_alone(tmp_path: Path) -> None:
    """What was begun with models waits for a server with models; it can be canceled meanwhile."""
    store = tmp_path / "store.db"
    async with executing(Rule(text="slow", latency=60), store=store) as running:
        path = await running.eval_path(EXACT)
        paths = [await running.start(path, sampling("a")) for _ in range(2)]
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 2:
                await asyncio.sleep(0.005)
    async with LocalServer(store, queued_seconds=0, running_seconds=0) as plain, PlainHttp(plain) as http:
        assert (await http.get(paths[0])).json["status"] == "in_progress"
        assert (await http.send("POST", f"{paths[0]}/cancel")).json["status"] == "canceled"
    async with executing(store=store) as running:
        assert (await running.ended(paths[0]))[0]["status"] == "canceled"
        assert (await running.ended(paths[1]))[0]["status"] == "completed"
        assert running.models.request_count == 1


async def test_a_store_that_cannot_be_written_to_delays_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process holds the file the run waits and can be read; then it goes on, and every row is there
    once.
    """
    monkeypatch.setattr("evals_async._store.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("evals_async.server.execution.executor.RETRY_SECONDS", (0.05,))
    store = tmp_path / "store.db"
    async with executing(Rule(contains="Say: b", text="b", latency=0.1), ECHO, store=store) as running:
        run_path = await running.start(await running.eval_path(EXACT), sampling("a", "b", "c"))
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 3:
                await asyncio.sleep(0.005)
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(LONGEST):
                while "the store cannot be written" not in caplog.text:
                    assert (await running.http.get(run_path)).json["status"] == "in_progress"
                    await asyncio.sleep(0.005)
            other.execute("ROLLBACK")
        run, items = await running.ended(run_path)
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert len(items) == 3


async def test_a_run_ends_as_failed_also_if_the_store_is_busy_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After an unexpected error of the server the run is written as failed as soon as the store can be written."""

    async def broken(self: RunExecutor, key: RunId) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("evals_async._store.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("evals_async.server.execution.executor.RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(RunExecutor, "_carry_out_once", broken)
    fail = RunExecutor._fail  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    begun, free = asyncio.Event(), asyncio.Event()

    async def later(self: RunExecutor, key: RunId) -> None:
        begun.set()
        await free.wait()
        await fail(self, key)

    monkeypatch.setattr(RunExecutor, "_fail", later)
    store = tmp_path / "store.db"
    async with executing(ECHO, store=store) as running, asyncio.timeout(LONGEST):
        run_path = await running.start(await running.eval_path(EXACT), sampling("a"))
        await begun.wait()
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            free.set()
            while "the store cannot be written" not in caplog.text:
                await asyncio.sleep(0.005)
            other.execute("ROLLBACK")
        run, _ = await running.ended(run_path)
    assert run["status"] == "failed"


async def test_runs_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """More runs than are carried out at once stay queued, and come in their order."""
    monkeypatch.setattr("evals_async.server.execution.limits.MOST_RUNS", 1)
    async with executing(Rule(contains="Say: slow", text="slow", latency=60), ECHO) as running:
        path = await running.eval_path(EXACT)
        first = await running.start(path, sampling("slow"))
        second = await running.start(path, sampling("a"))
        async with asyncio.timeout(LONGEST):
            while running.models.request_count < 1:
                await asyncio.sleep(0.005)
        assert (await running.http.get(second)).json["status"] == "queued"
        await running.http.send("POST", f"{first}/cancel")
        assert (await running.ended(second))[0]["status"] == "completed"
