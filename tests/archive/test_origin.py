"""A file belongs to one server, organization and project; and what is told while a server does not answer."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import ended, start
from doubles import FakeClock, ScaledClock
from ports import silent_port
from reference_server import SAME, Export, ReferenceServer, difference, tree

from evals_async import EvalsClient
from evals_async.archive import Archive, ExportProgress, Waiting
from evals_async.archive.export.identity import Origin, project_in
from evals_async.archive.export.outages import OutagePolicy, TryAgain
from evals_async.errors import ArchiveError, ConnectFailed, RateLimited
from evals_async.server import LocalServer, sample_tree


def project(name: str, *, with_urls: bool = False) -> dict[str, Any]:
    """The evals and runs of a project."""
    url = {"report_url": f"https://platform.example/evaluations/e?project_id=proj_{name}&run_id=r"} if with_urls else {}
    return {
        "evals": [{"id": f"eval_{name}_{number}", "created_at": number} for number in range(3)],
        "runs": [
            {"id": "run_1", "eval_id": f"eval_{name}_{number}", "status": "completed", "created_at": 1, **url}
            for number in range(3)
        ],
    }


async def fill(file: Path, content: dict[str, Any], *, another_server: bool = False, **names: Any) -> set[str]:
    """Export from a server with that content; returns the ids of the evals in the archive."""
    async with LocalServer() as server:
        await server.seed(**content)
        client = EvalsClient(base_url=server.base_url, api_key="k", **names)
        async with client, Archive.open(file) as archive:
            await archive.export(client, another_server=another_server)
    return await evals_in(file)


async def evals_in(file: Path) -> set[str]:
    """The ids of the evals in an archive."""
    async with Archive.open(file, read_only=True) as archive:
        return {each.id async for each in archive.evals()}


async def test_another_project_is_not_mixed_in(file: Path) -> None:
    """The same server, a key of another project: refused before anything is written, and the archive stays complete."""
    before = await fill(file, project("a"))
    with pytest.raises(
        ArchiveError, match=r"key seems to belong to another project\. .*--to OTHER\.db.*--another-server"
    ):
        await fill(file, project("b"))
    assert before == await evals_in(file)
    async with Archive.open(file, read_only=True) as archive:
        assert (await archive.gaps()).complete
        assert 0 == sum((await archive.summary()).missing.values())
    assert len(before) + 3 == len(await fill(file, project("b"), another_server=True))


@pytest.mark.parametrize("name", ["organization", "project"])
async def test_what_the_client_says_is_compared_first(file: Path, name: Any) -> None:
    """Another organization or project of the client's own settings is refused without a request."""
    one: dict[str, Any] = {name: "one"}
    other: dict[str, Any] = {name: "other"}
    await fill(file, project("a"), **one)
    async with LocalServer() as server:
        client = EvalsClient(base_url=server.base_url, api_key="k", **other)
        async with client, Archive.open(file) as archive:
            with pytest.raises(ArchiveError, match=f"made from {name} one, not from {name} other: export to another"):
                await archive.export(client)
        assert 0 == server.request_count


async def test_runs_tell_their_project(file: Path) -> None:
    """Evals of equal ids in another project: the dashboard's URL of its runs gives it away."""
    await fill(file, project("a", with_urls=True))
    foreign = project("a", with_urls=True)
    for run in foreign["runs"]:
        run["report_url"] = run["report_url"].replace("proj_a", "proj_b")
        run["id"] = "run_2"
    with pytest.raises(ArchiveError, match="made from project proj_a, not from project proj_b"):
        await fill(file, foreign)
    async with Archive.open(file, read_only=True) as archive:
        assert {"run_1"} == {run.id async for run in archive.runs()}


async def test_more_evals_and_fewer_are_the_same_project(file: Path) -> None:
    """What has grown, or has lost some of its evals, is still the same."""
    content = project("a")
    await fill(file, content)
    content["evals"] = [*content["evals"][1:], {"id": "eval_new", "created_at": 9}]
    assert 4 == len(await fill(file, content))


async def test_a_changed_key_in_the_middle_loses_nothing(export: Export, file: Path) -> None:
    """An export that goes on with a key of another project stops, and does not mark what it cannot see as gone."""
    reference = tree(evals=3, runs=4, items=30)
    async with ReferenceServer(reference, page=5) as server:

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            server.down = server.pages >= 12

        server.after_page = fall
        await export(server, max_outage=5)
    async with LocalServer() as other:
        await other.seed(**project("b"))
        async with EvalsClient(base_url=other.base_url, api_key="k") as client, Archive.open(file) as archive:
            with pytest.raises(ArchiveError, match="key seems to belong to another project"):
                await archive.export(client)
    async with ReferenceServer(reference) as server:
        assert 0 == (await export(server)).exit_code
    assert SAME == difference(file, reference)


