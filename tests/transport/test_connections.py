"""Calls that follow each other over one pool: reuse, stale connections, answers to another request, cancellation."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from doubles import loop_time
from ports import silent_port
from transport.faultserver import FaultServer, Peer, Scene, answer, message, raw
from transport.harness import POLICY, TIMES, assert_plain, body_of, pipeline_for, request, serving

from evals_async._transport import Pipeline, Response, RetryPolicy, Timeouts
from evals_async._transport.messages import Kind
from evals_async._transport.state import UsualHeaders
from evals_async.errors import ClientClosed, ConnectFailed, DeadlineExceeded, ResponseMismatch


pytestmark = pytest.mark.usefixtures("way")


SOON = 0.05  # seconds of the loop within which a cancelled call is over


def echo(*, before: bytes = b"", after: bytes = b"", idle: bytes = b"") -> Scene:
    """Answer with the last segment of the path, and with an answer that nobody asked for before it, after it or
    later."""

    async def play(peer: Peer) -> bool:
        wanted = peer.seen.target.rsplit("/", 1)[1].encode()
        await peer.send(before + message(200, wanted) + after)
        if idle:
            await asyncio.sleep(0.02)
            await peer.send(idle)
        return True

    return play


async def ask(pipeline: Pipeline, name: str, **more: Any) -> bytes:
    """The answer to a read of `name`, which must be `name`."""

    async def read(response: Response) -> bytes:
        if response.body.decode() != name:
            raise ResponseMismatch("another's answer", asked=name, got=response.body.decode())
        return response.body

    return await pipeline.send(request(path=f"/runs/{name}", **more), read, timeouts=TIMES, policy=POLICY)


async def test_one_connection_serves_calls_that_follow_each_other() -> None:
    """A body that was read to its end gives its connection back."""
    async with serving(echo()) as (server, pipeline):
        for number in range(5):
            await ask(pipeline, f"r{number}")
        assert 1 == server.accepted


async def test_a_connection_closed_while_idle_costs_nothing() -> None:
    """C09: the server may close what is idle; the next call opens another, without an error and without a pause."""
    async with serving(answer(then="fin")) as (server, pipeline):
        for _ in range(4):
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=TIMES, policy=RetryPolicy(attempts=1))
            await asyncio.sleep(0.01)
        assert 4 == len(server.seen)
        assert 0 == pipeline.statistics().retries


async def test_a_reused_connection_that_dies_on_use_is_replaced_at_once() -> None:
    """C10: a read is sent again without a pause and without being counted, even where retries are off."""
    die = raw(b"", then="rst")
    async with serving(answer(), die, answer(), die, answer()) as (server, pipeline):
        for _ in range(3):
            assert b"{}" == await pipeline.send(request(), body_of, timeouts=TIMES, policy=RetryPolicy(attempts=1))
        assert 5 == len(server.seen)
        assert 0.0 == pipeline.budget.spent


async def test_an_answer_that_waits_on_an_idle_connection_is_never_read() -> None:
    """C11 idle, G1: bytes that nobody asked for cost a connection, never the right answer."""
    async with serving(echo(idle=message(200, b"STALE"))) as (server, pipeline):
        for number in range(4):
            name = f"r{number}"
            assert name.encode() == await ask(pipeline, name)
            await asyncio.sleep(0.05)
        assert 4 == len(server.seen)
        assert 4 == server.accepted


async def test_two_answers_in_one_segment() -> None:
    """C11 same segment: the second answer is nobody's."""
    async with serving(echo(after=message(200, b"STALE"))) as (server, pipeline):
        for number in range(4):
            assert f"r{number}".encode() == await ask(pipeline, f"r{number}")
        assert 4 == server.accepted


