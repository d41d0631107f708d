"""What people see of retries without setting anything up, and who the requests say they are from."""

import builtins
import errno
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioresponses import aioresponses
from doubles import FakeClock
from resources.session_double import BASE, KEY, Answer, SessionDouble

from evals_async import EvalsClient
from evals_async._settings import follow_log_variable
from evals_async.errors import ConfigurationError, InvalidArgument, NotFound, ServerError


RUN_ID = "evalrun_" + "0123456789abcdef" * 2


@pytest.fixture
def session() -> Iterator[SessionDouble]:
    with aioresponses() as mocked:
        yield SessionDouble(mocked)


@pytest.fixture
def untouched() -> Iterator[logging.Logger]:
    """The package's logger, left as it was."""
    logger = logging.getLogger("evals_async")
    level, handlers = logger.level, logger.handlers[:]
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers


def client_of() -> EvalsClient:
    return EvalsClient(base_url=BASE, api_key=KEY, clock=FakeClock())


def busy() -> Answer:
    return Answer({"error": {"message": "busy"}}, status=500)


async def test_a_retry_is_info_giving_up_a_warning(session: SessionDouble, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each retry, and one when the call gives up; with route and numbers, without ids."""
    caplog.set_level(logging.INFO, "evals_async")
    session.gives(busy())
    async with client_of() as client:
        with pytest.raises(ServerError):
            await client.evals.retrieve("eval_1")
    assert ["INFO", "INFO", "WARNING"] == [record.levelname for record in caplog.records]
    last = caplog.records[-1]
    assert "GET /evals/{eval_id} gives up error=ServerError attempts=3" in last.getMessage()
    assert 3 == vars(last)["attempts"]
    assert "eval_1" not in caplog.text


async def test_an_answer_is_no_warning(session: SessionDouble, caplog: pytest.LogCaptureFixture) -> None:
    """A 404 is an answer, and a call that succeeds after a retry has not given up."""
    caplog.set_level(logging.WARNING, "evals_async")
    async with client_of() as client:
        session.gives(Answer({"error": {"message": "gone"}}, status=404))
        with pytest.raises(NotFound):
            await client.evals.retrieve("eval_1")
        session.gives(busy(), {"id": "eval_1"})
        await client.evals.retrieve("eval_1")
    assert [] == caplog.records


@pytest.mark.parametrize(("word", "level"), [("debug", logging.DEBUG), ("INFO", logging.INFO)])
def test_the_variable_shows_log_lines(
    untouched: logging.Logger, word: str, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`EVALS_LOG=debug` sets the level when a client is made; who has set logging up keeps his handlers."""
    monkeypatch.setenv("EVALS_LOG", word)
    EvalsClient(api_key=KEY)
    assert (level, []) == (untouched.level, untouched.handlers)  # pytest has a handler
    monkeypatch.setattr(untouched, "propagate", False)
    for _ in range(2):
        follow_log_variable({"EVALS_LOG": word})
    assert 1 == len(untouched.handlers)


def test_a_variable_that_is_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another word is refused when a client is made."""
    monkeypatch.setenv("EVALS_LOG", "verbose")
    with pytest.raises(ConfigurationError, match="EVALS_LOG must be debug or info, not 'verbose'"):
        EvalsClient(api_key=KEY)


async def test_requests_say_which_version_they_are_from(session: SessionDouble) -> None:
    """`User-Agent: evals-async/0.1.0`, the version of the package."""
    version = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["version"]
    session.gives({"id": "eval_1"})
    async with client_of() as client:
        await client.evals.retrieve("eval_1")
    assert f"evals-async/{version}" == session.sent[0].headers["User-Agent"]


async def test_ids_in_errors_are_whole() -> None:
    """The ids of real runs have 40 characters: not one of them is cut."""
    async with client_of() as client:
        with pytest.raises(InvalidArgument, match=f"'{RUN_ID}' is unknown"):
            await client.evals.runs.retrieve(RUN_ID)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]  # as the types say
        with pytest.raises(InvalidArgument, match=f"'{RUN_ID}' belongs to the eval 'eval_{'a' * 60}', not to 'eval_b'"):
            await client.evals.runs.retrieve((f"eval_{'a' * 60}", RUN_ID), eval_id="eval_b")


async def test_a_retry_without_file_descriptors(session: SessionDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """When tenacity cannot be imported because no more files can be opened, the failure itself is what is raised."""
    imported = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name == "tenacity":
            raise OSError(errno.EMFILE, "Too many open files")
        return imported(name, *args)

    session.gives(busy())
    async with client_of() as client:
        monkeypatch.setattr(builtins, "__import__", refuse)
        with pytest.raises(ServerError, match=r"busy.*no more files can be opened"):
            await client.evals.retrieve("eval_1")
