"""One server per file executes runs: two of them would make all calls to models twice."""

from pathlib import Path

import pytest
from executing import ended, sampling
from plainhttp import EXACT, PlainHttp, eval_request

from evals_async.errors import ArchiveError
from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer


async def test_a_second_server_that_executes_runs_is_refused(tmp_path: Path) -> None:
    """A second server with models does not open the file of the first one, also by a link; its runs are not disturbed.
    After the first one has closed, it can.
    """
    store, link = tmp_path / "store.db", tmp_path / "link.db"
    link.symlink_to(store)
    async with ScriptedModels(Rule(text="a")) as models:
        async with LocalServer(store, models=models.base_url) as server, PlainHttp(server) as http:
            for each in (store, link):
                with pytest.raises(ArchiveError, match="used by another server that executes runs"):
                    await LocalServer(each, models=models.base_url).start()
            path = f"/evals/{(await http.post('/evals', eval_request(EXACT))).json['id']}/runs"
            run = (await http.post(path, {"data_source": sampling("a", "b")})).json
            done, items = await ended(http, f"{path}/{run['id']}")
            assert ("completed", 2, 2) == (done["status"], len(items), models.request_count)
        async with LocalServer(store, models=models.base_url) as server, PlainHttp(server) as http:
            assert 200 == (await http.get("/evals")).status


async def test_servers_that_only_read_are_not_refused(tmp_path: Path) -> None:
    """A server without models opens the same file, so that the runs can be read there too."""
    store = tmp_path / "store.db"
    async with (
        ScriptedModels() as models,
        LocalServer(store, models=models.base_url),
        LocalServer(store) as other,
        LocalServer(store, read_only=True) as reading,
    ):
        for server in (other, reading):
            async with PlainHttp(server) as http:
                assert 200 == (await http.get("/evals")).status
