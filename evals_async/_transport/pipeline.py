"""The onion, in one readable function: `Pipeline.attempt`. Around it `send`, which tries again and tells the story.

Bytes and headers only: what a reply means is the business of the `read` that the caller gives.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.attempt import AttemptState
from evals_async._transport.auth import Auth, SecretHeaders
from evals_async._transport.call import (
    CallState,
    Read,
    call_headers,
    log,
    logger,
    merged_query,
    out_of_time,
    usual_headers,
)
from evals_async._transport.failures import SUCCESS, error_for, scrubbed
from evals_async._transport.limiter import AdaptiveLimiter, Statistics
from evals_async._transport.messages import Request, Response
from evals_async._transport.policy import RetryPolicy, Timeouts
from evals_async._transport.retry import Budget, RetryState, keep_trying
from evals_async._transport.transport import Transport
from evals_async.errors import (
    ApiError,
    Attempt,
    ClientClosed,
    ConnectionDropped,
    DeadlineExceeded,
    NotFound,
    RequestError,
    ResponseError,
    TransportError,
    Unauthenticated,
)


T = TypeVar("T")

Resolve: TypeAlias = Callable[[], Awaitable[T | None]]
"""Finds out what became of a cancel or a delete whose answer was lost: its value if it took effect, `None` if not.

