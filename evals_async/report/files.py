"""`write_report`: write a report as one HTML file. The items may come from a service or an archive."""

from collections.abc import AsyncIterable, Iterable
from pathlib import Path

from evals_async.models import Eval, EvalRun, OutputItem
from evals_async.report.facts import RunFacts
from evals_async.report.items import ItemView, item_view
from evals_async.report.pages import Paging, RunPage, run_page


MOST_ITEMS = 1000  # in one file, so that browsers open it quickly


class ItemSelection:
    """The items that a file shows. If there are more than `most`, errors and failures come before passes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._first: list[tuple[int, ItemView]] = []
        self._rest: list[tuple[int, ItemView]] = []

    def add(self, item: OutputItem) -> None:
        """Add one item. Its view is only made if the file can still show it."""
        self.count += 1
        kept = self._rest if item.passed and not item.is_error else self._first
        if len(kept) < self.most:
            kept.append((self.count, item_view(item)))

    def views(self) -> list[ItemView]:
        """Return the selected items, ordered by their position in the data source."""
        selected = [*self._first, *self._rest[: max(0, self.most - len(self._first))]]
        return [view for _, view in sorted(selected, key=lambda entry: (position_key(entry[1]), entry[0]))]


def position_key(view: ItemView) -> tuple[int, int]:
    return (0, int(view.position)) if view.position.isascii() and view.position.isdigit() else (1, 0)


async def write_report(
    file: Path,
    run: EvalRun,
    items: AsyncIterable[OutputItem] | Iterable[OutputItem],
    evaluation: Eval | None = None,
    *,
    most_items: int = MOST_ITEMS,
) -> RunFacts:
    """Write the page of a run as one HTML file that works offline. Returns the numbers of the run.

    The numbers cover all items. The page lists at most `most_items`, errors and failures first. Raises `MissingExtra`
    without Jinja2, and `OSError` if the file cannot be written.
    """
    facts, selection = RunFacts(run), ItemSelection(most_items)
    if isinstance(items, AsyncIterable):
        async for item in items:
            facts.add(item)
            selection.add(item)
    else:
        for item in items:
            facts.add(item)
            selection.add(item)
    views = selection.views()
    note = f"{len(views):,} items."
    if len(views) < facts.items:
        note = f"{len(views):,} of {facts.items:,} items are in this file, errors and failures first."
    page = RunPage(mode="file", run=run, evaluation=evaluation, facts=facts, items=views, paging=Paging(note=note))
    write(file, run_page(page))
    return facts


def write(file: Path, parts: Iterable[str]) -> None:
    """Write the parts of a page to a file."""
    with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.writelines(parts)
