"""Check an archive without the server, and make its manifest. The comparison with the server is in `online`.

A finding is something missing or wrong. A note is information that does not make the copy incomplete.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TypeAlias

import attrs

from evals_async import _json
from evals_async._json import JSONObject, NotJSON, as_object
from evals_async._store import TABLES, Connection, Database
from evals_async._store.rows import LARGEST_PAGE
from evals_async.archive.export import ledger
from evals_async.archive.export.contents import file_size
from evals_async.archive.export.listing_page import counted, file_ids, has_ended
from evals_async.archive.export.passes import unfinished
from evals_async.archive.values import COMPLETE, INCOMPLETE, TRY_AGAIN, Selection
from evals_async.archive.verify.hashing import Digest, contents, hashes


VERDICTS: TypeAlias = Mapping[str, int]
OUTCOMES = {"pass": "passed", "fail": "failed", "error": "errored"}
MANIFEST_FORMAT = 1
BATCH = 200


@attrs.frozen
class Finding:
    """Something that is missing or wrong: what, and the problem."""

    what: str
    problem: str


@attrs.define(kw_only=True)
class VerifyReport:
    """The result of a verification.

    `findings` make the archive incomplete; `notes` do not. `checked` and `compared` count the objects that were checked
    in the file, and compared with the server. `stopped` is the reason if the comparison stopped early. `manifest` is
    the content of the manifest file.
    """

    findings: list[Finding] = attrs.Factory(list[Finding])
    notes: list[Finding] = attrs.Factory(list[Finding])
    checked: dict[str, int] = attrs.Factory(dict[str, int])
    compared: dict[str, int] = attrs.Factory(dict[str, int])
    stopped: str | None = None
    manifest: dict[str, object] = attrs.field(factory=dict[str, object], repr=False)

    def find(self, what: str, problem: str) -> None:
        self.findings.append(Finding(what, problem))

    def note(self, what: str, problem: str) -> None:
        self.notes.append(Finding(what, problem))

    @property
    def complete(self) -> bool:
        """Whether there are no findings, and the comparison did not stop early."""
        return not self.findings and self.stopped is None

    @property
    def exit_code(self) -> int:
        """0 complete, 3 incomplete, 75 the server did not respond for a long time."""
        return INCOMPLETE if self.findings else TRY_AGAIN if self.stopped is not None else COMPLETE


async def verify_offline(database: Database, now: float) -> VerifyReport:
    """Check the archive without the server, and make the manifest. Reads everything, changes nothing."""
    report = VerifyReport()
    (state,) = await database.call(lambda connection: connection.execute("PRAGMA quick_check(1)").fetchone())
    if state != "ok":
        report.find("the file", f"the integrity check of SQLite failed: {state}")
    digests = await check_objects(database, report)
    sizes = await check_contents(database, report)
    await check_sizes(database, report, sizes)
    await check_runs(database, report, sizes)
    await check_work(database, report)
    report.manifest = await manifest(database, report, digests, now)
    return report


async def check_objects(database: Database, report: VerifyReport) -> dict[str, object]:
    """Hash every object. Returns the hashes of each kind and of the items of each run."""
    digests: dict[str, object] = {}
    items: dict[str, Digest] = {}
    for kind in TABLES:
        whole = Digest()
        async for each in hashes(database, kind):
            whole.add(each.key, each.sha256)
            if kind == "output_items":
                items.setdefault("/".join(each.key[:2]), Digest()).add(each.key, each.sha256)
            if each.sha256 is None:
                report.find(f"{kind} {'/'.join(each.key)}", "its text is not JSON")
        report.checked[kind] = whole.count
        digests[kind] = whole.as_json()
    return {**digests, "items_of_runs": {key: digest.as_json() for key, digest in items.items()}}


async def check_contents(database: Database, report: VerifyReport) -> dict[str, int]:
    """Hash every content. Returns their sizes in bytes."""
    sizes: dict[str, int] = {}
    async for each in contents(database):
        sizes[each.sha256] = each.size
        if each.found != each.sha256:
            report.find(f"content {each.sha256}", f"its bytes have another sha256, {each.found}")
    report.checked["contents"] = len(sizes)
    return sizes


def files_after(connection: Connection, after: str) -> list[tuple[str, str, str]]:
    """Return the next files with a content, by id: id, JSON text, and the hash of the content."""
    sql = "SELECT id, body, sha256 FROM files WHERE id > ? AND sha256 IS NOT NULL ORDER BY id LIMIT ?"
    return connection.execute(sql, (after, BATCH)).fetchall()


async def check_sizes(database: Database, report: VerifyReport, sizes: Mapping[str, int]) -> None:
    """Check that the content of every file has as many bytes as its object says."""
    after = ""
    while batch := await database.call(files_after, after):
        for file_id, text, sha256 in batch:
            try:
                announced = file_size(as_object(_json.parse(text.encode())) or {})
            except NotJSON:
                continue  # `check_objects` has reported it
            size = sizes.get(sha256)
            if None not in (announced, size) and announced != size:
                report.find(f"file {file_id}", f"the file has {announced} bytes, but its content has {size}")
        after = batch[-1][0]


# --- runs: their counts and their files -----------------------------------------------------------------------------


def items_of(connection: Connection, key: Sequence[str]) -> tuple[dict[str, int], int]:
    """Return the number of a run's items by status, and how many of them are no longer on the server."""
    sql = "SELECT status, count(*), sum(missing_since IS NOT NULL) FROM output_items WHERE eval_id = ? AND run_id = ?"
    found = connection.execute(sql + " GROUP BY status", tuple(key)).fetchall()
    return {status: number for status, number, _ in found}, sum(gone for *_, gone in found)