Asked for a cancel whenever it ends in an error and an attempt may have been carried out; for a delete only if the
server then answers 404, so that the object is gone.
"""

NO_QUERY: Sequence[tuple[str, str]] = ()
USUAL_HEADERS = usual_headers({})
SUCCESS_GIVES = 1.0  # units of the retry budget that a success gives back


class Pipeline:
    """Sends requests the reliable way: gate, credentials, transport, judgement of what came, and retries around it all.

    One per client; copies of a client with other options share it, and with it limits, budget and connections. The
    hooks are plain callables, called in the loop: they must be quick, and what they raise comes through.
    """

    def __init__(
        self,
        transport: Transport,
        auth: Auth,
        *,
        clock: Clock = SYSTEM_CLOCK,
        gate: AdaptiveLimiter | None = None,
        budget: Budget | None = None,
        on_request: Callable[[Request], None] | None = None,
        on_response: Callable[[Request, Response, float], None] | None = None,
        on_retry: Callable[[Request, RequestError, float], None] | None = None,
    ) -> None:
        self.transport = transport
        self.auth = auth
        self.clock = clock
        self.gate = gate or AdaptiveLimiter(slots=transport.connections, clock=clock)
        self.budget = budget or Budget()
        self.on_request = on_request
        self.on_response = on_response
        self.on_retry = on_retry
        self.tasks: set[asyncio.Task[object]] = set()
        self.closed = False
        self.retries = 0
        self.bytes_received = 0
        self.complete: tuple[SecretHeaders, Mapping[str, str], SecretHeaders] = (USUAL_HEADERS, {}, USUAL_HEADERS)

    async def attempt(self, call: CallState[T]) -> T:
        """One attempt: the onion, from the outside in."""
        gate, clock, request = self.gate, self.clock, call.request
        call.trip = call.reply = None
        now = clock.monotonic()
        if not gate.try_acquire(now):
            await gate.acquire(call.end)
            now = clock.monotonic()
        # The attempt's time begins here: waiting for a turn is charged to the call alone.
        call.began = now
        ends = now + call.longest
        if ends > call.end:  # noqa: PLR1730  # a call of `min` takes the four hundredth part of a request
            ends = call.end
        trip = call.trip = AttemptState(clock.loop_seconds(ends - now), ends)
        reply = None
        try:
            with trip:
                call.given = await self.auth.headers()
                headers = self.complete_headers(call)
                if self.on_request is not None:
                    self.on_request(request)
                reply = call.reply = await self.transport.send(
                    request, headers, call.query, trip=trip, connect=call.timeouts.connect, silence=call.silence
                )
        except TimeoutError:
            if not trip.passed:
                raise  # not ours: a token provider's, a hook's
        finally:
            gate.release()
            self.bytes_received += trip.received
        if reply is None:
            raise out_of_time(call, trip)
        gate.observe(reply, call.began, call.policy.max_server_delay)
        if self.on_response is not None or logger.isEnabledFor(logging.DEBUG):
            self.tell_reply(call, reply)
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
        headers: SecretHeaders = USUAL_HEADERS,
        query: Sequence[tuple[str, str]] = NO_QUERY,
        resolve: Resolve[T] | None = None,
    ) -> T:
        """What `read` makes of the answer to `request`, tried as often as `policy` allows within `timeouts`.

        `headers` (see `usual_headers`) and `query` come before the request's own, which win. `resolve` is asked
        what became of a cancel that may have been carried out, and of a delete that is answered by 404 after one that
        may have been; see `Resolve`. Raises every kind of `RequestError`, told which request, how often, how long and
        why no longer, and `LifecycleError`s.
        """
        self.transport.check()
        own = call_headers(request, headers)
        asked = merged_query(query, request.query) if query else request.query
        call = CallState(request, read, timeouts, policy, own, asked, self.clock.monotonic())
        task = asyncio.current_task(self.transport.loop)
        assert task is not None  # noqa: S101  # whatever awaits a socket runs in a task
        cancelling = task.cancelling()
        self.tasks.add(task)
        try:
            try:
                value = await self.attempt(call)
            except RequestError as error:
                failed = [error]
            else:
                if self.budget.spent:
                    self.budget.give(SUCCESS_GIVES)
                return value
            # Popped, or this frame and the error's traceback would hold each other until a collection.
            return await self.persist(call, failed.pop(), resolve)
        except asyncio.CancelledError:
            # close() cancels the calls under way; anyone else's cancellation goes on.
            if not self.closed or task.uncancel() > cancelling:
                raise
        finally:
            self.tasks.discard(task)
            del task  # or the error that ends it, whose traceback holds this frame, would wait for a collection
        raise ClientClosed("this client was closed during the call")

    async def persist(self, call: CallState[T], failure: RequestError, resolve: Resolve[T] | None) -> T:
        """Try again after the first attempt ended in `failure`; at the end the error, or what `resolve` finds."""
        patience = RetryState(call.policy, call.request.kind, self.clock, self.budget, call.end)
        wait = self.after_failure(call, failure, patience)
        if wait is not None:
            try:
                value = await keep_trying(
                    failure,
                    wait,
                    lambda: self.attempt(call),
                    lambda error: self.after_failure(call, error, patience),
                    self.clock.sleep,
                )
            except RequestError as error:
                failure = error
            else:
                self.budget.give(patience.cost or SUCCESS_GIVES)
                return value
        failure = self.final(call, failure, patience)
        if resolve is not None and (found := await self.resolved(call, failure, resolve)) is not None:
            return found
        try:
            raise failure
        finally:
            del failure  # or this frame and the traceback would hold each other, and all else, until a collection

    def complete_headers(self, call: CallState[T]) -> SecretHeaders:
        """Everything sent at the top of one attempt. Most calls send what the last one sent."""
        own, given, complete = self.complete
        if own is not call.headers or given is not call.given:
            complete = SecretHeaders({**call.headers, **call.given})
            self.complete = (call.headers, call.given, complete)
        return complete

    def after_failure(self, call: CallState[T], error: RequestError, patience: RetryState) -> float | None:
        """Write the failure down, and say how long to wait before the next attempt, or `None` for none."""
        trip, reply = call.trip, call.reply
        if trip is not None:
            seconds = self.clock.monotonic() - call.began
            status = getattr(error, "status", None) if reply is None else reply.status
            call.history += (Attempt(type(error).__name__, status, seconds),)
            if reply is None:
                log(call, "failed", error=type(error).__name__, seconds=seconds)
            if isinstance(error, ResponseError):
                trip.drop()
        scrubbed(error.about(call.request.method, call.request.path, reply.request_id if reply else None), call.secrets)
        wait = patience.wait_after(
            error,
            sent=trip is not None and trip.sent,
            stale=isinstance(error, ConnectionDropped) and trip is not None and trip.reused and reply is None,
            renewed=isinstance(error, Unauthenticated) and self.auth.refused(call.given),
            should_retry=reply.header("x-should-retry") if reply is not None else None,
        )
        if wait is None:
            return None
        if not isinstance(error, TransportError) or isinstance(call.answered, TransportError | None):
            call.answered = error
        self.retries += 1
        if self.on_retry is not None:
            self.on_retry(call.request, error, wait)
        log(call, "retries", error=type(error).__name__, wait=wait, request_id=error.request_id)
        return wait

    def final(self, call: CallState[T], error: RequestError, patience: RetryState) -> RequestError:
        """The error that the caller sees, with the story of the call in it."""
        earlier = call.answered
        # What the server said tells more than the broken connection, or the turn that did not come, after it.
        if isinstance(error, DeadlineExceeded) and call.trip is not None:
            error.last = earlier
        elif isinstance(error, TransportError) and isinstance(earlier, ApiError | ResponseError):
            # But that a create may have been carried out is told by its own failure.
            error = error if patience.ambiguous and call.request.kind == "create" else earlier
        # The frames of the attempts hold each other, bodies and all, until the next collection; nobody reads them.
        for told in (error, earlier):
            if told is not None:
                told.__traceback__ = None
        error.about(call.request.method, call.request.path)
        error.attempts = len(call.history)
        error.elapsed = self.clock.monotonic() - call.start
        error.history = call.history
        error.note = patience.note or None
        error.maybe_executed = patience.ambiguous
        return error

    async def resolved(self, call: CallState[T], error: RequestError, resolve: Resolve[T]) -> T | None:
        """What a look at the object says of a cancel or delete whose answer was lost."""
        if not error.maybe_executed or (call.request.kind == "delete" and not isinstance(error, NotFound)):
            return None
        try:
            with self.clock.timeout(call.end - self.clock.monotonic()):
                value = await resolve()
        except (RequestError, TimeoutError):
            error.note = "; ".join(filter(None, (error.note, "a look at what became of it failed too")))
            return None
        error.maybe_executed = value is not None
        return value

    def tell_reply(self, call: CallState[T], reply: Response) -> None:
        seconds = self.clock.monotonic() - call.began
        if self.on_response is not None:
            self.on_response(call.request, reply, seconds)
        log(call, "answered", status=reply.status, seconds=seconds, request_id=reply.request_id)

    def statistics(self) -> Statistics:
        """What was done so far, and how the gate stands."""
        return self.gate.statistics(retries=self.retries, bytes_received=self.bytes_received)

    async def close(self) -> None:
        """End the calls under way with `ClientClosed`, and close the transport. A second time does nothing."""
        self.closed = True
        for task in self.tasks - {asyncio.current_task()}:
            task.cancel()
        await self.transport.close()
