"""Two things never become one: files of conversions, and criteria that share a name."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import KEY
from hypothesis import given, strategies as st
from waiting import LONGEST

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.archive.convert.assertions import Converter
from evals_async.archive.convert.convert import FORMATS, convert
from evals_async.archive.convert.report import ConversionReport, Output, file_name
from evals_async.archive.values import DISK_FULL
from evals_async.cli import main
from evals_async.models.graders import Grader, PythonGrader, StringCheckGrader
from evals_async.server import LocalServer, sample_tree


LONG = "eval_" + "x" * 150
IDS = [
    "eval_1",
    "eval/1",
    "eval 1",
    "eval_1 ",
    "EVAL_1",
    ".eval_1",
    "..",
    "con",
    "eval_\u00e9",
    "eval_e\u0301",
    LONG,
    LONG + "a",
    LONG + "b",
]


@given(st.text(), st.text())
def test_names_of_files_are_of_one_text_each(one: str, other: str) -> None:
    """A file name is short, has no separators, and is always the same. Two texts never share one, even if case is
    ignored.
    """
    name = file_name(one)
    assert 0 < len(name) <= 80
    assert name == file_name(one)
    assert not set(name) & set('/\\:*?"<>| ')
    assert name not in (".", "..")
    assert (one == other) == (name.lower() == file_name(other).lower())


def test_plain_ids_stay_readable() -> None:
    """An id as servers make them is its own file name."""
    for plain in ("eval_6813e0d00000000186d11de01ebd80f5", "evalrun_1", "a.b-c"):
        assert plain == file_name(plain)


def criterion(name: str) -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": name,
        "id": name,
        "input": "{{ sample.output_text }}",
        "reference": "x",
        "operation": "eq",
    }


@pytest.fixture
async def odd(file: Path) -> Path:
    """An archive of evals whose ids are hard to tell apart, with a run and an item each."""
    async with LocalServer(file) as server:
        await server.seed(
            evals=[{"id": each, "created_at": 1, "testing_criteria": [criterion("g")]} for each in IDS],
            runs=[{"id": "run_1", "eval_id": each, "status": "completed", "created_at": 1} for each in IDS],
            output_items=[
                {
                    "id": "item_1",
                    "run_id": "run_1",
                    "eval_id": each,
                    "status": "pass",
                    "created_at": 1,
                    "datasource_item_id": 0,
                    "datasource_item": {"id": each},
                    "results": [{"name": "g", "score": 1, "passed": True}],
                }
                for each in IDS
            ],
        )
    return file


def needed(form: str) -> None:
    """Skip where the extra of a form is not installed."""
    if form in ("parquet", "inspect"):
        pytest.importorskip("pyarrow" if form == "parquet" else "inspect_ai")


@pytest.mark.parametrize("form", list(FORMATS))
def test_ids_that_look_alike_have_files_of_their_own(odd: Path, tmp_path: Path, form: str) -> None:
    """Ids that differ in `/`, a space, the case or after the hundredth character overwrite nothing, in any form."""
    needed(form)
    report = convert(odd, form, tmp_path / "out")
    there = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert there == sorted(report.written)
    lowered = {str(path).lower() for path in there}
    assert len(lowered) == len(there)
    if form in ("promptfoo", "promptfooconfig"):
        rows = [json.loads(line) for path in there if path.suffix == ".jsonl" for line in path.read_text().splitlines()]
        assert sorted(IDS) == sorted(row["item"]["id"] if "item" in row else row["vars"]["item"]["id"] for row in rows)
    if form == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        items = parquet.read_table(tmp_path / "out" / "items").to_pylist()
        assert sorted(IDS) == sorted(row["eval_id"] for row in items) == sorted(row["item.id"] for row in items)


def test_one_file_is_not_written_twice(tmp_path: Path) -> None:
    """A conversion that would write one file twice raises an error."""
    out = Output(tmp_path, ConversionReport())
    out.text("a", "x", "y.txt")
    with pytest.raises(FileExistsError, match="twice"):
        out.text("b", "x", "y.txt")
    assert "a" == (tmp_path / "x" / "y.txt").read_text()


@pytest.mark.parametrize("form", list(FORMATS))
def test_a_dry_run_lists_what_would_be_written(
    odd: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`convert --dry-run` names every file, and writes none."""
    needed(form)
    out = tmp_path / "out"
    assert 0 == main(["convert", str(odd), "--to", form, "--out", str(out), "--dry-run"])
    told = capsys.readouterr()
    assert not out.exists()
    report = convert(odd, form, out)
    assert [str(path) for path in report.written] == [
        line for line in told.out.splitlines() if line.startswith(str(out))
    ]
    assert f"{len(report.written)} files would be written" in told.err
    assert 0 == main(["convert", str(odd), "--to", form, "--out", str(out)])
    assert f"{len(report.written)} files written to {out}" in capsys.readouterr().err


def test_graders_of_one_name_have_a_metric_each() -> None:
    """Two graders with the same name become two assertions with two metrics and two files."""
    converter = Converter(ConversionReport())
    graders: list[Grader] = [
        StringCheckGrader(name="g", id="g-1", input="{{ item.a }}", reference="x", operation="eq"),
        StringCheckGrader(name="g", id="g-2", input="{{ sample.output_text }}", reference="y", operation="eq"),
        PythonGrader(name="g", source="def grade(sample, item):\n    return 1.0\n", pass_threshold=0.5),
        PythonGrader(name="g", source="def grade(sample, item):\n    return 0.0\n", pass_threshold=0.5),
    ]
    made = converter.assertions("eval_1", graders)
    assert ["g-1", "g-2", "g", "g #2"] == [each["metric"] for each in made]
    files = [each["value"] for each in made if str(each["value"]).startswith("file://")]
    assert 3 == len(set(files)) == len(converter.files)


