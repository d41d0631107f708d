"""`wait_many` looks at the runs of one eval together: in how few requests, how fresh, and with what servers."""

import asyncio
import json
import math
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from doubles import FakeClock, caller_over, reply_of

from evals_async import EvalRun, NotFound, Outcome, Pace, Progress, Request, Response, RunFailed, RunKey, WaitTimeout
from evals_async._concurrency import surveys
from evals_async.errors import ApiError, InvalidArgument, PermissionDenied, ServerError
from evals_async.resources.runs import Runs


EVEN = Pace(jitter=0)
EVAL = "eval_1"


@attrs.define
class Service:
    """Runs that end, by a clock; told by listings and singly, and counted in requests.

    `ends` are the seconds in which runs end, `begins` those in which they are no longer queued, `created` those from
    which listings have them. `words` tell what a run is called while it is under way. `lag` are seconds that listings
    are behind. `ignores_status` gives all runs in every listing, `hides` none. `fail` are errors to answer the next
    listings with.
    """

    clock: FakeClock
    ends: dict[str, float]
    begins: dict[str, float] = attrs.Factory(dict[str, float])
    words: dict[str, str] = attrs.Factory(dict[str, str])
    results: dict[str, str] = attrs.Factory(dict[str, str])
    others: int = 0
    created: dict[str, float] = attrs.Factory(dict[str, float])
    lag: float = 0.0
    ignores_status: bool = False
    hides: bool = False
    fail: list[ApiError] = attrs.Factory(list[ApiError])
    listings: int = 0
    singles: list[str] = attrs.Factory(list[str])
    moved: Callable[[], object] | None = None

    def status(self, name: str, now: float) -> str:
        if now >= self.ends[name]:
            return self.results.get(name, "completed")
        if now < self.begins.get(name, 0.0):
            return "queued"
        return self.words.get(name, "in_progress")

    def body(self, name: str, now: float) -> dict[str, Any]:
        return {"object": "eval.run", "id": name, "eval_id": EVAL, "status": self.status(name, now)}

    async def respond(self, request: Request) -> Response:
        await asyncio.sleep(0)
        parts = request.path.split("/")
        if len(parts) == 5:
            self.singles.append(parts[-1])
            if parts[-1] not in self.ends:
                raise NotFound("no such run", status=404)
            return reply_of(json.dumps(self.body(parts[-1], self.clock.now)).encode())
        self.listings += 1
        if self.fail:
            raise self.fail.pop(0)
        query = dict(request.query)
        now = self.clock.now - self.lag
        runs = [self.body(name, now) for name in self.ends if now >= self.created.get(name, -math.inf)]
        runs += [
            {"object": "eval.run", "id": f"other{number}", "eval_id": EVAL, "status": "in_progress"}
            for number in range(self.others)
        ]
        if self.hides:
            runs = []
        chosen = [run for run in runs if self.ignores_status or run["status"] == query["status"]]
        start = next((i + 1 for i, run in enumerate(chosen) if run["id"] == query.get("after")), 0)
        page = chosen[start : start + int(query["limit"])]
        more = start + len(page) < len(chosen)
        last_id = page[-1]["id"] if page else None
        if self.moved is not None:
            self.moved()
        return reply_of(json.dumps({"object": "list", "data": page, "last_id": last_id, "has_more": more}).encode())

    @property
    def requests(self) -> int:
        return self.listings + len(self.singles)


def service_of(count: int, *, seconds: float = 30.0, **more: Any) -> Service:
    """So many runs, which end evenly within those seconds."""
    clock = FakeClock(now=0.0)
    ends = {f"run{number:04}": (number + 1) * seconds / count for number in range(count)}
    return Service(clock, ends, **more)


def runs_of(service: Service) -> Runs:
    caller = caller_over(service.respond)
    caller.clock = service.clock
    return Runs(caller)


async def waited(
    service: Service, keys: list[RunKey] | None = None, **options: Any
) -> dict[RunKey, Outcome[RunKey, EvalRun]]:
    """The outcomes by key."""
    named: list[RunKey] = list(service.ends) if keys is None else keys
    options = {"timeout": 1000.0, "pace": EVEN, **options}
    stream = runs_of(service).wait_many(named, eval_id=EVAL, **options)
    outcomes = {outcome.key: outcome async for outcome in stream}
    assert set(outcomes) == set(named)
    return outcomes


