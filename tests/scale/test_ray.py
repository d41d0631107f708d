"""Grading with a local Ray: equal grades whatever the number of workers, and nothing is lost when one dies."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evals_async import EvalsClient, InvalidArgument
from evals_async.archive import Archive, grade_batches
from evals_async.archive.regrade.batches import ROW_COLUMNS, batch_of
from evals_async.inference import Rule, ScriptedModels
from evals_async.ray import criteria_of, grade, read_items, read_runs
from evals_async.server import LocalServer, SampleTree, sample_tree


pytestmark = [
    pytest.mark.slow,  # Ray takes ten seconds to start: `nox -s scale` runs these
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="not installed: ray"),
    pytest.mark.filterwarnings("default"),  # Ray has deprecations of its own
]

Grades = dict[tuple[str, str, str], tuple[Any, ...]]


@pytest.fixture(scope="module")
def tree() -> SampleTree:
    return sample_tree(16, items=12)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two CPUs on loopback."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    running = import_module("ray")
    running.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}},
    )
    running.data.DataContext.get_current().enable_progress_bars = False
    yield running
    running.shutdown()


@pytest.fixture
async def tables(tree: SampleTree, tmp_path: Path) -> Path:
    """The Parquet directory of an archive of the sample."""
    async with LocalServer() as server:
        await server.seed(**tree)
        client = EvalsClient(base_url=server.base_url, api_key="k")
        async with client, Archive.open(tmp_path / "evals.db") as archive:
            await archive.export(client)
            await archive.convert("parquet", tmp_path / "tables")
    return tmp_path / "tables"


def by_key(rows: list[dict[str, Any]]) -> Grades:
    """Grades by item and criterion; each is there once."""
    found = {
        (row["run_id"], row["item_id"], row["criterion"]): (row["score"], row["passed"], row["error"]) for row in rows
    }
    assert len(found) == len(rows)
    return found


def by_hand(tables: Path) -> Grades:
    """The grades of the plain loop."""
    dataset = import_module("pyarrow.dataset").dataset(tables / "items", partitioning="hive")
    batches = grade_batches(dataset.to_batches(), criteria_of(tables))
    return by_key([row for batch in batches for row in batch.to_pylist()])


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_grades_whatever_the_workers(ray: Any, tables: Path, tmp_path: Path, workers: int) -> None:
    """One worker or two give the grades of the plain loop, and Parquet holds them all."""
    graded = grade(read_items(tables), criteria_of(tables), workers=workers, batch_size=7)
    graded.write_parquet(str(tmp_path / "grades"))
    written = import_module("pyarrow.parquet").read_table(tmp_path / "grades").to_pylist()
    assert by_hand(tables) == by_key(written)


def die_once(mark: str, table: Any) -> Any:
    """Kill the worker that this runs in, the first time."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return table
    os.kill(os.getpid(), signal.SIGKILL)
    return table


def test_a_worker_that_is_killed_loses_nothing(ray: Any, tables: Path, tmp_path: Path) -> None:
    """A worker is killed in the middle of the work: Ray grades its rows elsewhere, each of them once."""
    mark = tmp_path / "killed"
    rows = read_items(tables).map_batches(partial(die_once, str(mark)), batch_format="pyarrow", batch_size=5)
    found = grade(rows, criteria_of(tables), batch_size=5).take_all()
    assert mark.exists()
    assert by_hand(tables) == by_key(found)


def checks_of(body: Any) -> list[Any]:
    """The string checks of an eval."""
    return [each for each in body["testing_criteria"] if each["type"] == "string_check"]


async def test_runs_straight_from_the_service(ray: Any, tree: SampleTree) -> None:
    """Runs are read through one client, and graded with what tables do not keep: the whole sample."""
    async with LocalServer() as server:
        await server.seed(**tree)
        runs = [(str(run["eval_id"]), str(run["id"])) for run in tree["runs"] if run["status"] == "completed"]
        async with EvalsClient(base_url=server.base_url, api_key="k") as client:
            dataset = await read_runs(client, runs)
    kinds = {str(body["id"]): checks_of(body) for body in tree["evals"]}
    found = by_key(grade(dataset, kinds).take_all())
    service = {
        (str(item["run_id"]), str(item["id"]), result["name"]): (result["score"], result["passed"])
        for item in tree["output_items"]
        if item["status"] != "error"
        for result in json.loads(json.dumps(item["results"]))
    }
    checked = {key: grades[:2] for key, grades in found.items() if key in service}
    assert len(checked) > 100
    assert {key: service[key] for key in checked} == checked


def test_judges_on_actors(ray: Any, tmp_path: Path) -> None:
    """Judges are asked by actors, which read the model map themselves; each row is judged once."""
    judge = {"type": "score_model", "name": "Judge", "model": "judge", "input": [{"role": "user", "content": "?"}]}
    rows = [
        {"eval_id": "e", "run_id": "r", "item_id": str(number), "item": "{}", "sample": '{"output_text": "x"}'}
        for number in range(40)
    ]
    dataset = ray.data.from_arrow(import_module("pyarrow").Table.from_batches([batch_of(rows, ROW_COLUMNS)]))
    with ScriptedModels.in_thread(Rule(result=0.5)) as scripted:
        models = tmp_path / "models.toml"
        models.write_text(f'[models.judge]\nbase_url = "{scripted.base_url}"\n')
        found = grade(dataset, {"e": [judge]}, models=models, workers=2, batch_size=10).take_all()
        assert 40 == len(scripted.requests)
    assert {(0.5, True, None)} == set(by_key(found).values())
    assert 40 == len(found)


def test_criteria_are_named(tables: Path) -> None:
    """Criteria that cost are left out unless told; a name that is not there is refused."""
    named = {str(each["name"]) for found in criteria_of(tables).values() for each in found}
    everything = {str(each["name"]) for found in criteria_of(tables, models=True).values() for each in found}
    assert {"Accuracy", "Friendly"} == everything - named
    assert ["Desk"] == [str(each["name"]) for found in criteria_of(tables, ["Desk"]).values() for each in found]
    with pytest.raises(InvalidArgument, match="there is no criterion 'Desc'"):
        criteria_of(tables, ["Desc"])
