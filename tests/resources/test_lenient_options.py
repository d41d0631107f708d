"""Options as programs for other clients pass them: None where nothing is meant, and clear words where something is
wrong.
"""

import math
from typing import Any

import pytest
from doubles import FakeClock

from evals_async import ConfigurationError, EvalsClient
from evals_async.server import Fault, FaultPlan, LocalServer


KEY = "sk-test-0123456789"


async def test_none_is_not_given() -> None:
    """`None` for an option of a call or of the client means that it was not given."""
    nothing: Any = {"max_retries": None, "proxy": None, "cache": None}
    async with (
        LocalServer() as server,
        EvalsClient(
            base_url=server.base_url, api_key=KEY, default_headers=None, default_query=None, **nothing
        ) as client,
    ):
        page = await client.evals.list(extra_headers=None, extra_query=None, extra_body=None)
        assert () == page.data


async def test_a_timeout_of_none_is_without_end() -> None:
    """A call's own `timeout=None` lifts the client's deadline; without it the deadline stands."""
    slow = FaultPlan(Fault(delay=0.2, times=None))
    async with (
        LocalServer(faults=slow) as server,
        EvalsClient(base_url=server.base_url, api_key=KEY, timeout=0.1, max_retries=0) as client,
    ):
        with pytest.raises(TimeoutError):
            await client.evals.list()
        assert () == (await client.evals.list(timeout=None)).data


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout", 0), ("timeout", "5"), ("timeout", True), ("max_retries", "2"), ("max_retries", -1), ("max_body", 0)],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    """A value that cannot be right is refused when the client is made, by the name that the caller wrote."""
    with pytest.raises(ConfigurationError, match=f"^{option} must be"):
        EvalsClient(api_key=KEY, clock=FakeClock(), **{option: value})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("number", [0, 11, 1000, math.inf])
async def test_any_number_of_retries(number: float) -> None:
    """`max_retries` may be as large as with the official client, for a client and for a copy; `inf` is without end."""
    retries: Any = number
    async with EvalsClient(api_key=KEY, max_retries=retries, clock=FakeClock()) as client:
        assert client.max_retries >= min(number, 1000)
        assert client.with_options(max_retries=retries).max_retries == client.max_retries


async def test_the_official_names_of_with_options() -> None:
    """`default_headers` and `default_query` are taken for `headers` and `query`."""
    async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        await client.with_options(default_headers={"x-team": "blue"}, default_query={"limit": 1}).evals.list()
        [seen] = server.requests
        assert "blue" == seen.headers["x-team"]
        assert "1" == dict(seen.query)["limit"]


async def test_a_file_keeps_its_name_and_a_cancel_has_no_type() -> None:
    """A file name goes up as it is, quotes and accents included; a POST without a body names no content type."""
    async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        file = await client.files.create(file=('rows "é" 1.jsonl', b'{"item": {}}\n'))
        assert 'rows "é" 1.jsonl' == file.filename
        with pytest.raises(Exception, match="404"):
            await client.evals.runs.cancel("evalrun_1", eval_id="eval_1")
        assert not any(name.lower() == "content-type" for name in server.requests[-1].headers)
