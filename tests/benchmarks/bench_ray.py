"""Grading on a local Ray with one worker and with two, beside the plain loop: rows per second.

    python tests/benchmarks/bench_ray.py [--rows 40000]

Needs the extra `ray`. On a machine with two cores Ray's own processes need some of them: what two workers gain there
is less than on a cluster.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_reports import ANSWER, CHECKS

from evals_async.archive import grade_batches
from evals_async.archive.regrade.batches import ROW_COLUMNS, batch_of
from evals_async.ray import grade


TEXTS = {"input": "{{ sample.output_text }}", "reference": "{{ item.expected }}"}
CRITERIA = {"e": [{**CHECKS["rouge_l"], **TEXTS, "name": "rouge_l"}]}


def written(directory: str, count: int) -> Path:
    """Rows to grade as Parquet."""
    rows = [
        {
            "eval_id": "e",
            "run_id": "r",
            "item_id": str(number),
            "item": json.dumps({"expected": ANSWER.format(number=number % 7)}),
            "sample": json.dumps({"output_text": ANSWER.format(number=number)}),
        }
        for number in range(count)
    ]
    file = Path(directory) / "rows.parquet"
    pyarrow: Any = import_module("pyarrow")
    table = pyarrow.Table.from_batches([batch_of(rows, ROW_COLUMNS)])
    import_module("pyarrow.parquet").write_table(table, file, row_group_size=1000)
    return file


def timed(name: str, count: int, work: Callable[[], int]) -> None:
    began = time.perf_counter()
    assert work() == count
    print(f"{name}: {count / (time.perf_counter() - began):,.0f} rows/s", flush=True)


def main() -> None:
    """Print rows per second of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    count = parser.parse_args().rows
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as directory:
        file = written(directory, count)
        parquet: Any = import_module("pyarrow.parquet")

        def plain() -> int:
            batches = parquet.ParquetFile(file).iter_batches(1000)
            return sum(batch.num_rows for batch in grade_batches(batches, CRITERIA))

        timed("plain loop", count, plain)
        ray: Any = import_module("ray")
        ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        data: Any = import_module("ray.data")
        data.DataContext.get_current().enable_progress_bars = False
        for workers in (1, 2, 1, 2):  # the first of each starts its processes

            def on_ray(workers: int = workers) -> int:
                return int(grade(data.read_parquet(str(file)), CRITERIA, workers=workers).materialize().count())

            timed(f"Ray, {workers} worker{'s' * (workers > 1)}", count, on_ray)
        ray.shutdown()


if __name__ == "__main__":
    main()
