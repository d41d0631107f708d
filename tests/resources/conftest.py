"""A client whose session is replaced by a double."""

from collections.abc import AsyncIterator, Iterator

import pytest
from aioresponses import aioresponses
from doubles import FakeClock
from resources.session_double import BASE, KEY, SessionDouble

from evals_async import EvalsClient


@pytest.fixture
def session() -> Iterator[SessionDouble]:
    with aioresponses() as mocked:
        yield SessionDouble(mocked)


@pytest.fixture
async def client(session: SessionDouble) -> AsyncIterator[EvalsClient]:
    async with EvalsClient(base_url=BASE, api_key=KEY, clock=FakeClock()) as made:
        yield made
