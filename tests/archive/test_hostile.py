"""Values that break programs: X11. Stored as they came, or reported by id; the others of the page are always kept."""

import json
from pathlib import Path

import pytest
from reference_server import Difference, Export, ReferenceServer, difference, stored, tree

from evals_async.archive import Archive


FINE: dict[str, bytes] = {
    "a lone surrogate": rb'{"id":"odd","text":"\ud800"}',
    "an escaped NUL": rb'{"id":"odd","text":"a\u0000b"}',
    "large numbers": b'{"id":"odd","n":1e30,"big":123456789012345678901234567890,"tiny":5e-324,"f":1.0,"e":1E+2}',
    "ten megabytes": b'{"id":"odd","text":"' + b"x" * 10_000_000 + b'"}',
    "two hundred levels": b'{"id":"odd","deep":' + b"[" * 200 + b"]" * 200 + b"}",
    "duplicate keys": b'{"id":"odd","a":1,"a":2}',
    "spaces and unknown fields": b'{ "new_field" : [ 1 ,2 ] ,\t"id" :\n"odd", "_x":null }',
    "raw unicode": '{"id":"odd","text":"é😀\u2028\u202e"}'.encode(),
    "brackets in strings": rb'{"id":"odd","text":"]},{\"id\": \\"}',
    "wrong types": b'{"id":"odd","created_at":"yesterday","status":7,"results":{},"sample":[]}',
    "a time beyond 64 bits": b'{"id":"odd","created_at":1e25}',
}
BROKEN: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"id":"odd","score":NaN}', "NaN"),
    "a number out of range": (b'{"id":"odd","score":1e999}', "out of range"),
    "a hundred thousand levels": (b'{"id":"odd","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
    "no UTF-8": (b'{"id":"odd","text":"\xff"}', "utf-8"),
    "a raw NUL": (b'{"id":"odd","text":"\x00"}', "control character"),
    "no id": (b'{"text":"who am I"}', "lacks id"),
    "an id that is a number": (b'{"id":17}', "lacks id"),
    "no object": (b'"a string"', "not a JSON object"),
}
ITEMS = ("output_items", "eval_0", "run_0_0")


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
async def test_strange_json_is_kept_byte_for_byte(export: Export, file: Path, text: bytes) -> None:
    """X11: JSON is stored exactly as received: numbers, key order, spaces, escapes, duplicate keys."""
    reference = tree(evals=1, runs=1, items=9)
    reference.listings[ITEMS]["odd"] = text
    async with ReferenceServer(reference, page=4) as server:
        report = await export(server)
    assert ["short"] == [each.state for each in report.unfinished]  # the run does not count the odd one
    assert text == stored(file)[0][*ITEMS, "odd"]
    assert Difference() == difference(file, reference)


@pytest.mark.parametrize(("text", "why"), BROKEN.values(), ids=BROKEN)
async def test_what_is_no_object_is_reported_and_the_rest_is_kept(
    export: Export, file: Path, text: bytes, why: str
) -> None:
    """X11: bytes that are not a JSON object are kept and reported. The other items of the page are stored."""
    reference = tree(evals=1, runs=1, items=9)
    objects = reference.listings[ITEMS]
    items = list(objects.items())
    objects.clear()
    objects.update([*items[:5], ("odd", text), *items[5:]])
    async with ReferenceServer(reference, page=4) as server:
        report = await export(server)
        again = await export(server)
    del objects["odd"]
    assert Difference() == difference(file, reference)
    for each in (report, again):
        assert 3 == each.exit_code
        (damaged,) = [one for one in each.unfinished if one.state == "damaged"]
        assert damaged.what.startswith("output_items/eval_0/run_0_0/")
        assert why in damaged.why
    async with Archive.open(file) as archive:
        select = "SELECT body FROM damaged"
        database = archive._database  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # damaged: in no listing
        assert [(text,)] == await database.call(lambda connection: connection.execute(select).fetchall())


async def test_an_archive_of_damaged_objects_is_kept(export: Export, file: Path) -> None:
    """A first export that gets only bytes that are not JSON keeps them: its file is not removed."""
    reference = tree(evals=1, runs=0, files=0)
    reference.listings["evals",]["eval_0"] = b"{not JSON}"
    async with ReferenceServer(reference) as server:
        report = await export(server)
    assert (3, ["damaged"]) == (report.exit_code, [each.state for each in report.unfinished])
    async with Archive.open(file, read_only=True) as archive:
        assert 1 == (await archive.summary()).damaged


async def test_a_hostile_id_reaches_no_other_path(export: Export) -> None:
    """Ids that look like paths are encoded. Ids that a URL cannot contain are reported, and the others are copied."""
    reference = tree(evals=1, runs=1, items=3)
    for number, odd in enumerate(["../../files", "a/b", "a b", "?after=x", "'; DROP TABLE evals; --"]):
        reference.listings["evals",][odd] = json.dumps({"id": odd, "created_at": number}).encode()
    async with ReferenceServer(reference) as server:
        report = await export(server)
    assert (6, 1, 3) == (report.counts["evals"], report.counts["runs"], report.counts["output_items"])
    assert 3 == report.exit_code


async def test_an_id_that_no_request_can_name_is_reported(export: Export, file: Path) -> None:
    """A run whose id has a lone surrogate is kept as damaged: its items cannot be requested, and are not deleted."""
    reference = tree(evals=1, runs=1, items=3)
    reference.listings["runs", "eval_0"]["odd"] = b'{"id": "run_\\ud800", "eval_id": "eval_0", "status": "completed"}'
    async with ReferenceServer(reference) as server:
        report = await export(server)
    assert (3, 1, 3) == (report.exit_code, report.counts["runs"], report.counts["output_items"])
    assert ["its id contains a lone surrogate"] == [each.why for each in report.unfinished]


@pytest.mark.parametrize("number", [b"1" + b"0" * 400, b"-1" + b"0" * 400, b"true", b'"soon"'])
async def test_a_time_of_any_kind_does_not_stop_the_export(export: Export, file: Path, number: bytes) -> None:
    """A number that no column can hold is kept in the text of the object, and the others are copied."""
    reference = tree(evals=2, runs=1, items=3)
    reference.listings["evals",]["eval_0"] = b'{"id": "eval_0", "created_at": %b}' % number
    async with ReferenceServer(reference) as server:
        report = await export(server)
    assert (2, 2, 6) == (report.counts["evals"], report.counts["runs"], report.counts["output_items"])
