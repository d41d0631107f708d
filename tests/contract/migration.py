"""The table of the migration guide: what the official client has for these endpoints, and what it is here.

    python tests/contract/migration.py          prints it
    python tests/contract/migration.py --write  puts it into docs/guides/migrating-from-openai.md

Everything is read from the installed official package, so that the table stays true for its next version. What has
another name here, or is not there, stands in the tables below; whatever is in none of them, and has no equal here,
raises `Unexplained`.
"""

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import openai
from openai._legacy_response import LegacyAPIResponse
from openai.pagination import AsyncCursorPage
from openai.resources.evals import AsyncEvals
from openai.resources.evals.runs import AsyncOutputItems, AsyncRuns
from openai.resources.files import AsyncFiles
from openai.resources.fine_tuning.alpha.graders import AsyncGraders
from openai.resources.webhooks import AsyncWebhooks
from openai.types import EvalDeleteResponse, EvalRetrieveResponse, FileDeleted, FileObject
from openai.types.evals import RunDeleteResponse, RunRetrieveResponse
from openai.types.evals.runs import OutputItemRetrieveResponse
from openai.types.fine_tuning.alpha import GraderRunResponse

from evals_async import EvalsClient, Page, RawResponse, models
from evals_async.models.base import Model
from evals_async.resources import CallOptions, Evals, Files, Graders, OutputItems, Runs
from evals_async.webhooks import Webhooks


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "migrating-from-openai.md"
BEGIN, END = "<!-- the official client: begin -->", "<!-- the official client: end -->"

OTHER: Mapping[str, str] = {
    "client.auth_headers": "not there: a key is shown nowhere",
    "client.fine_tuning.alpha.graders": "`client.graders`",
    "client.files.retrieve_content": "`client.files.content`: deprecated there too",
    "client.files.wait_for_processing": "not there: files of evals are not processed; `client.files.retrieve` tells",
    "eval.data_source_config.schema_": "`.schema`",
    "page.next_page_info": "not there: `page.get_next_page()` and `page.last_id`",
    "raw.http_request": "not there: it holds the key; `raw.url`",
    "raw.http_version": "not there: HTTP/1.1, always",
    "raw.is_closed": "not there: a body has been read when you get it",
}
"""What has another name here, or is not there and why."""

CLIENT = (
    *("api_key", "base_url", "organization", "project", "webhook_secret", "timeout", "max_retries"),
    *("default_headers", "default_query", "http_client"),
)
CLIENT_ATTRIBUTES = (
    *("api_key", "base_url", "timeout", "max_retries", "auth_headers"),
    *("copy", "with_options", "close", "is_closed"),
)
OTHER_ARGUMENTS: Mapping[str, str] = {
    "http_client": "`session=`, an `aiohttp.ClientSession`",
    "admin_api_key": "not there: no endpoint of evals takes one",
    "workload_identity": "not there: pass a function as `api_key=`",
    "provider": "not there: `EvalsClient.azure(...)`, or `base_url=`",
    "data_residency": "not there: pass `base_url=`",
    "websocket_base_url": "not there: evals have no websockets",
}
MODEL_METHODS: Mapping[str, str] = {
    "to_dict()": "`encode(value)`",
    "to_json()": "`json.dumps(encode(value))`",
    "model_dump()": "`encode(value)`",
    "model_dump_json()": "`json.dumps(encode(value))`",
    "model_copy(update=...)": "`attrs.evolve(value, ...)`",
    "model_extra": "`value.extra`",
    "model_fields_set": "not there: `value.nulls` names what came as null",
    "model_validate_json(body)": "`decode(body, EvalRun)`",
    "construct(...)": "`EvalRun(...)`",
}

RESOURCES: Mapping[str, tuple[type, type]] = {
    "client.evals": (AsyncEvals, Evals),
    "client.evals.runs": (AsyncRuns, Runs),
    "client.evals.runs.output_items": (AsyncOutputItems, OutputItems),
    "client.files": (AsyncFiles, Files),
    "client.fine_tuning.alpha.graders": (AsyncGraders, Graders),
    "client.webhooks": (AsyncWebhooks, Webhooks),
}
RECEIVING = ("unwrap", "verify_signature")  # the other methods of webhooks manage the service's endpoints
RESULTS: Mapping[str, tuple[type[openai.BaseModel], type[Model]]] = {
    "eval": (EvalRetrieveResponse, models.Eval),
    "eval deleted": (EvalDeleteResponse, models.EvalDeleted),
    "run": (RunRetrieveResponse, models.EvalRun),
    "run deleted": (RunDeleteResponse, models.RunDeleted),
    "item": (OutputItemRetrieveResponse, models.OutputItem),
    "file": (FileObject, models.File),
    "file deleted": (FileDeleted, models.FileDeleted),
    "grader run": (GraderRunResponse, models.GraderRun),
}


class Unexplained(Exception):
    """The official client has something that has no equal here, and that no table explains."""


def row(name: str, here: str) -> str:
    return f"| `{name}` | {here} |"


def explained(name: str, there: bool) -> str:
    if name in OTHER:
        return OTHER[name]
    if not there:
        raise Unexplained(f"{name} is not here: give it a row in one of the tables of {Path(__file__).name}")
    return "same"


def public_methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for base in kind.__mro__[:-1]:
        for name, method in vars(base).items():
            if inspect.isfunction(method) and not name.startswith("_") and "_resource" not in base.__module__:
                yield name, method


