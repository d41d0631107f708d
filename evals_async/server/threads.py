"""`ServerThread`: a local server in its own thread, for synchronous programs and tests.

A `LocalServer` runs in the event loop of the code that starts it. Synchronous code blocks this loop while it waits for
a response, so the server could not send one.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evals_async._json import JSONObject
from evals_async.server.faults import FaultPlan


if TYPE_CHECKING:
    from evals_async.server.running import LocalServer, SeenRequest

T = TypeVar("T")

NO_CONTENTS: Mapping[str, bytes] = MappingProxyType({})
START_SECONDS = 30.0
WORK_SECONDS = 60.0
CLOSE_SECONDS = 10.0


class ServerThread:
    """A local server in its own thread.

        with LocalServer.in_thread() as server:
            openai.OpenAI(base_url=server.base_url, api_key="local").evals.list()

    `LocalServer.in_thread()` makes one. All methods are synchronous.
    """

    def __init__(self, made: "LocalServer") -> None:
        self._made = made
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._server: LocalServer | None = None

    def __repr__(self) -> str:
        return f"ServerThread({self._server!r})" if self._server else "ServerThread(not running)"

    def start(self) -> Self:
        """Start the thread, and wait until the server accepts requests.

        Raises the errors of `LocalServer.start`, and `RuntimeError` if the server is already running.
        """
        if self._thread is not None:
            raise RuntimeError("this server is already running")
        started: Future[LocalServer] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="evals-server", daemon=True)
        self._thread.start()
        try:
            self._server = started.result(START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def _run(self, started: "Future[LocalServer]") -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:  # noqa: BLE001  # raised again by `start`
            if not started.done():
                started.set_exception(error)

    async def _serve(self, started: "Future[LocalServer]") -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._made as server:
            started.set_result(server)
            await self._stop.wait()

    def close(self) -> None:
        """Close the server, and wait until the thread has ended. A second call has no effect."""
        thread, self._thread, self._server = self._thread, None, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def _running(self) -> "LocalServer":
        if self._server is None:
            raise RuntimeError("the local server is not running: use `with LocalServer.in_thread() as server:`")
        return self._server

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the event loop of the server, and return its result."""
        if self._loop is None:
            raise RuntimeError("the local server is not running: use `with LocalServer.in_thread() as server:`")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(WORK_SECONDS)

    @property
    def base_url(self) -> str:
        """The base URL of the API, including `/v1`."""
        return self._running.base_url

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._running.port

    @property
    def faults(self) -> FaultPlan:
        """The faults of the server. They can be changed from this thread."""
        return self._running.faults

    @property
    def requests(self) -> "tuple[SeenRequest, ...]":
        """The last received requests."""
        server = self._running

        async def copy() -> "tuple[SeenRequest, ...]":
            return tuple(server.requests)

        return self._call(copy)

    @property
    def request_count(self) -> int:
        """The number of received requests."""
        return self._running.request_count

    def seed(
        self,
        *,
        evals: Iterable[JSONObject] = (),
        runs: Iterable[JSONObject] = (),
        output_items: Iterable[JSONObject] = (),
        files: Iterable[JSONObject] = (),
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        """Store raw JSON objects, as `LocalServer.seed` does."""
        server = self._running
        self._call(
            lambda: server.seed(evals=evals, runs=runs, output_items=output_items, files=files, contents=contents)
        )
