"""`by_pages` under rate limits, in virtual time: it takes hardly longer than with a client that knows the limit."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import pytest
from doubles import ScaledClock
from simulation import (
    Concurrency,
    FixedWindow,
    Knowing,
    Limit,
    Make,
    OneOff,
    Outage,
    Outcome,
    Scenario,
    SimulatedServer,
    TokenBucket,
    Told,
    VirtualClock,
    adaptive,
    in_virtual_time,
    no_header,
    whole_seconds,
)

from evals_async import EvalsClient
from evals_async._concurrency.fanout import gather_many
from evals_async._paging.by_pages import Lookup, gather_by_pages
from evals_async._paging.cursor import too_heavy
from evals_async._paging.listing import Fetch, PageBody
from evals_async._transport import Pipeline, Request, Response, RetryPolicy, StaticKey, Timeouts
from evals_async._transport.retry import AT_LIMIT
from evals_async.errors import NotFound
from evals_async.resources._run_keys import RUN, RUNS
from evals_async.resources.output_items import ITEM, ITEMS
from evals_async.server import Fault, LocalServer, SampleTree


LATENCY = 0.02
WORKERS = 32
ONE_SECOND = [("Retry-After", "1")]
PROBE = 0.05  # seconds after a refusal until the limiter sends a test request


@attrs.frozen
class Thing:
    id: str


def in_order(count: int) -> list[str]:
    """Ids that begin with the time of creation, so that sorting gives the order of the listing."""
    return [f"run_{number:06}" for number in range(count)]


def in_no_order(count: int) -> list[str]:
    dice = random.Random(1)
    return [f"run_{dice.getrandbits(64):016x}" for _ in range(count)]


def shuffled(ids: list[str]) -> list[str]:
    return random.Random(0).sample(ids, len(ids))


@attrs.frozen
class Reading:
    """Wanted things of one listing, read through a pipeline from a server that limits."""

    listed: Sequence[str]
    wanted: Sequence[str]
    limit: Callable[[], Limit]
    latency: float = LATENCY

    def read(self, make: Make = adaptive, *, by_pages: bool = True, seed: int = 0) -> Outcome:
        """Read all, check what was got, and return what it took."""
        return in_virtual_time(partial(self.run, make=make, by_pages=by_pages, seed=seed), seed)

    async def run(self, clock: VirtualClock, make: Make, by_pages: bool, seed: int) -> Outcome:
        outcome, limiter = Outcome(), make(clock)
        scenario = Scenario(name="", limit=self.limit, latency=self.latency, workers=WORKERS)
        limit = OneOff([]) if isinstance(limiter, Knowing) else self.limit()
        server = SimulatedServer(scenario, limit, clock, outcome, seed)
        pipeline = Pipeline(server, StaticKey("sk-simulated"), clock=clock, limiter=limiter)
        lookup = self.lookup(pipeline, by_pages)
        if by_pages:
            got = await gather_by_pages(lookup, self.wanted, concurrency=WORKERS, on_error="return")
        else:
            got = await gather_many(lookup.fetch, self.wanted, concurrency=WORKERS, on_error="return")
        outcome.elapsed = server.now()
        there = frozenset(self.listed)
        for each, result in zip(self.wanted, got, strict=True):
            assert result == Thing(each) if each in there else isinstance(result, NotFound), result
        return outcome

    def lookup(self, pipeline: Pipeline, by_pages: bool) -> Lookup[str, Thing]:
        numbers = {each: number for number, each in enumerate(self.listed)}
        request = Request("GET", "/things", "/things", "read", own_delay=not by_pages)

        async def send() -> None:
            async def read(response: Response) -> None:
                pass

            await pipeline.send(request, read, timeouts=Timeouts(total=600.0), policy=RetryPolicy())

        async def fetch(each: str) -> Thing:
            await send()
            if each not in numbers:
                raise NotFound("no such thing", status=404)
            return Thing(each)

        def pages(_: object) -> Fetch[Thing]:
            async def page(after: str | None, limit: int | None) -> PageBody[Thing]:
                await send()
                if after is not None and after not in numbers:
                    raise NotFound("no such thing", status=404)
                start = 0 if after is None else numbers[after] + 1
                chosen = self.listed[start : start + (limit or 20)]
                more = start + len(chosen) < len(self.listed)
                return PageBody(
                    entries=tuple(map(Thing, chosen)), last_id=chosen[-1] if chosen else None, has_more=more
                )

            return page

        return Lookup(
            locate=lambda each: ("listing", each),
            fetch=fetch,
            pages=pages,
            attempts=3,
            shrink=too_heavy,
            copy=lambda thing: thing,
        )

    def known(self) -> Outcome:
        """What the same reading takes with a client that knows the limit."""
        return self.read(lambda clock: Knowing(self.limit(), clock))


@pytest.mark.parametrize("ids", [in_order, in_no_order])
@pytest.mark.parametrize("order", [list, shuffled])
def test_three_thousand_under_fifty_a_second(
    ids: Callable[[int], list[str]], order: Callable[[list[str]], list[str]]
) -> None:
    """3,000 runs take less than a second under 50 requests a second, in any order of the ids, and 60 requests."""
    reading = Reading(ids(3000), order(ids(3000)), partial(TokenBucket, 50, 10, whole_seconds))
    for seed in range(3):
        outcome = reading.read(seed=seed)
        assert outcome.elapsed <= 0.85
        assert outcome.requests <= 60


@pytest.mark.parametrize("ids", [in_order, in_no_order])
@pytest.mark.parametrize(
    ("count", "told"),
    [(300, whole_seconds), (1000, whole_seconds), (3000, whole_seconds), (3000, no_header), (10_000, whole_seconds)],
)
def test_it_takes_as_long_as_if_the_limit_were_known(count: int, told: Told, ids: Callable[[int], list[str]]) -> None:
    """Under 20, 50 and 200 a second with bursts of 5, 20 and 50: 1.1 times as long, and two test requests."""
    for rate, burst in itertools.product((20, 50, 200), (5, 20, 50)):
        reading = Reading(ids(count), ids(count), partial(TokenBucket, rate, burst, told))
        outcome, known = reading.read(), reading.known()
        assert outcome.elapsed <= 1.1 * known.elapsed + 2 * PROBE, (rate, burst)
        assert len(outcome.granted) <= 1.1 * known.requests + 2, (rate, burst)
        assert len(outcome.refused) <= 2 * WORKERS, (rate, burst)


@pytest.mark.parametrize(("count", "deleted"), [(300, 3), (1000, 5), (3000, 30)])
def test_single_reads_of_what_is_on_no_page_wait_no_longer(count: int, deleted: int) -> None:
    """Runs that were deleted are asked for one by one after the pages, without a delay of their own."""
    wanted = in_no_order(count)
    gone = frozenset(random.Random(3).sample(wanted, deleted))
    listed = [each for each in wanted if each not in gone]
    for rate, burst in ((20, 5), (50, 5), (50, 10), (50, 20)):
        reading = Reading(listed, wanted, partial(TokenBucket, rate, burst, whole_seconds))
        assert reading.read().elapsed <= 1.1 * reading.known().elapsed + 3 * PROBE, (rate, burst)


@pytest.mark.parametrize("count", [20, 500, 3000])
def test_a_refusal_that_passes_costs_no_second(count: int) -> None:
    """A single 429 with `Retry-After: 1` costs one more request and no second, wherever it comes."""
    undisturbed = Reading(in_order(count), in_order(count), lambda: OneOff([])).read()
    for position in (0, 1, 5):
        outcome = Reading(in_order(count), in_order(count), partial(OneOff, [position], ONE_SECOND)).read()
        assert outcome.elapsed <= undisturbed.elapsed + 0.4
        assert outcome.requests <= undisturbed.requests + 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_keeps_refusing_gets_few_test_requests(status: int) -> None:
    """After some refusals a request waits for the delay that the server asks for. Nothing is lost."""
    delay = [("Retry-After", "5")]
    outcome = Reading(in_order(20), in_order(20), partial(Outage, 0.0, 5.0, delay, status)).read()
    assert 5 < outcome.elapsed < 7
    assert outcome.requests <= AT_LIMIT + 2


def test_without_a_limiter_the_delay_of_each_response_is_kept() -> None:
    """`limiter=None`: nothing holds requests back, so a refused page waits as long as its server asks."""
    reading = Reading(in_order(20), in_order(20), partial(OneOff, [0], ONE_SECOND))
    outcome = reading.read(lambda clock: None)
    assert outcome.requests == 2
    assert outcome.sent[1] - outcome.sent[0] >= 1.0


LIMITS: dict[str, Callable[[], Limit]] = {
    "20/s, burst 1": lambda: TokenBucket(20, 1, whole_seconds),
    "50/s, burst 10": lambda: TokenBucket(50, 10, whole_seconds),
    "5 in 5 s": lambda: FixedWindow(5, 5, whole_seconds),
    "20 in 2 s": lambda: FixedWindow(20, 2, whole_seconds, rate_headers=True),
    "2 at once": lambda: Concurrency(2, ONE_SECOND),
    "refused at first": lambda: OneOff([0, 1], ONE_SECOND),
}


@pytest.mark.parametrize("name", LIMITS)
def test_never_many_more_requests_than_single_reads(name: str) -> None:
    """With all that is refused, at most 1.2 times the requests of single reads, and soon far fewer.

    Single reads wait for the delay in their responses, by pages does not. So the limiter sends some probes more.
    """
    for count in (5, 15, 16, 20, 40, 100, 300):
        reading = Reading(in_no_order(count), shuffled(in_no_order(count)), LIMITS[name])
        pages, single = reading.read(), reading.read(by_pages=False)
        assert pages.requests <= 1.2 * single.requests + 5, count
        assert len(pages.granted) <= 1.2 * len(single.granted), count


@pytest.mark.parametrize("latency", [0.001, 0.02, 0.05])
@pytest.mark.parametrize("ids", [in_order, in_no_order])
def test_without_a_limit_nothing_waits(ids: Callable[[int], list[str]], latency: float) -> None:
    """5,000 runs take 120 requests at most, of which few follow each other: a twentieth of the time of single reads."""
    reading = Reading(ids(5000), shuffled(ids(5000)), lambda: OneOff([]), latency)
    outcome = reading.read()
    assert outcome.requests <= 120
    assert outcome.elapsed <= reading.read(by_pages=False).elapsed / 20


# --- with a client, over a socket -------------------------------------------------------------------------------------


def limited_client(server: LocalServer) -> EvalsClient:
    """A client in virtual time. It knows nothing about limits yet."""
    return EvalsClient(base_url=server.base_url, api_key="local", clock=ScaledClock(1.0))


def refusal(route: str) -> Fault:
    return Fault(route=f"GET {route}", status=429, headers={"Retry-After": "9"})


@pytest.mark.virtual_time
@pytest.mark.parametrize("refused", [RUNS, RUN])
async def test_no_request_for_runs_waits_for_its_own_delay(server: LocalServer, tree: SampleTree, refused: str) -> None:
    """Pages, and single reads of runs that are on none of them, do not wait. Without `by_pages` they do."""
    keys = [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]
    keys += [(keys[0][0], f"evalrun_{number}") for number in range(10)]
    loop = asyncio.get_running_loop()
    for by_pages, route, least, most in ((True, refused, 0.0, 1.0), (False, RUN, 9.0, 12.0)):
        async with limited_client(server) as client:
            server.faults.add(refusal(route))
            began = loop.time()
            got = await client.evals.runs.retrieve_many(keys, by_pages=by_pages, on_error="return")
            assert least <= loop.time() - began <= most
            assert client.statistics().throttles == 1
            assert [getattr(run, "id", None) for run in got[:-10]] == [run_id for _, run_id in keys[:-10]]
            assert all(isinstance(run, NotFound) for run in got[-10:])


@pytest.mark.virtual_time
@pytest.mark.parametrize("refused", [ITEMS, ITEM])
async def test_no_request_for_output_items_waits_for_its_own_delay(
    server: LocalServer, tree: SampleTree, refused: str
) -> None:
    """The same for output items of a run."""
    run = (str(tree["runs"][0]["eval_id"]), str(tree["runs"][0]["id"]))
    loop = asyncio.get_running_loop()
    async with limited_client(server) as client:
        ids = [item.id async for item in client.evals.runs.output_items.list(run)]
        wanted = [*ids, *(f"outputitem_{number}" for number in range(20))]
    for by_pages, route, least, most in ((True, refused, 0.0, 1.0), (False, ITEM, 9.0, 12.0)):
        async with limited_client(server) as client:
            server.faults.add(refusal(route))
            began = loop.time()
            items = client.evals.runs.output_items
            got = await items.retrieve_many(wanted, run_id=run, by_pages=by_pages, on_error="return")
            assert least <= loop.time() - began <= most
            assert client.statistics().throttles == 1
            assert [getattr(each, "id", None) for each in got[: len(ids)]] == ids
