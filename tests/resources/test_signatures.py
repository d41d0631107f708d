"""Every method can be called as the official client's can: the same names, the same order, nothing more required."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from openai.resources.evals import AsyncEvals
from openai.resources.evals.runs import AsyncOutputItems, AsyncRuns
from openai.resources.files import AsyncFiles
from openai.resources.fine_tuning.alpha.graders import AsyncGraders
from openai.resources.webhooks import AsyncWebhooks

from evals_async.resources import CallOptions, Evals, Files, Graders, OutputItems, Runs
from evals_async.webhooks import Webhooks


PAIRS: dict[type, type] = {
    AsyncEvals: Evals,
    AsyncRuns: Runs,
    AsyncOutputItems: OutputItems,
    AsyncFiles: Files,
    AsyncGraders: Graders,
    AsyncWebhooks: Webhooks,
}
RECEIVING = ("verify_signature", "unwrap")  # the rest manages the service's webhook endpoints
NOT_OURS = {
    ("AsyncFiles", "retrieve_content"),  # deprecated there, in favour of content
    ("AsyncFiles", "wait_for_processing"),  # files of evals are not processed
}


def methods_of(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: method
        for base in kind.__mro__[:-1]
        for name, method in vars(base).items()
        if inspect.isfunction(method) and not name.startswith("_") and "_resource" not in base.__module__
    }


METHODS = [
    pytest.param(method, getattr(ours, name), id=f"{ours.__name__}.{name}")
    for official, ours in PAIRS.items()
    for name, method in methods_of(official).items()
    if (official.__name__, name) not in NOT_OURS and (ours is not Webhooks or name in RECEIVING)
]


def parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a method; our options stand in a mapping of their own, and are all optional."""
    found = dict(inspect.signature(method).parameters)
    if found.pop("options", None) is not None:
        for name in CallOptions.__annotations__:
            found[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    return found


def test_every_resource_is_compared() -> None:
    """The official client's methods were found at all."""
    assert 21 <= len(METHODS)


@pytest.mark.parametrize(("official", "ours"), METHODS)
def test_parameters(official: Callable[..., Any], ours: Callable[..., Any]) -> None:
    """Whatever is passed to the official method, by place or by name, can be passed to ours."""
    theirs, mine = parameters(official), parameters(ours)
    assert {name: p.kind for name, p in theirs.items()} == {name: mine[name].kind for name in theirs}
    by_place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert [n for n, p in theirs.items() if p.kind is by_place] == [n for n, p in mine.items() if p.kind is by_place]
    required = {name for name, parameter in mine.items() if parameter.default is inspect.Parameter.empty}
    assert required <= {name for name, parameter in theirs.items() if parameter.default is inspect.Parameter.empty}
