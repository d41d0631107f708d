"""Bad days of the server: X13. Faults, outages, revoked keys, refused files, servers that ask to wait."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from doubles import FakeClock, ScaledClock
from reference_server import SAME, Export, ReferenceServer, difference, tree

from evals_async import EvalsClient, Unauthenticated
from evals_async.archive import Archive
from evals_async.archive.export.outages import OutagePolicy, TryAgain
from evals_async.errors import (
    BodyTooLarge,
    ConnectionDropped,
    DeadlineExceeded,
    NotFound,
    QuotaExceeded,
    RateLimited,
    ServerError,
)
from evals_async.server import Fault, FaultPlan, LocalServer, sample_tree


@pytest.mark.parametrize("seed", range(3))
async def test_one_fault_in_twelve_is_no_matter(export: Export, file: Path, seed: int) -> None:
    """X13: 429, 5xx and dropped connections at 8 % change nothing but the time."""
    reference = tree()
    async with ReferenceServer(reference, faults=0.08, seed=seed) as server:
        report = await export(server)
        assert server.requests > report.requests
    assert (0, SAME) == (report.exit_code, difference(file, reference))


async def test_an_outage_is_sat_out(export: Export, file: Path) -> None:
    """X13: a server that drops everything for a minute in the middle is waited for, and the export completes."""
    reference = tree()
    down_at = 20

    async with ReferenceServer(reference) as server:

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            if server.pages == down_at:
                server.down = True

        class ObservedClock(ScaledClock):
            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds)
                if server.down and self.monotonic() > self.up_at:
                    server.down = False

            up_at = 60.0

        server.after_page = fall
        clock = ObservedClock(100)
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            report = await archive.export(client)
    assert clock.monotonic() > 60
    assert (0, SAME) == (report.exit_code, difference(file, reference))


async def test_a_server_that_stays_away_ends_in_try_again(export: Export, file: Path) -> None:
    """X13: after the longest outage is over the report says that it stopped, with exit code 75; later it goes on."""
    reference = tree()
    async with ReferenceServer(reference) as server:

        def fall(listing: tuple[str, ...], ids: list[str]) -> None:
            server.down = server.pages >= 20

        server.after_page = fall
        report = await export(server, max_outage=30)
        assert 75 == report.exit_code
        assert "nothing succeeded for" in (report.stopped or "")
        assert {"open"} == {each.state for each in report.unfinished}
        server.down, server.after_page = False, None
        report = await export(server)
    assert (True, 0, SAME) == (report.resumed, report.exit_code, difference(file, reference))


async def test_a_key_that_is_revoked_stops_it_at_once(export: Export, file: Path) -> None:
    """X13: a 401 half way is raised as it is; with a good key the export goes on where it was."""
    reference = tree()
    async with ReferenceServer(reference, key="k") as server:

        def revoke(listing: tuple[str, ...], ids: list[str]) -> None:
            if server.pages == 20:
                server.key = "new"

        server.after_page = revoke
        with pytest.raises(Unauthenticated):
            await export(server)
        before = server.requests
        assert before < 40
        report = await export(server, key="new")
        assert server.requests - before < 75
    assert (True, 0, SAME) == (report.resumed, report.exit_code, difference(file, reference))


async def test_a_refused_download_is_recorded_and_not_fatal(export: Export, file: Path) -> None:
    """A file whose content the server does not give is named with the server's words; the export is complete."""
    reference = tree(evals=1, runs=2, items=2)
    async with ReferenceServer(reference) as server:
        server.refused = {"file-1"}
        report = await export(server)
    assert (0, ["file-1"]) == (report.exit_code, list(report.refused))
    assert "Not allowed to download" in report.refused["file-1"]
    assert ("content/file-1",) == difference(file, reference).lost


async def test_a_listing_that_is_refused_is_given_up_alone(file: Path) -> None:
    """A listing that is refused is named; the rest is copied, and the next export tries it again."""
    clock = ScaledClock(300)
    plan = FaultPlan(Fault(route="GET /evals/{eval_id}/runs/{run_id}/output_items", status=403))
    async with LocalServer(faults=plan) as server:
        await server.seed(**sample_tree(runs=8, items=2))
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            first = await archive.export(client)
            second = await archive.export(client)
    assert (3, ["failed"]) == (first.exit_code, [each.state for each in first.unfinished])
    assert (8, 0) == (first.counts["runs"], second.exit_code)


class Sleepless(ScaledClock):
    """Scaled time, in which an export's own pauses take none; they are written down."""

    def __init__(self) -> None:
        super().__init__(50.0)
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await super().sleep(0.0)


@pytest.mark.parametrize(
    ("headers", "delay"), [({}, 0.0), ({"Retry-After": "1"}, 1.0), ({"retry-after-ms": "5"}, 0.005)]
)
@pytest.mark.parametrize("position", [0, 1, 2, 20])
async def test_a_single_429_costs_its_delay(file: Path, headers: dict[str, str], delay: float, position: int) -> None:
    """Wherever it comes, also at the first contact: an export itself waits no longer for it than the server asks."""
    clock = Sleepless()
    async with LocalServer(faults=FaultPlan(Fault(status=429, headers=headers, skip=position))) as server:
        await server.seed(**sample_tree(runs=20, items=2))
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=ScaledClock(50.0))
        async with client, Archive.open(file, clock=clock) as archive:
            report = await archive.export(client)
        assert 1 == client.statistics().throttles
    assert (0, 20) == (report.exit_code, report.counts["runs"])
    assert sum(clock.pauses) <= delay


# --- how much is borne ------------------------------------------------------------------------------------------------


