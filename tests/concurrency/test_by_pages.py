"""`by_pages`: the results of single reads, errors included, in far fewer requests; whatever the server does."""

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from evals_async import (
    EvalRun,
    EvalsClient,
    InvalidArgument,
    LRUCache,
    NotFound,
    PartialFailure,
    Progress,
    RunKey,
    ServerError,
)
from evals_async._concurrency.channel import Channel
from evals_async._concurrency.fanout import FanOut, Outcome, gather_many
from evals_async._paging.by_pages import Lookup, fan_out_by_pages, gather_by_pages
from evals_async._paging.cursor import too_heavy
from evals_async._paging.listing import Fetch, PageBody
from evals_async._paging.search import PageSearch, Scan
from evals_async.errors import BadRequest, BodyTooLarge, DecodeError, PermissionDenied
from evals_async.server import Fault, LocalServer, SampleTree, sample_tree


Key: TypeAlias = tuple[str, str]
Gone: TypeAlias = Literal["404", "400", "restart", "empty"]

ATTEMPTS = 3


@attrs.frozen
class Thing:
    id: str
    listing: str


@attrs.define
class Service:
    """Listings of things, as odd as they come, counted in requests.

    `hidden` are not listed, and can be read unless they are `refused`, too; `spoiled` make a page that has them
    unreadable. `most` is the largest page that is given, `heavy` the largest that can be read. A share `faults` of the
    pages fails after all its attempts.
    """

    listings: dict[str, list[str]]
    hidden: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    spoiled: frozenset[str] = frozenset()
    gone: Gone = "404"
    ignores_after: bool = False
    ignores_limit: bool = False
    most: int = 100
    heavy: int = 100
    faults: float = 0.0
    tells_more: bool = True
    dice: random.Random = attrs.Factory(lambda: random.Random(0))
    pages: int = 0
    singles: int = 0
    open: int = 0
    peak: int = 0

    @property
    def requests(self) -> int:
        return self.pages + self.singles

    async def fetch(self, key: Key) -> Thing:
        self.singles += 1
        listing, each = key
        await self.travel()
        if each in self.refused:
            raise PermissionDenied(f"not {each}", status=403)
        if each not in self.listings.get(listing, ()):
            raise NotFound(f"no {each}", status=404)
        return Thing(each, listing)

    async def travel(self) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        for _ in range(self.dice.randint(1, 3)):
            await asyncio.sleep(0)
        self.open -= 1

    def pages_of(self, listing: Hashable) -> Fetch[Thing]:
        async def page(after: str | None, limit: int | None) -> PageBody[Thing]:
            assert limit is not None
            self.pages += 1
            await self.travel()
            return self.answer(str(listing), after, self.most if self.ignores_limit else min(limit, self.most))

        return page

    def answer(self, listing: str, after: str | None, size: int) -> PageBody[Thing]:
        if self.dice.random() < self.faults:
            self.pages += ATTEMPTS - 1
            error = ServerError("down", status=503)
            error.attempts = ATTEMPTS
            raise error
        ids = [each for each in self.listings.get(listing, ()) if each not in self.hidden]
        if listing not in self.listings:
            raise NotFound("no such listing", status=404)
        start = 0
        if after is not None and not self.ignores_after:
            if after in ids:
                start = ids.index(after) + 1
            elif self.gone == "404":
                raise NotFound("no such object", status=404)
            elif self.gone == "400":
                raise BadRequest("no such object", status=400)
            elif self.gone == "empty":
                start = len(ids)
        chosen = ids[start : start + size]
        if len(chosen) > self.heavy:
            raise BodyTooLarge("too large", limit=1)
        if not self.spoiled.isdisjoint(chosen):
            raise DecodeError("spoiled")
        return PageBody(
            entries=tuple(Thing(each, "") for each in chosen),
            last_id=chosen[-1] if chosen else None,
            has_more=start + size < len(ids) if self.tells_more else None,
            make=lambda entry: Thing(entry.id, listing),
        )

    def lookup(self) -> Lookup[Key, Thing]:
        def locate(key: Key) -> Key:
            if not key[1]:
                raise InvalidArgument("the id is empty")
            return key

        return Lookup(
            locate=locate,
            fetch=self.fetch,
            pages=self.pages_of,
            attempts=ATTEMPTS,
            shrink=too_heavy,
            copy=copy.deepcopy,
        )


