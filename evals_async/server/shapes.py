"""The objects as the service shapes them: evals, runs, output items, files, and their ids.

Pure functions from checked requests to JSON objects, nulls and server-made fields included. The forms were taken from
captured answers, not from the specification, where the two differ. Nothing here reads the store.
"""

import hashlib
import itertools
import string
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from evals_async._json import JSONObject, as_array, as_object, canonical


BASE_62 = (
    string.digits + string.ascii_uppercase + string.ascii_lowercase
)  # in the order of their codes, as ids are compared
FILE_ID_LENGTH = 22

NO_COUNTS: Mapping[str, object] = {"total": 0, "errored": 0, "failed": 0, "passed": 0}

# What an eval with include_sample_schema is given for the sample of a model.
FUNCTION_CALL: Mapping[str, object] = {
    "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
    "required": ["name", "arguments"],
}
TOOL_CALL: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["function"]},
        "function": {"type": "object", **FUNCTION_CALL},
        "id": {"type": "string"},
    },
    "required": ["type", "function", "id"],
}
MESSAGE: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "role": {"type": "string", "enum": ["assistant"]},
        "content": {"type": ["string", "null"]},
        "refusal": {"type": ["boolean", "null"]},
        "tool_calls": {"type": ["array", "null"], "items": TOOL_CALL},
        "function_call": {"type": ["object", "null"], **FUNCTION_CALL},
    },
    "required": ["role"],
}
SAMPLE_SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"message": MESSAGE, "finish_reason": {"type": "string"}},
                "required": ["index", "message", "finish_reason"],
            },
        },
        "output_text": {"type": "string"},
        "output_json": {"type": "object"},
        "output_tools": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "choices"],
}


class TimeAndChance(Protocol):
    """As much of a `Clock` as new objects need."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def random(self) -> float:
        """A number drawn evenly from [0, 1)."""
        ...


class Ids:
    """New ids: like the service's they begin with the second in which they were made, and those of one server grow."""

    def __init__(self, clock: TimeAndChance, made: int = 0) -> None:
        self.clock = clock
        self.numbers = itertools.count(made + 1)  # safe to be used by several threads

    def next_hex(self) -> str:
        number = next(self.numbers)
        digest = hashlib.sha256(f"{number}:{self.clock.random()}".encode()).hexdigest()
        return f"{int(self.clock.time()):08x}{number:08x}{digest[:16]}"

    def new(self, prefix: str) -> str:
        """An id like `eval_6813e12300000001…`."""
        return f"{prefix}_{self.next_hex()}"

    def file(self) -> str:
        """An id like `file-EsrvPZ76WpsACkuVkyWoPq`."""
        rest = int(self.next_hex(), 16)
        letters: list[str] = []
        for _ in range(FILE_ID_LENGTH):
            rest, digit = divmod(rest, 62)
            letters.append(BASE_62[digit])
        return "file-" + "".join(reversed(letters))

    def uuid4(self) -> str:
        """A random UUID, as the ids of testing criteria end with."""
        digest = hashlib.sha256(f"uuid:{self.next_hex()}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))


def wrapped_schema(config: Mapping[str, object]) -> dict[str, object]:
    """The schema of an eval's rows, with the item's schema inside, as the service echoes it."""
    if config["type"] != "custom":
        either: object = {"type": "object"}
        return {"type": "object", "properties": {"item": either, "sample": either}, "required": ["item", "sample"]}
    properties: dict[str, object] = {"item": config["item_schema"]}
    if config.get("include_sample_schema"):
        properties["sample"] = SAMPLE_SCHEMA
    return {"type": "object", "properties": properties, "required": list(properties)}


def config_echo(config: Mapping[str, object]) -> dict[str, object]:
    """A data source config as it comes back: without `item_schema` and `include_sample_schema`, with `schema`."""
    echo = {key: value for key, value in config.items() if key not in ("item_schema", "include_sample_schema")}
    return {**echo, "schema": wrapped_schema(config)}


def normal_messages(messages: object) -> list[object]:
    """Messages as the service echoes them: typed, and plain text as an `input_text` part."""
    normal: list[object] = []
    for message in map(as_object, as_array(messages) or ()):
        content = message.get("content") if message else None
        part: object = {"type": "input_text", "text": content} if isinstance(content, str) else content
        normal.append({"type": "message", **(message or {}), "content": part})
    return normal


def criterion_echo(ids: Ids, grader: Mapping[str, object]) -> dict[str, object]:
    """A testing criterion as it comes back: with an id, and messages normalised."""
    echo: dict[str, object] = {"name": grader["name"], "id": f"{grader['name']}-{ids.uuid4()}", **grader}
    if grader["type"] in ("label_model", "score_model"):
        echo["input"] = normal_messages(grader["input"])
    if grader["type"] == "label_model":
        echo.setdefault("sampling_params", None)
    return echo


def new_eval(ids: Ids, request: Mapping[str, object], graders: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The eval that a checked request makes."""
    return {
        "object": "eval",
        "id": ids.new("eval"),
        "data_source_config": config_echo(as_object(request["data_source_config"]) or {}),
        "testing_criteria": [criterion_echo(ids, grader) for grader in graders],
        "name": request.get("name") or "",
        "created_at": int(ids.clock.time()),
        "metadata": request.get("metadata") or {},
    }


def source_echo(source: Mapping[str, object]) -> dict[str, object]:
    """A run's data source as it comes back."""
    echo = dict(source)
    template = as_object(source.get("input_messages"))
    if source["type"] == "completions" and template and "template" in template:
        echo["input_messages"] = {**template, "template": normal_messages(template["template"])}
    if source["type"] != "jsonl":
        echo.setdefault("sampling_params", None)
    return echo


def new_run(ids: Ids, eval_id: str, request: Mapping[str, object], base_url: str) -> dict[str, object]:
    """The run that a checked request makes: queued, and nothing counted."""
    source = as_object(request["data_source"]) or {}
    run_id = ids.new("evalrun")
    return {
        "object": "eval.run",
        "id": run_id,
        "eval_id": eval_id,
        "report_url": f"{base_url}/evals/{eval_id}/runs/{run_id}",  # a page for browsers, the run for programs
        "status": "queued",
        "model": source.get("model"),
        "name": request.get("name"),
        "created_at": int(ids.clock.time()),
        "result_counts": dict(NO_COUNTS),
        "per_model_usage": None,
        "per_testing_criteria_results": None,
        "data_source": source_echo(source),
        "error": None,
        "metadata": request.get("metadata") or {},
        "shared_with_openai": False,
    }


def new_file(ids: Ids, *, filename: str, purpose: str, size: int, expires_in: int | None) -> dict[str, object]:
    """The file that an upload makes."""
    created_at = int(ids.clock.time())
    return {
        "object": "file",
        "id": ids.file(),
        "purpose": purpose,
        "filename": filename,
        "bytes": size,
        "created_at": created_at,
        "expires_at": None if expires_in is None else created_at + expires_in,
        "status": "processed",
        "status_details": None,
    }


def content_hash(item: JSONObject) -> str:
    """The `_datasource_item_content_hash` of a row."""
    return hashlib.sha256(canonical(item)).hexdigest()
