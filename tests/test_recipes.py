"""What a new endpoint needs, as docs/contributing.md lists it: a test that names what was forgotten."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from resources import test_ids, test_requests

from evals_async import EvalsClient
from evals_async.resources._caller import Caller, Resource
from evals_async.server.answers import Problem
from evals_async.server.routes import match


REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "client.md"
ENDPOINT = re.compile(r"\b(GET|POST|DELETE) (/[\w/{}]+)")


def resources_of(client: EvalsClient) -> dict[str, Resource]:
    """Every resource of a client by its place: `evals.runs.output_items`."""
    found: dict[str, Resource] = {}

    def look(place: str, holder: object) -> None:
        for name in dir(holder):  # `dir` shows those too that were not used yet
            if not name.startswith("_") and isinstance(value := getattr(holder, name), Resource):
                path = f"{place}.{name}".lstrip(".")
                found[path] = value
                look(path, value)

    look("", client)
    return found


def endpoints_of(resource: Resource) -> Iterator[tuple[str, Any]]:
    """The public methods that send one request: those that take the options of a call."""
    for name, method in inspect.getmembers(type(resource), inspect.isfunction):
        if not name.startswith("_") and "options" in inspect.signature(method).parameters:
            yield name, method


def takes_an_id(method: Any) -> bool:
    names = [*inspect.signature(method).parameters][1:]
    return bool(names) and names[0].endswith("_id")


def forgotten(
    place: str,
    resource: Resource,
    *,
    calls: Mapping[str, object] = test_requests.CALLS,
    methods: Mapping[str, object] = test_requests.METHODS,
    ids: Mapping[str, object] = test_ids.METHODS,
) -> list[str]:
    """What the endpoints of a resource lack, each in a sentence."""
    missing: list[str] = []
    twin = getattr(resource, "with_raw_response", None)
    kind = type(resource).__name__
    if f".. autoclass:: {kind}\n   :members:" not in REFERENCE.read_text():
        missing.append(f"docs/reference/client.md has no autoclass of {kind} with its members")
    for name, method in endpoints_of(resource):
        full = f"{place}.{name}"
        short = ".".join(full.split(".")[-2:])
        told = ENDPOINT.search(inspect.getdoc(method) or "")
        if told is None:
            missing.append(f"{full}: its docstring does not name the endpoint, as `GET /evals/{{eval_id}}`")
        else:
            try:
                match(told[1], told[2])
            except Problem as problem:
                missing.append(f"{full}: the local server does not know {told[0]} ({problem.status}): server/routes.py")
        if not callable(getattr(twin, name, None)):
            missing.append(f"{full}: there is no raw twin: {kind}WithRawResponse")
        if full not in methods:
            missing.append(f"{full}: no entry in METHODS of tests/resources/test_requests.py")
        if name != "create" and not any(each.partition(",")[0] == short for each in calls):
            missing.append(f"{full}: no entry in CALLS of tests/resources/test_requests.py")
        if takes_an_id(method) and full not in ids:
            missing.append(f"{full}: no entry in METHODS of tests/resources/test_ids.py, which checks ids")
    return missing


async def test_every_endpoint_is_whole() -> None:
    """Each public method that sends a request has a raw twin, test entries, a route, an id check and a reference."""
    async with EvalsClient(api_key="sk-recipes-123") as client:
        found = resources_of(client)
        assert ["evals", "evals.runs", "evals.runs.output_items", "files", "graders"] == sorted(found)
        assert 19 == sum(len([*endpoints_of(resource)]) for resource in found.values())
        assert [] == [each for place, resource in found.items() for each in forgotten(place, resource)]


class Datasets(Resource):
    """A resource that somebody began."""

    async def archive(self, dataset_id: str, **options: object) -> None:
        """Put it away: POST /datasets/{dataset_id}/archive."""

    async def restore(self, **options: object) -> None:
        """Bring it back."""

    def helper(self, dataset_id: str) -> None:
        """Sends nothing itself."""


async def test_what_was_forgotten_is_named() -> None:
    """A method alone is not an endpoint: each thing that it lacks is a sentence with the file where it belongs."""
    async with EvalsClient(api_key="sk-recipes-123") as client:
        caller: Caller = client._caller  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # to make a resource of
        missing = forgotten("datasets", Datasets(caller))
    assert [
        "docs/reference/client.md has no autoclass of Datasets with its members",
        "datasets.archive: the local server does not know POST /datasets/{dataset_id}/archive (404): server/routes.py",
        "datasets.archive: there is no raw twin: DatasetsWithRawResponse",
        "datasets.archive: no entry in METHODS of tests/resources/test_requests.py",
        "datasets.archive: no entry in CALLS of tests/resources/test_requests.py",
        "datasets.archive: no entry in METHODS of tests/resources/test_ids.py, which checks ids",
        "datasets.restore: its docstring does not name the endpoint, as `GET /evals/{eval_id}`",
        "datasets.restore: there is no raw twin: DatasetsWithRawResponse",
        "datasets.restore: no entry in METHODS of tests/resources/test_requests.py",
        "datasets.restore: no entry in CALLS of tests/resources/test_requests.py",
    ] == missing


@pytest.mark.parametrize("table", ["calls", "methods", "ids"])
async def test_a_missing_entry_is_named(table: str) -> None:
    """A method without its entry in one of the tables is told, and no other one."""
    whole: dict[str, Mapping[str, object]] = {
        "calls": test_requests.CALLS,
        "methods": test_requests.METHODS,
        "ids": test_ids.METHODS,
    }
    gone = {key: value for key, value in whole[table].items() if key not in ("runs.cancel", "evals.runs.cancel")}
    async with EvalsClient(api_key="sk-recipes-123") as client:
        [told] = forgotten("evals.runs", client.evals.runs, **{table: gone})
    assert told.startswith("evals.runs.cancel: no entry in ")
