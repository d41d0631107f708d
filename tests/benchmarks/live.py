"""Bodies in the shapes that Azure and Foundry send: runs, and pages of a hundred output items of each kind.

Written for the benchmark, as those of `canned`; the fields and their order are those of the services.
"""

import json
from typing import Any

from benchmarks import canned
from benchmarks.canned import text


UUID = "0b7c3a51-6d1e-4f0a-9c2b-5a1d3e7f9b60"
JUDGE = "gpt-5-mini-2025-08-07"


def row(number: int) -> dict[str, Any]:
    review = f"Parcel {number} came a day early, and the hinge of the lid squeaks when it is opened."
    return {"id": number, "review": review, "topic": "delivery", "draft": "quality", "row_id": f"row-{number}"}


ROWS = {"type": "file_content", "content": [{"item": row(number)} for number in range(3)]}


def usage(model: str) -> dict[str, Any]:
    tokens = {"prompt_tokens": 1596, "completion_tokens": 1962, "total_tokens": 3558, "cached_tokens": 0}
    return {"model_name": model, "invocation_count": 12, **tokens}


AZURE_RUN = text(
    {
        "id": "evalrun_6ab90000000000000000000000000001",
        "object": "eval.run",
        "created_at": 1_790_000_003,
        "status": "completed",
        "data_source": {"type": "jsonl", "source": ROWS},
        "error": None,
        "eval_id": "eval_6ab90000000000000000000000000001",
        "model": None,
        "name": "review-topics",
        "per_model_usage": [{**usage(JUDGE), "deployment_name": "gpt-5-mini"}],
        "per_testing_criteria_results": [
            {
                "failed": 1,
                "passed": 11,
                "testing_criteria": f"topic-audit-{UUID}",
                "testing_criteria_id": f"topic-audit-{UUID}",
            }
        ],
        "report_url": "https://evals.example/",
        "result_counts": {"errored": 0, "failed": 1, "passed": 11, "total": 12},
        "shared_with_openai": False,
        "metadata": {},
    }
)


