"""Options that are not valid are refused before the file or the server is touched. Links to a file share its lock."""

import math
from pathlib import Path
from typing import Any

import pytest
from doubles import ScaledClock
from reference_server import Export, ReferenceServer, tree

from evals_async import EvalsClient
from evals_async._store.lock import WriterLock
from evals_async.archive import Archive, Selection
from evals_async.errors import ArchiveError, InvalidArgument


@pytest.mark.parametrize(
    "options",
    [
        {"evals": "eval_0"},
        {"evals": 5},
        {"evals": (1,)},
        {"evals": ("",)},
        {"evals": None},
        {"since": "yesterday"},
        {"since": math.nan},
        {"since": math.inf},
        {"since": True},
        {"since": -1},
    ],
)
def test_a_selection_of_something_else_is_refused(options: Any) -> None:
    """A text in place of a sequence of ids, and a time that is no number of seconds, are refused at once."""
    with pytest.raises(InvalidArgument, match=r"evals must be|since must"):
        Selection(**options)


async def test_a_time_with_a_fraction_is_a_time(export: Export, file: Path) -> None:
    """`time.time() - 86400` is a float. The archive of such an export is verified with the same selection."""
    async with ReferenceServer(tree(evals=1, runs=1, items=3)) as server:
        await export(server, Selection(since=1_900_000_000.5))
    async with Archive.open(file) as archive:
        assert 0 == (await archive.verify()).exit_code
    assert Selection(evals=["eval_0"], since=7) == Selection.of(Selection(evals=("eval_0",), since=7).text())


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 257},
        {"concurrency": True},
        {"max_outage": math.nan},
        {"max_outage": -1},
        {"max_outage": "5"},
        {"first_answer": 0},
        {"first_answer": math.nan},
    ],
)
async def test_options_are_checked_before_anything_else(export: Export, file: Path, options: Any) -> None:
    """Neither `export` nor `verify` nor `estimate` sends a request or writes with a value that is not valid."""
    clock = ScaledClock(100)
    async with ReferenceServer(tree(evals=1, runs=1, items=3)) as server:
        await export(server)
        before, sent = file.read_bytes(), server.requests
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            with pytest.raises(InvalidArgument, match=next(iter(options))):
                await archive.export(client, **options)
            with pytest.raises(InvalidArgument, match=next(iter(options))):
                await archive.verify(client, **options)
            if "max_outage" not in options:
                with pytest.raises(InvalidArgument, match=next(iter(options))):
                    await archive.estimate(client, **options)
        assert (before, sent) == (file.read_bytes(), server.requests)


@pytest.mark.parametrize("sample", [-1, True, 1.5, "3"])
async def test_a_sample_is_a_whole_number(export: Export, file: Path, sample: Any) -> None:
    """A negative sample would otherwise compare nearly all runs."""
    clock = ScaledClock(100)
    async with ReferenceServer(tree(evals=1, runs=3, items=3)) as server:
        await export(server)
        sent = server.requests
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            with pytest.raises(InvalidArgument, match="sample must be"):
                await archive.verify(client, sample=sample)
        assert sent == server.requests


async def test_a_link_to_a_file_has_the_lock_of_the_file(export: Export, file: Path, tmp_path: Path) -> None:
    """Two exports into one file are refused also if one of them names it by a symbolic link."""
    link = tmp_path / "link.db"
    link.symlink_to(file)
    async with ReferenceServer(tree(evals=1, runs=1, items=1)) as server:
        await export(server)
        with WriterLock(file), pytest.raises(ArchiveError, match="is being written by another export"):
            await export(server, path=link)
        assert 0 == (await export(server, path=link)).exit_code
