"""Items as tests of comparisons need them: short to write."""

from collections.abc import Callable
from typing import Any

import pytest

from evals_async._codec import decode
from evals_async._json import dump
from evals_async.models import OutputItem


Make = Callable[..., OutputItem]

UUIDS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")


def made(
    number: int, *verdicts: bool | tuple[Any, ...] | None, row: Any = "same", run: int = 0, **fields: Any
) -> OutputItem:
    """The item of row `number` in run `run`. A result is a verdict, or (name, verdict), or (name, verdict, score);
    `None` as a verdict is an error of the grader.
    """
    graded: list[dict[str, Any]] = []
    for place, result in enumerate(verdicts):
        given = result if isinstance(result, tuple) else (f"criterion {place}", result)
        passed = given[1]
        entry: dict[str, Any] = {"name": f"{given[0]}-{UUIDS[0]}", "passed": passed, "score": given[-1]}
        if passed is None:
            entry |= {"score": None, "sample": {"error": {"code": "x", "message": "the judge is away"}}}
        graded.append(entry)
    passes = [entry["passed"] for entry in graded]
    body = {
        "id": f"outputitem_{run}_{number}",
        "run_id": f"evalrun_{run}",
        "datasource_item_id": number,
        "datasource_item": {"question": number} if row == "same" else row,
        "status": "error" if None in passes or not passes else "pass" if all(passes) else "fail",
        "results": graded,
        **fields,
    }
    return decode(dump(body), OutputItem)


@pytest.fixture
def item() -> Make:
    """`item(number, True, ("name", False, 0.2), run=1)`"""
    return made