def runs_after(connection: Connection, after: Sequence[str]) -> list[tuple[str, str, str, str | None]]:
    """Return the next runs by key: eval id, run id, JSON text, and the state of the listing of their items."""
    sql = (
        "SELECT r.eval_id, r.id, r.body, w.state FROM runs r LEFT JOIN work w ON w.kind = 'output_items' "
        "AND w.eval_id = r.eval_id AND w.run_id = r.id AND w.id = '' WHERE (r.eval_id, r.id) > (?, ?) "
        f"ORDER BY r.eval_id, r.id LIMIT {BATCH}"
    )
    found: list[tuple[str, str, str, str | None]] = []
    size = 0
    for row in connection.execute(sql, tuple(after)):  # a run may contain all its rows
        found.append(row)
        size += len(row[2])
        if size > LARGEST_PAGE:
            break
    return found


def file_states(connection: Connection, file_id: str) -> tuple[str | None, str | None, str | None]:
    """Return the hash of a file's content, and the state and note of its download."""
    row = connection.execute(
        "SELECT f.sha256, w.state, w.note FROM (SELECT ? AS id) q LEFT JOIN files f USING (id) "
        "LEFT JOIN work w ON w.kind = 'file' AND w.eval_id = '' AND w.run_id = '' AND w.id = q.id",
        (file_id,),
    ).fetchone()
    return row[0], row[1], row[2]


async def check_runs(database: Database, report: VerifyReport, sizes: Mapping[str, int]) -> None:
    """Check that every run has as many items as it counts, and all files that it refers to."""
    last = await database.call(ledger.last_pass)
    selection = Selection() if last is None else Selection.of(last.selection)
    seen: set[str] = set()
    after = ("", "")
    while batch := await database.call(runs_after, after):
        for eval_id, run_id, text, state in batch:
            try:
                run = as_object(_json.parse(text.encode())) or {}
            except NotJSON:
                continue  # `check_objects` has reported it
            if state is not None:
                if not has_ended(run):
                    words = f"the run was {run.get('status')} when its items were read: export again"
                    report.note(f"items of {eval_id}/{run_id}", words)
                await check_counts(database, report, (eval_id, run_id), run)
            elif selection.items and not selection.narrow:
                report.find(f"items of {eval_id}/{run_id}", "no export has read them")
            chosen = state is not None or not selection.narrow
            for file_id in file_ids(run) if selection.files and chosen else ():
                if file_id not in seen:
                    seen.add(file_id)
                    await check_file(database, report, file_id, sizes)
        after = batch[-1][:2]
    report.checked["referenced_files"] = len(seen)


async def check_counts(database: Database, report: VerifyReport, key: tuple[str, str], run: JSONObject) -> None:
    statuses, gone = await database.call(items_of, key)
    total, here = counted(run), sum(statuses.values())
    what = f"items of {'/'.join(key)}"
    if total is not None and total not in (here, here - gone):
        add = report.find if run.get("status") == "completed" else report.note
        add(what, f"the run ({run.get('status')}) counts {total}, the archive has {here}")
    elif not gone and statuses and statuses.keys() <= OUTCOMES.keys():
        for status, name in OUTCOMES.items():
            number = counted(run, name)
            if number is not None and number != statuses.get(status, 0):
                report.note(what, f"the run counts {number} {name}, {statuses.get(status, 0)} have the status {status}")


async def check_file(database: Database, report: VerifyReport, file_id: str, sizes: Mapping[str, int]) -> None:
    sha256, state, why = await database.call(file_states, file_id)
    if sha256 is not None and sha256 not in sizes:
        report.find(f"file {file_id}", "its content is missing")
    elif sha256 is None and state == "refused":
        report.note(f"file {file_id}", f"the server did not return it: {why}")
    elif sha256 is None:
        report.find(f"file {file_id}", why or "its content was not read")


async def check_work(database: Database, report: VerifyReport) -> None:
    """Check that nothing is unfinished, also of passes before the last one."""
    last = await database.call(ledger.last_pass)
    if last is None:
        report.note("the archive", "nothing was exported into it")
        return
    for each in await database.call(unfinished, None):
        if each.state != "short":  # `check_counts` has counted its items, and `check_sizes` its bytes
            report.find(each.what, f"{each.state}: {each.why}")
    if last.ended is None:
        report.find("the last export", "it was interrupted: run it again")
    for kind, number in (await database.call(ledger.missing)).items():
        if number:
            report.note(kind.replace("_", " "), f"{number} are no longer on the server, but kept in the archive")


# --- the manifest ---------------------------------------------------------------------------------------------------


def pass_list(connection: Connection) -> list[dict[str, object]]:
    names = ("number", "server", "selection", "tool", "began", "ended", "outcome", "origin")
    rows = connection.execute(f"SELECT {', '.join(names)} FROM passes ORDER BY number").fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


async def manifest(
    database: Database, report: VerifyReport, digests: Mapping[str, object], now: float
) -> dict[str, object]:
    """Return the manifest as JSON: counts, hashes, times, versions, and findings."""
    last = await database.call(ledger.last_pass)
    refused = [] if last is None else await database.call(ledger.work_in, last.number, ("refused",))
    return {
        "format": MANIFEST_FORMAT,
        "tool": f"evals-async {version('evals-async')}",
        "written": now,
        "hashes_of": "canonical JSON: sorted keys, no spaces, ASCII; lists: lines of key and hash, sorted by key",
        "passes": await database.call(pass_list),
        "counts": dict(report.checked),
        "missing_on_server": dict(await database.call(ledger.missing)),
        "sha256": dict(digests),
        "unfinished": [attrs.asdict(finding) for finding in report.findings],
        "notes": [attrs.asdict(note) for note in report.notes],
        "refused_files": {work.id: work.note for work in refused},
    }
