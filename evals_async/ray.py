"""Grading on a cluster with Ray Data: read rows, grade them, write Parquet. Needs the extra `ray`.

    import ray
    from evals_async.ray import criteria_of, grade, read_items

    ray.init()
    grade(read_items("tables"), criteria_of("tables")).write_parquet("grades")

Ray moves the batches, and restarts tasks whose worker died. `evals_async.archive.grade_batches` grades. This module
makes no scheduler, queue or cluster.
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from evals_async import EvalsClient, InvalidArgument, MissingExtra, OutputItem, _json, encode
from evals_async._extras import extra_missing
from evals_async._json import JSONObject, as_array, as_object, parse
from evals_async.archive.regrade.batches import (
    GRADE_COLUMNS,
    KEYS,
    ROW_COLUMNS,
    Criteria,
    batch_of,
    grade_batches,
    load_arrow,
    needs_loop,
    needs_model,
    schema_of,
)
from evals_async.grading.python import PythonGraders
from evals_async.inference import Models


__all__ = ["criteria_of", "grade", "read_items", "read_runs"]

BATCH = 1000  # rows per task
ROWS_OF_A_BLOCK = 5000  # rows per block that is put into Ray's object store


def load_ray(name: str = "ray") -> Any:
    """Import Ray, or a module of it. Raises `MissingExtra`."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(extra_missing("grading with Ray needs", "ray")) from error


# --- reading ----------------------------------------------------------------------------------------------------------


def read_items(directory: str | os.PathLike[str]) -> Any:
    """Return the items in an archive's Parquet directory (`evals-async convert --to parquet`) as a Ray dataset.

    Only the columns that graders use are read. Raises `MissingExtra`, and errors of Ray.
    """
    ray_data, dataset = load_ray("ray.data"), import_module("pyarrow.dataset")
    items = str(Path(directory) / "items")
    names: list[str] = dataset.dataset(items, partitioning="hive").schema.names
    wanted = [name for name in names if name in (*KEYS, "output_text", "model") or name.startswith("item.")]
    return ray_data.read_parquet(items).select_columns(wanted)


def criteria_of(
    directory: str | os.PathLike[str], names: Sequence[str] = (), *, models: bool = False, python: bool = False
) -> Criteria:
    """Return the criteria of the evals in an archive's Parquet directory, by eval: all, or those with these names
    or ids.

    Judges are included only with `models`, and python graders only with `python`. Raises `InvalidArgument` for an
    unknown name, and `MissingExtra`.
    """
    load_arrow()
    table = import_module("pyarrow.parquet").read_table(Path(directory) / "evals")
    found: dict[str, list[JSONObject]] = {}
    seen: set[str] = set()
    for row in table.select(["eval_id", "testing_criteria"]).to_pylist():
        kept = found.setdefault(row["eval_id"], [])
        for criterion in map(as_object, as_array(parse((row["testing_criteria"] or "[]").encode())) or ()):
            if criterion is None:
                continue
            own = {str(criterion.get("id")), str(criterion.get("name"))}
            seen |= own
            told = models if needs_model(criterion) else python if needs_loop(criterion) else True
            if told and (not names or own & set(names)):
                kept.append(criterion)
    if missing := [name for name in names if name not in seen]:
        raise InvalidArgument(f"there is no criterion {missing[0]!r} in {directory}")
    return found


async def read_runs(client: EvalsClient, runs: Iterable[tuple[str, str]]) -> Any:
    """Return the output items of runs, given as (eval_id, run_id), from the service, as a Ray dataset.

    One client in this process reads all items. All workers of a cluster share one rate limit of the service, so more
    readers would not be faster. Blocks of 5,000 rows go into Ray's object store as they arrive. Raises `MissingExtra`,
    and errors of the client.
    """
    ray, ray_data = load_ray(), load_ray("ray.data")
    blocks: list[Any] = []
    rows: list[dict[str, object]] = []
    for eval_id, run_id in runs:
        async for item in client.evals.runs.output_items.list((eval_id, run_id)):
            rows.append(row_of(item, eval_id, run_id))
            if len(rows) == ROWS_OF_A_BLOCK:
                blocks.append(ray.put(table_of(rows)))
                rows = []
    blocks.append(ray.put(table_of(rows)))
    return ray_data.from_arrow_refs(blocks)