async def failing(error: Exception) -> None:
    raise error


async def test_nothing_is_waited_for_longer_than_the_longest_outage() -> None:
    """Without a success, the pauses grow to 30 s. After the longest outage, `TryAgain` is raised."""
    clock = FakeClock(draws=(1.0,))
    outages = OutagePolicy(clock, 100.0)
    outages.successes = 1
    with pytest.raises(TryAgain, match="nothing succeeded for"):
        await outages.call(failing, ConnectionDropped("away"))
    assert [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == clock.slept


async def test_before_the_first_success_the_wait_is_short() -> None:
    """Before the first response, the wait is shorter than later."""
    clock = FakeClock(draws=(1.0,))
    with pytest.raises(TryAgain):
        await OutagePolicy(clock, 300.0).call(failing, ConnectionDropped("away"))
    assert sum(clock.slept) < 35


async def test_a_server_that_asks_for_hours_is_not_waited_for() -> None:
    """A delay of more than 900 s ends the export with `TryAgain` at once."""
    clock = FakeClock()
    with pytest.raises(TryAgain, match="asks to wait 3600 s"):
        await OutagePolicy(clock, 300.0).call(failing, RateLimited("slow down", status=429, retry_after=3600))
    assert [] == clock.slept


async def test_a_server_that_only_asks_to_wait_is_given_up() -> None:
    """Short delays, one after the other, end with `TryAgain` an hour after the longest outage."""
    clock = FakeClock(draws=(1.0,))
    outages = OutagePolicy(clock, 300.0)
    outages.successes = 1
    with pytest.raises(TryAgain, match="only asks to wait"):
        await outages.call(failing, RateLimited("slow down", status=429, retry_after=60))
    assert 3900 < sum(clock.slept) <= 4000


async def test_one_thing_that_fails_while_others_succeed_is_given_up() -> None:
    """A request is given up after five failures, but only if other requests succeed in between."""
    clock = FakeClock()
    outages = OutagePolicy(clock, 1000.0)
    tries = 0

    async def fail_beside_others() -> None:
        nonlocal tries
        tries += 1
        outages.successes += 1
        outages.last_success = clock.monotonic()
        raise ServerError("broken for ever", status=500)

    with pytest.raises(ServerError):
        await outages.call(fail_beside_others)
    assert 5 == tries


def test_what_may_pass_is_told_from_what_will_not() -> None:
    """Only failures that may pass are waited for."""
    assert ServerError("x", status=503).transient
    assert RateLimited("x", status=429).transient
    assert not QuotaExceeded("x", status=429).transient
    assert not NotFound("x", status=404).transient
    assert not BodyTooLarge("x", limit=1).transient


# --- before the first answer ------------------------------------------------------------------------------------------


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of a server that takes connections, and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_a_server_that_is_silent_from_the_start_is_left_soon(silent: str, file: Path) -> None:
    """Two requests at once, half a minute: then export and verification stop with exit code 75, and name the option."""
    clock = ScaledClock(200)
    async with EvalsClient(base_url=silent, api_key="k", clock=clock) as client, Archive.open(file, clock=clock) as own:
        report = await own.export(client)
        assert (75, 2) == (report.exit_code, report.requests)  # the evals and the files, at once
        assert 30 <= clock.monotonic()
        assert "has not responded within 30 s; if it is slow" in (report.stopped or "")
        assert "--first-answer SECONDS" in (report.stopped or "")
        verified = await own.verify(client, first_answer=10)
        assert "has not responded within 10 s" in (verified.stopped or "")
        with pytest.raises(DeadlineExceeded):
            await own.estimate(client)


async def test_a_server_that_is_slow_to_begin_is_given_the_time_that_it_is_told(file: Path) -> None:
    """A server whose first answer takes longer than usual is left; with `first_answer` it is waited for, once."""
    late = Fault(delay=300, times=2)  # the listings of evals and of files
    faults = FaultPlan(late)
    clock = ScaledClock(200)
    async with LocalServer(faults=faults, clock=clock) as server:
        await server.seed(**sample_tree(runs=3, items=2))
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            assert 75 == (await archive.export(client)).exit_code
            faults.add(late)
            assert 0 == (await archive.export(client, first_answer=100_000)).exit_code
            faults.add(late)
            assert 3 == (await archive.estimate(client, first_answer=100_000)).runs


async def test_an_estimate_bears_what_an_export_bears(file: Path) -> None:
    """A dry run of a large project does not end at the first overloaded answer."""
    faults = FaultPlan(Fault(status=503, skip=2, every=3, times=4))
    clock = ScaledClock(200)
    async with LocalServer(faults=faults, clock=clock) as server:
        await server.seed(**sample_tree(runs=20, items=2))
        client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
        async with client, Archive.open(file, clock=clock) as archive:
            assert 20 == (await archive.estimate(client)).runs
    assert sum(faults.hits) > 1


async def test_silence_before_the_first_answer_and_silence_later() -> None:
    """Before the first success the time of the first answer ends the wait, afterwards the longest outage does."""
    clock = FakeClock(draws=(1.0,))

    async def silence() -> None:
        clock.now += 20
        raise DeadlineExceeded("no response")

    async def success() -> None: ...

    with pytest.raises(TryAgain, match="has not responded within 30 s"):
        await OutagePolicy(clock, 300.0).call(silence)
    assert [2.0] == clock.slept
    later = OutagePolicy(clock, 300.0)
    await later.call(success)
    with pytest.raises(TryAgain, match="nothing succeeded for"):
        await later.call(silence)
    assert 300 < clock.now - later.last_success