async def test_files_that_another_project_lacks_are_not_refused(export: Export, file: Path) -> None:
    """A file that the key of another project cannot read stays open: the next export with the right key copies it."""
    reference = tree(evals=3, runs=4, items=30)
    async with ReferenceServer(reference, page=5) as server:

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            server.down = server.pages >= 5  # every listing of runs is read; files are next in the queue

        server.after_page = fall
        await export(server, max_outage=5, concurrency=1)
    async with LocalServer() as other:
        await other.seed(**project("b"))
        async with EvalsClient(base_url=other.base_url, api_key="k") as client, Archive.open(file) as archive:
            with pytest.raises(ArchiveError, match="key seems to belong to another project"):
                await archive.export(client, concurrency=1)
    async with ReferenceServer(reference) as server:
        assert 0 == (await export(server)).exit_code
    assert SAME == difference(file, reference)


def test_projects_are_read_from_urls() -> None:
    """The first run that names a project decides; what is no URL names none."""
    urls = (None, 5, "http://[", "https://x.example/e", "https://x.example/e?project_id=proj_1&run_id=2")
    assert "proj_1" == project_in([{"report_url": each} for each in urls])
    assert project_in([{}]) is None
    assert Origin(server="s") == Origin.read("s", "no json")


# --- a server that does not answer ------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which nobody listens."""
    with silent_port() as silent:
        yield silent


async def test_an_unreachable_server_is_said_soon(file: Path, port: int) -> None:
    """At first contact an export ends within seconds, not after the five minutes that a known server is waited for."""
    clock = ScaledClock(50)
    client = EvalsClient(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", clock=clock)
    async with client, Archive.open(file, clock=clock) as archive:
        report = await archive.export(client)
    assert (75, True) == (report.exit_code, (report.stopped or "").startswith("the server cannot be reached: "))
    assert clock.monotonic() < 40


async def test_the_command_says_where_it_could_not_reach(file: Path, port: int) -> None:
    """Exit code 75, the address, and a command that goes on, which works once the server is there."""
    words = ("export", "--to", str(file), "--base-url", f"http://127.0.0.1:{port}/v1", "--max-outage", "0.2")
    result = await ended(await start(*words, OPENAI_API_KEY="k"))
    assert 75 == result.code
    assert "error: stopped: the server cannot be reached: ConnectFailed on GET /" in result.err
    assert f": no connection to 127.0.0.1:{port}" in result.err
    hint = result.err.strip().splitlines()[-1]
    # The command as it was started: `evals-async`, or its path where it is not on the PATH.
    assert hint.endswith(f" export --to {file} --max-outage 0.2 --base-url http://127.0.0.1:{port}/v1")
    onward = shlex.split(hint)
    async with LocalServer(port=port) as server:
        await server.seed(**sample_tree(runs=2, items=2))
        again = await ended(await start(*onward[onward.index("export") :], OPENAI_API_KEY="k"))
    assert 0 == again.code


async def test_what_is_waited_for_is_told(export: Export, file: Path) -> None:
    """During an outage the progress says why it waits, since when and until when; and that it is over."""
    seen: list[ExportProgress] = []
    async with ReferenceServer(tree()) as server:

        class ObservedClock(ScaledClock):
            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds)
                if server.down and self.monotonic() > 60:
                    server.down = False

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            server.down = server.pages == 20

        server.after_page = fall
        clock = ObservedClock(50)
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            assert 0 == (await archive.export(client, on_progress=seen.append, max_outage=100)).exit_code
    waits = [each.waiting for each in seen if each.waiting is not None]
    assert waits
    assert all(each.since < each.until <= each.since + 140 for each in waits)
    assert "evals" in waits[0].why
    assert seen[-1].waiting is None


async def test_a_pause_that_the_server_asks_for_is_told_and_kept() -> None:
    """Ten minutes that a server asks for are waited, told, and are no outage of five."""
    clock = FakeClock(draws=(0.5,))
    told: list[Waiting | None] = []
    outages = OutagePolicy(clock, 300.0, told.append)
    errors = [RateLimited("slow down", status=429, retry_after=600), None]

    async def ask() -> str:
        if (error := errors.pop(0)) is not None:
            raise error
        return "done"

    assert "done" == await outages.call(ask)
    assert [600.0] == clock.slept
    first = told[0]
    assert first is not None
    assert 600 == pytest.approx(first.until - first.since)
    assert told[1] is None


async def test_three_tries_are_made_before_a_server_is_called_unreachable() -> None:
    """One lost connection is no reason to give up; three in more than eight seconds are."""
    clock = FakeClock(draws=(1.0,))

    async def fail() -> None:
        raise ConnectFailed("refused")

    with pytest.raises(TryAgain, match="the server cannot be reached"):
        await OutagePolicy(clock, 300.0).call(fail)
    assert [2.0, 4.0, 8.0] == clock.slept
