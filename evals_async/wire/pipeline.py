"""The onion, in one readable function: `Pipeline.attempt`. Around it `send`, which tries again, and tells errors what happened.

Bytes and headers only: what a reply means is the business of the `read` that the caller gives.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from evals_async.clock import SYSTEM_CLOCK, Clock
from evals_async.errors import (
    ApiError,
    Attempt,
    ClientClosed,
    ConnectFailed,
    ConnectionDropped,
    DeadlineExceeded,
    NotFound,
    RequestError,
    ResponseError,
    TransportError,
    Unauthenticated,
)
from evals_async.wire.auth import Auth, SecretHeaders, secrets_in
from evals_async.wire.exchange import NO_HEADERS, Reply, Request, Upload
from evals_async.wire.failures import SUCCESS, error_for, scrubbed
from evals_async.wire.limits import Gate, Statistics
from evals_async.wire.retry import Budget, Patience, RetryPolicy, Timeouts, keep_trying
from evals_async.wire.transport import Transport
from evals_async.wire.trip import Trip


T = TypeVar("T")

Read: TypeAlias = Callable[[Reply], Awaitable[T]]
"""Turns a successful reply into a value. It may raise `DecodeError` and `ResponseMismatch`, which are retried as the table says."""

Settle: TypeAlias = Callable[[], Awaitable[T | None]]
"""Finds out whether a cancel or delete took effect although its answer was lost: the value if it did, `None` if it did not."""

NO_QUERY: Sequence[tuple[str, str]] = ()

ACCEPTED: Mapping[str, str] = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "evals-async",
}

logger = logging.getLogger("evals_async")


class Call(Generic[T]):
    """What one `send` is about and has been through. Made per call and never shared, so that nothing of one call is seen by another."""

    __slots__ = (
        "answered",
        "end",
        "headers",
        "history",
        "patience",
        "policy",
        "query",
        "read",
        "reply",
        "request",
        "secrets",
        "start",
        "timeouts",
        "trip",
        "began",
    )

    def __init__(self, request: Request, read: Read[T], timeouts: Timeouts, policy: RetryPolicy, start: float) -> None:
        self.request = request
        self.read = read
        self.timeouts = timeouts
        self.policy = policy
        self.start = start
        self.end = math.inf if timeouts.total is None else start + timeouts.total
        self.history: list[Attempt] = []
        self.answered: RequestError | None = None
        self.patience: Patience | None = None
        self.reply: Reply | None = None
        self.secrets: tuple[str, ...] = ()
        self.headers: Mapping[str, str] = NO_HEADERS
        self.query: Sequence[tuple[str, str]] = NO_QUERY
        self.trip = Trip(self.end)
        self.began = start


class Pipeline:
    """Sends requests the reliable way: gate, credentials, transport, then the judgement of what came, and retries around all of it.

    One per client; `with_options` copies of a client share it, so that limits, budget and connections are shared too. The hooks are plain
    callables, called in the loop: they must be quick, and what they raise comes through.
    """

    def __init__(
        self,
        transport: Transport,
        auth: Auth,
        *,
        clock: Clock = SYSTEM_CLOCK,
        gate: Gate | None = None,
        budget: Budget | None = None,
        on_request: Callable[[Request], None] | None = None,
        on_response: Callable[[Request, Reply, float], None] | None = None,
        on_retry: Callable[[Request, RequestError, float], None] | None = None,
    ) -> None:
        self.transport = transport
        self.auth = auth
        self.clock = clock
        self.gate = gate or Gate(slots=transport.connections, clock=clock)
        self.budget = budget or Budget(RetryPolicy().budget)
        self.on_request = on_request
        self.on_response = on_response
        self.on_retry = on_retry
        self.calls: set[asyncio.Task[object]] = set()
        self.closed = False
        self.retries = 0
        self.bytes_received = 0

    async def attempt(self, call: Call[T]) -> T:
        """One attempt: the onion, from the outside in."""
        gate, request, clock = self.gate, call.request, self.clock
        trip = call.trip = Trip(call.end)
        call.reply = None
        call.began = clock.monotonic()
        if not gate.try_enter():
            await gate.enter(call.end)
        timed_out = False
        try:
            # The attempt's time begins here: waiting for a turn is charged to the call, not to the attempt.
            call.began = now = clock.monotonic()
            trip.ends = (
                call.end
                if is_bulk(request) or call.timeouts.attempt is None
                else min(call.end, now + call.timeouts.attempt)
            )
            async with clock.timeout(None if trip.ends == math.inf else trip.ends - now):
                headers = await self.headers(call)
                if self.on_request is not None:
                    self.on_request(request)
                reply = call.reply = await self.transport.send(
                    request, headers, call.query, trip=trip, connect=call.timeouts.connect, silence=silence(call)
                )
        except TimeoutError:
            timed_out = True
        finally:
            gate.leave()
            self.bytes_received += trip.received
        if timed_out:
            raise self.out_of_time(call)
        gate.learn(reply)
        self.told(call, reply)
        if reply.status not in SUCCESS:
            raise error_for(reply, clock.time())
        return await call.read(reply)

    async def send(
        self,
        request: Request,
        read: Read[T],
        *,
        timeouts: Timeouts,
        policy: RetryPolicy,
        headers: Mapping[str, str] = NO_HEADERS,
        query: Sequence[tuple[str, str]] = NO_QUERY,
        settle: Settle[T] | None = None,
    ) -> T:
        """What `read` makes of the answer to `request`, tried as often as `policy` allows within `timeouts`.

        `headers` and `query` come on top of the request's own defaults, and the request's win. `settle` is asked for a cancel that may
        have been carried out, and for a delete that answers 404 after one; see `Settle`. Raises every kind of `RequestError`, told which
        request, how often, how long and why no longer; the last answer's error is preferred to a later broken connection.
        """
        self.transport.check()
        call = Call(request, read, timeouts, policy, self.clock.monotonic())
        call.headers = self.call_headers(request, headers)
        call.query = (*query, *request.query) if query else request.query
        task = asyncio.current_task()
        assert task is not None  # a coroutine that awaits our transport runs in a task
        cancelling = task.cancelling()
        self.calls.add(task)
        try:
            return await self.persist(call, settle)
        except asyncio.CancelledError:
            # close() cancels the calls under way; anyone else's cancellation goes on.
            if not self.closed or task.uncancel() > cancelling:
                raise
        finally:
            self.calls.discard(task)
        raise ClientClosed("this client was closed during the call")

    async def persist(self, call: Call[T], settle: Settle[T] | None) -> T:
        """Attempt, and try again; at the end the error, or what settles it."""
        failure: RequestError
        try:
            value = await self.attempt(call)
        except RequestError as error:
            failure = error
        else:
            self.budget.give(1.0)
            return value
        patience = call.patience = Patience(call.policy, call.request.kind, self.clock, self.budget, call.end)
        try:
            value = await keep_trying(
                failure, lambda: self.attempt(call), lambda error: self.after_failure(call, error), self.clock.sleep
            )
        except RequestError as error:
            failure = error
        else:
            self.budget.give(patience.cost or 1.0)
            return value
        failure = self.final(call, failure)
        if settle is not None and (settled := await self.settled(call, failure, settle)) is not None:
            return settled
        raise failure

    async def headers(self, call: Call[T]) -> SecretHeaders:
        """Everything sent at the top of one attempt; credentials are asked for anew each time."""
        given = await self.auth.headers()
        headers = SecretHeaders(call.headers)
        headers.update(given)
        call.secrets = secrets_in(given)
        return headers

    def call_headers(self, request: Request, headers: Mapping[str, str]) -> Mapping[str, str]:
        merged = SecretHeaders(ACCEPTED)
        merged.update(headers)
        if isinstance(request.body, bytes):
            merged.setdefault("Content-Type", "application/json")
        if request.kind == "create":
            # From the system's entropy, not from the clock's dice: those are copied by a fork, and two processes must not share a key.
            merged["Idempotency-Key"] = uuid.uuid4().hex
        merged.update(request.headers)
        return merged

    def after_failure(self, call: Call[T], error: RequestError) -> float | None:
        """Write the failure down, and say how long to wait before the next attempt, or `None`."""
        patience, trip = call.patience, call.trip
        assert patience is not None  # made before the first failure is judged
        reply = call.reply
        status = reply.status if reply is not None else None
        call.history.append(Attempt(type(error).__name__, status, self.clock.monotonic() - call.began))
        scrubbed(error, call.secrets).about(call.request.method, call.request.path, reply.request_id if reply else None)
        if isinstance(error, ResponseError):
            trip.drop()
        wait = patience.wait_after(
            error,
            sent=trip.sent,
            stale=isinstance(error, ConnectionDropped) and trip.reused and reply is None,
            renewed=isinstance(error, Unauthenticated) and self.auth.refused(),
            should_retry=reply.header("x-should-retry") if reply is not None else None,
        )
        if wait is None:
            return None
        if isinstance(error, ApiError | ResponseError):
            call.answered = error
        elif call.answered is None or isinstance(call.answered, TransportError):
            call.answered = error
        self.retries += 1
        self.tell_retry(call, error, wait)
        return wait

    def final(self, call: Call[T], error: RequestError) -> RequestError:
        """The error that the caller sees, with the story of the call in it."""
        patience, earlier = call.patience, call.answered
        assert patience is not None
        if isinstance(error, DeadlineExceeded):
            error.last = earlier
        elif isinstance(error, TransportError) and isinstance(earlier, ApiError) and call.request.kind != "create":
            error = earlier  # what the server said tells more than the broken connection after it
        error.about(call.request.method, call.request.path)
        error.attempts = len(call.history)
        error.elapsed = self.clock.monotonic() - call.start
        error.history = tuple(call.history)
        error.note = patience.note
        error.maybe_executed = patience.ambiguous
        return error

    async def settled(self, call: Call[T], error: RequestError, settle: Settle[T]) -> T | None:
        """What the state of the object says of a lost cancel or delete."""
        if not error.maybe_executed or (call.request.kind == "delete" and not isinstance(error, NotFound)):
            return None
        try:
            async with self.clock.timeout(
                None if call.end == math.inf else max(0.0, call.end - self.clock.monotonic())
            ):
                return await settle()
        except (RequestError, TimeoutError):
            error.note = "; ".join(filter(None, (error.note, "a look at its state failed too")))
            return None

    def out_of_time(self, call: Call[T]) -> RequestError:
        """The error of an attempt that was ended by the clock."""
        trip = call.trip
        if trip.ends >= call.end:
            return DeadlineExceeded(f"no usable answer within the {call.timeouts.total:g} s of the call")
        if not trip.sent:
            return ConnectFailed(f"no connection within the {call.timeouts.attempt:g} s of an attempt")
        return DeadlineExceeded(f"no whole answer within the {call.timeouts.attempt:g} s of an attempt")

    def told(self, call: Call[T], reply: Reply) -> None:
        seconds = self.clock.monotonic() - call.began
        if self.on_response is not None:
            self.on_response(call.request, reply, seconds)
        if logger.isEnabledFor(logging.DEBUG):
            request = call.request
            logger.debug("%s %s -> %d in %.3f s", request.method, request.route, reply.status, seconds)

    def tell_retry(self, call: Call[T], error: RequestError, wait: float) -> None:
        if self.on_retry is not None:
            self.on_retry(call.request, error, wait)
        if logger.isEnabledFor(logging.DEBUG):
            request = call.request
            logger.debug("%s %s: %s, again in %.3f s", request.method, request.route, type(error).__name__, wait)

    def statistics(self) -> Statistics:
        """What was done so far, and how the gate stands."""
        return self.gate.statistics(retries=self.retries, bytes_received=self.bytes_received)

    async def close(self) -> None:
        """End the calls under way with `ClientClosed`, and close the transport. A second time does nothing."""
        self.closed = True
        for task in tuple(self.calls):
            if task is not asyncio.current_task():
                task.cancel()
        await self.transport.close()


def is_bulk(request: Request) -> bool:
    """A file goes up or down: the time of an attempt says nothing about it."""
    return request.sink is not None or isinstance(request.body, Upload)


def silence(call: Call[T]) -> float | None:
    """How long a download may pause."""
    return call.timeouts.attempt if call.request.sink is not None else None
