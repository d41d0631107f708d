"""Validation of requests: query parameters, JSON bodies, graders, data sources.

Each check returns the valid value, or raises a `Problem` with the path of the parameter. Unknown fields are accepted,
because the service accepts them. This module does not read the store.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse
from evals_async.server.answers import Problem, listed


Check: TypeAlias = Callable[[object, str], object]
T = TypeVar("T")

DEEPEST = 200  # levels of arrays and objects; Python's encoder fails at some hundreds of levels
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512  # the limits of `metadata`

OPERATIONS = ("eq", "ne", "like", "ilike")
METRICS = (
    *("cosine", "fuzzy_match", "bleu", "gleu", "meteor"),
    *("rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"),
)
ROLES = ("user", "assistant", "system", "developer")


# --- values ---------------------------------------------------------------------------------------------------------


def type_name(value: object) -> str:
    """Return the name of a value's type, as the service writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case Mapping():
            return "an object"
        case _:
            return "an array"


def wrong_type(at: str, expected: str, value: object) -> Problem:
    return Problem(
        400,
        f"Invalid type for '{at}': expected {expected}, but got {type_name(value)} instead.",
        param=at,
        code="invalid_type",
    )


def text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(at, "a string", value)
    return value


def number(value: object, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(at, "a decimal", value)
    return value


def mapping(value: object, at: str) -> JSONObject:
    found = as_object(value)
    if found is None:
        raise wrong_type(at, "an object", value)
    return found


def array(value: object, at: str) -> Sequence[object]:
    found = as_array(value)
    if found is None:
        raise wrong_type(at, "an array", value)
    return found


def texts(value: object, at: str) -> list[str]:
    return [text(entry, f"{at}[{index}]") for index, entry in enumerate(array(value, at))]


def one_of(*values: str) -> Callable[[object, str], str]:
    """Return the check for a closed set of strings."""

    def check(value: object, at: str) -> str:
        if text(value, at) not in values:
            raise Problem(
                400,
                f"Invalid value: '{value}'. Supported values are: {listed(values)}.",
                param=at,
                code="invalid_value",
            )
        return str(value)

    return check


def required(body: Mapping[str, object], name: str, check: Callable[[object, str], T], within: str = "") -> T:
    """Return the field `name` after its check. `within` is the path of the body."""
    at = f"{within}.{name}" if within else name
    if name not in body:
        raise Problem(400, f"Missing required parameter: '{at}'.", param=at, code="missing_required_parameter")
    return check(body[name], at)


def optional(body: Mapping[str, object], name: str, check: Callable[[object, str], T], within: str = "") -> T | None:
    """Return the field `name` after its check, or `None` if it is missing or null."""
    return None if body.get(name) is None else required(body, name, check, within)


def parse_bounded(data: bytes) -> object:
    """Parse a JSON document of at most `DEEPEST` levels, so that it can be encoded again. Raises `NotJSON`."""
    value = parse(data)
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return value
    level: list[object] = [value]
    for _ in range(DEEPEST):
        inner = [as_array(entry) or (as_object(entry) or {}).values() for entry in level]
        level = [entry for entries in inner for entry in entries if isinstance(entry, dict | list)]
        if not level:
            return value
    raise NotJSON(f"nested too deeply: more than {DEEPEST} levels")


def json_object(data: bytes) -> JSONObject:
    """Parse the body of a request, which must be a JSON object."""
    try:
        value = parse_bounded(data)
    except NotJSON as error:
        raise Problem(400, f"We could not parse the JSON body of your request: {error}") from None
    found = as_object(value)
    if found is None:
        raise Problem(
            400, f"Invalid body: expected an object, but got {type_name(value)} instead.", code="invalid_type"
        )
    return found


def metadata(value: object, at: str) -> JSONObject:
    """Validate metadata: at most 16 pairs of strings, keys of at most 64 characters, values of at most 512."""
    pairs = mapping(value, at)
    if len(pairs) > MOST_PAIRS:
        message = f"Invalid '{at}': too many properties. Expected an object with at most {MOST_PAIRS} properties."
        raise Problem(400, message, param=at, code="object_above_max_properties")
    for key, entry in pairs.items():
        where = f"{at}.{key}"
        if len(key) > LONGEST_KEY or len(text(entry, where)) > LONGEST_VALUE:
            message = f"Invalid '{where}': string too long. At most {LONGEST_KEY} (key), {LONGEST_VALUE} (value)."
            raise Problem(400, message, param=where, code="string_above_max_length")
    return pairs


# --- the query ------------------------------------------------------------------------------------------------------


def limit(query: Mapping[str, str], *, default: int = 20, most: int = 100) -> int:
    """Return the page size, from 1 to `most`."""
    given = query.get("limit")
    if given is None:
        return default
    try:
        value = int(given[:20])  # the first digits are enough to see that it is too large
    except ValueError:
        message = f"Invalid type for 'limit': expected an integer, but got '{given[:40]}' instead."
        raise Problem(400, message, param="limit", code="invalid_type") from None
    if value > most:
        message = f"Invalid 'limit': integer above maximum value. Expected a value <= {most}, but got {value} instead."
        raise Problem(400, message, param="limit", code="integer_above_max_value")
    if value < 1:
        message = f"Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {value} instead."
        raise Problem(400, message, param="limit", code="integer_below_min_value")
    return value


def choice(query: Mapping[str, str], name: str, values: tuple[str, ...]) -> str | None:
    """Return a query parameter from a closed set, or `None` if it is missing."""
    given = query.get(name)
    return None if given is None else one_of(*values)(given, name)


# --- messages and graders -------------------------------------------------------------------------------------------


def messages(value: object, at: str) -> Sequence[object]:
    """Validate input messages: each is an object with a role and some content."""
    entries = array(value, at)
    for index, entry in enumerate(entries):
        where = f"{at}[{index}]"
        message = mapping(entry, where)
        required(message, "role", one_of(*ROLES), where)
        required(message, "content", lambda content, _: content, where)
    return entries


def anything(value: object, _: str) -> object:
    return value


# The required and the optional fields of each grader. Source: the Grader schemas of the API reference.
GRADERS: Mapping[str, tuple[Mapping[str, Check], Mapping[str, Check]]] = {
    "string_check": (
        {"name": text, "input": text, "reference": text, "operation": one_of(*OPERATIONS)},
        {},
    ),
    "text_similarity": (
        {"name": text, "input": text, "reference": text, "evaluation_metric": one_of(*METRICS)},
        {"pass_threshold": number},
    ),
    "label_model": (
        {"name": text, "model": text, "input": messages, "labels": texts, "passing_labels": texts},
        {},
    ),
    "score_model": (
        {"name": text, "model": text, "input": messages},
        {"range": array, "sampling_params": mapping, "pass_threshold": number},
    ),
    "python": ({"name": text, "source": text}, {"image_tag": text, "pass_threshold": number}),
    "multi": ({"name": text, "graders": anything, "calculate_output": text}, {}),
    # Microsoft Foundry's own evaluators: they are stored and returned, but their results are errors here.
    "azure_ai_evaluator": (
        {"name": text, "evaluator_name": text},
        {"evaluator_version": text, "initialization_parameters": mapping, "data_mapping": mapping},
    ),
}
CRITERIA = ("label_model", "string_check", "text_similarity", "python", "score_model", "azure_ai_evaluator")
RUNNABLE = ("string_check", "text_similarity", "python", "score_model", "multi")


def grader(value: object, at: str, kinds: tuple[str, ...]) -> JSONObject:
    """Validate a grader of one of `kinds`."""
    body = mapping(value, at)
    kind = required(body, "type", one_of(*kinds), at)
    must, may = GRADERS[kind]
    for name, check in must.items():
        required(body, name, check, at)
    for name, check in may.items():
        optional(body, name, check, at)
    if kind == "label_model":
        known = one_of(*texts(body["labels"], at))
        for index, label in enumerate(texts(body["passing_labels"], at)):
            known(label, f"{at}.passing_labels[{index}]")
    return body


def criterion(value: object, at: str) -> JSONObject:
    """Validate a grader of an eval. Here, and only here, text similarity must have its threshold."""
    body = grader(value, at, CRITERIA)
    if body["type"] == "text_similarity":
        required(body, "pass_threshold", number, at)
    return body


# --- data sources ---------------------------------------------------------------------------------------------------


def data_source_config(value: object, at: str) -> JSONObject:
    body = mapping(value, at)
    kind = required(body, "type", one_of("custom", "logs", "stored_completions", "azure_ai_source"), at)
    if kind == "custom":
        required(body, "item_schema", mapping, at)
    elif kind == "azure_ai_source":
        required(body, "scenario", text, at)
    else:
        optional(body, "metadata", mapping, at)
    return body


SOURCES: Mapping[str, tuple[str, ...]] = {
    "jsonl": ("file_content", "file_id"),
    "completions": ("file_content", "file_id", "stored_completions"),
    "responses": ("file_content", "file_id", "responses"),
    "csv": ("file_id",),
    "azure_ai_target_completions": ("file_content", "file_id"),
    "azure_ai_responses": ("file_content", "file_id"),
}
# Sources of Microsoft Foundry whose rows the service makes.
ROWLESS_SOURCES = (
    *("azure_ai_traces_preview", "azure_ai_trace_data_source", "azure_ai_red_team", "azure_ai_benchmark_preview"),
    *("azure_ai_synthetic_data_gen_preview", "azure_ai_synthetic_data_generation_with_simulation"),
)


def data_source(value: object, at: str) -> JSONObject:
    """Validate the data source of a run, with its inline rows."""
    body = mapping(value, at)
    kind = required(body, "type", one_of(*SOURCES, *ROWLESS_SOURCES), at)
    if kind == "azure_ai_target_completions":
        required(body, "target", mapping, at)
    if kind == "azure_ai_responses":
        row_source(required(body, "item_generation_params", mapping, at), kind, f"{at}.item_generation_params")
    elif kind in SOURCES:
        row_source(body, kind, at)
    if template := optional(body, "input_messages", mapping, at):
        within = f"{at}.input_messages"
        if required(template, "type", one_of("template", "item_reference"), within) == "template":
            required(template, "template", messages, within)
        else:
            required(template, "item_reference", text, within)
    optional(body, "model", text, at)
    optional(body, "sampling_params", mapping, at)
    return body


def row_source(body: JSONObject, kind: str, at: str) -> JSONObject:
    """Validate the `source` of a data source, which says where the rows are."""
    source = required(body, "source", mapping, at)
    within = f"{at}.source"
    form = required(source, "type", one_of(*SOURCES[kind]), within)
    if form == "file_id":
        required(source, "id", text, within)
    if form == "file_content":
        for index, entry in enumerate(required(source, "content", array, within)):
            where = f"{within}.content[{index}]"
            row = mapping(entry, where)
            required(row, "item", mapping, where)
            optional(row, "sample", mapping, where)
    return source
