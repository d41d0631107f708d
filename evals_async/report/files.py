"""One file for a run, or for a comparison: made from items as they come, wherever they come from."""

from collections.abc import AsyncIterable, Iterable
from pathlib import Path

from evals_async.models import Eval, EvalRun, OutputItem
from evals_async.report.facts import RunFacts
from evals_async.report.items import ItemView, item_view
from evals_async.report.pages import Paging, RunPage, run_page


MOST_ITEMS = 1000  # in one file; a browser opens that in a moment


class Chosen:
    """The items that a file shows: all of them, or if they are too many, errors and failures before passes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen = 0
        self._first: list[tuple[int, ItemView]] = []
        self._rest: list[tuple[int, ItemView]] = []

    def add(self, item: OutputItem) -> None:
        """Take in one item; it is only looked at closely while there is room for it."""
        self.seen += 1
        kept = self._rest if item.passed and not item.is_error else self._first
        if len(kept) < self.most:
            kept.append((self.seen, item_view(item)))

    def views(self) -> list[ItemView]:
        """The chosen items, by their place in the data source."""
        chosen = [*self._first, *self._rest[: max(0, self.most - len(self._first))]]
        return [view for _, view in sorted(chosen, key=lambda entry: (place_key(entry[1]), entry[0]))]


def place_key(view: ItemView) -> tuple[int, int]:
    return (0, int(view.place)) if view.place.isascii() and view.place.isdigit() else (1, 0)


async def write_report(
    file: Path,
    run: EvalRun,
    items: AsyncIterable[OutputItem] | Iterable[OutputItem],
    evaluation: Eval | None = None,
    *,
    most_items: int = MOST_ITEMS,
) -> RunFacts:
    """Write the page of a run as one file that needs nothing else. Returns the facts of the run.

    The facts are those of all items; of more than `most_items` the page lists errors and failures first. Raises
    `MissingExtra` without Jinja2, and `OSError`.
    """
    facts, chosen = RunFacts(run), Chosen(most_items)
    if isinstance(items, AsyncIterable):
        async for item in items:
            facts.add(item)
            chosen.add(item)
    else:
        for item in items:
            facts.add(item)
            chosen.add(item)
    views = chosen.views()
    note = f"{len(views):,} items."
    if len(views) < facts.items:
        note = f"{len(views):,} of {facts.items:,} items are in this file, errors and failures first."
    page = RunPage(mode="file", run=run, evaluation=evaluation, facts=facts, items=views, paging=Paging(note=note))
    write(file, run_page(page))
    return facts


def write(file: Path, parts: Iterable[str]) -> None:
    """Write the parts of a page into a file."""
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)