async def test_two_thousand_runs() -> None:
    """Each run is fetched once, when it is over; the looks in between are listings."""
    service = service_of(1998)
    outcomes = await waited(service)
    assert {outcome.unwrap().status for outcome in outcomes.values()} == {"completed"}
    assert len(service.singles) == 1998
    assert service.listings <= 130


async def test_what_is_returned_is_fresh() -> None:
    """A run is over when its own answer says so, and not because a listing does not have it."""
    service = service_of(40, lag=2.0)
    outcomes = await waited(service)
    assert {outcome.unwrap().status for outcome in outcomes.values()} == {"completed"}
    behind = service_of(40, hides=True)
    outcomes = await waited(behind)
    assert {outcome.unwrap().status for outcome in outcomes.values()} == {"completed"}


async def test_fewer_than_ten_are_looked_at_singly() -> None:
    """Nine runs have no listing; of ten, once one of them has ended, the others have none either."""
    service = service_of(9)
    await waited(service)
    assert service.listings == 0
    service = service_of(10, seconds=10.0)
    await waited(service)
    assert 0 < service.listings <= 6


async def test_a_run_that_moves_between_the_two_listings() -> None:
    """Queued when the first listing is made, in progress when the second is: it is in both, and is not fetched."""
    service = service_of(20)
    service.ends = dict.fromkeys(service.ends, 50.0)
    service.begins = dict.fromkeys(service.ends, 0.5)

    def begin() -> None:
        service.begins = {}

    service.moved = begin
    await waited(service)
    assert len(service.singles) == 20


async def test_every_state_is_shown() -> None:
    """`on_poll` is called with what the listings tell, too, and with the last state."""
    service = service_of(12, seconds=4.0)
    service.begins = dict.fromkeys(service.ends, 0.2)
    seen: list[tuple[str, str | None]] = []

    def note(run: EvalRun) -> None:
        seen.append((run.id, run.status))

    await waited(service, on_poll=note)
    states = [status for name, status in seen if name == "run0011"]
    assert states == ["queued", "in_progress", "in_progress", "completed"]


async def test_what_on_poll_raises_is_the_outcome() -> None:
    """An error in `on_poll` is told for the run that it was called with; the others go on."""
    service = service_of(12)

    def check(run: EvalRun) -> None:
        if run.id == "run0007":
            raise LookupError(run.id)

    outcomes = await waited(service, on_poll=check)
    assert [key for key, outcome in outcomes.items() if isinstance(outcome.error, LookupError)] == ["run0007"]
    assert sum(outcome.ok for outcome in outcomes.values()) == 11


async def test_runs_that_fail_or_are_gone() -> None:
    """What `wait` raises is the outcome's error: a failed run, one that is gone, one that has no eval."""
    service = service_of(20, results={"run0003": "failed"})
    keys: list[RunKey] = [*service.ends, "gone", ("eval_2", "run0000")]
    progress: list[Progress] = []
    outcomes = await waited(service, keys, raise_on_failure=True, on_progress=progress.append)
    errors = {key: outcome.error for key, outcome in outcomes.items() if not outcome.ok}
    assert {key: type(error) for key, error in errors.items()} == {
        "run0003": RunFailed,
        "gone": NotFound,
        ("eval_2", "run0000"): InvalidArgument,
    }
    assert progress[-1] == Progress(started=22, done=22, failed=3, total=22)


async def test_the_last_state_is_in_the_timeout() -> None:
    """Runs that do not end in time are told with the state that the last listing had, without a request for each."""
    service = service_of(50, seconds=100.0)
    service.ends = dict.fromkeys(service.ends, 10000.0)
    outcomes = await waited(service, timeout=20)
    for key, outcome in outcomes.items():
        assert isinstance(outcome.error, WaitTimeout)
        assert (outcome.error.last.id, outcome.error.last.status) == (key, "in_progress")
    assert service.singles == []
    assert 19 <= service.clock.now <= 20


