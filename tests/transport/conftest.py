"""What the tests of the transport share: both ways in which a request can go out."""

import pytest

from evals_async._transport import direct


pytest.register_assert_rewrite("transport.harness")


def a_test() -> str:
    return "a test asks for the session"


@pytest.fixture
def over_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go over aiohttp's session, as they do where the direct path is not possible."""
    monkeypatch.setattr(direct, "unfit", a_test)


@pytest.fixture(params=["direct", "session"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once over the direct path, and once over the session: what is promised holds for both."""
    if request.param == "session":
        monkeypatch.setattr(direct, "unfit", a_test)