def names(count: int, prefix: str = "run") -> list[str]:
    return [f"{prefix}_{number:05}" for number in range(count)]


def random_names(count: int, alike: int = 0) -> list[str]:
    """Ids that do not tell their order, or only that of each `alike` ids."""
    dice = random.Random(1)
    return [f"run_{number // alike if alike else 0:08x}{dice.getrandbits(64):016x}" for number in range(count)]


def told(results: Sequence[Thing | Exception]) -> list[object]:
    """Results and errors, so that they can be compared."""
    return [(type(each), str(each)) if isinstance(each, Exception) else each for each in results]


async def by_pages(service: Service, keys: list[Key], concurrency: int = 32) -> tuple[Thing | Exception, ...]:
    return await gather_by_pages(service.lookup(), keys, concurrency=concurrency, on_error="return")


async def same_as_single(service: Service, keys: list[Key], concurrency: int = 32) -> int:
    """How many requests it took by pages, when the results were those of single reads."""
    got = await by_pages(service, keys, concurrency)
    requests, peak = service.requests, service.peak
    single = await gather_many(service.fetch, keys, concurrency=concurrency, on_error="return")
    assert told(got) == told(single)
    assert requests <= 1.2 * len(set(keys)), (requests, len(set(keys)))
    assert peak <= concurrency
    return requests


def shuffled(keys: list[Key], seed: int = 0) -> list[Key]:
    random.Random(seed).shuffle(keys)
    return keys


# --- how many requests it takes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["given", "reversed", "shuffled"])
@pytest.mark.parametrize(
    ("count", "most"), [(10_000, 108), (3000, 33), (5000, 54), (4990, 54), (1000, 12), (100, 3), (40, 2)]
)
async def test_all_of_a_listing(order: str, count: int, most: int) -> None:
    """All runs of an eval, in whatever order they are named: ids that begin with a time or a number are in the order of
    the listing when they are sorted, so it is one request for a hundred.
    """
    keys = [("e", each) for each in names(count)]
    wanted = {"given": keys, "reversed": keys[::-1], "shuffled": shuffled(keys[:])}[order]
    assert await same_as_single(Service({"e": names(count)}), wanted) <= most


async def test_almost_all_of_a_listing() -> None:
    """A few runs that are not wanted, one in fifty, do not cost another page of each scan."""
    keys = [("e", each) for number, each in enumerate(names(5000)) if number % 50]
    assert await same_as_single(Service({"e": names(5000)}), keys) <= 55


@pytest.mark.parametrize("order", ["given", "reversed", "shuffled"])
@pytest.mark.parametrize(("alike", "most"), [(0, 80), (20, 75), (200, 75)])
async def test_ids_that_say_little_or_nothing_about_the_order(order: str, alike: int, most: int) -> None:
    """Runs that were created in the same second, `alike` of them, are in any order when they are sorted; and ids
    that are random are: it takes some requests more.
    """
    ids = random_names(5000, alike)
    keys = [("e", each) for each in ids]
    wanted = {"given": keys, "reversed": keys[::-1], "shuffled": shuffled(keys[:])}[order]
    assert await same_as_single(Service({"e": ids}), wanted) <= most