@pytest.mark.parametrize("last", [8.7, 9.0])
async def test_runs_that_end_just_before_the_time_is_up(last: float) -> None:
    """The last survey counts: the runs that it no longer has are looked at, as a wait for one run would do."""
    service = service_of(40)
    service.ends = {name: last if number % 2 else 1e6 for number, name in enumerate(service.ends)}
    outcomes = await waited(service, timeout=10)
    assert [outcome.ok for _, outcome in sorted(outcomes.items(), key=str)] == [False, True] * 20
    assert len(service.singles) == 20
    assert service.clock.now <= 10


async def test_a_look_that_is_under_way_when_the_surveys_end() -> None:
    """A run whose own look comes back after the last survey is looked at again, or times out: no wait goes on."""
    service = service_of(20)
    service.ends = dict.fromkeys(service.ends, 1e6)
    arrived, answered = asyncio.Event(), asyncio.Event()

    async def respond(request: Request) -> Response:
        single = len(request.path.split("/")) == 5
        service.words = {} if single else {"run0003": "paused"}  # so the listing does not have it
        if single:
            arrived.set()
            await answered.wait()
        elif arrived.is_set():
            asyncio.get_running_loop().call_soon(answered.set)
            raise ServerError("down", status=503, retry_after=3600.0)
        return await service.respond(request)

    caller = caller_over(respond)
    caller.clock = service.clock
    stream = Runs(caller).wait_many(service.ends, eval_id=EVAL, timeout=60, pace=EVEN)
    async with asyncio.timeout(30):
        outcomes = [outcome async for outcome in stream]
    assert [type(outcome.error) for outcome in outcomes] == [WaitTimeout] * 20


# --- servers that are not what they should be -------------------------------------------------------------------------


async def test_a_server_that_ignores_status() -> None:
    """A listing of what is queued that has mostly other runs is noticed on its first page; then looks are single."""
    service = service_of(300, ignores_status=True)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings <= 4


async def test_a_server_that_lists_nothing() -> None:
    """Listings that do not have what is under way are given up after the fifth one that misses it."""
    service = service_of(300, hides=True)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings <= 2 * 5


async def test_a_listing_that_lags_at_first() -> None:
    """Runs that were made a moment ago are not listed yet: a few seconds later the listings are used."""
    service = service_of(100, seconds=200.0)
    service.created = dict.fromkeys(service.ends, 3.0)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert len(service.singles) <= 100 + 4 * 100  # the looks of the first seconds
    assert service.listings >= 2 * 10


async def test_a_listing_that_never_changes() -> None:
    """Listings that go on telling that runs are under way, although they are over, end no wait late for ever."""
    service = service_of(40)
    service.lag = 1e6
    outcomes = await waited(service, timeout=3600)
    assert {outcome.unwrap().status for outcome in outcomes.values()} == {"completed"}
    assert service.clock.now <= 300
    assert len(service.singles) == 40


async def test_a_right_listing_is_checked_for_little() -> None:
    """In a wait of three hours, one run of each tenth listing is looked at singly, and the listings are kept."""
    service = service_of(100)
    service.ends = dict.fromkeys(service.ends, 3 * 3600.0)
    outcomes = await waited(service, timeout=4 * 3600)
    assert all(outcome.ok for outcome in outcomes.values())
    looks = service.listings / 2
    assert 340 <= looks <= 380
    assert len(service.singles) <= 100 + looks / 10


async def test_listings_that_are_too_long() -> None:
    """Ten runs among thousands of others: the listings would take more requests than looks at each."""
    service = service_of(10, seconds=20.0, others=3000)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings <= 10


async def test_thousands_of_runs_of_other_people() -> None:
    """A survey does not read on without end: with few wanted runs in each page, looks at each run take less time."""
    service = service_of(200, seconds=20.0, others=10_000)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings <= 200 / 8 + 2
    service = service_of(200, seconds=20.0, others=1_500)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert len(service.singles) <= 2 * 200  # these listings are short enough, as long as most of the runs go on


@pytest.mark.parametrize("error", [PermissionDenied("no", status=403), NotFound("no route", status=404)])
async def test_listings_that_are_refused(error: ApiError) -> None:
    """A server without listings, or one that refuses them, is asked for each run."""
    service = service_of(30, fail=[error])
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings == 1