async def test_an_answer_of_another_request_in_flight_drops_the_connection() -> None:
    """C11 in flight, G6: after an answer that `read` finds to be another's, its connection is not used again."""
    owed = ["STALE"]

    async def one_behind(peer: Peer) -> bool:
        owed.append(peer.seen.target.rsplit("/", 1)[1])
        await peer.send(message(200, owed.pop(0 if peer.seen.connection == 1 else -1).encode()))
        return True

    async with serving(one_behind) as (server, pipeline):
        for number in range(3):
            assert f"r{number}".encode() == await ask(pipeline, f"r{number}")
        assert 4 == len(server.seen)
        assert 2 == server.accepted


async def test_a_mismatch_that_stays_is_told() -> None:
    """C11: after one more attempt the mismatch is raised."""
    async with serving(echo(before=message(200, b"STALE"))) as (server, pipeline):
        with pytest.raises(ResponseMismatch) as caught:
            await ask(pipeline, "r1")
        assert ("r1", "STALE", 2) == (caught.value.asked, caught.value.got, caught.value.attempts)
        assert 2 == len(server.seen)
        assert_plain(caught.value)


async def test_a_late_answer_is_not_the_next_ones() -> None:
    """C12: the connection of an attempt that timed out is not used again."""
    late = raw(b"", pause=0.15)

    async def tardy(peer: Peer) -> bool:
        await late(peer)
        with contextlib.suppress(ConnectionError):
            await peer.send(message(200, b"LATE"))
        return True

    async with serving(tardy, echo()) as (server, pipeline):
        with pytest.raises(DeadlineExceeded):
            await pipeline.send(request(), body_of, timeouts=Timeouts(total=1.0), policy=POLICY)
        assert b"r1" == await ask(pipeline, "r1")
        await asyncio.sleep(0.1)
        assert b"r2" == await ask(pipeline, "r2")
        assert 3 == len(server.seen)


@pytest.mark.parametrize("kind", ["read", "create"])
async def test_a_server_that_speaks_before_it_is_asked(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """A fresh connection with bytes on it already is refused, and nothing was sent: one connection an attempt."""
    connect = aiohttp.TCPConnector.connect

    async def slowly(self: aiohttp.TCPConnector, *args: Any) -> Any:
        connection = await connect(self, *args)
        await asyncio.sleep(0.02)  # so that the greeting is there
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", slowly)
    async with serving(answer(), greeting=message()) as (server, pipeline):
        with pytest.raises(Exception, match="spoke before it was asked") as caught:
            await pipeline.send(request(kind), body_of, timeouts=TIMES, policy=POLICY)
        assert 0 == len(server.seen)
        assert 3 == server.accepted
        assert_plain(caught.value)


async def test_cookies_are_neither_kept_nor_sent() -> None:
    """R03: not even those of localhost."""
    async with serving(answer(200, b"{}", ("Set-Cookie", "a=b; Path=/"))) as (server, pipeline):
        for _ in range(3):
            await pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)
        assert [None, None, None] == [seen.header("cookie") for seen in server.seen]


