"""`report`: write the page of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import evals_async
from evals_async.cli import output
from evals_async.cli.actions.runs import ItemCounter, RunArgument, RunReader
from evals_async.cli.groups import ConnectionOptions
from evals_async.cli.text import percent, plural


if TYPE_CHECKING:
    pass


async def report_run(terms: ConnectionOptions, place: RunArgument, file: Path, most_items: int) -> None:
    """Write the page of a run, and print its pass rate."""
    from evals_async.report import write_report

    async with RunReader(terms) as reader:
        run = await reader.run(place)
        evaluation = await reader.evaluation(place, run)
        with output.progress("reading items", transient=True) as update:
            counter = ItemCounter(update)

            async def items() -> AsyncIterator[evals_async.OutputItem]:
                async for item in reader.items(place, run):
                    counter()
                    yield item

            facts = await write_report(file, run, items(), evaluation, most_items=most_items)
    output.note(f"{plural(facts.items, 'item')}, {percent(facts.rate)} of the graded ones passed")
    output.say(str(file))
