"""Verification: what is not there, or not as it should be, is found, by the archive itself and beside the server."""

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from reference_server import SAME, Export, ReferenceServer, difference, tree
from verifying import offline, online


@pytest_asyncio.fixture
async def server(export: Export) -> AsyncIterator[ReferenceServer]:
    """A server of which everything was exported."""
    async with ReferenceServer(tree(evals=2, runs=3, items=12)) as server:
        assert 0 == (await export(server)).exit_code
        yield server


def change(file: Path, *statements: str) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    for statement in statements:
        assert connection.execute(statement).rowcount == 1
    connection.close()


async def test_a_whole_archive_is_complete(file: Path, server: ReferenceServer) -> None:
    """A complete archive has no findings, offline or online, and all objects are counted."""
    report = await online(file, server)
    assert (0, [], []) == (report.exit_code, report.findings, report.notes)
    counted = {"evals": 2, "runs": 6, "output_items": 72, "files": 3, "contents": 2, "referenced_files": 3}
    assert counted == report.checked
    compared = {"evals": 2, "runs": 6, "files": 3, "sampled_runs": 6, "output_items": 72, "contents": 3}
    assert compared == report.compared


async def test_a_sample_compares_the_items_of_some_runs(file: Path, server: ReferenceServer) -> None:
    """A sample of two runs compares their items, and all evals and runs."""
    report = await online(file, server, sample=2)
    assert (0, 2, 24, 6) == (
        report.exit_code,
        report.compared["sampled_runs"],
        report.compared["output_items"],
        report.compared["runs"],
    )


@pytest.mark.parametrize(
    ("statement", "what", "problem"),
    [
        (
            "DELETE FROM output_items WHERE run_id = 'run_0_1' AND id = 'item_0003'",
            "items of eval_0/run_0_1",
            "the run (completed) counts 12, the archive has 11",
        ),
        ("UPDATE files SET sha256 = NULL WHERE id = 'file-1'", "file file-1", "its content was not read"),
        (
            "UPDATE output_items SET body = '{' WHERE run_id = 'run_0_1' AND id = 'item_0003'",
            "output_items eval_0/run_0_1/item_0003",
            "its text is not JSON",
        ),
        (
            "UPDATE work SET state = 'broken', note = 'round and round' WHERE run_id = 'run_1_1'",
            "output items of eval_1/run_1_1",
            "broken: round and round",
        ),
        ("UPDATE passes SET ended = NULL", "the last export", "it was interrupted: run it again"),
        ("DELETE FROM work WHERE run_id = 'run_1_1'", "items of eval_1/run_1_1", "no export has read them"),
    ],
)
async def test_what_is_missing_is_named(
    file: Path, server: ReferenceServer, statement: str, what: str, problem: str
) -> None:
    """A lost item, content or listing, and a broken object, are findings with their names."""
    change(file, statement)
    report = await offline(file)
    assert 3 == report.exit_code
    assert (what, problem) in [(each.what, each.problem) for each in report.findings]


async def test_a_changed_content_is_found(file: Path, server: ReferenceServer) -> None:
    """A content whose bytes do not have its hash is a finding."""
    change(file, "UPDATE file_contents SET bytes = zeroblob(10) WHERE sha256 = (SELECT min(sha256) FROM file_contents)")
    report = await offline(file)
    assert [True] == [each.problem.startswith("its bytes have another sha256") for each in report.findings]


async def test_what_the_server_has_otherwise_is_found(file: Path, server: ReferenceServer) -> None:
    """An object that is new on the server, one that changed, and another content are findings; one that is gone is a
    note.
    """
    listings = server.reference.listings
    listings["evals",]["eval_new"] = b'{"id": "eval_new"}'
    listings["output_items", "eval_0", "run_0_0"]["item_0002"] = b'{"id": "item_0002", "changed": true}'
    server.reference.contents["file-2"] = b"other bytes\n"
    del listings["output_items", "eval_1", "run_1_2"]["item_0005"]
    report = await online(file, server)
    assert 3 == report.exit_code
    assert {
        ("evals eval_new", "on the server, but not in the archive: export again"),
        ("output_items eval_0/run_0_0/item_0002", "the server has another version now: export again, with reread"),
        ("file file-2", "the server has another content now"),
    } == {(each.what, each.problem) for each in report.findings}
    assert ["output items of eval_1/run_1_2"] == [each.what for each in report.notes]


async def test_a_server_that_stays_away_ends_in_try_again(file: Path, server: ReferenceServer) -> None:
    """If the server is down, the comparison ends with exit code 75. The offline checks are done."""
    server.down = True
    report = await online(file, server)
    assert (75, 72) == (report.exit_code, report.checked["output_items"])


async def test_the_manifest_is_the_same_for_the_same_objects(
    export: Export, file: Path, server: ReferenceServer, tmp_path: Path
) -> None:
    """Two archives of one server have the same hashes. One changed byte changes them."""
    other = tmp_path / "other.db"
    await export(server, path=other)
    first, second = (await offline(file)).manifest, (await offline(other)).manifest
    assert first["sha256"] == second["sha256"]
    assert first["counts"] == second["counts"]
    assert json.loads(json.dumps(first)) == first
    change(other, "UPDATE evals SET body = replace(body, '1.50', '1.51') WHERE id = 'eval_0'")
    assert first["sha256"] != (await offline(other)).manifest["sha256"]


async def test_what_was_lost_here_is_read_again_when_asked(export: Export, file: Path, server: ReferenceServer) -> None:
    """An item that was lost from the archive of an ended run is copied again with `reread` only."""
    change(file, "DELETE FROM output_items WHERE run_id = 'run_0_1' AND id = 'item_0003'")
    await export(server)
    assert 3 == (await offline(file)).exit_code
    assert 0 == (await export(server, reread=True)).exit_code
    assert (0, SAME) == ((await offline(file)).exit_code, difference(file, server.reference))
