"""The tree of errors: where each stands, what it says of itself, and that it survives pickle and copy."""

import copy
import pickle
import re
from typing import Any, cast, get_args

import pytest

from evals_async import errors
from evals_async.errors import (
    ApiError,
    Attempt,
    BadRequest,
    ConfigurationError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    EvalsError,
    InvalidArgument,
    LifecycleError,
    MissingExtra,
    NotFound,
    PartialFailure,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseMismatch,
    RunFailed,
    ServerError,
    TlsError,
    WaitTimeout,
)
from evals_async.models import EvalRun


CLASSES: list[type[EvalsError]] = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EvalsError)
]
SINGLE: list[Any] = [kind for kind in CLASSES if not issubclass(kind, PartialFailure)]

# What each class has of its own, with a value that is not the default.
FIELDS: dict[type, dict[str, Any]] = {
    ApiError: {
        "status": 418,
        "code": "teapot",
        "type": "kind",
        "param": "p",
        "retry_after": 1.5,
        "body": "the body",
    },
    ConnectFailed: {"unknown_host": True},
    TlsError: {"no_tls": True},
    DeadlineExceeded: {"last": NotFound("before", status=404)},
    DecodeError: {"at": "$.id", "expected": "str", "got": "int", "body": b"\xff{}"},
    ResponseMismatch: {"asked": "a", "got": "b"},
    errors.BodyTooLarge: {"limit": 9},
    errors.UnexpectedRedirect: {"status": 302, "location_host": "elsewhere.example"},
    errors.PaginationError: {"after": "eval_9"},
    WaitTimeout: {"last": EvalRun(id="r", status="queued")},
    RunFailed: {"run": EvalRun(id="r", status="failed")},
}
STORY: dict[str, Any] = {
    "method": "GET",
    "path": "/evals/e1",
    "request_id": "req_1",
    "maybe_executed": True,
    "attempts": 3,
    "elapsed": 4.5,
    "history": (Attempt("ServerError", 500, 0.1), Attempt("ConnectionDropped", None, 0.2)),
    "note": "the retry budget is spent",
    "after": "eval_8",
}


def full(kind: Any) -> Any:
    """An error of that class in which everything is set."""
    own = {name: value for base, values in FIELDS.items() if issubclass(kind, base) for name, value in values.items()}
    error = kind("something happened", **own)
    if issubclass(kind, RequestError):
        for name, value in STORY.items():
            setattr(error, name, value)
    error.add_note("a note of the caller's")
    return error


def image(value: object) -> object:
    """An error as a value that can be compared."""
    if not isinstance(value, BaseException):
        return value
    return type(value), value.args, str(value), {name: image(inner) for name, inner in vars(value).items()}


