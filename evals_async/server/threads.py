"""`ServerThread`: a local server in a thread of its own, for programs and tests that have no event loop to spare.

A server lives in the loop of whoever starts it. A synchronous test holds that loop while it waits for an answer, and
the server could not give it.
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
    """A local server that runs in its own thread. `LocalServer.in_thread()` makes one; nothing here needs an event
    loop.

        with LocalServer.in_thread() as server:
            openai.OpenAI(base_url=server.base_url, api_key="local").evals.list()
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
        """Start the thread, and wait until the server answers.

        Raises what `LocalServer.start` raises, and `RuntimeError` when it runs already.
        """
        if self._thread is not None:
            raise RuntimeError("this server runs already")
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
        except BaseException as error:  # noqa: BLE001  # told where the thread was started
            if not started.done():
                started.set_exception(error)

    async def _serve(self, started: "Future[LocalServer]") -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._made as server:
            started.set_result(server)
            await self._stop.wait()

    def close(self) -> None:
        """Close the server, and wait for the thread's end. Closing twice is harmless."""
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
        """What a coroutine function returns that is run on the server's loop."""
        if self._loop is None:
            raise RuntimeError("the local server is not running: use `with LocalServer.in_thread() as server:`")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(WORK_SECONDS)

    @property
    def base_url(self) -> str:
        """Where the API is, `/v1` included."""
        return self._running.base_url

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._running.port

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong, as declared; it can be added to from this thread."""
        return self._running.faults

    @property
    def requests(self) -> "tuple[SeenRequest, ...]":
        """The last requests that arrived."""
        server = self._running

        async def copy() -> "tuple[SeenRequest, ...]":
            return tuple(server.requests)

        return self._call(copy)

    @property
    def request_count(self) -> int:
        """How many requests have arrived."""
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
        """Put raw JSON objects into the store, as `LocalServer.seed` does."""
        server = self._running
        self._call(
            lambda: server.seed(evals=evals, runs=runs, output_items=output_items, files=files, contents=contents)
        )