async def test_metrics_are_the_names_in_the_results(file: Path, tmp_path: Path) -> None:
    """The metrics of a configuration, the grades of the results and the columns of the tables have the same names."""
    ids = [f"g-{number}5a1b0f0-1e1c-4a8c-9d0a-5b8a8f1f0c11" for number in "abc"]
    criteria = [{**criterion("g"), "id": each} for each in ids]
    results = [{"name": each, "score": score, "passed": True} for score, each in enumerate(ids)]
    async with LocalServer() as server:
        await server.seed(
            evals=[{"id": "eval_1", "created_at": 1, "testing_criteria": criteria, "object": "eval"}],
            runs=[{"id": "run_1", "eval_id": "eval_1", "status": "completed", "created_at": 1}],
            output_items=[
                {
                    "id": "i",
                    "run_id": "run_1",
                    "eval_id": "eval_1",
                    "status": "pass",
                    "created_at": 1,
                    "results": results,
                }
            ],
        )
        client = EvalsClient(base_url=server.base_url, api_key=KEY)
        async with client, Archive.open(file) as archive:
            await archive.export(client)
            [row] = archive.table("items")
            await archive.convert("promptfoo", tmp_path)
            await archive.convert("promptfooconfig", tmp_path)
    grades = json.loads((tmp_path / "eval_items_eval_1.jsonl").read_text())["grades"]
    assert {"g": 0.0, "g #2": 1.0, "g #3": 2.0} == grades
    assert grades == {name.removeprefix("score."): row[name] for name in row if name.startswith("score.")}
    config = pytest.importorskip("yaml").safe_load((tmp_path / "eval_1" / "promptfooconfig.yaml").read_text())
    assert list(grades) == [each["metric"] for each in config["defaultTest"]["assert"]]


FULL = """
import resource, sys
from evals_async.archive.values import DISK_FULL
from evals_async.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


async def test_a_full_disk_in_convert_is_said(file: Path, tmp_path: Path) -> None:
    """A full disk during a conversion has its own error message, with the command to repeat."""
    pytest.importorskip("resource")
    async with LocalServer(file) as server:
        await server.seed(**sample_tree(runs=40, items=40))
    out = tmp_path / "out"
    program = [sys.executable, "-c", FULL, "40000", "convert", str(file), "--to", "jsonl", "--out", str(out)]
    found = await asyncio.to_thread(
        subprocess.run, program, capture_output=True, text=True, check=False, timeout=LONGEST
    )
    assert DISK_FULL == found.returncode
    assert "error: the disk is full: " in found.stderr
    assert f"next: free disk space, then: evals-async convert {file} --to jsonl --out {out}\n" in found.stderr
    assert "bug in evals-async" not in found.stderr


def test_a_place_that_cannot_be_written_is_said(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A target directory inside of a file is an error message, and not a traceback."""
    (tmp_path / "plain").write_text("")
    assert 1 == main(["convert", str(odd), "--to", "csv", "--out", str(tmp_path / "plain" / "out")])
    told = capsys.readouterr().err
    assert f"error: cannot write to {tmp_path / 'plain' / 'out'}: " in told
    assert "bug in evals-async" not in told


@pytest.mark.parametrize("form", list(FORMATS))
async def test_numbers_without_a_float_stop_no_conversion(file: Path, tmp_path: Path, form: str) -> None:
    """A score of 400 digits is a valid number in JSON. The other objects of the archive are converted too."""
    needed(form)
    results = [{"name": "g", "score": 10**400, "passed": True}]
    fields = {"run_id": "run", "eval_id": "e", "status": "pass", "created_at": 1, "datasource_item": {"n": 10**400}}
    async with LocalServer(file) as server:
        await server.seed(
            evals=[{"id": "e", "created_at": 1, "testing_criteria": [criterion("g")]}],
            runs=[{"id": "run", "eval_id": "e", "status": "completed", "created_at": 1}],
            output_items=[
                {"id": "large", "datasource_item_id": 0, **fields, "results": results},
                {"id": "plain", "datasource_item_id": 1, **fields, "results": [{**results[0], "score": 1}]},
            ],
        )
    report = convert(file, form, tmp_path / "out")
    assert report.written
    assert "asyncio.runners" == asyncio.run.__module__  # Inspect AI replaces it if it is called in an event loop
    if form == "jsonl":
        found = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
        assert ["inf", 1.0] == [row["score.g"] for row in found]


async def test_files_of_another_archive_in_the_directory_are_reported(tmp_path: Path) -> None:
    """Two archives that are converted into one directory of Parquet would be read as one: the report says it."""
    needed("parquet")
    for name in ("first", "second"):
        async with LocalServer(tmp_path / f"{name}.db") as server:
            await server.seed(
                evals=[{"id": name, "created_at": 1}],
                runs=[{"id": "run", "eval_id": name, "status": "completed", "created_at": 1}],
            )
    found = [convert(tmp_path / f"{name}.db", "parquet", tmp_path / "out") for name in ("first", "first", "second")]
    older = [[remark.what for remark in each.remarks if "earlier" in remark.what] for each in found]
    kinds = [f"{table} of an earlier conversion" for table in ("runs", "items", "results")]
    assert [[], [], kinds] == older
