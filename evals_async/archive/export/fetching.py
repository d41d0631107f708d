"""The requests of an export: pages, single objects, and contents of files.

All requests are GET. They use the client's limits and retries, with longer deadlines. Nothing here writes to the store.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs

from evals_async import EvalsClient, Request, Response, RetryPolicy, Timeouts
from evals_async._store import Kind
from evals_async.archive.export.listing_page import ListingPage, page_of, readable_id
from evals_async.archive.export.outages import FIRST_ANSWER, LONGEST_PAUSE, MAX_SERVER_DELAY
from evals_async.errors import RequestError, ResponseMismatch, TransportError
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

RETRY = RetryPolicy(attempts=4, max_server_delay=LONGEST_PAUSE)  # `OutagePolicy` makes longer pauses and reports them
# A call must survive the longest pause of the shared rate limiter, and then have time for one attempt.
TIMEOUTS = Timeouts(total=1.25 * MAX_SERVER_DELAY + 120, attempt=60.0)
FIRST_RETRY = RetryPolicy(attempts=1)  # until the first response, so that a mistyped address fails quickly
CONNECT = 5.0  # seconds
LARGE_PAGE = 8 * 2**20  # bytes; after a larger page, fewer objects are requested, because many pages are in memory
IN_MEMORY = 8 * 2**20  # bytes; a larger content is stored in a temporary file


def first_timeouts(first_answer: float) -> Timeouts:
    """The deadlines of a request before the server has answered once."""
    return Timeouts(total=first_answer, attempt=first_answer, connect=min(first_answer, CONNECT))


class Spool:
    """Receives the content of a file and computes its sha256, in bounded memory."""

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
    """Sends the requests to one server. It counts `requests` and `received` bytes."""

    slow: EvalsClient
    first: EvalsClient
    requests: int = 0
    received: int = 0
    responded: bool = False

    @classmethod
    def of(cls, client: EvalsClient, first_answer: float = FIRST_ANSWER) -> Fetcher:
        """Make a fetcher that shares the client's connections and limits, with the timeouts of an export.

        `first_answer` is the longest time for the first response, in seconds.
        """
        slow = client.with_options(retry=RETRY, timeout=TIMEOUTS)
        return cls(slow, client.with_options(retry=FIRST_RETRY, timeout=first_timeouts(first_answer)))

    @property
    def client(self) -> EvalsClient:
        return self.slow if self.responded else self.first

    async def send(self, request: Request, read: Callable[[Response], Awaitable[T]] | None = None) -> Any:
        """Send a request. Returns the response, or the result of `read(response)`."""
        self.requests += 1
        try:
            found = await (self.client.send(request) if read is None else self.client.send(request, read))
        except TransportError:
            raise
        except RequestError:  # an error response shows that the server is there
            self.responded = True
            raise
        self.responded = True
        return found

    async def page(self, kind: Kind, parents: tuple[str, ...], cursor: Cursor) -> tuple[ListingPage, Cursor]:
        """Fetch the page at `cursor`. Returns it with the cursor, whose page size may be smaller than before.

        If the server fails with a page of this size, a smaller page is requested.
        """

        async def read(response: Response) -> ListingPage:
            self.received += len(response.body)
            return page_of(response.body, kind, parents)

        purpose = "evals" if kind == "files" else None
        while True:
            query = {"after": cursor.after, "limit": cursor.limit, "order": "asc", "purpose": purpose}
            request = self.client.request("GET", ROUTES[kind], ids=parents, query=query)
            try:
                page = await self.send(request, read)
            except RequestError as error:
                if cursor.limit == 1 or not too_heavy(error) or not self.responded:
                    raise
                cursor = smaller_page(cursor)
            else:
                large = page.size > LARGE_PAGE
                return page, smaller_page(cursor, len(page.ids)) if large else cursor

    async def probe(self) -> None:
        """Send a small request that succeeds on every server that is up."""
        await self.page("evals", (), Cursor.at(limit=1))

    async def object(self, kind: str, *ids: str) -> bytes:
        """Fetch the exact JSON text of one object. Raises `ResponseMismatch` if it is another object."""

        async def read(response: Response) -> bytes:
            self.received += len(response.body)
            got = readable_id(response.body)
            if got is not None and got != ids[-1]:
                raise ResponseMismatch(f"asked for {kind} {ids[-1]!r}, got {got!r}", asked=ids[-1], got=got)
            return response.body

        text: bytes = await self.send(self.client.request("GET", OBJECTS[kind], ids=ids), read)
        return text

    async def content(self, file_id: str, spool: Spool) -> None:
        """Download the content of a file into `spool`."""
        await self.send(self.client.request("GET", "/files/{file_id}/content", ids=(file_id,), sink=spool))
        self.received += spool.size
        spool.file.seek(0)
