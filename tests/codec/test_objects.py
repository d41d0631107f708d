"""The objects that decoding makes: frozen, of the right layout, sharing what can be shared; and what fills them."""

import ast
import contextlib
import copy
import gc
import linecache
import pickle
import threading
import traceback
from typing import Any

import attrs
import pytest
from bodies import CLASSES, payload, smallest

from evals_async._codec import decode, decode_page, encode, quick, source_of, structure
from evals_async._codec.shapes import LONGEST_SHARED, MOST_KEPT, Memo, Strings, unfrozen
from evals_async._json import dump
from evals_async.errors import DecodeError
from evals_async.models import EvalRun, MultiGrader, OutputItem
from evals_async.models.base import NO_NULLS, NOTHING_EXTRA


EACH_CLASS = pytest.mark.parametrize("model", CLASSES, ids=lambda model: str(model.__name__))


@EACH_CLASS
def test_source_can_be_read(model: Any) -> None:
    """The function that fills a class has a source of ordinary Python, in which every field can be found."""
    if quick.reader_of(model)[0] is quick.refuse:
        assert model is MultiGrader
        return
    source = source_of(model)
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert f"fill_{model.__name__}" == function.name
    for field in attrs.fields(model):
        assert f"model.{field.name} = " in source
    assert max(map(len, source.splitlines())) < 160


def test_source_of_what_was_not_used() -> None:
    """A class that was never used has no source yet."""

    @attrs.frozen(kw_only=True, repr=False)
    class Fresh(EvalRun):
        pass

    assert "" == source_of(Fresh)
    assert Fresh(id="r", status="queued") == decode(b'{"id": "r", "status": "queued"}', Fresh)
    assert source_of(Fresh).startswith("def fill_Fresh(struct):\n")


def test_tracebacks_show_the_source() -> None:
    """Where a written function raises, a traceback shows its line, also after the cache of sources was checked."""
    linecache.checkcache()
    _, fill = quick.reader_of(EvalRun)
    with pytest.raises(AttributeError) as caught:
        fill(None)
    assert "v = struct.object" in "".join(traceback.format_exception(caught.value))


@EACH_CLASS
def test_unfrozen_twins_have_the_same_layout(model: Any) -> None:
    """An object that was filled while unfrozen is, once frozen, like one made by the constructor."""
    twin = unfrozen(model)
    assert ((model,), model.__basicsize__) == (twin.__bases__, twin.__basicsize__)
    for filled in (structure(smallest(model), model), decode(dump(smallest(model)), model)):
        made = model(**{field.alias or field.name: getattr(filled, field.name) for field in attrs.fields(model)})
        assert type(filled) is model
        assert (made, hash(made), repr(made)) == (filled, hash(filled), repr(filled))
        assert [] == [name for name in dir(filled) if name not in dir(made)]


@EACH_CLASS
def test_decoded_objects_are_frozen(model: Any) -> None:
    """A decoded object cannot be changed, and accepts no new attributes."""
    made = decode(dump(smallest(model)), model)
    for name in ("extra", attrs.fields(model)[-1].name):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(made, name)
    with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
        made.surprise = 1
    assert not hasattr(made, "__dict__")


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("twin_of", [pickled, copy.copy, copy.deepcopy, attrs.evolve])
@pytest.mark.parametrize("name", ["run_completed_completions", "run_unknown_source", "run_all_content_parts"])
def test_decoded_objects_are_copied(name: str, twin_of: Any) -> None:
    """A decoded object survives pickle and copies, with its nulls and its unknown fields."""
    body = payload(name) | {"name": None, "new_field": {"a": [1]}}
    run = decode(dump(body), EvalRun)
    twin = twin_of(run)
    assert (type(run), run, hash(run), run.nulls) == (type(twin), twin, hash(twin), twin.nulls)
    assert body == encode(twin)


def test_empty_extras_stay_one_object() -> None:
    """The one empty mapping stays one through pickle and copies, so that kept objects stay small."""
    run = decode(b'{"id": "r", "status": "queued"}', EvalRun)
    for twin in (run, pickled(run), copy.deepcopy(run), attrs.evolve(run, name="n")):
        assert NOTHING_EXTRA is twin.extra
    assert NO_NULLS is run.nulls


def test_what_objects_share() -> None:
    """Names of nulls, words of the API and empty extras are one object, however many runs hold them."""
    first, second = (
        decode(b'{"id": "%d", "object": "eval.run", "status": "completed", "name": null, "error": null}' % n, EvalRun)
        for n in range(2)
    )
    assert first.nulls is second.nulls
    assert frozenset({"name", "error"}) == first.nulls
    assert first.status is second.status
    assert first.object is second.object
    assert first.extra is second.extra is NOTHING_EXTRA


def test_what_is_shared_is_bounded() -> None:
    """Tables of shared values are emptied when they are full, and long strings stay out of them."""
    strings, names = Strings(), Memo[int, int](lambda number: number + 1)
    for number in range(3 * MOST_KEPT):
        assert f"s{number}" == strings[f"s{number}"]
        assert number + 1 == names[number]
        assert max(len(strings), len(names)) <= MOST_KEPT
    first, second = (strings[b"model".decode()] for _ in range(2))
    assert first is second
    long = "x" * (LONGEST_SHARED + 1)
    assert long == strings[long]
    assert long not in strings


def test_unknown_fields_are_told_from_missing_ones() -> None:
    """Whatever mixture of known, null, missing and unknown fields comes, each is known for what it is."""
    names = ["name", "model", "error", "x", "y"]
    for mask in range(4 ** len(names)):
        body: dict[str, object] = {"id": "r", "status": "queued"}
        for position, name in enumerate(names):
            kind = mask >> (2 * position) & 3
            if kind:
                body[name] = None if kind == 1 else "v"
        run = structure(dict(body), EvalRun)
        assert {name: body[name] for name in ("x", "y") if name in body} == dict(run.extra)
        assert {name for name in names[:3] if name in body and body[name] is None} == run.nulls
        assert body == encode(run)


def test_first_use_in_many_threads() -> None:
    """A class may be used for the first time by many threads at once."""

    @attrs.frozen(kw_only=True, repr=False)
    class Racing(OutputItem):
        pass

    made: list[OutputItem] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        made.append(structure({"id": "o", "status": "queued", "results": [{"name": "g"}]}, Racing))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 == len(made)
    assert 1 == len(set(made))


REFUSED = (
    b'{"id": "r", "status": "queued", "result_counts": {"total": "4"}}',
    b"[]",
    b"no json",
    b'{"data": [{"id": 7}]}',
)


def test_decoding_leaves_no_cycles() -> None:
    """Decoding, and refusing, leave nothing for the collector: bodies of megabytes must not wait for it."""
    good = dump(payload("run_completed_completions"))

    def all_of_them() -> None:
        decode(good, EvalRun)
        for body in REFUSED:
            for read in (decode, decode_page):
                with contextlib.suppress(DecodeError):
                    read(body, EvalRun)

    found: list[int] = []
    gc.disable()
    try:
        # The first times write the functions; and another test's threads may leave something once, but not each time.
        for _ in range(6):
            all_of_them()
            found.append(gc.collect())
    finally:
        gc.enable()
    assert 0 == min(found)
