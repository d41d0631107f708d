"""The benchmark measures what it says: every client reads the same runs and pages, and the report can be read."""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest
from benchmarks import canned, report
from benchmarks.cases import Table
from benchmarks.measure import Server
from benchmarks.peers import PEERS, part


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


def test_report_can_be_read() -> None:
    """A table is Markdown with as many cells in each row, and a plot is well-formed XML with a line per client."""
    table = Table("A title", ("client", "us"), [("ours", "1"), ("theirs", "12")], "A note.")
    lines = report.markdown([table]).splitlines()
    assert {3} == {line.count("|") for line in lines if line.startswith("|")}
    plot = report.Plot("Runs", "runs", "seconds", {"ours": [(1, 0.1), (100, 9)], "theirs": [(1, 1), (10, 11)]})
    drawing = ElementTree.fromstring(report.svg([plot, plot, plot]))
    assert 6 == len(drawing.findall(".//{http://www.w3.org/2000/svg}polyline"))
