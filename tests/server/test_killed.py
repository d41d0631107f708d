"""A server that is killed while it carries out a run: nothing is lost, and nothing that was kept is paid for again."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from executing import ended, sampling
from plainhttp import EXACT, PlainHttp, eval_request
from waiting import LONGEST

from evals_async.inference import Rule, ScriptedModels, ScriptedRequest
from evals_async.server import LocalServer


ROWS, KILLS = 500, 10
CHILD = """
import asyncio, sys
from evals_async.server import LocalServer

async def main(store, models):
    async with LocalServer(store, models=models, run_concurrency=8) as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def rows_done(store: Path) -> set[str]:
    """The answers of the rows whose items are in the store."""
    with closing(sqlite3.connect(store)) as connection:
        bodies = connection.execute("SELECT body FROM output_items").fetchall()
    return {json.loads(body)["datasource_item"]["answer"] for (body,) in bodies}


async def test_a_server_that_is_killed_ten_times_ends_with_every_row_once(tmp_path: Path) -> None:
    """500 rows, 10 times SIGKILL: 500 items, counted once each, and no row was asked about again after it was kept."""
    store = tmp_path / "store.db"
    asked: Counter[str] = Counter()
    kept: set[str] = set()  # at the last kill
    paid_again: set[str] = set()
    reached = asyncio.Event()
    wanted, run_path = 0, ""

    def answer(request: ScriptedRequest) -> str:
        said = request.prompt.rsplit(":", 1)[-1].strip()
        asked[said] += 1
        if said in kept:
            paid_again.add(said)
        if asked.total() >= wanted:
            reached.set()
        return said

    async with ScriptedModels(Rule(text=answer, latency=0.002)) as models:
        for kill in range(KILLS):
            wanted = (kill + 1) * ROWS // (KILLS + 2)
            reached.clear()
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CHILD, str(store), models.base_url, stdout=asyncio.subprocess.PIPE
            )
            assert child.stdout is not None
            base_url = (await child.stdout.readline()).decode().strip()
            if kill == 0:
                async with PlainHttp(base_url) as http:
                    path = f"/evals/{(await http.post('/evals', eval_request(EXACT))).json['id']}"
                    source = sampling(*(f"row {number}" for number in range(ROWS)))
                    run_path = f"{path}/runs/{(await http.post(f'{path}/runs', {'data_source': source})).json['id']}"
            async with asyncio.timeout(LONGEST):
                await reached.wait()
            child.send_signal(signal.SIGKILL)
            await child.wait()
            kept |= rows_done(store)
        async with LocalServer(store, models=models.base_url) as server, PlainHttp(server) as http:
            run, items = await ended(http, run_path)
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": ROWS, "errored": 0, "failed": 0, "passed": ROWS}
    assert [item["datasource_item_id"] for item in items] == list(range(ROWS))
    assert [item["datasource_item"]["answer"] for item in items] == [f"row {number}" for number in range(ROWS)]
    assert len({item["id"] for item in items}) == ROWS
    assert run["per_model_usage"][0]["invocation_count"] == ROWS
    assert len(kept) >= ROWS // 2
    assert paid_again == set()
    assert asked.total() <= ROWS + KILLS * 8
