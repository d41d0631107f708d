"""Sample data for demonstrations, documentation and benchmarks: evals, runs, output items and files.

A seeded random generator makes them, in the form of the service's responses. The same arguments give the same bytes.
The outputs of models and judges are invented. String checks, counts and sums are computed from the items. This module
does no I/O.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypedDict

import attrs

from evals_async._json import JSONObject, as_array, as_object
from evals_async._store import json_text
from evals_async.server.execution.items import error_result
from evals_async.server.execution.sums import counted, sums_of_items
from evals_async.server.shapes import Ids, content_hash, new_eval, new_file, new_run
from evals_async.server.themes import JUDGE, THEMES, Theme


BEGINNING = 1_746_133_200  # 1 May 2025
DAY = 86_400
MODELS: Mapping[str, str] = {
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "o4-mini": "o4-mini-2025-04-16",
}
SKILL: Mapping[str, float] = {
    "gpt-4.1": 0.93,
    "gpt-4.1-mini": 0.86,
    "gpt-4o-mini": 0.78,
    "o4-mini": 0.9,
}  # fraction of correct outputs
BASE_URL = "https://evals.example/v1"  # the base of the report URLs

AGREEMENT = 0.95  # fraction of judgements that agree with the expected output


class SampleTree(TypedDict):
    """Raw JSON objects by kind, and the bytes of the files: the arguments of `LocalServer.seed`."""

    evals: list[JSONObject]
    runs: list[JSONObject]
    output_items: list[JSONObject]
    files: list[JSONObject]
    contents: dict[str, bytes]


class Stepped:
    """The clock for the ids. Its time is set by assignment, and its random numbers are seeded."""

    def __init__(self, seed: int) -> None:
        self.now = BEGINNING
        self.dice = random.Random(seed)

    def time(self) -> float:
        return self.now

    def random(self) -> float:
        return self.dice.random()


@attrs.frozen
class SampleMaker:
    """The options and the random generator of the sample."""

    clock: Stepped
    ids: Ids

    @property
    def dice(self) -> random.Random:
        return self.clock.dice


def eval_of(make: SampleMaker, theme: Theme) -> dict[str, object]:
    schema: JSONObject = {
        "type": "object",
        "properties": {theme.field: {"type": "string"}, "expected": {"type": "string"}},
        "required": [theme.field, "expected"],
    }
    config: JSONObject = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    return new_eval(make.ids, {"name": theme.name, "data_source_config": config}, theme.graders)


def file_of(make: SampleMaker, theme: Theme) -> tuple[dict[str, object], bytes]:
    data = "".join(json_text({"item": item}) + "\n" for item in theme.items).encode()
    filename = theme.name.lower().replace(" ", "-") + ".jsonl"
    return new_file(make.ids, filename=filename, purpose="evals", size=len(data), expires_in=None), data


def answer_of(make: SampleMaker, theme: Theme, expected: str, model: str) -> str:
    """Return the output of a model. Its skill is the probability that the output is correct."""
    if make.dice.random() < SKILL[model]:
        if theme.name == "Tone of replies":
            return (
                f"Thank you for telling us about the {expected}, and sorry for the trouble. We are looking into it now."
            )
        return expected if theme.name == "IT ticket routing" else f"{expected}."
    return make.dice.choice([other for _, other in theme.rows if other != expected])


def judgement(make: SampleMaker, answer: str, passed: bool) -> dict[str, object]:
    """Return the `sample` of a score model's result, with the explanation as JSON text."""
    score = round(make.dice.uniform(0.7, 1.0) if passed else make.dice.uniform(0.0, 0.6), 2)
    conclusion = "It says what it should." if passed else "It misses what was asked for."
    verdict = {
        "steps": [{"description": "Compare the answer with the task.", "conclusion": conclusion}],
        "result": score,
    }
    prompt, completion = make.dice.randint(120, 400), make.dice.randint(40, 160)
    return {
        "input": [{"role": "system", "content": "Score the answer."}, {"role": "user", "content": answer}],
        "output": [{"role": "assistant", "content": json_text(verdict)}],
        "finish_reason": "stop",
        "model": MODELS[JUDGE],
        "usage": usage(prompt, completion),
        "error": None,
        "seed": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completions_tokens": 4096,
        "score": score,
    }


def usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens": prompt,
        "cached_tokens": 0,
    }


def result_of(make: SampleMaker, grader: JSONObject, item: JSONObject, answer: str) -> dict[str, object]:
    """Return one result. String checks are computed. Other graders agree with them for most outputs."""
    if grader["type"] == "string_check":
        from evals_async.grading.graders import string_check

        exact, passed = string_check(grader, {"item": item, "sample": {"output_text": answer}})
        return {"name": grader["id"], "sample": None, "passed": passed, "score": exact}
    right = (str(item["expected"]).lower() in answer.lower()) == (make.dice.random() < AGREEMENT)
    if grader["type"] == "score_model":
        sample = judgement(make, answer, right)
        score = sample.pop("score")
        return {"name": grader["id"], "sample": sample, "passed": right, "score": score}
    score = round(make.dice.uniform(0.85, 1.0) if right else make.dice.uniform(0.1, 0.7), 4)
    return {"name": grader["id"], "sample": None, "passed": right, "score": score}


