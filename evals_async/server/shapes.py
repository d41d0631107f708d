"""New objects in the form of the service: evals, runs, output items, files, and their ids.

The functions take valid requests and return JSON objects, including nulls and fields that the server sets. Where
captured responses and the specification differ, the captured responses are followed. This module does not read the
store.
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
)  # in the order of their character codes, because ids are compared
FILE_ID_LENGTH = 22

NO_COUNTS: Mapping[str, object] = {"total": 0, "errored": 0, "failed": 0, "passed": 0}

# The schema of `sample` for an eval with include_sample_schema.
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
    """The part of `Clock` that new objects need."""

    def time(self) -> float:
        """Return the seconds since the epoch."""
        ...

    def random(self) -> float:
        """Return a uniformly distributed random number in [0, 1)."""
        ...


class Ids:
    """Makes new ids. Like the service's ids they start with the current second, and the ids of one server increase."""

    def __init__(self, clock: TimeAndChance, made: int = 0) -> None:
        self.clock = clock
        self.numbers = itertools.count(made + 1)  # thread-safe

    def next_hex(self) -> str:
        chance = int(self.clock.random() * 2**53)
        return f"{int(self.clock.time()):08x}{next(self.numbers):08x}{chance:016x}"

    def new(self, prefix: str) -> str:
        """Return an id like `eval_6813e12300000001…`."""
        return f"{prefix}_{self.next_hex()}"

    def file(self) -> str:
        """Return an id like `file-EsrvPZ76WpsACkuVkyWoPq`."""
        rest = int(self.next_hex(), 16)
        letters: list[str] = []
        for _ in range(FILE_ID_LENGTH):
            rest, digit = divmod(rest, 62)
            letters.append(BASE_62[digit])
        return "file-" + "".join(reversed(letters))

    def uuid4(self) -> str:
        """Return a random UUID, for the ids of testing criteria."""
        digest = hashlib.sha256(f"uuid:{self.next_hex()}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))


def wrapped_schema(config: Mapping[str, object]) -> dict[str, object]:
    """Return the schema of an eval's rows, which contains the schema of the item, as the service returns it."""
    if config["type"] != "custom":
        either: object = {"type": "object"}
        return {"type": "object", "properties": {"item": either, "sample": either}, "required": ["item", "sample"]}
    properties: dict[str, object] = {"item": config["item_schema"]}
    if config.get("include_sample_schema"):
        properties["sample"] = SAMPLE_SCHEMA
    return {"type": "object", "properties": properties, "required": list(properties)}


def config_echo(config: Mapping[str, object]) -> dict[str, object]:
    """Return a data source config as the service returns it: with `schema`, without `item_schema` and
    `include_sample_schema`.
    """
    echo = {key: value for key, value in config.items() if key not in ("item_schema", "include_sample_schema")}
    return {**echo, "schema": wrapped_schema(config)}


def normal_messages(messages: object) -> list[object]:
    """Return messages as the service returns them: with types, and plain text as an `input_text` part."""
    normal: list[object] = []
    for message in map(as_object, as_array(messages) or ()):
        content = message.get("content") if message else None
        part: object = {"type": "input_text", "text": content} if isinstance(content, str) else content
        normal.append({"type": "message", **(message or {}), "content": part})
    return normal


def criterion_echo(ids: Ids, grader: Mapping[str, object]) -> dict[str, object]:
    """Return a testing criterion as the service returns it: with an id, and with normalised messages."""
    echo: dict[str, object] = {"name": grader["name"], "id": f"{grader['name']}-{ids.uuid4()}", **grader}
    if grader["type"] in ("label_model", "score_model"):
        echo["input"] = normal_messages(grader["input"])
    if grader["type"] == "label_model":
        echo.setdefault("sampling_params", None)
    return echo


def new_eval(ids: Ids, request: Mapping[str, object], graders: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Make the eval of a valid request."""
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
    """Return a run's data source as the service returns it."""
    echo = dict(source)
    template = as_object(source.get("input_messages"))
    if source["type"] == "completions" and template and "template" in template:
        echo["input_messages"] = {**template, "template": normal_messages(template["template"])}
    if source["type"] != "jsonl":
        echo.setdefault("sampling_params", None)
    return echo


def new_run(ids: Ids, eval_id: str, request: Mapping[str, object], base_url: str) -> dict[str, object]:
    """Make the run of a valid request: queued, with all counts zero."""
    source = as_object(request["data_source"]) or {}
    run_id = ids.new("evalrun")
    return {
        "object": "eval.run",
        "id": run_id,
        "eval_id": eval_id,
        "report_url": f"{base_url}/evals/{eval_id}/runs/{run_id}",  # an HTML page for browsers, the run for programs
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
    """Make the file of an upload."""
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
    """Return the `_datasource_item_content_hash` of a row."""
    return hashlib.sha256(canonical(item)).hexdigest()
