"""The benchmark measures what it says: every client reads the same runs and pages, and the report can be read."""

import math
import os
from collections.abc import Iterator
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest
from benchmarks import canned, cases, report
from benchmarks.cases import Table
from benchmarks.measure import Server, child
from benchmarks.peers import PEERS, part
from benchmarks.run import verdicts


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def id_of(thing: object) -> object:
    return part(thing, "id")


@pytest.mark.parametrize("name", PEERS)
async def test_every_client_reads_the_same(name: str, server: Server) -> None:
    """A client gets the run that it asked for, small and large, and five pages of a hundred items, to their end."""
    if name == "openai[aiohttp]" and find_spec("httpx_aiohttp") is find_spec("httpx2") is None:
        pytest.skip("the official client's aiohttp backend is not installed")
    async with PEERS[name](server.url()) as peer:
        for run_id in (canned.run_id(7), "evalrun_7-large"):
            assert run_id == id_of(await peer.run(run_id))
        seen: list[object] = []
        async for page in peer.pages(canned.run_id(7)):
            seen += map(id_of, part(page, "data"))
        assert list(map(canned.item_id, range(500))) == seen


def test_sizes() -> None:
    """The bodies have the sizes that the tables name."""
    assert [1.3, 95, 203] == [
        round(len(canned.SMALL) / 1000, 1),
        *(round(len(b) / 1000) for b in (canned.LARGE, canned.PAGE)),
    ]
    assert math.isclose(5_000_000, len(canned.page_of(5)), rel_tol=0.01)


@pytest.mark.parametrize("name", cases.LIVE_BODIES)
def test_live_bodies_are_the_same_for_all(name: str) -> None:
    """What Azure and Foundry send is read by each client, and by ours without a field that it does not know."""
    data, _ = cases.LIVE_BODIES[name]
    ours, official = (cases.decoders(name)[client](data) for client in (cases.OURS, cases.OPENAI))
    objects = zip(ours, official.data, strict=True) if name.endswith("page") else [(ours, official)]
    for one, other in objects:
        assert (one.id, {}) == (other.id, dict(one.extra))


def test_report_can_be_read() -> None:
    """A table is Markdown with as many cells in each row, and a plot is well-formed XML with a line per client."""
    table = Table("A title", ("client", "us"), [("ours", "1"), ("theirs", "12")], "A note.")
    lines = report.markdown([table]).splitlines()
    assert {3} == {line.count("|") for line in lines if line.startswith("|")}
    plot = report.Plot("Runs", "runs", "seconds", {"ours": [(1, 0.1), (100, 9)], "theirs": [(1, 1), (10, 11)]})
    drawing = ElementTree.fromstring(report.svg([plot, plot, plot]))
    assert 6 == len(drawing.findall(".//{http://www.w3.org/2000/svg}polyline"))


def test_bounds_are_checked() -> None:
    """A figure below its least or above its most falls short; one at it holds; what was not measured is left out."""
    bounds = {"speed": {"least": 2.0, "goal": 3.0}, "loss": {"most": 0.0}, "else": {"least": 1.0}}
    assert [True, False] == [holds for holds, _ in verdicts({"speed": 2.0, "loss": 1.0}, bounds)]
    assert "FELL SHORT: speed is 1.00, must be 2 at least, goal 3" == verdicts({"speed": 1.0}, bounds)[0][1]


def test_client_and_server_have_cores_of_their_own(server: Server) -> None:
    """A runner that is pinned before it starts the server does not take the server along to its core."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    code = (
        "import os, subprocess, sys; from benchmarks.server import pin; pin(0)\n"
        "child = 'import os; from benchmarks.server import pin; pin(1); print(os.sched_getaffinity(0))'\n"
        "print(os.sched_getaffinity(0), subprocess.check_output([sys.executable, '-c', child], text=True))"
    )
    runner, other = child(code)[1].split()
    assert runner != other