async def test_a_redirect_reaches_nobody() -> None:
    """R02: neither the key, nor other headers, nor the body of a POST follow a 307."""
    async with FaultServer(answer()) as elsewhere:
        there = answer(307, b"", ("Location", f"http://127.0.0.1:{elsewhere.port}/v1/evals"))
        async with serving(there) as (server, pipeline):
            with pytest.raises(Exception, match="the server points to") as caught:
                await pipeline.send(
                    request("create", body=b'{"secret": 1}'),
                    body_of,
                    timeouts=TIMES,
                    policy=POLICY,
                    headers=UsualHeaders({"OpenAI-Organization": "org", "X-Gateway-Key": "sk-other"}),
                )
            assert 1 == len(server.seen)
            assert_plain(caught.value, "sk-other")
        assert 0 == elsewhere.accepted


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which nobody listens."""
    with silent_port() as silent:
        yield silent


async def test_refused_then_up(port: int) -> None:
    """C01: a create that found nobody is sent when somebody is there."""
    pipeline = pipeline_for(f"http://127.0.0.1:{port}", speed=1.0)
    policy = RetryPolicy(attempts=11, base=0.02, cap=0.02)
    call = asyncio.create_task(pipeline.send(request("create"), body_of, timeouts=TIMES, policy=policy))
    await asyncio.sleep(0.02)
    server = FaultServer(answer(201))
    server.server = await asyncio.start_server(server.serve, "127.0.0.1", port)
    assert b"{}" == await call
    assert 1 == len(server.seen)
    await pipeline.close()
    await server.__aexit__(None, None, None)


async def test_nobody_listens(port: int) -> None:
    """C01: a refused connection is tried again, and the error says that nothing was sent."""
    pipeline = pipeline_for(f"http://127.0.0.1:{port}")
    with pytest.raises(ConnectFailed) as caught:
        await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
    await pipeline.close()
    assert (3, False) == (caught.value.attempts, caught.value.maybe_executed)
    assert_plain(caught.value)


@pytest.mark.parametrize(("code", "attempts"), [(socket.EAI_NONAME, 2), (socket.EAI_AGAIN, 3)])
async def test_names_that_are_not_found(monkeypatch: pytest.MonkeyPatch, code: int, attempts: int) -> None:
    """C02: a name that does not exist is asked for once more, a resolver in trouble as often as anything else."""

    async def resolve(*args: object, **more: object) -> list[Any]:
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    pipeline = pipeline_for("https://nowhere.example/v1")
    with pytest.raises(ConnectFailed) as caught:
        await pipeline.send(request("create"), body_of, timeouts=TIMES, policy=POLICY)
    await pipeline.close()
    assert (attempts, code == socket.EAI_NONAME) == (caught.value.attempts, caught.value.unknown_host)
    assert_plain(caught.value)


async def test_a_connection_that_does_not_come_about_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect time-out is no time-out of an attempt: a create is tried again."""

    async def resolve(*args: object, **more: object) -> list[Any]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    pipeline = pipeline_for("https://nowhere.example/v1")
    for times in (Timeouts(total=20.0, connect=0.03), Timeouts(total=20.0, attempt=0.5, connect=60.0)):
        with pytest.raises(ConnectFailed) as caught:
            await pipeline.send(request("create"), body_of, timeouts=times, policy=POLICY)
        assert (3, False) == (caught.value.attempts, caught.value.maybe_executed)
        assert_plain(caught.value)
    await pipeline.close()


async def test_each_attempt_sends_the_same_key_and_the_same_bytes() -> None:
    """W02, W05: one Idempotency-Key a call, the same on every attempt; the body is the same to the byte."""
    wait = answer(429, b"", ("Retry-After-Ms", "1"))
    async with serving(wait, wait, answer()) as (server, pipeline):
        for _ in range(2):
            await pipeline.send(request("create", body=b'{"a": 1}'), body_of, timeouts=TIMES, policy=POLICY)
        keys = [seen.header("idempotency-key") for seen in server.seen]
        assert 4 == len(keys)
        assert 1 == len(set(keys[:3]))
        assert keys[3] not in (None, keys[0])
        assert {b'{"a": 1}'} == {seen.body for seen in server.seen}
        assert {"application/json"} == {seen.header("content-type") for seen in server.seen}


async def test_only_creates_carry_an_idempotency_key() -> None:
    """The header is for what must not happen twice."""
    async with serving(answer()) as (server, pipeline):
        for kind in ("read", "update", "cancel", "delete"):
            await pipeline.send(request(kind), body_of, timeouts=TIMES, policy=POLICY)
        assert [None] * 4 == [seen.header("idempotency-key") for seen in server.seen]


async def resolve_with(value: bytes | None) -> tuple[Callable[[], Awaitable[bytes | None]], list[int]]:
    asked: list[int] = []

    async def resolve() -> bytes | None:
        asked.append(1)
        return value

    return resolve, asked