def pickled(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("twin_of", [pickled, copy.copy, copy.deepcopy])
def test_errors_survive_pickle_and_copy(kind: Any, twin_of: Any) -> None:
    """An error that was pickled or copied is of the same class, says the same, and has the same attributes."""
    for error in (full(kind), kind("plain")):
        assert image(error) == image(twin_of(error))


def test_the_drawing_is_the_tree() -> None:
    """The drawing in the module's docstring has every class, each below the one it derives from."""
    assert errors.__doc__ is not None
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = [(0, "EvalsError")]
    for line in errors.__doc__.splitlines():
        drawn = [(found.start(), found[1]) for found in re.finditer(r"[├└]─ (\w+)", line)]
        if drawn:
            column = drawn[0][0]
            above = [(depth, name) for depth, name in above if depth < column]
            parents |= {name: above[-1][1] for _, name in drawn}  # those beside each other have one parent
            above.append((column, drawn[-1][1]))
    expected = {kind.__name__: base.__name__ for kind in CLASSES for base in kind.__bases__[:1]}
    del expected["EvalsError"]
    assert expected == parents


BUILTIN: dict[type[EvalsError], type[Exception]] = {
    ConfigurationError: ValueError,
    InvalidArgument: ValueError,
    MissingExtra: ImportError,
    LifecycleError: RuntimeError,
    DeadlineExceeded: TimeoutError,
    WaitTimeout: TimeoutError,
    PartialFailure: ExceptionGroup,
}


@pytest.mark.parametrize(("kind", "builtin"), BUILTIN.items())
def test_errors_are_also_what_python_calls_them(kind: type[EvalsError], builtin: type[Exception]) -> None:
    """Code that catches Python's own classes catches ours, where they mean the same."""
    assert issubclass(kind, builtin)
    assert f"(also a{'n' if builtin.__name__[0] in 'IE' else ''} {builtin.__name__})" in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_says_when_it_is_raised(kind: type[EvalsError]) -> None:
    """Each class has a docstring of its own, and a public name."""
    assert kind.__dict__.get("__doc__")


STRINGS: dict[str, tuple[RequestError, str]] = {
    "nothing known": (RequestError("it broke"), "RequestError: it broke"),
    "an api error": (
        NotFound("No such run.", status=404, code="not_found").about("GET", "/evals/e/runs/r", "req_7"),
        "404 not_found on GET /evals/e/runs/r (req_7): No such run.",
    ),
    "a type and no code": (BadRequest("no", status=400, type="invalid"), "400 invalid: no"),
    "neither": (ServerError("oops", status=503), "503 ServerError: oops"),
    "everything": (
        full(ServerError),
        "418 teapot on GET /evals/e1 after 3 attempts (req_1): something happened (the server may have carried out "
        "the request; check before you send it again) [the retry budget is spent]",
    ),
    "a long message": (BadRequest("x" * 201, status=400), f"400 BadRequest: {'x' * 200}…"),
    "just not too long": (BadRequest("x" * 200, status=400), f"400 BadRequest: {'x' * 200}"),
}


@pytest.mark.parametrize(("error", "text"), STRINGS.values(), ids=STRINGS.keys())
def test_what_errors_say(error: RequestError, text: str) -> None:
    """One line: what happened, to which request, after how many attempts, with the request id; long words are cut."""
    assert text == str(error)


def test_what_is_known_stays() -> None:
    """Telling an error which request it is about does not overwrite what it knows already."""
    error = TlsError("refused").about("GET", "/first", None).about("POST", "/second", "req_2")
    assert ("GET", "/first", "req_2") == (error.method, error.path, error.request_id)


def test_stories_are_not_shared() -> None:
    """What is set on one error is not seen on another."""
    full(NotFound)
    assert (1, (), None, False) == ((e := NotFound("x")).attempts, e.history, e.note, e.maybe_executed)


# --- many calls -------------------------------------------------------------------------------------------------------


def partial() -> PartialFailure[str, int]:
    failed: dict[str, Exception] = {
        "b": NotFound("gone", status=404),
        "c": RateLimited("slow", status=429),
        "d": QuotaExceeded("paid", status=429),
        "e": OSError("disk"),
    }
    return PartialFailure[str, int].of({"a": 1}, failed)


def test_partial_failure_holds_both_sides() -> None:
    """What arrived and what failed are found by key, and the message counts them and tells the first."""
    failure = partial()
    assert ({"a": 1}, ["b", "c", "d", "e"]) == (failure.results, list(failure.errors))
    assert tuple(failure.errors.values()) == failure.exceptions
    assert "4 of 5 calls failed; the first: NotFound: 404 NotFound: gone (4 sub-exceptions)" == str(failure)


def part(group: object) -> PartialFailure[str, int]:
    """`group`, if it is a partial failure; the types of Python's own groups cannot say it."""
    assert isinstance(group, PartialFailure)
    return cast("PartialFailure[str, int]", group)


def test_partial_failure_is_taken_apart() -> None:
    """`except*` sees the errors by class; each part keeps the results, and of the errors its own."""
    seen: dict[str, PartialFailure[str, int]] = {}
    try:
        raise partial()
    except* NotFound as group:
        seen["missing"] = part(group)
    except* RateLimited as group:
        seen["limited"] = part(group)
    except* OSError as group:
        seen["other"] = part(group)
    expected = {"missing": ["b"], "limited": ["c", "d"], "other": ["e"]}
    assert expected == {name: list(group.errors) for name, group in seen.items()}
    assert all(group.results == {"a": 1} for group in seen.values())


def test_partial_failure_is_split() -> None:
    """`split` and `subgroup` give partial failures again, with notes kept, or nothing."""
    failure = partial()
    failure.add_note("the nightly copy")
    api, rest = map(part, failure.split(ApiError))
    assert (["b", "c", "d"], ["e"]) == (list(api.errors), list(rest.errors))
    assert (["the nightly copy"], failure.results) == (rest.__notes__, rest.results)
    assert failure.subgroup(KeyError) is None
    with pytest.raises(EvalsError):
        raise failure


def test_partial_failure_made_by_hand() -> None:
    """One that is made like any exception group can be taken apart as well."""
    failure: PartialFailure[str, int] = PartialFailure("two", [KeyError("k"), OSError("o")])
    assert ({}, {}) == (failure.results, part(failure.subgroup(OSError)).errors)


@pytest.mark.parametrize("twin_of", [pickled, copy.copy, copy.deepcopy])
def test_partial_failure_survives_pickle(twin_of: Any) -> None:
    """A partial failure crosses process borders with its results and its errors, and the two agree."""
    failure = partial()
    twin = twin_of(failure)
    assert (failure.results, list(failure.errors), failure.args[0]) == (twin.results, list(twin.errors), twin.args[0])
    assert [image(error) for error in failure.exceptions] == [image(error) for error in twin.exceptions]
    assert [image(error) for error in failure.errors.values()] == [image(error) for error in twin.errors.values()]
    assert ["b"] == list(twin.subgroup(NotFound).errors)


def test_partial_failure_is_generic() -> None:
    """Its type parameters are the key's and the value's."""
    assert (str, int) == get_args(PartialFailure[str, int])
