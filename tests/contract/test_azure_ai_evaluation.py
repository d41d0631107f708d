"""azure-ai-evaluation, pointed at a server that carries runs out: its table has the verdict of each row in its row."""

import asyncio
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evals_async._json import dump
from evals_async.inference import Rule, ScriptedModels, ScriptedRequest
from evals_async.server import LocalServer


def installed() -> bool:
    """Is azure-ai-evaluation there? (Its parent packages may be missing too.)"""
    try:
        return importlib.util.find_spec("azure.ai.evaluation") is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not installed(), reason="azure-ai-evaluation is not installed (group `fidelity`)")

ROWS = [{"question": f"Question {number}", "answer": "yes" if number % 3 else "no"} for number in range(30)]

# A process of its own: the library imports pandas and its tracing, and waits by sleeping.
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from azure.ai.evaluation import (
    AzureOpenAILabelGrader, AzureOpenAIScoreModelGrader, AzureOpenAIStringCheckGrader, AzureOpenAITextSimilarityGrader,
    evaluate,
)
from azure.ai.evaluation._evaluate import _evaluate_aoai
_evaluate_aoai.sleep = lambda seconds, sleep=_evaluate_aoai.sleep: sleep(0.05)

base_url, data, suffix = sys.argv[1:]
model = {"type": "openai", "base_url": base_url, "api_key": "local", "model": "gpt-4.1"}
asked = [{"role": "user", "content": "Is it yes? {{ item.answer }}"}]
graders = {
    "exact": AzureOpenAIStringCheckGrader(
        model_config=model, name="exact", input="{{ item.answer }}", reference="yes", operation="eq"
    ),
    "close": AzureOpenAITextSimilarityGrader(
        model_config=model, name="close", input="{{ item.answer }}", reference="yes",
        evaluation_metric="fuzzy_match", pass_threshold=0.9,
    ),
    "label": AzureOpenAILabelGrader(
        model_config=model, name="label", model="gpt-4.1", input=asked, labels=["good", "bad"], passing_labels=["good"]
    ),
    "score": AzureOpenAIScoreModelGrader(
        model_config=model, name="score", model="gpt-4.1", input=asked, range=[0, 1], pass_threshold=0.5
    ),
}
result = evaluate(data=data, evaluators={name + suffix: grader for name, grader in graders.items()})
print(json.dumps({"rows": result["rows"], "metrics": result["metrics"]}, default=str))
"""


LONG = "_of_a_long_name"
GRADERS = ("exact", "close", "label", "score")
VERDICTS = {"yes": ("good", 1), "no": ("bad", 0)}


def wants_label(request: ScriptedRequest) -> bool:
    """Does this judge choose a label? Then its schema has an enumeration."""
    return "enum" in dump(request.body).decode()


def judges() -> list[Rule]:
    """Both judges on both kinds of row."""
    rules: list[Rule] = []
    for answer, (label, score) in VERDICTS.items():
        asked = f"Is it yes? {answer}"
        rules += [Rule(contains=asked, when=wants_label, result=label), Rule(contains=asked, result=score)]
    return rules


def evaluated(base_url: str, data: Path, suffix: str = "") -> Any:
    """What the library makes of a run, or the end of what it complains about."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, base_url, str(data), suffix],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


async def test_its_rows_are_aligned(tmp_path: Path) -> None:
    """Thirty rows, four graders: pass rates, and for each row the results that belong to its answer."""
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    async with (
        ScriptedModels(*judges()) as models,
        LocalServer(models=models.base_url, run_concurrency=4) as server,
    ):
        result = await asyncio.to_thread(evaluated, server.base_url, data)
    assert len(result["rows"]) == len(ROWS)
    for given, row in zip(ROWS, result["rows"], strict=True):
        verdict = "pass" if given["answer"] == "yes" else "fail"
        assert row["question"] == given["question"]
        assert [row[f"outputs.{name}.{name}_result"] for name in GRADERS] == [verdict] * 4
    for name in GRADERS:
        assert result["metrics"][f"{name}.pass_rate"] == pytest.approx(20 / 30)


async def test_errored_rows_stay_in_their_place(tmp_path: Path) -> None:
    """A judge that cannot be asked about ten rows: these have no score, and the other rows have theirs.

    The graders have long names: under short ones the library (1.18) looks `passed` up in a table of true and false, and
    ends with `KeyError: None` at the first errored result, whichever server it comes from.
    """
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    broken = Rule(contains="Is it yes? no", when=wants_label, status=400, message="not today")
    async with (
        ScriptedModels(broken, *judges()) as models,
        LocalServer(models=models.base_url, run_concurrency=4) as server,
    ):
        result = await asyncio.to_thread(evaluated, server.base_url, data, LONG)
    for given, row in zip(ROWS, result["rows"], strict=True):
        right = given["answer"] == "yes"
        assert row[f"outputs.exact{LONG}.score"] == float(right)
        assert row[f"outputs.score{LONG}.score"] == float(right)
        label = row[f"outputs.label{LONG}.score"]
        assert label == 1.0 if right else math.isnan(label)  # a table's way to say that there is none
