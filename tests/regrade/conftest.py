"""An archive whose service graded by known rules: exact checks, a similarity of another variant, a judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.server import LocalServer


EVAL = "eval_regraded"
ROWS = 20
WORDS = ("Hardware", "Software", "Other", "hard ware", "Hardware!")
UUIDS = [f"{n}1111111-1111-4111-8111-111111111111" for n in range(3)]
EXACT, CLOSE, JUDGE = (f"{name}-{uuid}" for name, uuid in zip(("Exact", "Close", "Judge"), UUIDS, strict=True))
CRITERIA: list[dict[str, Any]] = [
    {
        "type": "string_check",
        "name": "Exact",
        "id": EXACT,
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.expected }}",
        "operation": "eq",
    },
    {
        "type": "text_similarity",
        "name": "Close",
        "id": CLOSE,
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.expected }}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.8,
    },
    {
        "type": "score_model",
        "name": "Judge",
        "id": JUDGE,
        "model": "judge",
        "input": [{"role": "user", "content": "Score {{ sample.output_text }}"}],
        "range": [0, 1],
        "pass_threshold": 0.5,
    },
]


def item_of(number: int) -> dict[str, Any]:
    """An item as the service graded it: its fuzzy match is rapidfuzz's plain ratio; every tenth item is an error."""
    from rapidfuzz import fuzz

    answer, expected = WORDS[number % 5], "Hardware"
    error = {"code": "rate_limited", "message": "too many"} if number % 10 == 9 else None
    ratio = fuzz.ratio(answer, expected) / 100
    score = 0.9 if number % 5 == 0 else 0.2
    judged: dict[str, Any] = {"steps": [], "result": score}
    sample = {
        "output": [{"role": "assistant", "content": json.dumps(judged)}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
    }
    results: list[dict[str, Any]] = [
        {"name": EXACT, "passed": answer == expected, "score": float(answer == expected), "sample": None},
        {"name": CLOSE, "passed": ratio >= 0.8, "score": ratio, "sample": None},
        {"name": JUDGE, "passed": score >= 0.5, "score": score, "sample": sample},
    ]
    return {
        "object": "eval.run.output_item",
        "id": f"item_{number:04}",
        "run_id": "evalrun_1",
        "eval_id": EVAL,
        "created_at": number,
        "status": "error" if error else "pass" if all(result["passed"] for result in results) else "fail",
        "datasource_item_id": number,
        "datasource_item": {"expected": expected, "n": number},
        "results": [] if error else results,
        "sample": {"output": [] if error else [{"role": "assistant", "content": answer}], "error": error},
    }


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """The archive, exported from a server."""
    path = tmp_path / "evals.db"
    async with LocalServer() as server:
        await server.seed(
            evals=[{"object": "eval", "id": EVAL, "name": "Regraded", "created_at": 1, "testing_criteria": CRITERIA}],
            runs=[{"object": "eval.run", "id": "evalrun_1", "eval_id": EVAL, "status": "completed", "created_at": 1}],
            output_items=[item_of(number) for number in range(ROWS)],
        )
        async with EvalsClient(base_url=server.base_url, api_key="k") as client, Archive.open(path) as archive:
            await archive.export(client)
    return path