def row_of(item: OutputItem, eval_id: str, run_id: str) -> dict[str, object]:
    sample = None if item.sample is None else _json.dump(encode(item.sample)).decode()
    row = _json.dump(item.datasource_item or {}).decode()
    return {"eval_id": eval_id, "run_id": run_id, "item_id": item.id, "item": row, "sample": sample}


def table_of(rows: Sequence[dict[str, object]]) -> Any:
    return load_arrow().Table.from_batches([batch_of(rows, ROW_COLUMNS)])


# --- grading ----------------------------------------------------------------------------------------------------------


def grade(
    dataset: Any,
    criteria: Criteria,
    *,
    models: str | os.PathLike[str] | None = None,
    python: Literal["sandbox", "trusted"] | None = None,
    workers: int | None = None,
    batch_size: int = BATCH,
) -> Any:
    """Return the grades of a dataset of rows: a lazy Ray dataset with the columns of `grade_batches`.

    The grades do not depend on the number of `workers` (`None`: as many as Ray has CPUs). Ray restarts a task whose
    worker died, so no grade is lost.

    Judges need `models`, the path of a model map that every worker can read. Each worker applies the limits of the map
    by itself. Python graders need `python`. With `models` or `python`, the workers are actors, which keep their
    connections and processes, and `workers` defaults to 1.
    """
    ray_data = load_ray("ray.data")
    # Blocks of one batch, so that all workers get work, also from a single large file.
    blocks = dataset.repartition(target_num_rows_per_block=batch_size)
    waits = any(needs_loop(criterion) for each in criteria.values() for criterion in each)
    if not waits:
        how: dict[str, Any] = {} if workers is None else {"compute": ray_data.TaskPoolStrategy(size=workers)}
        return blocks.map_batches(
            grade_table, batch_format="pyarrow", batch_size=batch_size, fn_kwargs={"criteria": criteria}, **how
        )
    return blocks.map_batches(
        GradingWorker,
        batch_format="pyarrow",
        batch_size=batch_size,
        fn_constructor_args=(criteria, None if models is None else os.fspath(models), python),
        compute=ray_data.ActorPoolStrategy(size=workers or 1),
        num_cpus=0,  # they mostly wait; a reserved CPU would be missing for the tasks that read the rows
    )


def grade_table(table: Any, *, criteria: Criteria) -> Any:
    """Return the grades of a table of rows."""
    return load_arrow().Table.from_batches(grade_batches(table.to_batches(), criteria), schema_of(GRADE_COLUMNS))


class GradingWorker:
    """An actor that grades. It opens its models and processes once, at the first batch."""

    def __init__(self, criteria: Criteria, models: str | None, python: Literal["sandbox", "trusted"] | None) -> None:
        self._waiting: list[Any] = []
        asked: Callable[[], Models] | None = None if models is None else partial(Models.from_file, models)
        coded: Callable[[], PythonGraders] | None = None if python is None else partial(PythonGraders, python)
        self._grades = grade_batches(self._batches(), criteria, models=asked, python=coded)

    def _batches(self) -> Generator[Any]:
        while self._waiting:
            yield self._waiting.pop(0)

    def __call__(self, table: Any) -> Any:
        batches = table.combine_chunks().to_batches()
        self._waiting += batches
        found = [next(self._grades) for _ in batches]
        return load_arrow().Table.from_batches(found, schema_of(GRADE_COLUMNS))

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be shutting down
            self._grades.close()
