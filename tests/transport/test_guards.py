"""The guards have work to do: take one away, and the row of the fault matrix that it is for fails.

Each test removes one guard and runs the row's own test, which must then fail. What a row demands is told where the row
is.

    G1  a pooled connection with unread bytes is not handed out      C11 idle
    G2  aiohttp does not send again by itself                        C04
    G3  paths go out as they were encoded                            I02
    G4  bodies are read piece by piece, up to a limit                B15
    G5  redirects are not followed                                   R02
    G6  a connection that delivered another's answer is dropped      C11 in flight
    G7  errors hold nothing of aiohttp                               C04, S12

G2 and G5 are about the session alone: over the direct path there is nobody to send again, or to follow.
G8, workers instead of a task for each id, belongs to the fan-out.
"""

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from transport.faultserver import answer
from transport.harness import TIMES, Case, body_of, request, run, serving
from yarl import URL

from evals_async._transport import RetryPolicy, Transport, connection, pipeline
from evals_async._transport.bodies import BodyReader
from evals_async._transport.connection import GuardedConnector
from evals_async._transport.state import CURRENT_CALL, CallState
from evals_async.errors import EvalsError, RequestError


def rows_of(name: str) -> ModuleType:
    """A module of tests beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONNECTIONS = rows_of("test_connections")
TABLE: dict[str, Case] = {case.id: case for case in rows_of("test_faults").TABLE}


async def fails(row: Awaitable[None]) -> None:
    """The row's test does not pass."""
    with pytest.raises((AssertionError, EvalsError, pytest.fail.Exception)):
        await row


@pytest.mark.usefixtures("way")
async def test_g1_guarded_connector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the connector's look at a pooled connection, a stale answer reaches the next call."""

    async def unguarded(self: GuardedConnector, *args: Any) -> Any:
        return await aiohttp.TCPConnector.connect(self, *args[:-1])

    monkeypatch.setattr(GuardedConnector, "acquire", unguarded)
    await fails(CONNECTIONS.test_an_answer_that_waits_on_an_idle_connection_is_never_read())


@pytest.mark.usefixtures("over_session")
@pytest.mark.parametrize("kind", ["read", "delete"])
async def test_g2_no_hidden_resend(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where the connector forgets that it gave a connection, aiohttp sends GET and DELETE twice per attempt."""
    guarded = GuardedConnector.connect

    async def forgetful(self: GuardedConnector, *args: Any, **more: Any) -> Any:
        CURRENT_CALL.get().connection = None
        return await guarded(self, *args, **more)

    monkeypatch.setattr(GuardedConnector, "connect", forgetful)
    await fails(run(TABLE[f"C04 rst before headers, {kind}"]))


HOSTILE = ("%2e%2e", "a%2Fb", "a%3Fb%23c", "%252F", "h%C3%A9", "a%0Ab", "http%3A%2F%2Fx")


async def paths_arrive() -> None:
    async with serving(answer()) as (server, pipeline):
        for segment in HOSTILE:
            await pipeline.send(request(path=f"/evals/{segment}/runs"), body_of, timeouts=TIMES, policy=RetryPolicy())
        assert [f"/v1/evals/{segment}/runs" for segment in HOSTILE] == [seen.target for seen in server.seen]


@pytest.mark.usefixtures("way")
async def test_paths_arrive_as_they_were_encoded() -> None:
    """I02: what is one segment here is the same segment there."""
    await paths_arrive()


@pytest.mark.usefixtures("way")
async def test_g3_encoded_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `encoded=True`, the URL library decodes and resolves them."""

    def decoded(self: Transport, path: str, query: object) -> URL:
        return URL(f"{self.base}{path}")

    def target(self: Transport, path: str, query: object) -> str:
        return decoded(self, path, query).raw_path_qs

    monkeypatch.setattr(Transport, "url", decoded)
    monkeypatch.setattr(Transport, "target", target)
    await fails(paths_arrive())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("row", ["B15 bomb", "B15 too large"])
async def test_g4_bounded_bodies(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """Without the limit on decoded bytes, a small answer becomes a large one in memory."""

    async def read_it_all(self: BodyReader, content: aiohttp.StreamReader, call: CallState[Any]) -> bytes:
        return await content.read()

    monkeypatch.setattr(BodyReader, "whole", read_it_all)
    await fails(run(TABLE[row]))


@pytest.mark.usefixtures("over_session")
async def test_g5_no_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option, the request and its secrets go where the server says."""
    attached = Transport.attach

    def follow(self: Transport, session: aiohttp.ClientSession) -> None:
        attached(self, session)
        self.base_options["allow_redirects"] = True

    monkeypatch.setattr(Transport, "attach", follow)
    await fails(CONNECTIONS.test_a_redirect_reaches_nobody())


@pytest.mark.usefixtures("way")
async def test_g6_drop_after_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropping the connection, the calls after a mismatch get each other's answers."""

    def keep(self: CallState[Any]) -> None:
        """Do nothing."""

    monkeypatch.setattr(CallState, "drop", keep)
    await fails(CONNECTIONS.test_an_answer_of_another_request_in_flight_drops_the_connection())


@pytest.mark.usefixtures("way")
async def test_g7_errors_of_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """With aiohttp's exception as its cause, an error shows the key in its traceback."""
    plain = connection.failure_for

    def with_cause(error: BaseException) -> RequestError:
        failure = plain(error)
        failure.__cause__ = error
        return failure

    monkeypatch.setattr(connection, "failure_for", with_cause)
    await fails(run(TABLE["C04 rst before headers, read"]))


@pytest.mark.usefixtures("way")
async def test_g7_what_the_server_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redaction, a server that repeats the key puts it into the error."""

    def shown(error: RequestError, secrets: object) -> RequestError:
        return error

    monkeypatch.setattr(pipeline, "scrubbed", shown)
    await fails(run(TABLE["S12 key echoed"]))


@pytest.mark.usefixtures("way")
async def test_the_rows_pass_with_their_guards() -> None:
    """What `fails` sees is the missing guard, not the way the rows are run here."""
    rows: list[Callable[[], Awaitable[None]]] = [
        CONNECTIONS.test_an_answer_that_waits_on_an_idle_connection_is_never_read,
        CONNECTIONS.test_a_redirect_reaches_nobody,
        CONNECTIONS.test_an_answer_of_another_request_in_flight_drops_the_connection,
    ]
    for row in rows:
        await row()
    await asyncio.gather(*(run(TABLE[row]) for row in ("B15 bomb", "S12 key echoed")))