@pytest.mark.parametrize(
    ("count", "most"), [(10_000, 300), (5_000, 270), (2_000, 250), (600, 480), (200, 240), (20, 24)]
)
@pytest.mark.parametrize("ids", [names(20_000), random_names(20_000)], ids=["numbered", "random"])
async def test_scattered_over_a_long_listing(count: int, most: int, ids: list[str]) -> None:
    """A part of 20,000 runs: while a page brings ten of them it pays, and below five it hardly costs."""
    keys = [("e", each) for each in random.Random(1).sample(ids, count)]
    assert await same_as_single(Service({"e": ids}), keys) <= most


async def test_the_newest_of_a_long_listing() -> None:
    """The last thousand of 20,000 runs, newest first: the beginning of the listing is looked at once, and no more."""
    keys = [("e", each) for each in names(20_000)[:-1001:-1]]
    assert await same_as_single(Service({"e": names(20_000)}), keys) <= 24


async def test_what_comes_twice_is_an_object_for_each_place() -> None:
    """A key that is wanted twice gives two equal objects: who changes the JSON of one does not change the other."""
    keys = [("e", each) for each in names(20)]
    got = await by_pages(Service({"e": names(20)}), [*keys, *keys])
    assert got[:20] == got[20:]
    assert not [each for each, other in zip(got[:20], got[20:], strict=True) if each is other]


async def test_a_source_that_fails_loses_nothing_before_it() -> None:
    """What a source gave before it raised is read and delivered; then its error is raised, as by `fan_out`."""

    async def source() -> AsyncIterator[Key]:
        for each in names(50):
            yield "e", each
        raise OSError("the file ends here")

    service = Service({"e": names(50)})
    stream = fan_out_by_pages(service.lookup(), source())
    found: list[Key] = []

    async def read() -> None:
        async with stream:
            async for outcome in stream:
                found.append(outcome.key)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(OSError, match="the file ends here"):
        await read()
    assert sorted(found) == [("e", each) for each in names(50)]


async def test_several_listings_at_once() -> None:
    """Runs of four evals and three of a fifth, mixed, some of them twice: each eval has its pages, the few are read
    singly, what comes twice is read once.
    """
    listings = {f"e{number}": names(700, f"run{number}") for number in range(4)} | {"few": names(3, "few")}
    keys = shuffled([(listing, each) for listing, ids in listings.items() for each in ids])
    service = Service(listings)
    assert await same_as_single(service, keys + keys[:500]) <= 70
    assert service.singles >= 3


async def test_few_ids_are_read_singly() -> None:
    """Where a page could cost more than it saves there is none."""
    service = Service({"e": names(10)})
    await by_pages(service, [("e", each) for each in names(10)])
    assert (service.pages, service.singles) == (0, 10)


async def test_a_few_ids_of_each_of_many_listings() -> None:
    """Ten runs of each of many evals are read by pages: they may cost more in one eval, but not in all together."""
    listings = {f"e{number}": random_names(10) for number in range(100)}
    keys = shuffled([(listing, each) for listing, ids in listings.items() for each in ids])
    assert await same_as_single(Service(listings), keys) == 100


@pytest.mark.parametrize("gone", ["404", "restart"])
@pytest.mark.parametrize("each", [6, 10, 14])
async def test_a_few_ids_in_each_of_many_long_listings(each: int, gone: Gone) -> None:
    """Where no page has any of them, pages cost a request for each eval at most."""
    listings = {f"e{number}": names(400, f"run{number}") for number in range(50)}
    keys = shuffled([(listing, run) for listing, ids in listings.items() for run in ids[-each:]])
    assert await same_as_single(Service(listings, gone=gone), keys) <= len(keys) + 50
    hidden = frozenset(run for ids in listings.values() for run in ids)
    assert await same_as_single(Service(listings, hidden=hidden, gone=gone), keys) <= len(keys) + 50
    assert await same_as_single(Service(listings, faults=1.0), keys) <= 1.2 * len(keys)


