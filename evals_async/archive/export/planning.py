"""What an export has to read: the first work of a pass, and the work that follows from each object."""

from collections.abc import Iterator, Sequence

from evals_async._json import JSONObject
from evals_async._store import Kind
from evals_async.archive.export.ledger import Work
from evals_async.archive.export.listing_page import ListingPage, counted, created, file_ids, has_ended
from evals_async.archive.values import Selection


def roots(selection: Selection) -> list[Work]:
    """Return the first work of a pass; all other work follows from the objects that are read."""
    works = [Work(kind="eval", eval_id=eval_id) for eval_id in selection.evals] or [Work(kind="evals")]
    if selection.files and not selection.narrow:
        works.append(Work(kind="files"))
    return works


def work_of_page(kind: Kind, page: ListingPage, selection: Selection) -> Iterator[Work]:
    """Yield the work that follows from the objects of a page."""
    for row, body in zip(page.rows, page.bodies, strict=True):
        if kind == "evals":
            yield Work(kind="runs", eval_id=row.key[0])
        elif kind == "runs":
            yield from work_of_run(row.key, body, selection)
        elif kind == "files":
            yield Work(kind="file", id=row.key[0], final=True)


def work_of_run(key: Sequence[str], run: JSONObject, selection: Selection) -> Iterator[Work]:
    eval_id, run_id = key
    if selection.since is not None and (created(run) or 0) < selection.since:
        return
    if selection.items:
        # Items are final only if the run had ended before they were listed. Only a completed run has a final count.
        expected = counted(run) if run.get("status") == "completed" else None
        yield Work(kind="output_items", eval_id=eval_id, run_id=run_id, final=has_ended(run), expected=expected)
    if selection.files:
        yield from (Work(kind="file", id=file_id, final=True) for file_id in file_ids(run))