def calls() -> Iterator[str]:
    """Every method with its parameters."""
    for place, (theirs, ours) in RESOURCES.items():
        for name, method in public_methods(theirs):
            if ours is Webhooks and name not in RECEIVING:
                continue
            parameters = [each for each in inspect.signature(method).parameters if each != "self"]
            own = [each for each in parameters if each not in CallOptions.__annotations__]
            full = f"{place}.{name}"
            mine = getattr(ours, name, None)
            if mine is not None and not set(own) <= inspect.signature(mine).parameters.keys():
                raise Unexplained(f"{full} lacks {set(own) - inspect.signature(mine).parameters.keys()}")
            here = explained(full, mine is not None)
            if here == "same" and place in OTHER:
                here = OTHER[place].rstrip("`") + f".{name}`"
            options = "" if ours is Webhooks or len(own) == len(parameters) else ", ..."
            yield row(f"{full}({', '.join(own)}{options})", here)


def members(shape: Any) -> list[Any]:
    """The types that a field may have, without arrays, mappings and null."""
    origin = get_origin(shape)
    if origin in (Union, UnionType):
        return [member for each in get_args(shape) for member in members(each)]
    if origin is typing.Annotated:
        return members(get_args(shape)[0])
    if origin in (list, tuple, dict, Mapping):
        return [member for each in get_args(shape) if each is not Ellipsis for member in members(each)]
    return [shape]


def their_models(shape: Any) -> list[type[openai.BaseModel]]:
    return [each for each in members(shape) if isinstance(each, type) and issubclass(each, openai.BaseModel)]


def our_models(shape: Any) -> list[type[Model]]:
    return [each for each in members(shape) if isinstance(each, type) and issubclass(each, Model)]


def tag_of(kind: type[openai.BaseModel] | type[Model]) -> str | None:
    """The value that `type` must have in an object of that class."""
    shape: Any = None
    if issubclass(kind, openai.BaseModel):
        field = kind.model_fields.get("type")
        shape = None if field is None else field.annotation
    else:
        shape = {field.name: field.type for field in attrs.fields(kind)}.get("type")
    literals = [each for each in [shape, *get_args(shape)] if get_origin(each) is Literal]
    return str(get_args(literals[0])[0]) if literals else None


def pairs(theirs: Any, ours: Any) -> Iterator[tuple[str, type[openai.BaseModel], type[Model]]]:
    """The classes that stand for one thing in a field: by their tags, or because there is one of each."""
    left, right = their_models(theirs), our_models(ours)
    if len(left) == len(right) == 1:
        yield "", left[0], right[0]
        return
    by_tag = {tag_of(kind): kind for kind in right}
    for kind in left:
        if (tag := tag_of(kind)) is not None and tag in by_tag:
            yield f"[{tag}]", kind, by_tag[tag]


def attributes(
    place: str, theirs: type[openai.BaseModel], ours: type[Model], within: tuple[type, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Every attribute of a result, and of the objects in it."""
    own: dict[str, Any] = {field.name: field.type for field in attrs.fields(ours)}
    for name, field in theirs.model_fields.items():
        full = f"{place}.{name}"
        wire = field.alias or name
        if wire in own and wire != name:
            yield full, f"`.{wire}`"
        else:
            yield full, explained(full, hasattr(ours, name))
        if wire in own and theirs not in within:
            for tag, left, right in pairs(field.annotation, own[wire]):
                yield from attributes(full + tag, left, right, (*within, theirs))


def results() -> Iterator[str]:
    """The attributes of all results: those of one name that are the same stand in one row."""
    for place, (theirs, ours) in RESULTS.items():
        found = list(dict.fromkeys(attributes(place, theirs, ours)))
        same: dict[str, list[str]] = {}
        for name, here in found:
            owner, _, attribute = name.rpartition(".")
            if here == "same":
                same.setdefault(owner, []).append(attribute)
        for owner, names in same.items():
            yield row(f"{owner}: {', '.join(names)}", "same")
        yield from (row(name, here) for name, here in found if here != "same")


def others() -> Iterator[str]:
    """The client itself, pages, raw responses, and what every result can do."""
    for name in inspect.signature(openai.AsyncOpenAI.__init__).parameters:
        if name != "self" and not name.startswith("_"):
            known = name in inspect.signature(EvalsClient.__init__).parameters or name in CLIENT
            if not known and name not in OTHER_ARGUMENTS:
                raise Unexplained(f"AsyncOpenAI({name}=)")
            yield row(f"AsyncOpenAI({name}=)", OTHER_ARGUMENTS.get(name, "same"))
    for name in CLIENT_ATTRIBUTES:
        yield row(f"client.{name}", explained(f"client.{name}", hasattr(EvalsClient, name)))
    own = [name for name in dir(AsyncCursorPage) if not name.startswith("_") and name not in dir(openai.BaseModel)]
    for name in [*AsyncCursorPage.model_fields, *own]:
        yield row(f"page.{name}", explained(f"page.{name}", hasattr(Page, name)))
    fields = {field.name for field in attrs.fields(RawResponse)}
    for name in sorted(name for name in dir(LegacyAPIResponse) if not name.startswith("_")):
        yield row(f"raw.{name}", explained(f"raw.{name}", name in fields or hasattr(RawResponse, name)))
    for name, here in MODEL_METHODS.items():
        method = name.partition("(")[0]
        if not hasattr(openai.BaseModel, method):
            raise Unexplained(f"the official results have no {method} any more")
        yield row(name, here)


def table() -> str:
    head = "| openai | here |\n|---|---|\n"
    parts = (("Calls", calls()), ("Results", results()), ("Client, pages, raw responses, objects", others()))
    return "\n\n".join(f"### {title}\n\n{head}" + "\n".join(rows) for title, rows in parts)


def main() -> None:
    if "--write" not in sys.argv:
        print(table())
        return
    page = GUIDE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    GUIDE.write_text(f"{page[:begin]}\n\n{table()}\n\n{page[end:]}")


if __name__ == "__main__":
    main()