async def test_thousands_of_listings() -> None:
    """The work for each step does not grow with the number of listings that are left."""
    listings = {f"e{number}": names(6, f"run{number}") for number in range(1600)}
    keys = [(listing, each) for listing, ids in listings.items() for each in ids]
    service = Service(listings)
    begun = 0
    begin = PageSearch.begin

    def counted(search: PageSearch) -> Scan | None:
        nonlocal begun
        begun += 1
        return begin(search)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PageSearch, "begin", counted)
        assert len(await by_pages(service, keys)) == len(keys)
    assert service.requests == 1600
    assert begun <= 1600 * 40


@pytest.mark.parametrize("concurrency", [1, 3, 256])
async def test_any_concurrency(concurrency: int) -> None:
    """One worker or hundreds: the same results, and no more requests at once than allowed."""
    keys = shuffled([("e", each) for each in names(1000)])
    assert await same_as_single(Service({"e": names(1000)}), keys, concurrency) <= 40


async def test_a_slow_cache_reads_nothing_twice() -> None:
    """While a worker puts the objects of the last page into the cache, others do not read them once more."""
    service, kept = Service({"e": names(90)}), list[str]()

    async def keep(key: Key, thing: Thing) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        kept.append(thing.id)

    lookup = attrs.evolve(service.lookup(), keep=keep)
    got = await gather_by_pages(lookup, [("e", each) for each in names(90)], concurrency=4)
    assert [each.id for each in got if isinstance(each, Thing)] == sorted(kept) == names(90)
    assert service.singles == 0


async def test_tens_of_thousands() -> None:
    """More ids than are looked for at once come in batches, from an async generator too."""

    async def stream() -> AsyncIterator[Key]:
        for each in names(25_000):
            yield "e", each

    service = Service({"e": names(25_000)})
    got = await gather_by_pages(service.lookup(), stream())
    assert [each.id for each in got if isinstance(each, Thing)] == names(25_000)
    assert service.requests <= 350


# --- servers that are not what they should be -------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["404", "400", "restart", "empty"])
async def test_deleted_runs(gone: Gone) -> None:
    """A tenth of the runs was deleted, those that cursors name too: each is told as a single read tells it."""
    keys = shuffled([("e", each) for each in names(3000)])
    deleted = {each for _, each in keys[::10]}
    service = Service({"e": [each for each in names(3000) if each not in deleted]}, gone=gone)
    assert await same_as_single(service, keys) <= 300 + 70


async def test_nothing_is_there() -> None:
    """An eval that is gone with all its runs: some pages are tried, then each run is asked for."""
    keys = [("e", each) for each in names(1000)]
    assert await same_as_single(Service({}), keys) <= 1016
    assert await same_as_single(Service({"e": names(1000, "other")}), keys) <= 1016


async def test_a_server_that_ignores_after() -> None:
    """The first page comes again and again: it is noticed after a few pages."""
    service = Service({"e": names(3000)}, ignores_after=True)
    assert await same_as_single(service, shuffled([("e", each) for each in names(3000)])) <= 2900 + 20
    assert service.pages <= 20


async def test_a_server_that_ignores_limit() -> None:
    """Pages of twenty, whatever is asked for: a twentieth of the requests."""
    service = Service({"e": names(3000)}, ignores_limit=True, most=20)
    assert await same_as_single(service, shuffled([("e", each) for each in names(3000)])) <= 200


async def test_pages_that_are_too_large() -> None:
    """Pages are halved until they can be read, and stay so."""
    service = Service({"e": names(2000)}, heavy=30)
    assert await same_as_single(service, [("e", each) for each in names(2000)]) <= 120


async def test_pages_that_never_fit() -> None:
    """Where even a few runs are too much for a page, they are read singly."""
    service = Service({"e": names(1000)}, heavy=2)
    assert await same_as_single(service, [("e", each) for each in names(1000)]) <= 1050