async def test_listings_that_fail_for_a_while() -> None:
    """A bad minute of the listings is waited out, as that of a look is; a server that stays down is asked singly."""
    service = service_of(30, fail=[ServerError("down", status=503) for _ in range(3)])
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert len(service.singles) == 30
    service = service_of(30, fail=[ServerError("down", status=503) for _ in range(99)])
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert service.listings == 6


async def test_what_a_failing_listing_asks_to_wait() -> None:
    """A delay that passes the end of the time given ends the waits now, and not then."""
    service = service_of(30, fail=[ServerError("down", status=503, retry_after=3600.0)])
    outcomes = await waited(service, timeout=60)
    assert all(isinstance(outcome.error, WaitTimeout) for outcome in outcomes.values())
    assert (service.requests, service.clock.slept) == (1, [])


async def test_a_status_that_nobody_knows() -> None:
    """Runs in a strange status are in no listing: each is looked at at its own pace, the others are still listed."""
    strange = {f"run{number:04}": "paused" for number in range(80, 100)}
    service = service_of(100, words=strange)
    outcomes = await waited(service)
    assert all(outcome.ok for outcome in outcomes.values())
    assert len([name for name in service.singles if name not in strange]) == 80
    assert len([name for name in service.singles if name in strange]) <= 20 * 9
    assert service.listings <= 40


async def test_keys_that_come_twice() -> None:
    """Each key has its outcome, also where two name the same run."""
    service = service_of(30)
    keys: list[RunKey] = [*service.ends, *list(service.ends)[:5]]
    stream = runs_of(service).wait_many(keys, eval_id=EVAL, pace=EVEN)
    outcomes = [outcome async for outcome in stream]
    assert len(outcomes) == 35
    assert all(outcome.ok for outcome in outcomes)


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_server_does(seed: int) -> None:
    """Random runs, listings and faults: every wait ends with the run as its own answer tells it."""
    dice = random.Random(seed)
    service = service_of(
        dice.choice([1, 9, 10, 30, 250]),
        seconds=dice.choice([0.5, 30.0, 200.0]),
        others=dice.choice([0, 0, 50, 2000]),
        lag=dice.choice([0.0, 0.0, 3.0]),
        ignores_status=dice.random() < 0.2,
        hides=dice.random() < 0.1,
        fail=[ServerError("down", status=503) for _ in range(dice.choice([0, 0, 1, 9]))],
    )
    names = list(service.ends)
    service.begins = {name: dice.uniform(0, 20) for name in names if dice.random() < 0.5}
    service.words = {name: "paused" for name in names if dice.random() < 0.05}
    service.results = {name: dice.choice(["failed", "canceled", "cancelled"]) for name in names if dice.random() < 0.2}
    outcomes = await waited(service)
    assert {key: outcome.unwrap().status for key, outcome in outcomes.items()} == {
        name: service.results.get(name, "completed") for name in names
    }
    assert service.singles.count(names[0]) <= 20


@pytest.mark.parametrize("seed", range(20))
async def test_never_many_more_requests_than_looks_at_each(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the listings are like: at most a quarter more than without them, in the worst case."""
    requests: list[int] = []
    for least in (10, 1_000_000):
        monkeypatch.setattr(surveys, "LEAST", least)
        dice = random.Random(seed)
        service = service_of(
            dice.choice([10, 15, 40, 250]),
            seconds=dice.choice([30.0, 200.0, 2000.0]),
            others=dice.choice([0, 50, 2000, 12_000]),
            lag=dice.choice([0.0, 3.0, 20.0]),
            ignores_status=dice.random() < 0.2,
            hides=dice.random() < 0.2,
        )
        strange, hidden = dice.choice([0.0, 0.3, 1.0]), dice.choice([0.0, 0.5, 1.0])
        service.words = {name: "paused" for name in service.ends if dice.random() < strange}
        service.created = {name: dice.uniform(0, 60) for name in service.ends if dice.random() < hidden}
        outcomes = await waited(service, timeout=100_000.0)
        assert all(outcome.ok for outcome in outcomes.values())
        requests.append(service.requests)
    assert requests[0] <= 1.25 * requests[1]
