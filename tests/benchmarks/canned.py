"""The bodies of the benchmark, in the shapes that the service sends, and of fixed sizes: written once, cut into pieces
where an id is to be filled in.

A run of 1.4 KB, a run of 100 KB that repeats 300 rows of its data source, and pages of output items of 2 KB each. The
answers are made of the questions: nothing is random, so that every run of the benchmark measures the same bytes.
"""

import json
from typing import Any


EVAL_ID = "eval_5f0c2b7a9d4e4c1f8a6b3e2d1c0f9e8d"
RUN_ID = "evalrun_000000000000000000000000000000"  # as long as every other id of a run
MODEL = "gpt-4.1-2025-04-14"
NO_ERROR = {"code": None, "message": None}


def run_id(number: int) -> str:
    return f"evalrun_{number:030}"


def item_id(number: int) -> str:
    return f"outputitem_{number:030}"


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text, "tool_call_id": None, "tool_calls": None, "function_call": None}


def template(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": {"type": "input_text", "text": text}}


def run(rows: int = 0) -> dict[str, Any]:
    """A completed run; with `rows`, one that holds them."""
    row = {"item": {"question": "Which city is the seat of the government of this country? " * 4, "answer": "Lima"}}
    content = [{"item": {**row["item"], "id": f"row-{number:05}", "tags": ["geo", "easy"]}} for number in range(rows)]
    return {
        "object": "eval.run",
        "id": RUN_ID,
        "eval_id": EVAL_ID,
        "report_url": f"https://evals.example/evaluations/{EVAL_ID}?run_id={RUN_ID}",
        "status": "completed",
        "model": MODEL,
        "name": "nightly",
        "created_at": 1_751_000_500,
        "result_counts": {"total": 300, "errored": 0, "failed": 75, "passed": 225},
        "per_model_usage": [
            {
                "model_name": MODEL,
                "invocation_count": 300,
                "prompt_tokens": 24_000,
                "completion_tokens": 1_200,
                "total_tokens": 25_200,
                "cached_tokens": 0,
            }
        ],
        "per_testing_criteria_results": [
            {"testing_criteria": "Right capital-0b7c3a51-6d1e-4f0a-9c2b-5a1d3e7f9b60", "passed": 225, "failed": 75},
            {"testing_criteria": "Tone-5a1d3e7f-9b60-4f0a-9c2b-0b7c3a516d1e", "passed": 300, "failed": 0},
        ],
        "data_source": {
            "type": "completions",
            "source": {"type": "file_content", "content": content} if rows else {"type": "file_id", "id": "file-7KpQ2"},
            "input_messages": {
                "type": "template",
                "template": [template("developer", "Answer with one word."), template("user", "{{ item.question }}")],
            },
            "model": MODEL,
            "sampling_params": {"seed": 42, "temperature": 1.0, "top_p": 1.0, "max_completions_tokens": 2048},
        },
        "error": None,
        "metadata": {"team": "geo", "commit": "9b60f3c"},
        "shared_with_openai": False,
    }


def sample(question: str, answer: str) -> dict[str, Any]:
    return {
        "input": [message("developer", "Answer with one word, without any punctuation."), message("user", question)],
        "output": [message("assistant", answer)],
        "finish_reason": "stop",
        "model": MODEL,
        "usage": {"total_tokens": 63, "completion_tokens": 3, "prompt_tokens": 60, "cached_tokens": 0},
        "error": NO_ERROR,
        "temperature": 1.0,
        "max_completions_tokens": 2048,
        "top_p": 1.0,
        "seed": 42,
    }


def item(number: int) -> dict[str, Any]:
    """An output item with two results; the second grader is a model, and shows its conversation."""
    question = f"Question {number}: which city is the seat of the government of this country, and since which year?"
    return {
        "object": "eval.run.output_item",
        "id": item_id(number),
        "created_at": 1_751_000_530,
        "run_id": RUN_ID,
        "eval_id": EVAL_ID,
        "status": "pass" if number % 4 else "fail",
        "datasource_item_id": number,
        "datasource_item": {"question": question, "answer": "Lima", "tags": ["geo", "easy"]},
        "results": [
            {"name": "Right capital-0b7c3a51", "sample": None, "passed": number % 4 > 0, "score": 1.0},
            {
                "name": "Tone-5a1d3e7f",
                "type": "score_model",
                "sample": sample(f"How polite is this answer, from 0 to 1? {question}", '{"steps": [], "result": 0.9}'),
                "passed": True,
                "score": 0.9,
            },
        ],
        "sample": sample(question, "Lima"),
    }


def page(number: int, size: int, has_more: bool) -> dict[str, Any]:
    """The page of that number of a listing of output items, `size` items to a page."""
    items = [item(number * size + place) for place in range(size)]
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"],
        "last_id": items[-1]["id"],
        "has_more": has_more,
    }


def text(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


SMALL = text(run())
LARGE = text(run(rows=300))
PAGE = text(page(0, 100, has_more=True))


def page_of(megabytes: float) -> bytes:
    """A page of about that size."""
    size = round(megabytes * 1_000_000 / (len(PAGE) / 100))
    return text(page(0, size, has_more=False))
