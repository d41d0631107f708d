"""How runs are named, by users and in paths."""

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
"""How a run may be named: its id (with `eval_id=` beside it), a pair `(eval_id, run_id)`, or the run itself."""

LocatedRun: TypeAlias = tuple[str, str] | EvalRun
"""A run whose eval is known with it. A bare id needs `eval_id=` beside it."""

R = TypeVar("R", bound=RunKey)
T_co = TypeVar("T_co", covariant=True)


class OfRun(Protocol[T_co]):
    """A raw method that takes a run."""

    @overload
    async def __call__(self, run_id: RunKey, *, eval_id: str, **options: Unpack[CallOptions]) -> T_co: ...

    @overload
    async def __call__(
        self, run_id: LocatedRun, *, eval_id: str | None = ..., **options: Unpack[CallOptions]
    ) -> T_co: ...


def ids_of(run: RunKey, eval_id: str | None) -> tuple[str, str]:
    """The ids of a run's eval and of the run, however it is named.

    Raises `InvalidArgument` when the eval's is unknown, or named twice and differently.
    """
    if isinstance(run, EvalRun):
        known, run_id = run.eval_id, run.id
    elif isinstance(run, tuple):
        if len(run) != 2:
            raise InvalidArgument(f"a run is named by a pair (eval_id, run_id), not by {len(run)} things")
        known, run_id = run
    else:
        known, run_id = None, run
    if known is not None and eval_id is not None and known != eval_id:
        raise InvalidArgument(f"the run {shown(run_id)} belongs to the eval {shown(known)}, not to {shown(eval_id)}")
    found = known if known is not None else eval_id
    if found is None:
        raise InvalidArgument(
            f"the eval of the run {shown(run_id)} is not known: pass eval_id=, or name it (eval_id, run_id)"
        )
    return found, run_id
