"""The references to runs in arguments, and the routes of runs."""

from typing import Protocol, TypeAlias, TypeVar, Unpack, overload

from evals_async.errors import InvalidArgument, shown
from evals_async.models.runs import EvalRun
from evals_async.resources._caller import Identity
from evals_async.resources._requests import CallOptions


RUNS = "/evals/{eval_id}/runs"
RUN = "/evals/{eval_id}/runs/{run_id}"

RUN_IDS = Identity("eval_id", "id")
EVAL_OF_RUN = Identity("eval_id")

RunKey: TypeAlias = str | tuple[str, str] | EvalRun
"""A reference to a run: its id (together with `eval_id=`), a pair `(eval_id, run_id)`, or an `EvalRun`."""

LocatedRun: TypeAlias = tuple[str, str] | EvalRun
"""A reference to a run that includes its eval. An id alone needs `eval_id=`."""

R = TypeVar("R", bound=RunKey)
L = TypeVar("L", bound=LocatedRun)
T_co = TypeVar("T_co", covariant=True)


class OfRun(Protocol[T_co]):
    """A raw method with a run as its argument."""

    @overload
    async def __call__(self, run_id: RunKey, *, eval_id: str, **options: Unpack[CallOptions]) -> T_co: ...

    @overload
    async def __call__(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> T_co: ...


def ids_of(run: RunKey, eval_id: str | None) -> tuple[str, str]:
    """Return the ids of the eval and of the run for a reference.

    Raises `InvalidArgument` if the id of the eval is unknown, or if two different ids are given.
    """
    if isinstance(run, EvalRun):
        known, run_id = run.eval_id, run.id
    elif isinstance(run, tuple):
        if len(run) != 2:
            raise InvalidArgument(f"a run as a tuple must be a pair (eval_id, run_id), not {len(run)} values")
        known, run_id = run
    else:
        known, run_id = None, run
    if known is not None and eval_id is not None and known != eval_id:
        raise InvalidArgument(f"the run {shown(run_id)} belongs to the eval {shown(known)}, not to {shown(eval_id)}")
    found = known if known is not None else eval_id
    if found is None:
        raise InvalidArgument(
            f"the eval of the run {shown(run_id)} is unknown: pass eval_id=, or pass the pair (eval_id, run_id)"
        )
    return found, run_id
