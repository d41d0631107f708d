"""From the global options to a client, an event loop, and the ids of a run.

The SDK is imported at the first use of `evals_async.…`, and asyncio inside functions, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click

import evals_async
from evals_async.cli import KeyMissing, hints, output
from evals_async.cli.groups import ConnectionOptions, Misused
from evals_async.cli.hints import Hint
from evals_async.errors import ConfigurationError


T = TypeVar("T")

SILENCE = 5.0  # seconds after which it is said that no answer has come
CONNECTIONS = 100  # at least; more where more requests at once are wanted


def connect(
    terms: ConnectionOptions, *, base_url: str | None = None, api_key: str | None = None
) -> evals_async.EvalsClient:
    """The client that the options and the environment describe, or that of the server given.

    Where there is no OPENAI_API_KEY and no --base-url, the Azure endpoint of the environment is taken. Raises
    `KeyMissing` before anything is sent, and `ConfigurationError`.
    """
    options = evals_async.ClientOptions(
        timeout=terms.timeout,
        max_retries=terms.max_retries,
        max_connections=max(CONNECTIONS, terms.concurrency),
        max_body=terms.max_body,
    )
    http = terms.allow_http
    try:
        if terms.azure and base_url is None:
            client = evals_async.EvalsClient.azure(endpoint=terms.base_url, allow_http=http, **options)
        else:
            client = evals_async.EvalsClient(
                base_url=base_url or terms.base_url, api_key=api_key, allow_http=http, **options
            )
            if not client.has_credentials and not terms.base_url:
                client = azure_instead(options, allow_http=http) or client
    except ConfigurationError as error:
        text = with_option_names(str(error))
        raise (KeyMissing(text) if "api_key" in text else ConfigurationError(text)) from None
    if not client.has_credentials:
        raise KeyMissing("no API key for " + client.base_url)
    return client


OPTION_NAMES = {
    "pass allow_http=True": "give --allow-http",
    "pass the key as api_key": "put the key into OPENAI_API_KEY, or with --azure into AZURE_OPENAI_API_KEY",
    "base_url (OPENAI_BASE_URL)": "--base-url (or OPENAI_BASE_URL)",
    "endpoint (AZURE_OPENAI_ENDPOINT)": "--base-url (or AZURE_OPENAI_ENDPOINT)",
}


def with_option_names(text: str) -> str:
    """An error of the client, with the options of the command line where it names arguments of Python."""
    for argument, option in OPTION_NAMES.items():
        text = text.replace(argument, option)
    return text


@asynccontextmanager
async def open_client(
    terms: ConnectionOptions, first_answer: float | None = None
) -> AsyncGenerator[evals_async.EvalsClient]:
    """The client of the service, with a word on stderr if the service says nothing for some seconds.

    `first_answer` is how long the first answer is waited for, where that is not the time of every call.
    """
    import asyncio

    async with connect(terms) as client:
        watching = asyncio.create_task(report_silence(client, terms.timeout if first_answer is None else first_answer))
        try:
            yield client
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def report_silence(client: evals_async.EvalsClient, most: float) -> None:
    """Say that nothing has come yet, when nothing has, and how many seconds it is waited for at `most`."""
    await client.clock.sleep(SILENCE)
    if not client.statistics().bytes_received:
        output.note(f"no answer from {client.base_url} yet; waiting for {most:g} s at most, or until Ctrl-C")


def azure_instead(options: evals_async.ClientOptions, *, allow_http: bool) -> evals_async.EvalsClient | None:
    """The client of the environment's Azure endpoint, if it names one with a key."""
    try:
        client = evals_async.EvalsClient.azure(allow_http=allow_http, **options)
    except ConfigurationError:
        return None
    return client if client.has_credentials else None


def run_with_client(terms: ConnectionOptions, work: Callable[[evals_async.EvalsClient], Awaitable[T]]) -> T:
    """What `work(client)` returns, in an event loop of its own, with the client closed in the end."""

    async def work_and_close() -> T:
        async with open_client(terms) as client:
            return await work(client)

    return run(terms, work_and_close())


def run(terms: ConnectionOptions, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, in an event loop of its own, with the log on stderr if --verbose asks for it."""
    import asyncio

    if terms.verbose:
        output.log_to_stderr()
    return asyncio.run(work)


def run_key(name: str, eval_id: str | None, terms: ConnectionOptions) -> tuple[str, str]:
    """The ids of a run named EVAL_ID/RUN_ID, or RUN_ID with --eval. Raises `click.UsageError`."""
    first, slash, rest = name.partition("/")
    if slash:
        if eval_id not in (None, first):
            raise click.UsageError(f"{name} names the eval {first}, --eval names {eval_id}.")
        return first, rest
    if eval_id is None:
        raise Misused(f"The eval of the run {name} is not known.", hints.advice(Hint.ADD_EVAL, terms))
    return eval_id, name
