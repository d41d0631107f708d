"""What must not pass for complete: a wrong object, a short content, an older gap, a server without the API."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from reference_server import SAME, Export, ReferenceServer, add_run, body, difference, error, tree
from verifying import offline, online

from evals_async.archive import Archive, Gaps, Selection


class StrangeServer(ReferenceServer):
    """Answers the paths of `answers` with another path, with bytes, or with a status."""

    def __init__(
        self, *args: Any, answers: dict[tuple[str, ...], tuple[str, ...] | bytes | int], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.answers = answers

    def answer(self, path: tuple[str, ...], query: dict[str, str]) -> web.StreamResponse:
        found = self.answers.get(path, path)
        if isinstance(found, bytes):
            return body(found)
        return error(found, "out of order") if isinstance(found, int) else super().answer(found, query)


class NotTheApi(ReferenceServer):
    """A web server without the API."""

    def answer(self, path: tuple[str, ...], query: dict[str, str]) -> web.StreamResponse:
        return error(404, "no such route")


async def gaps_of(file: Path) -> Gaps:
    async with Archive.open(file, read_only=True) as archive:
        return await archive.gaps()


@pytest.mark.parametrize(
    ("asked", "answered", "eval_id", "what"),
    [
        (("evals", "eval_0"), ("evals", "eval_1"), "eval_0", "eval eval_0"),
        (("files", "file-0"), ("files", "file-1"), "eval_1", "file file-0"),
    ],
)
async def test_another_object_than_the_requested_one_is_not_stored(
    export: Export, file: Path, asked: tuple[str, ...], answered: tuple[str, ...], eval_id: str, what: str
) -> None:
    """An eval or a file with another id is reported as failed, and the next export copies the right one."""
    reference, selection = tree(evals=2, runs=1, items=3), Selection(evals=(eval_id,))
    async with StrangeServer(reference, answers={asked: answered}) as server:
        report = await export(server, selection)
        assert (3, [what]) == (report.exit_code, [each.what for each in report.unfinished])
        assert "asked for" in report.unfinished[0].why
        server.answers.clear()
        assert 0 == (await export(server, selection)).exit_code
    assert ((), ()) == (difference(file, reference).wrong, difference(file, reference).extra)
    assert 0 == (await offline(file)).exit_code


@pytest.mark.parametrize("path", [("evals", "eval_0"), ("files", "file-0")])
async def test_a_damaged_object_that_is_valid_later_is_no_longer_damaged(
    export: Export, file: Path, path: tuple[str, ...]
) -> None:
    """A single eval or file whose bytes were no object is requested again by the next export."""
    reference, selection = tree(evals=1, runs=1, items=3, files=1), Selection(evals=("eval_0",))
    async with StrangeServer(reference, answers={path: b"[1]"}) as server:
        report = await export(server, selection)
        assert (3, ["damaged"]) == (report.exit_code, [each.state for each in report.unfinished])
        server.answers.clear()
        assert (0, ()) == ((report := await export(server, selection)).exit_code, report.unfinished)
    assert SAME == difference(file, reference)


async def test_a_content_of_another_size_is_not_complete(export: Export, file: Path) -> None:
    """A content that is shorter than its file says is kept and reported, and requested again until it fits."""
    reference = tree(evals=1, runs=1, items=3)
    whole, reference.contents["file-0"] = reference.contents["file-0"], b"<html>"
    async with ReferenceServer(reference) as server:
        for _ in range(2):
            report = await export(server)
            assert [("file file-0", "short")] == [(each.what, each.state) for each in report.unfinished]
        problem = "the file has 10 bytes, but its content has 6"
        assert [("file file-0", problem)] == [(each.what, each.problem) for each in (await offline(file)).findings]
        assert not (await gaps_of(file)).complete
        reference.contents["file-0"] = whole
        assert 0 == (await export(server)).exit_code
    assert (0, SAME) == ((await offline(file)).exit_code, difference(file, reference))


@pytest.mark.parametrize("said", [0, None, True, "10", -5])
async def test_a_file_without_a_size_is_not_compared(export: Export, file: Path, said: object) -> None:
    """A size that is missing, 0 or no number says nothing about the content."""
    reference = tree(evals=1, runs=1, items=3, files=0)
    reference.add(["files"], "file-9", purpose="evals", bytes=said)
    reference.contents["file-9"] = b"content"
    async with ReferenceServer(reference) as server:
        assert 0 == (await export(server)).exit_code
    assert 0 == (await offline(file)).exit_code


async def test_a_listing_that_always_fails_is_named_and_does_not_block(export: Export, file: Path) -> None:
    """One request that fails again and again ends as failed, also if it is the last one, while the server is up."""
    reference = tree(evals=1, runs=1, items=3)
    listing = ("evals", "eval_0", "runs", "run_0_0", "output_items")
    async with StrangeServer(reference, answers={listing: 500}) as server:
        for _ in range(2):
            report = await export(server)
            assert (3, None) == (report.exit_code, report.stopped)
            assert [("output items of eval_0/run_0_0", "failed")] == [(e.what, e.state) for e in report.unfinished]
        server.answers.clear()
        assert 0 == (await export(server)).exit_code
    assert SAME == difference(file, reference)


async def test_verify_finds_what_an_earlier_export_lacks(export: Export, file: Path) -> None:
    """A listing that failed in an export of everything is found after a complete export of one eval."""
    reference = tree(evals=3, runs=2, items=2)
    async with StrangeServer(reference, answers={("evals", "eval_1", "runs"): 500}) as server:
        assert 3 == (await export(server)).exit_code
        assert 0 == (await export(server, Selection(evals=("eval_0",)))).exit_code
    assert ["runs of eval_1"] == [each.what for each in (await offline(file)).findings]
    async with Archive.open(file, read_only=True) as archive:
        assert 1 == (await archive.summary()).unfinished


async def test_what_was_deleted_before_it_could_be_read_is_no_gap(export: Export, file: Path) -> None:
    """A failed listing of an eval that is deleted later is not missing: no export can read it."""
    reference = tree(evals=3, runs=2, items=2)
    async with StrangeServer(reference, answers={("evals", "eval_1", "runs"): 500}) as server:
        assert 3 == (await export(server)).exit_code
        del reference.listings["evals",]["eval_1"]
        assert 0 == (await export(server)).exit_code
    assert (await gaps_of(file)).complete
    assert 0 == (await offline(file)).exit_code


@pytest.mark.parametrize("selection", [Selection(), Selection(evals=("eval_0",)), Selection(since=5)])
async def test_a_server_without_the_api_proves_nothing(export: Export, file: Path, selection: Selection) -> None:
    """Where every path is a 404, for example below a wrong base URL, verify reports that nothing was compared."""
    reference = tree(evals=1, runs=1, items=3)
    async with ReferenceServer(reference) as server:
        assert 0 == (await export(server, selection)).exit_code
        assert 0 == (await online(file, server)).exit_code
    async with NotTheApi(reference) as server:
        report = await online(file, server)
    assert 3 == report.exit_code
    assert {"evals", "runs of eval_0"} <= {each.what for each in report.findings}


async def test_deleted_objects_are_notes_and_do_not_make_an_archive_incomplete(export: Export, file: Path) -> None:
    """Evals that the server no longer has are kept: verify notes it."""
    async with ReferenceServer(tree(evals=2, runs=1, items=3)) as server:
        await export(server)
    async with ReferenceServer(tree(evals=0)) as server:
        report = await online(file, server)
    assert (0, []) == (report.exit_code, report.findings)
    assert {"evals", "runs of eval_0", "output items of eval_1/run_1_0"} <= {each.what for each in report.notes}


async def test_the_evals_of_a_selection_are_compared(export: Export, file: Path) -> None:
    """An eval that changed after an export of only this eval is found, and one that was deleted is a note."""
    reference = tree(evals=3, runs=1, items=3)
    async with ReferenceServer(reference) as server:
        await export(server, Selection(evals=("eval_0", "eval_1")))
        assert 2 == (await online(file, server)).compared["evals"]
        reference.listings["evals",]["eval_0"] = b'{"id": "eval_0", "name": "changed"}'
        del reference.listings["evals",]["eval_1"]
        report = await online(file, server)
    assert ["evals eval_0"] == [each.what for each in report.findings]
    assert "evals eval_1" in [each.what for each in report.notes]


async def test_a_run_in_progress_is_noted(export: Export, file: Path) -> None:
    """The items of a run that had not ended may not be all: verify notes it, until an export after the end."""
    reference = tree(evals=1, runs=1, items=3)
    add_run(reference, "eval_0", "late", 3, None, status="in_progress")
    async with ReferenceServer(reference) as server:
        await export(server)
        noted = [(each.what, each.problem) for each in (await offline(file)).notes]
        assert [("items of eval_0/late", "the run was in_progress when its items were read: export again")] == noted
        del reference.listings["runs", "eval_0"]["late"]
        add_run(reference, "eval_0", "late", 3, None)
        await export(server)
        assert [] == (await offline(file)).notes


@pytest.mark.parametrize("status", [500, 409])
async def test_a_content_that_cannot_be_compared_is_a_finding(export: Export, file: Path, status: int) -> None:
    """An error for one content does not end the comparison."""
    reference = tree(evals=1, runs=1, items=3)
    async with StrangeServer(reference, answers={}) as server:
        await export(server)
        server.answers["files", "file-0", "content"] = status
        report = await online(file, server)
    assert (3, ["file file-0"]) == (report.exit_code, [each.what for each in report.findings])
    assert 3 == report.compared["contents"]


async def test_verify_names_ids_that_cannot_be_part_of_a_path(export: Export, file: Path) -> None:
    """An eval with the id `..` is a finding, and the others are compared."""
    reference = tree(evals=1, runs=1, items=3)
    reference.listings["evals",][".."] = b'{"id": "..", "created_at": 1}'
    async with ReferenceServer(reference) as server:
        await export(server)
        report = await online(file, server)
    assert {"runs of .."} == {each.what for each in report.findings}
    assert 3 == report.compared["output_items"]


async def test_the_summary_has_evals_that_cannot_be_decoded(export: Export, file: Path) -> None:
    """One eval of another shape does not hide the others."""
    reference = tree(evals=2, runs=1, items=3)
    reference.listings["evals",]["eval_0"] = json.dumps({"id": "eval_0", "name": 5, "created_at": 1}).encode()
    async with ReferenceServer(reference) as server:
        await export(server)
    async with Archive.open(file) as archive:
        summary = await archive.summary()
    assert [("eval_0", None, 1), ("eval_1", "é😀 1", 1)] == [(each.id, each.name, each.runs) for each in summary.evals]