async def test_a_delete_whose_answer_was_lost_is_resolved_by_404() -> None:
    """W03: gone is gone."""
    resolve, asked = await resolve_with(b"deleted, assumed")
    async with serving(raw(b"", then="rst"), answer(404)) as (server, pipeline):
        sent = pipeline.send(request("delete"), body_of, timeouts=TIMES, policy=POLICY, resolve=resolve)
        assert b"deleted, assumed" == await sent
        assert 2 == len(server.seen)
        assert [1] == asked


async def test_a_delete_of_what_never_was_is_not_found() -> None:
    """A 404 that follows nothing doubtful is an error."""
    resolve, asked = await resolve_with(b"deleted, assumed")
    async with serving(answer(404)) as (_, pipeline):
        with pytest.raises(Exception, match=r"^404") as caught:
            await pipeline.send(request("delete"), body_of, timeouts=TIMES, policy=POLICY, resolve=resolve)
        assert not asked
        assert not caught.value.maybe_executed  # type: ignore[attr-defined]  # an ApiError, by its text


@pytest.mark.parametrize("second", [answer(400), answer(409), raw(b"", then="rst")], ids=["400", "409", "lost again"])
async def test_a_cancel_whose_answer_was_lost_is_resolved_by_a_look(second: Scene) -> None:
    """W04: what the run says decides."""
    resolve, asked = await resolve_with(b"canceled run")
    async with serving(raw(b"", then="rst"), second) as (_, pipeline):
        sent = pipeline.send(request("cancel"), body_of, timeouts=TIMES, policy=POLICY, resolve=resolve)
        assert b"canceled run" == await sent
        assert [1] == asked


async def test_a_cancel_that_did_not_take_effect_is_an_error() -> None:
    """W04: `None` from the look leaves the error, and no doubt."""
    resolve, _ = await resolve_with(None)
    async with serving(raw(b"", then="rst"), answer(400)) as (_, pipeline):
        with pytest.raises(Exception, match=r"^400") as caught:
            await pipeline.send(request("cancel"), body_of, timeouts=TIMES, policy=POLICY, resolve=resolve)
        assert not caught.value.maybe_executed  # type: ignore[attr-defined]  # an ApiError, by its text


async def test_a_look_that_fails_leaves_the_error_and_the_doubt() -> None:
    """W04: the error of the look does not hide the error of the cancel."""
    async with serving(raw(b"", then="rst"), answer(400), answer(404)) as (_, pipeline):

        async def resolve() -> bytes | None:
            return await pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)

        with pytest.raises(Exception, match=r"^400") as caught:
            await pipeline.send(request("cancel"), body_of, timeouts=TIMES, policy=POLICY, resolve=resolve)
        assert "failed too" in str(caught.value)
        assert caught.value.maybe_executed  # type: ignore[attr-defined]  # an ApiError, by its text
        assert_plain(caught.value)


async def cancelled_in(task: asyncio.Task[Any]) -> float:
    """Seconds of the loop until a cancelled task is over."""
    began = loop_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return loop_time() - began


STALLS = {
    "reading headers": raw(b"", then="stall"),
    "reading the body": raw(message(200, b"{", length=9), then="stall"),
    "reading an error's body": raw(message(500, b"{", length=9), then="stall"),
    "backing off": answer(503, b"", ("Retry-After", "5")),
    "held by a 429": answer(429, b"", ("Retry-After", "5")),
}


