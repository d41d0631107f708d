"""The bodies as msgspec Structs, as somebody would write them who wants speed and nothing else: unknown fields are
dropped, null and missing are the same, and an unknown variant is an error.
"""

from typing import Any

import msgspec


class Counts(msgspec.Struct):
    total: int
    passed: int
    failed: int
    errored: int


class Usage(msgspec.Struct):
    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class Criterion(msgspec.Struct):
    testing_criteria: str
    passed: int
    failed: int


class Row(msgspec.Struct):
    item: dict[str, Any]


class Rows(msgspec.Struct, tag_field="type", tag="file_content"):
    content: list[Row]


class File(msgspec.Struct, tag_field="type", tag="file_id"):
    id: str


class Text(msgspec.Struct):
    type: str
    text: str


class Message(msgspec.Struct):
    role: str
    content: Text


class Template(msgspec.Struct):
    type: str
    template: list[Message]


class Sampling(msgspec.Struct):
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_completions_tokens: int | None = None


class DataSource(msgspec.Struct):
    type: str
    source: Rows | File
    input_messages: Template
    model: str
    sampling_params: Sampling


class Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class Run(msgspec.Struct):
    object: str
    id: str
    eval_id: str
    report_url: str
    status: str
    model: str
    name: str
    created_at: int
    result_counts: Counts
    per_model_usage: list[Usage]
    per_testing_criteria_results: list[Criterion]
    data_source: DataSource
    error: Error | None
    metadata: dict[str, str]
    shared_with_openai: bool


class Said(msgspec.Struct):
    role: str
    content: str | None
    tool_call_id: str | None
    tool_calls: Any
    function_call: Any


class Tokens(msgspec.Struct):
    total_tokens: int
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int


class Sample(msgspec.Struct):
    input: list[Said]
    output: list[Said]
    finish_reason: str
    model: str
    usage: Tokens
    error: Error
    temperature: float
    max_completions_tokens: int
    top_p: float
    seed: int


class Result(msgspec.Struct):
    name: str
    passed: bool
    score: float
    sample: Sample | None = None
    type: str | None = None


class Item(msgspec.Struct):
    object: str
    id: str
    created_at: int
    run_id: str
    eval_id: str
    status: str
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[Result]
    sample: Sample


class Page(msgspec.Struct):
    object: str
    data: list[Item]
    first_id: str
    last_id: str
    has_more: bool