def item_of(
    make: SampleMaker, run: JSONObject, theme: Theme, graders: Sequence[JSONObject], number: int
) -> dict[str, object]:
    """Return one output item. About one in sixty is a sampling error."""
    item = theme.items[number % len(theme.rows)]
    model = str(run["model"])
    errored = make.dice.random() < 1 / 60
    answer = answer_of(make, theme, str(item["expected"]), model)
    error = {"code": "rate_limit_exceeded", "message": "The model's rate limit was reached too often."}
    results = [error_result(grader, error) if errored else result_of(make, grader, item, answer) for grader in graders]
    return {
        "object": "eval.run.output_item",
        "id": make.ids.new("outputitem"),
        "created_at": make.clock.now,
        "run_id": run["id"],
        "eval_id": run["eval_id"],
        "status": "error" if errored else "pass" if all(result["passed"] for result in results) else "fail",
        "datasource_item_id": number,
        "datasource_item": item,
        "results": results,
        "sample": {
            "input": [{"role": "developer", "content": theme.prompt}, {"role": "user", "content": item[theme.field]}],
            "output": [{"role": "assistant", "content": "" if errored else answer}],
            "finish_reason": "error" if errored else "stop",
            "model": MODELS[model],
            "usage": usage(0, 0) if errored else usage(make.dice.randint(50, 120), make.dice.randint(2, 60)),
            "error": error if errored else None,
            "temperature": 1.0,
            "max_completion_tokens": None,
            "top_p": 1.0,
            "seed": 42,
        },
        "_datasource_item_content_hash": content_hash(item),
    }


def run_of(make: SampleMaker, parent: JSONObject, theme: Theme, file_id: str, number: int) -> dict[str, object]:
    """Return a queued run."""
    model = make.dice.choice(list(MODELS))
    template = [
        {"role": "developer", "content": theme.prompt},
        {"role": "user", "content": f"{{{{ item.{theme.field} }}}}"},
    ]
    source: JSONObject = {
        "type": "completions",
        "source": {"type": "file_id", "id": file_id},
        "input_messages": {"type": "template", "template": template},
        "model": model,
    }
    request: JSONObject = {"name": f"{theme.name} #{number} ({model})", "data_source": source}
    return new_run(make.ids, str(parent["id"]), request, BASE_URL)


def outcome_of(make: SampleMaker, number: int, count: int) -> str:
    """Return the status of a run. The last two runs have not ended."""
    if count > 2 and number >= count - 2:
        return "queued" if number == count - 1 else "in_progress"
    drawn = make.dice.random()
    return "failed" if drawn < 0.04 else "canceled" if drawn < 0.07 else "completed"


def sample_tree(runs: int = 300, *, items: int = 8, seed: int = 7) -> SampleTree:
    """Make four evals with `runs` runs in total and about `items` output items in each run. The same arguments give
    the same data.

    The graders are string checks, text similarity and score models. Most runs are completed, some failed or were
    canceled, and the last ones have not ended. Some items have errors. `await server.seed(**sample_tree())` stores the
    data on a local server.
    """
    clock = Stepped(seed)
    make = SampleMaker(clock, Ids(clock))
    evals = [eval_of(make, theme) for theme in THEMES]
    uploads = [file_of(make, theme) for theme in THEMES]
    made_runs: list[JSONObject] = []
    made_items: list[JSONObject] = []
    for number in range(runs):
        clock.now += make.dice.randint(600, DAY // 2)
        which = number % len(THEMES)
        theme, parent = THEMES[which], evals[which]
        run = run_of(make, parent, theme, str(uploads[which][0]["id"]), number // len(THEMES) + 1)
        run["status"] = outcome_of(make, number, runs)
        if run["status"] == "failed":
            run["error"] = {"code": "internal_error", "message": "The eval run failed due to an internal error."}
        if run["status"] == "completed":
            made_items += complete(make, run, parent, theme, max(1, items + make.dice.randint(-2, 2)))
        made_runs.append(run)
    return {
        "evals": [*evals],
        "runs": made_runs,
        "output_items": made_items,
        "files": [body for body, _ in uploads],
        "contents": {str(body["id"]): data for body, data in uploads},
    }


def complete(
    make: SampleMaker, run: dict[str, object], parent: JSONObject, theme: Theme, count: int
) -> list[JSONObject]:
    """Return the items of a completed run, and write their sums into the run."""
    graders = [
        grader for entry in as_array(parent["testing_criteria"]) or () if (grader := as_object(entry)) is not None
    ]
    items: list[JSONObject] = [item_of(make, run, theme, graders, number) for number in range(count)]
    run.update(counted(run, sums_of_items(items), graders))
    return items
