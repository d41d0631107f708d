"""Archives that lack something say so before anything else, and are not taken for whole."""

import asyncio
import shlex
from pathlib import Path

import openai
import pytest
from commandline import KEY, ended, start
from reference_server import SAME, Export, ReferenceServer, difference, tree

from evals_async import ApiError, EvalsClient
from evals_async.archive import Archive, Gaps, Selection
from evals_async.cli import main
from evals_async.errors import ArchiveError
from evals_async.server import LocalServer


async def interrupted(export: Export) -> None:
    """Run an export that stops after some pages, because the server is down."""
    async with ReferenceServer(tree(evals=3, runs=4, items=30), page=5) as server:

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            server.down = server.pages >= 12

        server.after_page = fall
        report = await export(server, max_outage=5)
        assert 75 == report.exit_code


@pytest.fixture
def half(export: Export, file: Path) -> Path:
    """An archive whose export was interrupted."""
    asyncio.run(interrupted(export))
    return file


WORDS = "incomplete: the last export was interrupted\nincomplete: not read to the end: "


@pytest.mark.parametrize("words", [["show"], ["info"]], ids=" ".join)
def test_what_is_missing_is_said_first(half: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`show` and `info` first print what is missing, and the command that fetches it."""
    assert 0 == main([words[0], str(half), *words[1:]])
    told = capsys.readouterr().err
    assert told.startswith(WORDS)
    assert f"\nnext: evals-async export --to {half}\n" in told


@pytest.mark.parametrize("command", ["compare", "regrade"])
def test_what_is_made_of_a_part_says_so(half: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare` and `regrade` print what is missing before their numbers."""
    runs = [f"{half}:eval_0/run_0_{number}" for number in range(2)]
    main([command, *(runs if command == "compare" else [str(half)])])
    told = capsys.readouterr().err
    assert told.startswith(WORDS)
    assert 1 == told.count("the last export was interrupted")


@pytest.mark.parametrize("command", ["convert", "push"])
def test_going_on_without_the_rest_must_be_allowed(
    half: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`convert` and `push` refuse an incomplete archive with exit code 3. The command in the hint continues anyway."""
    words = ["--to", "jsonl", "--out", str(tmp_path / "out")] if command == "convert" else []
    with LocalServer.in_thread() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert 3 == main([command, str(half), *words])
        told = capsys.readouterr()
        assert "" == told.out
        assert told.err.startswith(WORDS)
        assert f"error: {half} is incomplete\n" in told.err
        assert not (tmp_path / "out").exists()
        hint = told.err.strip().splitlines()[-1].removeprefix("next: ")
        assert hint.endswith("--allow-incomplete")
        assert 0 == main(shlex.split(hint)[1:])
    assert capsys.readouterr().err.startswith(WORDS)


async def test_python_is_told_too(export: Export, file: Path, tmp_path: Path) -> None:
    """`gaps()` returns what is missing. `convert` and `push` raise an error, unless `allow_incomplete` is set."""
    await interrupted(export)
    async with Archive.open(file, read_only=True) as archive:
        found = await archive.gaps()
        assert ("the last export was interrupted", False) == (found.missing[0], found.complete)
        assert found.open > 3
        with pytest.raises(
            ArchiveError, match=r"is incomplete: the last export was interrupted; .*allow_incomplete=True"
        ):
            await archive.convert("csv", tmp_path / "out")
        async with LocalServer() as server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
            with pytest.raises(ArchiveError, match="is incomplete"):
                await archive.push(client)
            assert [] == await client.evals.list().collect()
        assert (await archive.convert("csv", tmp_path / "out", allow_incomplete=True)).written


async def test_a_whole_archive_has_no_gaps(export: Export, file: Path) -> None:
    """A completed archive has no gaps, and a store of the local server has none."""
    await interrupted(export)
    reference = tree(evals=3, runs=4, items=30)
    async with ReferenceServer(reference) as server:
        assert 0 == (await export(server)).exit_code
    async with Archive.open(file, read_only=True) as archive:
        assert Gaps() == await archive.gaps()
    async with LocalServer(file) as served, EvalsClient(base_url=served.base_url, api_key=KEY) as client:
        page = await client.evals.with_raw_response.list()
        assert "x-archive-incomplete" not in page.headers
    assert SAME == difference(file, reference)


async def test_the_served_api_tells_it(export: Export, file: Path) -> None:
    """Each response has a header with what is missing. An unfinished listing is an error, and not an empty list."""
    await interrupted(export)
    server = LocalServer(file, read_only=True)
    async with server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        raw = await client.evals.with_raw_response.list()
        assert raw.headers["x-archive-incomplete"].startswith("the last export was interrupted; not read to the end: ")
        evals = [each.id async for each in client.evals.list()]
        of_evals = [outcome async for outcome in client.evals.runs.list_many(evals)]
        runs = [outcome.unwrap() for outcome in of_evals if outcome.ok]
        of_runs = [outcome async for outcome in client.evals.runs.output_items.list_many(runs)]
        errors = [outcome.error for outcome in (*of_evals, *of_runs) if outcome.error is not None]
        assert len(errors) > 3
        for error in errors:
            assert isinstance(error, ApiError)
            assert (409, "incomplete_archive") == (error.status, error.code)
            assert "has this listing only in part" in str(error)


async def test_the_official_client_does_not_ask_again(export: Export, file: Path) -> None:
    """The response to a request for an unfinished listing tells clients not to retry."""
    await interrupted(export)
    server = LocalServer(file, read_only=True)
    async with server, openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=5) as official:
        before = server.request_count
        with pytest.raises(openai.ConflictError):
            await official.evals.runs.output_items.list("run_2_3", eval_id="eval_2")
        assert before + 1 == server.request_count


async def test_what_was_left_out_is_an_error_when_it_is_asked_for(export: Export, file: Path, tmp_path: Path) -> None:
    """An export without items is complete and names what was left out. Its lists of items are errors, and not empty."""
    async with ReferenceServer(tree(evals=1, runs=2, items=3)) as first:
        assert 0 == (await export(first, Selection(items=False))).exit_code
    async with Archive.open(file, read_only=True) as archive:
        found = await archive.gaps()
        assert (True, ("the output items of 2 runs were left out",)) == (found.complete, found.left_out)
        await archive.convert("jsonl", tmp_path / "out")
    server = LocalServer(file, read_only=True)
    async with server, EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        [run, _] = await client.evals.runs.list("eval_0").collect()
        with pytest.raises(ApiError, match="the options of the export excluded it"):
            await client.evals.runs.output_items.list(run.id, eval_id="eval_0")


async def test_serve_says_it_first(export: Export, file: Path) -> None:
    """`serve` prints what is missing before its address."""
    await interrupted(export)
    process = await start("serve", str(file), "--port", "0")
    assert process.stdout is not None
    await process.stdout.readline()
    process.terminate()
    told = (await ended(process)).err
    assert told.startswith(WORDS)
    assert told.index("incomplete: ") < told.index("serving ")


async def test_an_older_gap_is_not_forgotten(export: Export, file: Path) -> None:
    """A complete export of one eval does not hide the gaps of an interrupted export of everything."""
    await interrupted(export)
    async with ReferenceServer(tree(evals=3, runs=4, items=30)) as server:
        report = await export(server, Selection(evals=("eval_0",)))
        assert 0 == report.exit_code
    async with Archive.open(file, read_only=True) as archive:
        assert not (await archive.gaps()).complete
