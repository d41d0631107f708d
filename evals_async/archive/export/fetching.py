"""What an export asks the server: pages, single objects, contents of files. GET only, through all of the client's
policies, with the deadlines of a long copy. Nothing here writes to the store.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs

from evals_async import EvalsClient, Request, Response, RetryPolicy, Timeouts
from evals_async._store import Kind
from evals_async.archive.export.arrivals import Arrivals, page_of
from evals_async.archive.export.outages import FIRST_ANSWER, LONGEST_PAUSE, MAX_SERVER_DELAY
from evals_async.errors import RequestError, TransportError
from evals_async.pagination import Cursor, smaller_page, too_heavy


T = TypeVar("T")

ROUTES: Mapping[Kind, str] = {
    "evals": "/evals",
    "runs": "/evals/{eval_id}/runs",
    "output_items": "/evals/{eval_id}/runs/{run_id}/output_items",
    "files": "/files",
}
OBJECTS: Mapping[str, str] = {
    "eval": "/evals/{eval_id}",
    "run": "/evals/{eval_id}/runs/{run_id}",
    "file": "/files/{file_id}",
}

RETRY = RetryPolicy(attempts=4, max_server_delay=LONGEST_PAUSE)  # longer pauses are made where they can be told of
# The call's end leaves time for the longest pause that a server may ask all callers for, and for one attempt after it.
TIMEOUTS = Timeouts(total=1.25 * MAX_SERVER_DELAY + 120, attempt=60.0)
FIRST_RETRY = RetryPolicy(attempts=1)  # until the server has answered once: a mistyped address is not waited for
CONNECT = 5.0  # seconds
LARGE_PAGE = 8 * 2**20  # bytes of a page after which the next ones are smaller: many are in memory at once
IN_MEMORY = 8 * 2**20  # bytes of a file's content beyond which it goes through a temporary file


def first_timeouts(first_answer: float) -> Timeouts:
    """The deadlines of a request before the server has answered once."""
    return Timeouts(total=first_answer, attempt=first_answer, connect=min(first_answer, CONNECT))


class Spool:
    """Takes a file's content, and its sha256, in bounded memory."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # lives as long as this object
        self.restart()

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes, /) -> None:
        self.hash.update(chunk)
        self.size += len(chunk)
        self.file.write(chunk)

    def close(self) -> None:
        self.file.close()


@attrs.define
class Fetcher:
    """Asks one server. `requests` went out, `received` bytes came back."""

    slow: EvalsClient
    first: EvalsClient
    requests: int = 0
    received: int = 0
    answered: bool = False

    @classmethod
    def of(cls, client: EvalsClient, first_answer: float = FIRST_ANSWER) -> Fetcher:
        """A fetcher that shares the client's connections and limits, and waits as long as a copy should.

        `first_answer` is how many seconds the first answer of all may take.
        """
        slow = client.with_options(retry=RETRY, timeout=TIMEOUTS)
        return cls(slow, client.with_options(retry=FIRST_RETRY, timeout=first_timeouts(first_answer)))

    @property
    def client(self) -> EvalsClient:
        return self.slow if self.answered else self.first

    async def send(self, request: Request, read: Callable[[Response], Awaitable[T]] | None = None) -> Any:
        """The response, or what `read` makes of it."""
        self.requests += 1
        try:
            found = await (self.client.send(request) if read is None else self.client.send(request, read))
        except TransportError:
            raise
        except RequestError:  # it is there
            self.answered = True
            raise
        self.answered = True
        return found

    async def page(self, kind: Kind, parents: tuple[str, ...], cursor: Cursor) -> tuple[Arrivals, Cursor]:
        """The page at `cursor`, and the cursor with the page size that the server could bear."""

        async def read(response: Response) -> Arrivals:
            self.received += len(response.body)
            return page_of(response.body, kind, parents)

        purpose = "evals" if kind == "files" else None
        while True:
            query = {"after": cursor.after, "limit": cursor.limit, "order": "asc", "purpose": purpose}
            request = self.client.request("GET", ROUTES[kind], ids=parents, query=query)
            try:
                arrivals = await self.send(request, read)
            except RequestError as error:
                if cursor.limit == 1 or not too_heavy(error) or not self.answered:
                    raise
                cursor = smaller_page(cursor)
            else:
                large = arrivals.size > LARGE_PAGE
                return arrivals, smaller_page(cursor, len(arrivals.ids)) if large else cursor

    async def object(self, kind: str, *ids: str) -> bytes:
        """The exact JSON text of one object."""
        response: Response = await self.send(self.client.request("GET", OBJECTS[kind], ids=ids))
        self.received += len(response.body)
        return response.body

    async def content(self, file_id: str, spool: Spool) -> None:
        """Put a file's content into `spool`."""
        await self.send(self.client.request("GET", "/files/{file_id}/content", ids=(file_id,), sink=spool))
        self.received += spool.size
        spool.file.seek(0)
