"""How runs with known ids are read: one by one with `fetch_run`, and many with `run_lookup`."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from evals_async import _json
from evals_async._codec import copied, encode
from evals_async._concurrency.cache import CacheGuard
from evals_async._paging.by_pages import Lookup
from evals_async.models.runs import EvalRun
from evals_async.resources._caller import Caller, Fetched
from evals_async.resources._requests import NO_OPTIONS, CallOptions, path_of, request, segment
from evals_async.resources._run_keys import EVAL_OF_RUN, RUN, RUN_IDS, RUNS, RunKey, ids_of
from evals_async.resources._watching import body_too_large, is_terminal


def fetch_run(
    caller: Caller, ids: tuple[str, str], options: CallOptions = NO_OPTIONS, *, own_delay: bool = True
) -> Coroutine[Any, Any, Fetched[EvalRun]]:
    """Return the run with these ids, from the server or the cache. See `Request` for `own_delay`."""
    wanted = request("GET", RUN, "read", options, ids, own_delay=own_delay)
    return caller.fetch(wanted, EvalRun, options, expected=(RUN_IDS, ids), final=is_terminal, share=True)


def run_lookup(caller: Caller, eval_id: str | None, by_pages: bool) -> Lookup[RunKey, EvalRun]:
    """Return the functions that read runs one by one and by pages. See `Lookup` for delays."""

    def locate(run: RunKey) -> tuple[str, str]:
        ids = ids_of(run, eval_id)
        segment(ids[0], "eval_id")
        segment(ids[1], "run_id")
        return ids

    async def one(run: RunKey) -> EvalRun:
        return (await fetch_run(caller, ids_of(run, eval_id), own_delay=not by_pages)).value

    async def kept(run: RunKey, cache: CacheGuard) -> EvalRun | None:
        ids = ids_of(run, eval_id)
        return await caller.kept(caller.scope + path_of(RUN, ids), EvalRun, (RUN_IDS, ids), cache)

    async def keep(run: RunKey, found: EvalRun, cache: CacheGuard) -> None:
        if found.is_terminal:
            await cache.put(caller.scope + path_of(RUN, ids_of(run, eval_id)), _json.dump(encode(found)))

    return Lookup(
        locate=locate,
        fetch=one,
        pages=lambda parent: caller.pages(
            request("GET", RUNS, "read", NO_OPTIONS, (parent,), own_delay=False),
            EvalRun,
            expected=(EVAL_OF_RUN, (str(parent),)),
        ),
        attempts=caller.defaults.retry.attempts,
        shrink=body_too_large,
        copy=copied,
        cached=None if caller.cache is None else partial(kept, cache=caller.cache),
        keep=None if caller.cache is None else partial(keep, cache=caller.cache),
    )
