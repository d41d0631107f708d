"""From the global options to a client, an event loop, and the ids of a run.

The SDK is imported at the first use of `evals_async.…`, and asyncio inside functions, so that `--help` is fast.
"""

from __future__ import annotations

import logging
import os
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

SILENCE = 5.0  # seconds without a response until a note is printed
CONNECTIONS = 100  # at least; more if --concurrency is larger


def connect(
    terms: ConnectionOptions, *, base_url: str | None = None, api_key: str | None = None
) -> evals_async.EvalsClient:
    """Return a client for the service of the options and the environment, or for the given server.

    Without OPENAI_API_KEY and --base-url, the Azure endpoint of the environment is used. Raises `KeyMissing` and
    `ConfigurationError` before anything is sent.
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
        text = str(error)
        raise (KeyMissing if text.startswith("api_key ") else ConfigurationError)(text) from None
    if not client.has_credentials:
        raise KeyMissing("no API key for " + client.base_url)
    return client


@asynccontextmanager
async def open_client(
    terms: ConnectionOptions, first_answer: float | None = None
) -> AsyncGenerator[evals_async.EvalsClient]:
    """Open a client of the service. A note on stderr is printed if the service does not respond for some seconds.

    `first_answer` is the timeout of the first response, if it differs from the timeout of every call.
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
    """Print a note if no response has arrived yet. `most` is the longest time to wait, in seconds."""
    await client.clock.sleep(SILENCE)
    if not client.statistics().bytes_received:
        output.note(f"no response from {client.base_url} yet; waiting for {most:g} s at most, or until Ctrl-C")


def azure_instead(options: evals_async.ClientOptions, *, allow_http: bool) -> evals_async.EvalsClient | None:
    """Return a client for the Azure endpoint of the environment, if there is one with a key."""
    try:
        client = evals_async.EvalsClient.azure(allow_http=allow_http, **options)
    except ConfigurationError:
        return None
    return client if client.has_credentials else None


def run_with_client(terms: ConnectionOptions, work: Callable[[evals_async.EvalsClient], Awaitable[T]]) -> T:
    """Run `work(client)` in a new event loop, and close the client. Returns the result of `work`."""

    async def work_and_close() -> T:
        async with open_client(terms) as client:
            return await work(client)

    return run(terms, work_and_close())


def run(terms: ConnectionOptions, work: Coroutine[Any, Any, T], *, log_failures: bool = False) -> T:
    """Run `work` in a new event loop, with --verbose with a log on stderr. Returns its result.

    Calls that fail are logged only with `log_failures`, with --verbose or with EVALS_LOG: other commands report the
    error themselves, and would report it twice.
    """
    import asyncio

    if terms.verbose:
        output.log_to_stderr()
    if terms.verbose or log_failures or os.environ.get("EVALS_LOG"):
        return asyncio.run(work)
    logger = logging.getLogger("evals_async")
    logger.addFilter(no_failed_call)
    try:
        return asyncio.run(work)
    finally:
        logger.removeFilter(no_failed_call)


def no_failed_call(record: logging.LogRecord) -> bool:
    """Return whether a log record is not the one of a call that gives up."""
    return not (isinstance(record.args, tuple) and "gives up" in record.args)


def run_key(name: str, eval_id: str | None, terms: ConnectionOptions) -> tuple[str, str]:
    """Return (eval id, run id) of EVAL_ID/RUN_ID, or of RUN_ID with --eval. Raises `click.UsageError`."""
    first, slash, rest = name.partition("/")
    if slash:
        if eval_id not in (None, first):
            raise click.UsageError(f"{name} has the eval {first}, but --eval is {eval_id}.")
        return first, rest
    if eval_id is None:
        raise Misused(f"The eval of the run {name} is missing.", hints.advice(Hint.ADD_EVAL, terms))
    return eval_id, name