def template(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": {"type": "input_text", "text": content}, "type": "message"}


FOUNDRY_RUN = text(
    {
        "object": "eval.run",
        "created_at": 1_790_000_100,
        "modified_at": 1_790_000_152,
        "duration": "PT52.1792726S",
        "created_by": "a.tester",
        "id": "evalrun_7bec0001",
        "eval_id": "eval_eb5d0001",
        "status": "completed",
        "model": None,
        "data_source": {
            "type": "azure_ai_target_completions",
            "input_messages": {
                "type": "template",
                "template": [
                    template("developer", "Name the topic of the review in one lowercase word."),
                    template("user", "{{item.review}}"),
                ],
            },
            "source": ROWS,
            "target": {
                "type": "azure_ai_model",
                "model": "gpt-5-nano",
                "resolved_model": "gpt-5-nano",
                "sampling_params": None,
            },
            "item_generation_params": {"type": "target_completions", "max_concurrency": 1},
        },
        "metadata": {"trigger_type": "oneoff"},
        "properties": {
            "eval_id": "eval_eb5d0001",
            "runType": "eval_run",
            "DataSourceType": "TargetCompletions",
            "TargetType": "AzureAIModel",
        },
        "name": "defined-prompt",
        "report_url": "https://evals.example/",
        "result_counts": {"total": 12, "passed": 11, "failed": 1, "errored": 0, "skipped": 0},
        "per_model_usage": [usage("gpt-5-nano"), usage("azure_ai_model_target")],
        "latency": {"target": {"p50_ms": 1605.93, "p95_ms": 3102.96, "sample_count": 12}},
        "estimated_cost": {
            "target": {
                "estimated_cost": 0.00075,
                "currency": "USD",
                "completeness": "complete",
                "pricing_version": "e2a04cda",
                "model_costs": [
                    {
                        "model_name": "gpt-5-nano",
                        "estimated_cost": 0.00075,
                        "prompt_tokens": 1146,
                        "cached_tokens": 0,
                        "completion_tokens": 1731,
                    }
                ],
            }
        },
        "per_testing_criteria_results": [
            {"testing_criteria": "topic-match", "passed": 11, "failed": 1, "errored": 0, "skipped": 0}
        ],
        "error": None,
    }
)


def judged(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """What a judge was asked and said."""
    return {
        "input": [{"role": "user", "content": question}],
        "output": [{"role": "assistant", "content": answer}],
        "finish_reason": "stop",
        "model": JUDGE,
        **more,
    }


def label_item(number: int) -> dict[str, Any]:
    steps = [
        {"description": "Look for the topic that is meant.", "conclusion": "It is the delivery."},
        {"description": "Compare the two topics.", "conclusion": "They are not the same."},
    ]
    tokens = {"total_tokens": 471, "completion_tokens": 338, "prompt_tokens": 133, "cached_tokens": 0}
    question = f"The topic is delivery. The proposed one of row {number} is quality. Answer match or mismatch."
    answer = json.dumps({"steps": steps, "result": "mismatch"})
    sample = judged(question, answer, usage=tokens, error=None, temperature=1.0, top_p=1.0)
    return {
        "id": f"outputitem_6ab9{number:028}",
        "object": "eval.run.output_item",
        "created_at": 1_790_000_016,
        "status": "fail",
        "_datasource_item_content_hash": f"{number:064x}",
        "available_includes": [],
        "datasource_item": row(number),
        "datasource_item_id": number,
        "eval_id": "eval_6ab90000000000000000000000000001",
        "results": [{"name": f"topic-audit-{UUID}", "score": 0.0, "passed": False, "sample": sample}],
        "run_id": "evalrun_6ab90000000000000000000000000001",
        "sample": None,
    }


def foundry_item(number: int, rows: dict[str, Any], results: list[Any], sample: dict[str, Any]) -> dict[str, Any]:
    return {
        "object": "eval.run.output_item",
        "id": str(number),
        "run_id": "evalrun_7bec0001",
        "eval_id": "eval_eb5d0001",
        "created_at": 1_790_000_143,
        "status": "completed",
        "datasource_item_id": number,
        "datasource_item": rows,
        "results": results,
        "sample": sample,
    }


def parts(content: str) -> str:
    return json.dumps([{"type": "input_text", "text": content}])


def target_sample(messages: list[Any], answer: str, **more: Any) -> dict[str, Any]:
    return {
        "error": None,
        "finish_reason": "",
        "input": messages,
        "max_completion_tokens": None,
        "model": "gpt-5-nano",
        "output": [{"role": "assistant", "content": answer}],
        "seed": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": {"cached_tokens": None, "completion_tokens": 120, "prompt_tokens": 97, "total_tokens": 217},
        **more,
    }


def target_item(number: int) -> dict[str, Any]:
    result = {
        "type": "string_check",
        "name": "topic-match",
        "metric": "topic-match",
        "score": 1,
        "label": "pass",
        "reason": None,
        "threshold": None,
        "passed": True,
        "status": "completed",
    }
    messages = [
        {"role": "developer", "content": parts("Name the topic of the review in one lowercase word.")},
        {"role": "user", "content": parts(row(number)["review"])},
    ]
    rows = {**row(number), "sample.output_text": "delivery"}
    return foundry_item(number, rows, [result], target_sample(messages, "delivery", latency_ms=1933.34))


def evaluator_result(name: str, metric: str, score: int) -> dict[str, Any]:
    tokens = {"prompt_tokens": 1450, "completion_tokens": 789, "total_tokens": 2239}
    question = json.dumps({"system_message": "", "query": "When do you open?", "response": "At nine."})
    answer = json.dumps({"reason": "The user asked when the shop opens and was told.", "score": score})
    return {
        "type": "azure_ai_evaluator",
        "name": name,
        "metric": metric,
        "score": score,
        "label": "pass",
        "reason": "The user asked when the shop opens and was told.",
        "threshold": 0,
        "passed": True,
        "status": "completed",
        "sample": {"usage": tokens, **judged(question, answer)},
        "properties": {**tokens, "finish_reason": "stop", "model": JUDGE},
    }


def agent_item(number: int) -> dict[str, Any]:
    said: list[Any] = [{"annotations": [], "text": "At nine.", "type": "output_text", "logprobs": []}]
    rows: dict[str, Any] = {
        "instructions": "You answer questions about the shop.",
        "query": "When do you open?",
        "query_messages": [{"role": "user", "content": "When do you open?"}],
        "sample.output_text": "At nine.",
        "response_id": f"resp_{number:08}",
        "agent_id": "shop-help:1",
        "agent_name": "shop-help",
        "agent_version": "1",
        "conversation_id": f"conv_{number:08}",
        "previous_response_id": None,
        "sample.tool_calls": [],
        "sample.tool_definitions": [],
        "sample.output_items": [{"role": "assistant", "content": said}],
        "trace_id": "",
        "span_id": "",
    }
    results = [
        evaluator_result("task_adherence_user_query", "task_adherence", 1),
        evaluator_result("task_adherence_with_instructions", "task_adherence", 1),
        evaluator_result("intent_resolution", "intent_resolution", 5),
    ]
    sample = target_sample([{"role": "user", "content": parts("When do you open?")}], json.dumps(said))
    return foundry_item(number, rows, results, sample)


LABEL_PAGE = text({"object": "list", "data": [label_item(number) for number in range(100)]})
TARGET_PAGE = text({"data": [target_item(number) for number in range(100)]})
AGENT_PAGE = text({"data": [agent_item(number) for number in range(100)]})


def with_ids(body: bytes) -> bytes:
    """The same body about the benchmark's run and eval, so that a server can fill another run's id in."""
    value: dict[str, Any] = json.loads(body)
    if "data" not in value:
        value |= {"id": canned.RUN_ID, "eval_id": canned.EVAL_ID}
    for item in value.get("data", ()):
        item |= {"run_id": canned.RUN_ID, "eval_id": canned.EVAL_ID}
    return text(value if "data" not in value else {"has_more": False, **value})
