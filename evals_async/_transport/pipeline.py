"""The pipeline of a call: `Pipeline.attempt` is one attempt from the outside in, `send` is the call around attempts.

Bytes and headers only: what a response means is the business of the `read` that the caller gives.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.auth import NO_CREDENTIALS, Auth, SecretHeaders, merged_headers
from evals_async._transport.failures import SUCCESS, error_for, scrubbed
from evals_async._transport.limiter import Limiter, Statistics, Unlimited
from evals_async._transport.messages import Request, Response
from evals_async._transport.retry import Budget, RetryPolicy, RetryState, Timeouts, retrying
from evals_async._transport.state import (
    CallState,
    Query,
    Read,
    Resolve,
    UsualHeaders,
    call_headers,
    logger,
    merged_query,
)
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

NO_QUERY: Query = ()
USUAL_HEADERS = UsualHeaders({})
SUCCESS_GIVES = 1.0  # units of the retry budget that a success gives back


class Pipeline:
    """Sends requests with every policy applied: limiter, credentials, transport, judgement of the response, retries.

    A pipeline belongs to one set of credentials: its limiter and its retry budget are those of the key. Copies of a
    client with other options share it. Pipelines with other credentials may share its transport. The hooks are plain
    callables, called in the loop: they must be quick, and what they raise comes through.
    """

    def __init__(
        self,
        transport: Transport,
        auth: Auth,
        *,
        clock: Clock = SYSTEM_CLOCK,
        limiter: Limiter | None = None,
        new_limiter: Callable[[], Limiter] | None = None,
        identity: str = "",
        budget: Budget | None = None,
        on_request: Callable[[Request], None] | None = None,
        on_response: Callable[[Request, Response, float], None] | None = None,
        on_retry: Callable[[Request, RequestError, float], None] | None = None,
    ) -> None:
        self.transport = transport
        self.auth = auth
        self.clock = clock
        self.new_limiter = new_limiter
        if limiter is None and new_limiter is not None:
            limiter = new_limiter()
        self.limiter: Limiter = Unlimited(clock) if limiter is None else limiter
        self.limited = limiter is not None
        self.identity = identity  # of whom it sends for, for who makes pipelines
        self.session: object = None
        self.budget = budget or Budget()
        self.on_request = on_request
        self.on_response = on_response
        self.on_retry = on_retry
        self.requests = 0
        self.throttles = 0
        self.retries = 0
        self.bytes_received = 0
        # What was sent last, with a body and without one: what it was merged of, and the whole.
        self.latest: dict[bool, tuple[SecretHeaders, Mapping[str, str], SecretHeaders]] = {}

    async def send(
        self,
        request: Request,
        read: Read[T],
        *,
        timeouts: Timeouts,
        policy: RetryPolicy,
        headers: UsualHeaders = USUAL_HEADERS,
        query: Query = NO_QUERY,
        resolve: Resolve[T] | None = None,
        watch: Callable[[CallState[T]], None] | None = None,
    ) -> T:
        """What `read` makes of the response to `request`, tried as often as `policy` allows within `timeouts`.

        `headers` (see `UsualHeaders`) and `query` come before the request's own, which win. `resolve` is asked
        what became of a cancel that may have been carried out, and of a delete that is answered by 404 after one that
        may have been; see `Resolve`. `watch` is given the state of the call before its first attempt. Raises every kind
        of `RequestError`, told which request, how often, how long and why no longer, and `LifecycleError`s.
        """
        transport = self.transport
        session = transport.check()
        if session is not self.session:
            self.begin(session)
        pool = transport.pool
        own = call_headers(request, headers)
        task = asyncio.current_task(pool.loop)
        assert task is not None  # noqa: S101  # whatever awaits a socket runs in a task
        call = CallState(
            request,
            read,
            timeouts=timeouts,
            policy=policy,
            headers=own,
            query=merged_query(query, request.query) if query else request.query,
            start=self.clock.monotonic(),
            resolve=resolve,
            task=task,
            alarm=pool.alarm,
        )
        if watch is not None:
            watch(call)
        pool.calls.add(call)
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
            return await self.retry(call, failed.pop())
        except asyncio.CancelledError:
            # close() cancels the calls under way; anyone else's cancellation goes on.
            if not pool.closed or task.uncancel() > call.cancelling:
                raise
        finally:
            pool.calls.discard(call)
            # Or the error that ends the task, whose traceback holds this frame, would wait for a collection.
            del call.task, task
        raise ClientClosed("this client was closed during the call")

    def begin(self, session: object) -> None:
        """Use a session that was opened. Where it is the second one, whatever belonged to the first one's loop is made
        anew; a limiter that was given stays.
        """
        if self.session is not None:
            self.budget = Budget()
            if self.new_limiter is not None:
                self.limiter = self.new_limiter()
        self.session = session

    async def attempt(self, call: CallState[T]) -> T:
        """One attempt: limiter, deadline, credentials, transport, judgement, and the value of a good response."""
        limiter, clock, slots = self.limiter, self.clock, self.transport.pool.slots
        now = clock.monotonic()
        # How many are under way, as the limiter counts them: it is told so again with the response.
        among = limiter.try_acquire(now)
        if not among or not slots.try_acquire():
            among = await self.acquire(among, call.ends)
            now = clock.monotonic()
        self.requests += 1
        # The attempt's time begins here: waiting for the limiter is charged to the call alone.
        call.seconds = clock.loop_seconds(call.attempt_from(now))
        response = None
        try:
            with call:
                decided = call.headers.decided
                if not decided or decided.isdisjoint(self.auth.replaced_by):
                    call.credentials = await self.auth.headers()
                else:
                    call.credentials = NO_CREDENTIALS  # the caller says who he is
                headers = self.complete_headers(call)
                if self.on_request is not None:
                    self.on_request(call.request)
                response = call.response = await self.transport.send(call, headers)
        except TimeoutError:
            if not call.passed:
                raise  # not ours: a token provider's, a hook's
        finally:
            slots.release()
            limiter.release()
            self.bytes_received += call.received
        if response is None:
            raise call.out_of_time()
        limiter.observe(response, sent_at=now, among=among, max_hold=call.policy.max_server_delay)
        if self.on_response is not None or logger.isEnabledFor(logging.DEBUG):
            self.tell_response(call, response)
        if response.status not in SUCCESS:
            self.throttles += response.status == 429
            raise error_for(response, clock.time())
        return await call.read(response)

    async def acquire(self, among: int, end: float) -> int:
        """Wait for what is missing: the limiter's permission, if `among` is 0, and a connection."""
        if not among:
            among = await self.limiter.acquire(end)
            if self.transport.pool.slots.try_acquire():
                return among
        try:
            await self.transport.pool.slots.acquire(end)
        except BaseException:
            self.limiter.release()
            raise
        return among

    async def retry(self, call: CallState[T], failure: RequestError) -> T:
        """Try again after the first attempt ended in `failure`; in the end the error, or what `call.resolve` finds."""
        state = RetryState(call.policy, call.request.kind, self.clock, self.budget, call.ends, limited=self.limited)

        def may_retry(error: RequestError) -> bool:
            return self.may_retry(call, error, state)

        def before_sleep(error: RequestError) -> None:
            self.before_sleep(call, error, state.wait)

        async def sleep(seconds: float) -> None:
            # What a limit refused waits as the limiter says, which may learn meanwhile that less is enough.
            await (self.limiter.pause(seconds) if state.refused else self.clock.sleep(seconds))

        if may_retry(failure) and not state.exhausted():
            before_sleep(failure)
            await sleep(state.wait)
            try:
                again = retrying(state, may_retry, before_sleep, sleep)
            except OSError:  # the process has no file left to open: what failed before tells more
                state.note = "no further attempt: tenacity cannot be imported, because no more files can be opened"
                again = None
            try:
                if again is None:
                    raise failure
                value: T = await again(self.attempt, call)
            except RequestError as error:
                failure = error
            else:
                self.budget.give(state.cost or SUCCESS_GIVES)
                return value
        failure = self.final(call, failure, state)
        if call.resolve is not None and (found := await self.resolved(call, failure, call.resolve)) is not None:
            return found
        try:
            raise failure
        finally:
            del failure  # or this frame and the traceback would hold each other, and all else, until a collection

    def complete_headers(self, call: CallState[T]) -> SecretHeaders:
        """Everything sent at the top of one attempt, but a key. Most calls send what the last one sent."""
        own, credentials, without_body = call.headers, call.credentials, call.request.body is None
        latest = self.latest.get(without_body)
        if latest is None or latest[0] is not own or latest[1] is not credentials:
            latest = self.latest[without_body] = (own, credentials, merged_headers(own, credentials))
        return latest[2]

    def may_retry(self, call: CallState[T], error: RequestError, state: RetryState) -> bool:
        """Write the failure of an attempt down, and ask `state` whether there may be another."""
        response = call.response
        if call.attempting:
            seconds = self.clock.monotonic() - call.began
            status = getattr(error, "status", None) if response is None else response.status
            call.history += (Attempt(type(error).__name__, status, seconds),)
            if response is None:
                call.log("failed", error=type(error).__name__, seconds=seconds)
            if isinstance(error, ResponseError):
                call.drop()
        request_id = response.request_id if response is not None else None
        scrubbed(error.about(call.request.method, call.request.path, request_id), call.secrets)
        return state.may_retry(
            error,
            sent=call.sent,
            stale=isinstance(error, ConnectionDropped) and call.reused and response is None,
            renewed=isinstance(error, Unauthenticated)
            and call.credentials is not NO_CREDENTIALS
            and self.auth.refused(call.credentials),
            should_retry=response.header("x-should-retry") if response is not None else None,
        )

    def before_sleep(self, call: CallState[T], error: RequestError, wait: float) -> None:
        """Remember and tell that the call goes on after `error`."""
        if not isinstance(error, TransportError) or isinstance(call.told, TransportError | None):
            call.told = error
        self.retries += 1
        if self.on_retry is not None:
            self.on_retry(call.request, error, wait)
        call.await_turn()
        call.log("retries", level=logging.INFO, error=type(error).__name__, wait=wait, request_id=error.request_id)

    def final(self, call: CallState[T], error: RequestError, state: RetryState) -> RequestError:
        """The error that the user sees, with the history of the call in it."""
        earlier = call.told
        # What the server said tells more than the broken connection, or the wait for the limiter, after it.
        if isinstance(error, DeadlineExceeded) and call.attempting:
            error.last = earlier
        elif isinstance(error, TransportError) and isinstance(earlier, ApiError | ResponseError):
            # But that a create may have been carried out is told by its own failure.
            error = error if state.ambiguous and call.request.kind == "create" else earlier
        # The frames of the attempts hold each other, bodies and all, until the next collection; nobody reads them.
        for told in (error, earlier):
            if told is not None:
                told.__traceback__ = None
        error.about(call.request.method, call.request.path)
        error.attempts = len(call.history)
        error.elapsed = self.clock.monotonic() - call.start
        error.history = call.history
        error.note = state.note or None
        error.maybe_executed = state.ambiguous
        if len(call.history) > 1 or error.note:
            facts = {"attempts": len(call.history), "seconds": error.elapsed, "note": error.note}
            call.log("gives up", level=logging.WARNING, error=type(error).__name__, **facts)
        return error

    async def resolved(self, call: CallState[T], error: RequestError, resolve: Resolve[T]) -> T | None:
        """What `resolve` finds out about a cancel or delete whose response was lost."""
        if not error.maybe_executed or (call.request.kind == "delete" and not isinstance(error, NotFound)):
            return None
        try:
            with self.clock.timeout(call.ends - self.clock.monotonic()):
                value = await resolve()
        except (RequestError, TimeoutError):
            error.note = "; ".join(filter(None, (error.note, "a look at what became of it failed too")))
            return None
        error.maybe_executed = value is not None
        return value

    def tell_response(self, call: CallState[T], response: Response) -> None:
        seconds = self.clock.monotonic() - call.began
        if self.on_response is not None:
            self.on_response(call.request, response, seconds)
        call.log("answered", status=response.status, seconds=seconds, request_id=response.request_id)

    def statistics(self) -> Statistics:
        """What was done so far, and how the limiter stands."""
        slots = self.transport.pool.slots
        standing = self.limiter.statistics(
            requests=self.requests,
            retries=self.retries,
            throttles=self.throttles,
            bytes_received=self.bytes_received,
        )
        return attrs.evolve(
            standing,
            in_flight=slots.taken,
            waiting=standing.waiting + slots.waiting,
            over_session=self.transport.over_session,
        )

    async def close(self) -> None:
        """End the calls under way with `ClientClosed`, and close the transport. A second time does nothing."""
        await self.transport.close()
