"""The pipeline of a call: `Pipeline.attempt` makes one attempt, and `Pipeline.send` makes the whole call.

This module handles bytes and headers only. The `read` function of the caller decodes the response.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from evals_async._clock import SYSTEM_CLOCK, Clock
from evals_async._transport.auth import NO_CREDENTIALS, Auth, SecretHeaders, credentials_for, merged_headers
from evals_async._transport.failures import SUCCESS, error_for, scrubbed
from evals_async._transport.limiter import AdaptiveLimiter, Limiter, Statistics, Unlimited
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
SUCCESS_GIVES = 1.0  # units that a success returns to the retry budget


class Pipeline:
    """Sends requests and applies the limiter, the credentials, the status check and the retries.

    A pipeline belongs to one set of credentials. Its limiter and its retry budget belong to the key. Copies of a
    client with other options share the pipeline. Pipelines with other credentials may share its transport. The hooks
    are plain functions that run in the event loop. They must be quick. An error that a hook raises ends the call.
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
        used: "Callable[[Pipeline], object] | None" = None,
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
        self.adaptive = isinstance(limiter, AdaptiveLimiter)  # it decides when a refused call is sent again
        self.identity = identity  # names the credentials; `Pipelines` finds the pipeline by it
        self.used = used  # called after each call
        self.session: object = None
        self.budget = budget or Budget()
        self.on_request = on_request
        self.on_response = on_response
        self.on_retry = on_retry
        self.requests = 0
        self.ended = 0  # of these requests
        self.queued = 0  # calls that wait for a connection
        self.throttles = 0
        self.retries = 0
        self.bytes_received = 0
        # The latest headers, with a body and without one: the two parts, and the merged result.
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
        """Send `request` and return the value that `read` decodes from the response.

        The call retries as often as `policy` allows within `timeouts`. `headers` (see `UsualHeaders`) and `query` are
        defaults; the request's own values win. `resolve` finds the result of a cancel or a delete whose response was
        lost; see `Resolve`. `watch` receives the state of the call before the first attempt.

        Raises `RequestError` of every kind. The error names the request, the number of attempts, the elapsed time and
        the reason why the retries stopped. Raises `LifecycleError` if the client cannot be used.
        """
        transport = self.transport
        session = transport.check()
        if session is not self.session:
            self.begin(session)
        pool = transport.pool
        own = call_headers(request, headers)
        task = asyncio.current_task(pool.loop)
        assert task is not None  # noqa: S101  # only a task can await a socket
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
            # `pop` breaks the reference cycle between this frame and the error's traceback.
            return await self.retry(call, failed.pop())
        except asyncio.CancelledError:
            # close() cancels the running calls: that becomes `ClientClosed`. Any other cancellation continues.
            if not pool.closed or task.uncancel() > call.cancelling:
                raise
        finally:
            pool.calls.discard(call)
            if self.used is not None:
                self.used(self)
            # This breaks a reference cycle: the task holds its error, and the error's traceback holds this frame.
            del call.task, task
        raise ClientClosed("this client was closed during the call")

    def begin(self, session: object) -> None:
        """Start to use a new session.

        For every session after the first one, create a new retry budget and a new limiter, because the old ones belong
        to the old event loop. A limiter that the caller passed stays.
        """
        if self.session is not None:
            self.budget = Budget()
            if self.new_limiter is not None:
                self.limiter = self.new_limiter()
            self.ended, self.queued = self.requests, 0
        self.session = session

    async def attempt(self, call: CallState[T]) -> T:
        """Make one attempt and return the decoded value of a successful response."""
        limiter, clock, slots = self.limiter, self.clock, self.transport.pool.slots
        now = clock.monotonic()
        # The limiter's count of requests in flight. `observe` below needs it together with the response.
        among = limiter.try_acquire(now)
        asks = self.auth.asks
        if not among or asks or not slots.try_acquire():
            among = await self.acquire(call, among)
            now = clock.monotonic()
        self.requests += 1
        # The time of the attempt starts here. The wait for the limiter counts for the call only.
        call.seconds = clock.loop_seconds(call.attempt_from(now))
        response = None
        try:
            with call:
                if not asks:
                    call.credentials = await credentials_for(call.headers, self.auth)
                headers = self.complete_headers(call)
                if self.on_request is not None:
                    self.on_request(call.request)
                response = call.response = await self.transport.send(call, headers)
        except TimeoutError:
            if not call.passed:
                raise  # a token provider or a hook raised it, not our deadline
        finally:
            slots.release()
            limiter.release()
            self.ended += 1
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

    async def acquire(self, call: CallState[Any], among: int) -> int:
        """Wait for the limiter's permit, if `among` is 0, for the key, if a function returns it, and for a connection.

        The connection is last: while the key of one tenant does not come, the others can use all connections.
        """
        slots = self.transport.pool.slots
        among = among or await self.limiter.acquire(call.ends)
        try:
            if self.auth.asks:
                await self.ask(call)
            if not slots.try_acquire():
                self.queued += 1
                try:
                    await slots.acquire(call.ends)
                finally:
                    self.queued -= 1
        except BaseException:
            self.limiter.release()
            raise
        return among

    async def ask(self, call: CallState[Any]) -> None:
        """Get the key from the function that returns it. It may take the time of an attempt."""
        seconds = min(call.attempt_seconds, call.ends - self.clock.monotonic())
        call.seconds = self.clock.loop_seconds(seconds)
        try:
            with call:
                call.credentials = await credentials_for(call.headers, self.auth)
            return
        except TimeoutError:
            if not call.passed:
                raise  # the function raised it, not our deadline
        raise DeadlineExceeded(f"the function for the key returned none within {seconds:.3g} s")

    async def retry(self, call: CallState[T], failure: RequestError) -> T:
        """Retry after the first attempt failed with `failure`, and return the value.

        If all retries fail, return the result that `call.resolve` finds, or raise the final error.
        """
        state = RetryState(
            call.policy,
            call.request.kind,
            self.clock,
            self.budget,
            call.ends,
            limited=self.limited,
            adaptive=self.adaptive,
            own_delay=call.request.own_delay,
        )

        def may_retry(error: RequestError) -> bool:
            return self.may_retry(call, error, state)

        def before_sleep(error: RequestError) -> None:
            self.before_sleep(call, error, state.wait)

        async def sleep(seconds: float) -> None:
            # After a 429 the limiter does the wait, because it can shorten it when the server allows more.
            await (self.limiter.pause(seconds) if state.refused else self.clock.sleep(seconds))

        if may_retry(failure) and not state.exhausted():
            before_sleep(failure)
            await sleep(state.wait)
            try:
                again = retrying(state, may_retry, before_sleep, sleep)
            except OSError:  # the process cannot open more files: the first failure is more useful
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
            del failure  # breaks the reference cycle between this frame and the traceback

    def complete_headers(self, call: CallState[T]) -> SecretHeaders:
        """Return all headers of one attempt, except the idempotency key.

        Most calls send the same headers as the call before, so the latest result is kept.
        """
        own, credentials, without_body = call.headers, call.credentials, call.request.body is None
        latest = self.latest.get(without_body)
        if latest is None or latest[0] is not own or latest[1] is not credentials:
            latest = self.latest[without_body] = (own, credentials, merged_headers(own, credentials))
        return latest[2]

    def may_retry(self, call: CallState[T], error: RequestError, state: RetryState) -> bool:
        """Record the failed attempt, and return whether `state` allows another one."""
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
        """Count and report the retry that follows `error`."""
        if not isinstance(error, TransportError) or isinstance(call.told, TransportError | None):
            call.told = error
        self.retries += 1
        if self.on_retry is not None:
            self.on_retry(call.request, error, wait)
        call.await_turn()
        call.log("retries", level=logging.INFO, error=type(error).__name__, wait=wait, request_id=error.request_id)

    def final(self, call: CallState[T], error: RequestError, state: RetryState) -> RequestError:
        """Return the error for the user, with the history of the call in it."""
        earlier = call.told
        # A server's answer is more useful than a broken connection or a wait for the limiter after it.
        if isinstance(error, DeadlineExceeded) and call.attempting:
            error.last = earlier
        elif isinstance(error, TransportError) and isinstance(earlier, ApiError | ResponseError):
            # Only the last error can say that the server may have executed a create.
            error = error if state.ambiguous and call.request.kind == "create" else earlier
        # The tracebacks keep the frames and the bodies of the attempts alive. No user needs these frames.
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
        """Return the result that `resolve` finds for a cancel or delete whose response was lost."""
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
        """Return the counts of this pipeline and the state of its limiter."""
        standing = self.limiter.statistics(
            requests=self.requests,
            retries=self.retries,
            throttles=self.throttles,
            bytes_received=self.bytes_received,
        )
        return attrs.evolve(
            standing,
            in_flight=self.requests - self.ended,
            waiting=standing.waiting + self.queued,
            over_session=self.transport.over_session,
        )

    async def close(self) -> None:
        """End the running calls with `ClientClosed`, and close the transport. A second call does nothing."""
        await self.transport.close()
