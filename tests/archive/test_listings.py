"""Servers that are not what they should be: X06 to X10, X14. What lived through the export is in the copy."""

import random
from pathlib import Path
from typing import Any

import pytest
from reference_server import SAME, Difference, Export, Gone, Mode, ReferenceServer, Tree, add_run, difference, tree

from evals_async.archive import Selection


@pytest.mark.parametrize("mode", ["plain", "overlap", "empty", "empty_null", "null_last_id", "no_has_more"])
async def test_every_kind_of_paging_is_copied_whole(export: Export, file: Path, mode: Mode) -> None:
    """X06, X10: with pages that overlap, are empty, or lack last_id or has_more, each object is copied once and
    exactly.
    """
    reference = tree()
    async with ReferenceServer(reference, mode=mode) as server:
        report = await export(server)
    assert (0, ()) == (report.exit_code, report.unfinished)
    assert SAME == difference(file, reference)
    assert {"evals": 3, "runs": 12, "output_items": 276, "files": 3} == report.counts


@pytest.mark.parametrize("mode", ["loop", "cycle"])
async def test_a_listing_that_goes_round_is_named_and_the_rest_is_copied(
    export: Export, file: Path, mode: Mode
) -> None:
    """X10: with a server that ignores cursors, the export ends with exit code 3 after few requests, and names the
    listings.
    """
    reference = tree(evals=2, runs=2, items=30)
    async with ReferenceServer(reference, mode=mode) as server:
        report = await export(server)
        requests = server.requests
    assert 3 == report.exit_code
    assert {"output items of eval_0/run_0_0", "output items of eval_1/run_1_1"} <= {
        each.what for each in report.unfinished
    }
    assert {"broken"} == {each.state for each in report.unfinished}
    assert requests < 200
    found = difference(file, reference)
    assert ((), (), "ok") == (found.wrong, found.extra, found.integrity)


class Reaper:
    """Deletes objects between pages: any of the listing, and of some pages the last, which is the cursor."""

    def __init__(self, reference: Tree, seed: int, cursors: float) -> None:
        self.reference = reference
        self.dice = random.Random(seed)
        self.cursors = cursors
        self.deleted: set[tuple[str, ...]] = set()
        self.gone_cursors = 0

    def __call__(self, listing: tuple[str, ...], ids: list[str]) -> None:
        objects = self.reference.listings[listing]
        if listing[0] == "files" or not ids:
            return
        if self.dice.random() < self.cursors and len(objects) > 1:
            self.delete(listing, ids[-1])
            self.gone_cursors += 1
        elif listing[0] == "output_items" and self.dice.random() < 0.3 and objects:
            self.delete(listing, self.dice.choice(list(objects)))

    def delete(self, listing: tuple[str, ...], id: str) -> None:
        if self.reference.listings[listing].pop(id, None) is None:
            return
        self.deleted.add((*listing, id))
        below = ("runs", id) if listing[0] == "evals" else ("output_items", *listing[1:], id)
        for child in list(self.reference.listings.get(below, ())):
            self.delete(below, child)
        self.reference.listings.pop(below, None)


@pytest.mark.parametrize("gone", ["404", "400", "restart"])
@pytest.mark.parametrize("seed", range(3))
async def test_deletions_never_stop_it(export: Export, file: Path, gone: Gone, seed: int) -> None:
    """X07: objects and cursors are deleted between pages; all that lived through the export is there.

    Where items vanish the runs' counts no longer fit, and that is said; nothing else is.
    """
    reference = tree(evals=4, runs=5, items=40)
    reaper = Reaper(reference, seed, cursors=0.25)
    async with ReferenceServer(reference, gone=gone, after_page=reaper) as server:
        report = await export(server)
    assert reaper.gone_cursors > 15
    assert Difference() == difference(file, reference, deleted=reaper.deleted)
    assert {each.state for each in report.unfinished} <= {"short"}


async def test_what_is_added_is_found_by_the_next_export(export: Export, file: Path) -> None:
    """X08: runs that are created during an export are copied by it or by the next one."""
    reference = tree(evals=2, runs=3, items=10)
    added: list[str] = []

    def add(listing: tuple[str, ...], ids: list[str]) -> None:
        if listing[0] == "output_items" and len(added) < 6:
            added.append(f"new_{len(added)}")
            add_run(reference, "eval_0", added[-1], 5, "file-0")

    async with ReferenceServer(reference, after_page=add) as server:
        await export(server)
        report = await export(server)
    assert 0 == report.exit_code
    assert 6 == len(added)
    assert SAME == difference(file, reference)


async def test_a_run_in_progress_is_read_again(export: Export, file: Path) -> None:
    """X09: the items of a run that had not ended are read again by the next export, but not after that."""
    reference = tree(evals=1, runs=2, items=5)
    add_run(reference, "eval_0", "late", 3, None, status="in_progress")
    async with ReferenceServer(reference) as server:
        await export(server)
        items = dict(reference.listings["output_items", "eval_0", "late"])
        del reference.listings["runs", "eval_0"]["late"]
        add_run(reference, "eval_0", "late", 12, None)
        assert items.keys() < reference.listings["output_items", "eval_0", "late"].keys()
        report = await export(server)
        assert (0, SAME) == (report.exit_code, difference(file, reference))
        before = server.requests
        third = await export(server)
        # One page of evals, one of runs, one of files: nothing that is over is read again.
        assert 3 == server.requests - before
    assert (0, 12) == (third.exit_code, len(reference.listings["output_items", "eval_0", "late"]))