@pytest.mark.parametrize("name", STALLS)
async def test_cancel_ends_a_call_at_once(name: str) -> None:
    """C14: wherever a call is, its cancellation comes through, and no slot or connection stays taken."""
    async with serving(STALLS[name], speed=1.0) as (server, pipeline):
        calls = [
            asyncio.create_task(pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)) for _ in range(3)
        ]
        while len(server.seen) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        for call in calls:
            assert await cancelled_in(call) < SOON
        assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_cancel_while_waiting_for_a_slot() -> None:
    """C14: who waits for a slot leaves the queue, and the others keep their places."""
    async with serving(raw(b"", then="stall"), speed=1.0, connections=1) as (_, pipeline):
        first, second, third = (
            asyncio.create_task(pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)) for _ in range(3)
        )
        await asyncio.sleep(0.05)
        assert 2 == pipeline.statistics().waiting
        assert await cancelled_in(second) < SOON
        assert 1 == pipeline.statistics().waiting
        assert await cancelled_in(third) < SOON
        assert await cancelled_in(first) < SOON
        assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_cancel_while_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """C14: a name that is being looked up holds nobody."""

    async def resolve(*args: object, **more: object) -> list[Any]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    pipeline = pipeline_for("https://nowhere.example/v1", speed=1.0)
    call = asyncio.create_task(pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY))
    await asyncio.sleep(0.02)
    assert await cancelled_in(call) < SOON
    await pipeline.close()


async def test_a_server_that_does_not_read() -> None:
    """C14, C07: while a body is being sent, a cancel comes through, and the attempt's time ends it."""

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # There is no public way to be so rude.
        transport: asyncio.ReadTransport = getattr(reader, "_transport")  # noqa: B009
        transport.pause_reading()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        writer.transport.abort()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    pipeline = pipeline_for(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", speed=1.0)
    large = request("create", body=bytes(50_000_000))
    call = asyncio.create_task(pipeline.send(large, body_of, timeouts=TIMES, policy=POLICY))
    await asyncio.sleep(0.1)
    assert await cancelled_in(call) < SOON
    with pytest.raises(DeadlineExceeded) as caught:
        await pipeline.send(large, body_of, timeouts=Timeouts(total=2.0, attempt=0.2), policy=POLICY)
    assert (1, True) == (caught.value.attempts, caught.value.maybe_executed)
    await pipeline.close()
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_four_hundred_random_cancels() -> None:
    """C14: a pool of five survives 400 calls that are cancelled at any moment."""

    async def slow(peer: Peer) -> bool:
        await asyncio.sleep(0.002)
        await peer.send(message(200, b"{}"))
        return True

    dice = random.Random(1)
    async with serving(slow, speed=1.0, connections=5) as (_, pipeline):

        async def one() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.random() * 0.02):
                    await pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)

        await asyncio.gather(*(one() for _ in range(400)))
        calls = [pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY) for _ in range(20)]
        assert [b"{}"] * 20 == await asyncio.gather(*calls)
        assert (0, 0) == (pipeline.statistics().in_flight, pipeline.statistics().waiting)


async def test_the_callers_own_time_limit_is_the_callers() -> None:
    """C15: `asyncio.timeout` around a call ends in its TimeoutError, and holds nothing of aiohttp."""
    async with serving(raw(b"", then="stall"), speed=1.0) as (_, pipeline):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.03):
                await pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)
        assert type(caught.value) is TimeoutError
        assert_plain(caught.value)


async def test_close_ends_what_is_under_way() -> None:
    """L06: calls in flight, asleep and waiting end with ClientClosed; a second close is fine, a later call is not."""
    scenes = (raw(b"", then="stall"), answer(503, b"", ("Retry-After", "5")))
    async with serving(*scenes, speed=1.0, connections=2) as (server, pipeline):
        calls = [
            asyncio.create_task(pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)) for _ in range(5)
        ]
        while len(server.seen) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        began = loop_time()
        await pipeline.close()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert loop_time() - began < 0.1
        assert [ClientClosed] * 5 == [type(error) for error in ended]
        for error in ended:
            assert isinstance(error, ClientClosed)
            assert_plain(error)
        await pipeline.close()
        with pytest.raises(ClientClosed, match="make a new one"):
            await pipeline.send(request(), body_of, timeouts=TIMES, policy=POLICY)
        assert all(not call.cancelled() for call in calls)
