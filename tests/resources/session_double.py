"""What the tests of the resources have in common: responses in place of aiohttp's session, and what was sent to it.

Nothing goes over a socket: `aioresponses` takes the place of `ClientSession._request`.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import aiohttp
import attrs
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from evals_async import EvalsClient


BASE = "https://api.example/v1"
KEY = "sk-recognisable-77aa"

ANYTHING = re.compile(".*")

Do: TypeAlias = Callable[[EvalsClient], Awaitable[object]]
"""A call to try."""


class StreamedResponse(aiohttp.ClientResponse):
    """What aioresponses 0.7.9 can make: aiohttp 3.14 wants a stream writer, which it does not give."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"stream_writer": SimpleNamespace(output_size=0), **options})


@attrs.frozen
class Sent:
    """A request as it reached the session."""

    method: str
    url: URL
    headers: Mapping[str, str]
    data: Any

    @property
    def path(self) -> str:
        return self.url.raw_path.removeprefix("/v1")

    @property
    def query(self) -> dict[str, str]:
        assert len(self.url.query) == len(set(self.url.query)), "a parameter was sent twice"
        return dict(self.url.query)

    @property
    def body(self) -> Any:
        return None if self.data is None else json.loads(self.data)


@attrs.frozen
class Answer:
    """What is answered: a JSON value, or bytes as they are."""

    body: object = attrs.Factory(dict[str, object])
    status: int = 200
    headers: Mapping[str, str] = attrs.Factory(dict[str, str])


class SessionDouble:
    """Gives the answers one after the other, the last one for ever, and keeps what was sent."""

    def __init__(self, mocked: aioresponses) -> None:
        self.sent: list[Sent] = []
        self.answers: list[Answer] = [Answer()]
        for method in ("GET", "POST", "DELETE"):
            # The annotations of aioresponses lack the arguments of Pattern and Callable.
            mocked.add(  # pyright: ignore[reportUnknownMemberType]
                ANYTHING, method, callback=partial(self.answer, method), repeat=True
            )

    def gives(self, *answers: Answer | object) -> None:
        self.answers = [answer if isinstance(answer, Answer) else Answer(answer) for answer in answers]

    async def answer(self, method: str, url: URL, **options: Any) -> CallbackResult:
        self.sent.append(Sent(method, url, options["headers"], options.get("data")))
        await asyncio.sleep(0)  # as every network: others get their turn meanwhile
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body)
        return CallbackResult(
            method=method,
            status=answer.status,
            body=body,
            headers=dict(answer.headers),
            response_class=StreamedResponse,
        )

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path of all that was sent, the first first."""
        return [(sent.method, sent.path) for sent in self.sent]