async def test_a_run_that_ends_while_its_items_are_read_is_read_again(export: Export, file: Path) -> None:
    """X09: a run is final only if it had ended before its items were listed."""
    reference = tree(evals=1, runs=0, items=0, files=0)
    add_run(reference, "eval_0", "run", 10, None, status="in_progress")

    def finish(listing: tuple[str, ...], ids: list[str]) -> None:
        if listing[0] == "output_items" and len(reference.listings[listing]) == 10:
            del reference.listings["runs", "eval_0"]["run"]
            add_run(reference, "eval_0", "run", 25, None)

    async with ReferenceServer(reference, after_page=finish) as server:
        await export(server)
        server.after_page = None
        report = await export(server)
    assert (0, SAME) == (report.exit_code, difference(file, reference))


async def test_what_vanished_is_marked_and_kept(export: Export, file: Path) -> None:
    """An object that the server deleted is kept and marked as missing. If it is listed again, the mark is removed."""
    reference = tree(evals=2, runs=2, items=3)
    async with ReferenceServer(reference) as server:
        await export(server)
        whole = reference.listings["runs", "eval_1"].pop("run_1_1")
        gone = await export(server)
        assert (0, 1) == (gone.exit_code, gone.missing["runs"])
        assert ("runs/eval_1/run_1_1",) == difference(
            file, reference, deleted={("output_items", "eval_1", "run_1_1")}
        ).extra
        reference.listings["runs", "eval_1"]["run_1_1"] = whole
        back = await export(server)
    assert (0, SAME) == (back.missing["runs"], difference(file, reference))


async def test_heavy_pages_become_smaller(export: Export, file: Path) -> None:
    """Pages of items that time out are requested again with half the size. No item is lost."""
    reference = tree(evals=1, runs=2, items=30)
    async with ReferenceServer(reference, page=100) as server:
        server.heavy = {"output_items": 13}
        report = await export(server)
        sizes = set(server.limits)
    assert (0, SAME) == (report.exit_code, difference(file, reference))
    assert {100, 50, 25, 12} <= sizes


async def test_large_pages_become_smaller(export: Export, file: Path) -> None:
    """After a page of more than 8 MiB, the next pages have half as many objects, so that memory stays bounded."""
    reference = tree(evals=1, runs=1, items=0, files=0)
    add_run(reference, "eval_0", "large", 180, None)
    items = reference.listings["output_items", "eval_0", "large"]
    for id in items:
        items[id] = b'{"id":"%s","text":"%s"}' % (id.encode(), b"x" * 90_000)
    async with ReferenceServer(reference, page=100) as server:
        report = await export(server)
        assert [100, 50, 50] == server.limits[-3:]
    assert (0, SAME) == (report.exit_code, difference(file, reference))


@pytest.mark.parametrize(
    ("selection", "counts"),
    [
        ({"evals": ("eval_1",)}, {"evals": 1, "runs": 2, "output_items": 6, "files": 2}),
        ({"items": False}, {"evals": 3, "runs": 6, "output_items": 0, "files": 3}),
        ({"files": False}, {"evals": 3, "runs": 6, "output_items": 18, "files": 0}),
        ({"since": 1_800_000_000}, {"evals": 3, "runs": 6, "output_items": 0, "files": 0}),
        ({"since": 1_600_000_000}, {"evals": 3, "runs": 6, "output_items": 18, "files": 2}),
    ],
)
async def test_a_selection_is_kept_to(export: Export, selection: dict[str, Any], counts: dict[str, int]) -> None:
    """A selection by eval, by date, without items or without files is copied completely, and nothing else."""
    async with ReferenceServer(tree(evals=3, runs=2, items=3)) as server:
        report = await export(server, Selection(**selection))
    assert (0, counts) == (report.exit_code, report.counts)


async def test_an_eval_that_is_not_there_is_named(export: Export) -> None:
    """A selected eval that does not exist is reported by name, and the export is incomplete."""
    async with ReferenceServer(tree(evals=1, runs=1, items=1)) as server:
        report = await export(server, Selection(evals=("eval_0", "eval_9")))
    assert (3, ["eval eval_9"]) == (report.exit_code, [each.what for each in report.unfinished])
    assert {"evals": 1, "runs": 1, "output_items": 1, "files": 1} == report.counts


async def test_a_parent_that_is_deleted_while_it_is_read(export: Export, file: Path) -> None:
    """A run that is deleted between two pages of its items is marked as deleted. Its listing is not a broken one."""
    reference = tree(evals=1, runs=2, items=20)

    def delete(listing: tuple[str, ...], ids: list[str]) -> None:
        if listing == ("output_items", "eval_0", "run_0_1") and len(ids) == 4:
            reference.listings["runs", "eval_0"].pop("run_0_1", None)
            reference.listings.pop(listing, None)

    async with ReferenceServer(reference, page=4, after_page=delete) as server:
        report = await export(server)
    assert (0, ()) == (report.exit_code, report.unfinished)
    assert 1 == report.missing["runs"]
