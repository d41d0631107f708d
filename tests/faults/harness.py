"""How the tests of this folder run a whole `EvalsClient` against a faulty server, and what they check every time.

Which row of the fault matrix is shown where is told in `docs/guides/reliability.md`; `test_matrix.py` holds that table
to the tests. What the wire shows without a client is in `tests/transport`.
"""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

from doubles import ScaledClock
from transport.faultserver import FaultServer, Peer, Scene, answer, message
from transport.harness import KEY, all_logs, loop_messages

from evals_async import EvalsClient
from evals_async.models import CustomDataSourceConfig, StringCheckGrader


SPEED = 20.0  # how much faster the client's time runs

EVAL: dict[str, object] = {"object": "eval", "id": "eval_1", "name": "Greetings"}
RUN: dict[str, object] = {"object": "eval.run", "id": "evalrun_1", "eval_id": "eval_1", "status": "completed"}
ITEM: dict[str, object] = {
    "object": "eval.run.output_item",
    "id": "outputitem_1",
    "status": "pass",
    "run_id": "evalrun_1",
    "eval_id": "eval_1",
}

GRADER = StringCheckGrader(name="same", input="{{ item.a }}", reference="{{ item.b }}", operation="eq")
CONFIG = CustomDataSourceConfig(item_schema={"type": "object"})

Do: TypeAlias = Callable[[EvalsClient], Awaitable[object]]
"""A call to try."""

Query: TypeAlias = Mapping[str, str]

READS: dict[str, Do] = {
    "eval": lambda client: client.evals.retrieve("eval_1"),
    "run": lambda client: client.evals.runs.retrieve("evalrun_1", eval_id="eval_1"),
    "item": lambda client: client.evals.runs.output_items.retrieve(
        "outputitem_1", run_id="evalrun_1", eval_id="eval_1"
    ),
}
LISTINGS: dict[str, Do] = {
    "evals": lambda client: client.evals.list().collect(),
    "runs": lambda client: client.evals.runs.list("eval_1").collect(),
    "items": lambda client: client.evals.runs.output_items.list("evalrun_1", eval_id="eval_1").collect(),
}


async def create_eval(client: EvalsClient) -> object:
    return await client.evals.create(data_source_config=CONFIG, testing_criteria=[GRADER], name="Greetings")


def text_of(value: object) -> bytes:
    return json.dumps(value).encode()


def told(value: object, status: int = 200) -> Scene:
    """An answer with that JSON."""
    return answer(status, text_of(value), ("Content-Type", "application/json"))


def pages(turn: Callable[[Query], object]) -> Scene:
    """Answers to a listing: `turn` makes each from the query, with a status before it where that is not 200."""

    async def play(peer: Peer) -> bool:
        made = turn(dict(parse_qsl(urlsplit(peer.seen.target).query)))
        status, body = cast("tuple[int, object]", made) if isinstance(made, tuple) else (200, made)
        await peer.send(message(status, text_of(body)))
        return True

    return play


@contextlib.asynccontextmanager
async def with_faults(*scenes: Scene, **options: Any) -> AsyncGenerator[tuple[FaultServer, EvalsClient]]:
    """A server that plays the scenes, and a client of it; afterwards nothing may be left open, undone or unsaid."""
    before = asyncio.all_tasks()
    with loop_messages() as messages, all_logs() as lines:
        async with FaultServer(*scenes) as server:
            options.setdefault("clock", ScaledClock(SPEED))
            async with EvalsClient(base_url=server.url, api_key=KEY, **options) as client:
                yield server, client
                statistics = client.statistics()
                assert (0, 0) == (statistics.in_flight, statistics.waiting)
            assert await server.all_closed(), "a connection is open after close()"
            assert set() == asyncio.all_tasks() - before - server.handlers, "a task is left"
        gc.collect()  # what was not closed says so now; warnings are errors
        await asyncio.sleep(0)
        assert [] == messages
        assert [] == [line for line in lines if KEY in line]