async def test_a_page_that_cannot_be_read() -> None:
    """A run that makes its page unreadable spoils that page only; and is told by its own read, if that fails too."""
    spoiled = frozenset({"run_01555"})
    service = Service({"e": names(3000)}, spoiled=spoiled, refused=spoiled)
    assert await same_as_single(service, shuffled([("e", each) for each in names(3000)])) <= 150


async def test_pages_that_fail_for_good() -> None:
    """A server whose listings do not answer costs a few requests, and no run."""
    service = Service({"e": names(1000)}, faults=1.0)
    assert await same_as_single(service, [("e", each) for each in names(1000)]) <= 1050


async def test_runs_that_are_not_listed_yet() -> None:
    """A listing that lags behind: what it does not have is read singly."""
    hidden = frozenset(names(3000)[-200:])
    service = Service({"e": names(3000)}, hidden=hidden)
    assert await same_as_single(service, shuffled([("e", each) for each in names(3000)])) <= 200 + 60


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, list[Key]]:
    """A server and what is asked of it: lengths, deletions, orders and oddities of every kind."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    listings: dict[str, list[str]] = {}
    keys: list[Key] = []
    many = draw(st.sampled_from([1, 2, 3, 40]))
    for number in range(many):
        ids = names(draw(st.sampled_from([0, 1, 7, 30, 150, 400] if many < 40 else [6, 9, 12])), f"run{number}")
        if draw(st.booleans()):
            dice.shuffle(ids)
        share = draw(st.sampled_from([0.02, 0.1, 0.5, 1.0]))
        keys += [(f"e{number}", each) for each in ids if dice.random() < share]
        lost = draw(st.sampled_from([0.0, 0.0, 0.1, 0.9, 1.0]))
        listings[f"e{number}"] = [each for each in ids if dice.random() >= lost]
    keys += keys[: draw(st.integers(0, 9))]
    if draw(st.booleans()):
        dice.shuffle(keys)
    some = [each for _, each in keys if dice.random() < draw(st.sampled_from([0.0, 0.0, 0.02, 0.3]))]
    service = Service(
        listings,
        hidden=frozenset(some) if draw(st.booleans()) else frozenset(some[:3]),
        refused=frozenset(some[:3]) if draw(st.booleans()) else frozenset(),
        spoiled=frozenset(some[:2]) if draw(st.booleans()) else frozenset(),
        gone=draw(st.sampled_from(["404", "400", "restart", "empty"])),
        ignores_after=draw(st.sampled_from([False, False, True])),
        ignores_limit=draw(st.booleans()),
        most=draw(st.sampled_from([100, 100, 20, 3, 1])),
        heavy=draw(st.sampled_from([100, 100, 30, 2, 0])),
        faults=draw(st.sampled_from([0.0, 0.0, 0.2, 0.7, 1.0])),
        tells_more=draw(st.booleans()),
        dice=dice,
    )
    return service, keys


@given(case=services(), concurrency=st.sampled_from([1, 2, 8, 32]))
@settings(deadline=None, max_examples=300)
def test_whatever_the_server_does(case: tuple[Service, list[Key]], concurrency: int) -> None:
    """The results of single reads, errors included and in order; never more than 1.2 times their requests."""
    service, keys = case
    asyncio.run(same_as_single(service, keys, concurrency))


async def test_a_place_is_given_to_the_worker_that_waits() -> None:
    """A place that the consumer frees belongs to the worker that waits, also if another asks before it can run. So no
    worker is kept from its next page by the pages of others.
    """
    channel: Channel[int] = Channel(1)
    assert await channel.reserve()
    channel.put_all([1, 2, 3])
    first, second = asyncio.create_task(channel.reserve()), asyncio.create_task(channel.reserve())
    await asyncio.sleep(0)
    for _ in range(3):
        assert not first.done()
        channel.ready.popleft()
        channel.release()
    third = asyncio.create_task(channel.reserve())
    assert await first
    await asyncio.sleep(0)
    assert (channel.free, second.done(), third.done()) == (0, False, False)
    channel.release()
    assert await second
    channel.release()
    assert await third


# --- as a stream ------------------------------------------------------------------------------------------------------


def streamed(service: Service, keys: list[Key], concurrency: int = 4) -> FanOut[Key, Thing]:
    return fan_out_by_pages(service.lookup(), keys, concurrency=concurrency)


async def test_a_slow_consumer_slows_the_pages() -> None:
    """Pages are asked for only as fast as their runs are taken: a consumer that stops stops the requests."""
    service = Service({"e": names(5000)})
    async with streamed(service, [("e", each) for each in names(5000)]) as outcomes:
        await anext(outcomes)
        for _ in range(200):
            await asyncio.sleep(0)
        assert service.requests <= 5


async def test_leaving_ends_everything() -> None:
    """`break` in the middle cancels every worker, and no request is made after it."""
    service = Service({"e": names(3000)})
    async for _ in streamed(service, [("e", each) for each in names(3000)]):
        break
    await asyncio.sleep(0)
    before = service.requests
    for _ in range(20):
        await asyncio.sleep(0)
    assert service.requests == before


async def test_keys_that_name_nothing() -> None:
    """A key that cannot be sent is its own error, without a request; an iterable that raises ends the stream."""
    service = Service({"e": names(30)})
    keys = [("e", ""), *(("e", each) for each in names(30))]
    outcomes = [outcome async for outcome in streamed(service, keys)]
    assert [outcome.key for outcome in outcomes if not outcome.ok] == [("e", "")]
    assert service.requests <= 3

    async def broken() -> AsyncIterator[Key]:
        yield "e", "run_00001"
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        await gather_by_pages(service.lookup(), broken())


async def test_every_key_has_its_own_error() -> None:
    """Two keys of one run that is gone: read once, and told to each by an error object of its own."""
    service = Service({"e": []})
    first, second = await by_pages(service, [("e", "x"), ("e", "x")])
    assert isinstance(first, NotFound)
    assert isinstance(second, NotFound)
    assert first is not second
    assert (str(first), service.requests) == (str(second), 1)


async def test_progress_counts_ids() -> None:
    """Each id is begun and done once, the failed ones included, and the total is known."""
    seen: list[Progress] = []
    service = Service({"e": names(90)})
    keys = [("e", each) for each in [*names(90), "gone"]]
    await gather_by_pages(service.lookup(), keys, on_error="return", on_progress=seen.append)
    assert seen[-1] == Progress(started=91, done=91, failed=1, total=91)
    assert [each.done for each in seen] == list(range(1, 92))


async def test_on_error_is_one_of_two_words() -> None:
    """A word that is neither is refused before anything is sent."""
    service = Service({"e": names(90)})
    with pytest.raises(InvalidArgument, match="on_error"):
        await gather_by_pages(service.lookup(), [("e", "run_00001")], on_error="ignore")  # type: ignore[arg-type]
    assert service.requests == 0


# --- with a client, over a socket -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree() -> SampleTree:
    return sample_tree(runs=240, items=60)


def pairs_of(tree: SampleTree) -> list[Key]:
    return [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"]]


async def test_runs_by_pages(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """Runs of four evals, shuffled, one of them gone: what single reads give, in a few requests."""
    keys = [*shuffled(pairs_of(tree)), ("eval_gone", "evalrun_gone"), (pairs_of(tree)[0][0], "evalrun_gone")]
    got = await client.evals.runs.retrieve_many(keys, by_pages=True, on_error="return")
    requests = server.request_count
    single = await client.evals.runs.retrieve_many(keys, on_error="return")
    assert [run.id for run in got if isinstance(run, EvalRun)] == [key[1] for key in keys[:-2]]
    assert [each for each in got if isinstance(each, EvalRun)] == [each for each in single if isinstance(each, EvalRun)]
    for mine, other in zip(got[-2:], single[-2:], strict=True):
        assert isinstance(mine, NotFound)
        assert isinstance(other, NotFound)
        assert (mine.path, mine.message, mine.status) == (other.path, other.message, other.status)
    assert requests <= 30
    with pytest.raises(PartialFailure, match="2 of 242"):
        await client.evals.runs.retrieve_many(keys, by_pages=True)


async def test_runs_as_a_stream_by_pages(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """The key of each outcome is the run as it was named: by its id, by a pair, or by the run itself."""
    eval_id = pairs_of(tree)[0][0]
    runs = await client.evals.runs.list(eval_id).collect()
    ways: list[Callable[[EvalRun], RunKey]] = [lambda run: run, lambda run: (eval_id, run.id), lambda run: run.id]
    named = [ways[number % 3](run) for number, run in enumerate(runs)]
    before = server.request_count
    outcomes: list[Outcome[object, EvalRun]] = [
        outcome async for outcome in client.evals.runs.stream_many(named, eval_id=eval_id, by_pages=True)
    ]
    assert server.request_count - before <= 3
    assert len(outcomes) == len(runs)
    for outcome in outcomes:
        run = outcome.unwrap()
        assert outcome.key in (run, (eval_id, run.id), run.id)
    bare: Any = ["evalrun_1"]  # type checkers refuse it
    nameless = [outcome async for outcome in client.evals.runs.stream_many(bare, by_pages=True)]
    assert isinstance(nameless[0].error, InvalidArgument)


async def test_output_items_by_pages(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """Output items of a run, shuffled, one of them gone: what single reads give, in a few requests."""
    run = pairs_of(tree)[0]
    ids = [item.id async for item in client.evals.runs.output_items.list(run)]
    random.Random(0).shuffle(ids)
    wanted = [*ids, "outputitem_gone"]
    before = server.request_count
    items = client.evals.runs.output_items
    got = await items.retrieve_many(wanted, run_id=run, by_pages=True, on_error="return")
    assert server.request_count - before <= 4
    single = await items.retrieve_many(wanted, run_id=run, on_error="return")
    assert got[:-1] == single[:-1]
    assert isinstance(got[-1], NotFound)
    outcomes = [outcome async for outcome in items.stream_many(ids, run_id=run, by_pages=True)]
    assert {outcome.key: outcome.unwrap() for outcome in outcomes} == dict(zip(wanted, single[:-1], strict=False))


async def test_it_is_off_unless_asked_for(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """Without `by_pages` every run is asked for by its own request."""
    await client.evals.runs.retrieve_many(pairs_of(tree)[:50])
    assert {request.path.count("/") for request in server.requests} == {5}
    assert server.request_count == 50


async def test_pages_and_the_cache(server: LocalServer, tree: SampleTree) -> None:
    """What the cache has is not asked for, and the cache keeps the finished runs that a page brought."""
    keys = pairs_of(tree)
    async with EvalsClient(base_url=server.base_url, api_key="local", cache=LRUCache()) as client:
        first = await client.evals.runs.retrieve_many(keys, by_pages=True)
        over = [key for key, run in zip(keys, first, strict=True) if run.is_terminal]
        before = server.request_count
        assert await client.evals.runs.retrieve_many(over, by_pages=True) == tuple(
            run for run in first if run.is_terminal
        )
        assert await client.evals.runs.retrieve(over[0]) in first
        assert server.request_count == before


async def test_listings_that_fail(server: LocalServer, client: EvalsClient, tree: SampleTree) -> None:
    """A server that has no listings of runs costs a few requests more, and gives every run."""
    server.faults.add(Fault(route="GET /evals/{eval_id}/runs", status=501, times=None))
    keys = pairs_of(tree)
    runs = await client.evals.runs.retrieve_many(keys, by_pages=True)
    assert [run.id for run in runs] == [key[1] for key in keys]
    assert server.request_count <= 1.2 * len(keys)
