"""What tests of runs that are carried out share: a server with scripted models, and waiting for a run."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from plainhttp import PlainHttp, eval_request
from waiting import LONGEST

from evals_async.inference import Rule, ScriptedModels
from evals_async.server import LocalServer


NO_OPTIONS: Mapping[str, Any] = {}
ENDED = ("completed", "failed", "canceled")
ECHO = Rule(text=lambda request: request.prompt.rsplit(":", 1)[-1].strip())
TEMPLATE = [{"role": "developer", "content": "Say it again."}, {"role": "user", "content": "Say: {{ item.answer }}"}]


@attrs.frozen
class Executing:
    """A server that carries out runs, its models, and a plain client of it."""

    server: LocalServer
    models: ScriptedModels
    http: PlainHttp

    async def eval_path(self, *criteria: Mapping[str, object]) -> str:
        """The path of a new eval."""
        made = await self.http.post("/evals", eval_request(*criteria))
        assert made.status == 201, made.body
        return f"/evals/{made.json['id']}"

    async def start(self, eval_path: str, data_source: Mapping[str, object]) -> str:
        """The path of a new run."""
        made = await self.http.post(f"{eval_path}/runs", {"data_source": data_source})
        assert made.status == 201, made.body
        return f"{eval_path}/runs/{made.json['id']}"

    async def ended(self, run_path: str) -> tuple[Any, list[Any]]:
        """A run when it has ended, and its items in the order of the rows."""
        return await ended(self.http, run_path)

    async def carry_out(
        self, data_source: Mapping[str, object], *criteria: Mapping[str, object]
    ) -> tuple[Any, list[Any]]:
        """A run of a new eval when it has ended, and its items."""
        return await self.ended(await self.start(await self.eval_path(*criteria), data_source))


async def ended(http: PlainHttp, run_path: str) -> tuple[Any, list[Any]]:
    """A run when it has ended, and its items in the order of the rows."""
    async with asyncio.timeout(LONGEST):
        while (run := (await http.get(run_path)).json)["status"] not in ENDED:
            await asyncio.sleep(0.005)
    return run, await all_items(http, run_path)


async def all_items(http: PlainHttp, run_path: str) -> list[Any]:
    """All items of a run, page by page, in the order of the rows."""
    items: list[Any] = []
    query: dict[str, str | int] = {"limit": 100}
    while True:
        page = (await http.get(f"{run_path}/output_items", **query)).json
        items += page["data"]
        if not page["has_more"]:
            return sorted(items, key=lambda item: item["datasource_item_id"])
        query["after"] = page["last_id"]


@asynccontextmanager
async def executing(
    *rules: Rule, store: Path | None = None, scripted: Mapping[str, Any] = NO_OPTIONS, **options: Any
) -> AsyncGenerator[Executing]:
    """A server with models that answer by rules; what was said last is said again where there are none."""
    async with (
        ScriptedModels(*(rules or (ECHO,)), **scripted) as models,
        LocalServer(store, models=models.base_url, **options) as server,
        PlainHttp(server) as http,
    ):
        yield Executing(server, models, http)


def content(*answers: str) -> dict[str, object]:
    """A source of rows with these answers."""
    return {"type": "file_content", "content": [{"item": {"answer": answer}} for answer in answers]}


def sampling(*answers: str, kind: str = "completions", **fields: object) -> dict[str, object]:
    """A data source whose rows are sampled."""
    messages = {"type": "template", "template": TEMPLATE}
    return {"type": kind, "model": "gpt-4.1", "source": content(*answers), "input_messages": messages, **fields}


def one(run: Any, name: str) -> Any:
    """The only entry of an array of a run."""
    [entry] = run[name]
    return entry
