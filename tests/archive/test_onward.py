"""Reading an archive, and the way onward: models, tables, promptfoo, another server."""

import csv
import json
import re
import runpy
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from doubles import ScaledClock
from plainhttp import EXACT, eval_request, row, run_request

from evals_async import EvalsClient, InvalidArgument, MissingExtra, to_arrow, to_rows
from evals_async._codec import structure
from evals_async.archive import Archive
from evals_async.archive.convert.assertions import Converter
from evals_async.archive.convert.convert import FORMATS, convert
from evals_async.archive.convert.promptfoo import row_of
from evals_async.archive.convert.report import ConversionReport, file_name
from evals_async.archive.convert.yaml import document
from evals_async.models import EvalRun, OutputItem
from evals_async.models.graders import (
    LabelModelGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from evals_async.server import LocalServer, sample_tree
from evals_async.tables._cells import CriterionNames


@pytest_asyncio.fixture
async def sample(file: Path) -> AsyncIterator[tuple[Path, EvalsClient]]:
    """An archive of the sample tree, and a client of the server it came from."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(runs=20, items=6))
        async with EvalsClient(base_url=server.base_url, api_key="k") as client:
            async with Archive.open(file) as archive:
                await archive.export(client)
            yield file, client


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_an_archive_reads_as_the_client_does(sample: tuple[Path, EvalsClient]) -> None:
    """Evals, runs, items and files are the same objects that the client returns, in the same order."""
    file, client = sample
    async with Archive.open(file, read_only=True) as archive:
        evals = [each async for each in archive.evals()]
        assert [each async for each in client.evals.list()] == evals
        for evaluation in evals:
            runs = [each async for each in archive.runs(evaluation.id)]
            assert [each async for each in client.evals.runs.list(evaluation.id)] == runs
            for run in runs:
                listed = await client.evals.runs.output_items.list(run.id, eval_id=evaluation.id).collect()
                assert listed == [each async for each in archive.items(run)]
        files = [each async for each in archive.files()]
        assert [each async for each in client.files.list(order="asc")] == files
        assert await client.files.content(files[0].id) == await archive.content(files[0].id)
        first = await anext(archive.runs())
        assert first == await archive.run(first.id)
        failed = [each.status async for each in archive.runs(status="failed")]
        assert set(failed) <= {"failed"}
        with pytest.raises(InvalidArgument, match="no run evalrun_x"):
            await archive.run("evalrun_x")


async def test_the_summary_counts_what_is_there(sample: tuple[Path, EvalsClient]) -> None:
    """The summary has the counts of each eval, and of the whole archive."""
    async with Archive.open(sample[0], read_only=True) as archive:
        summary = await archive.summary()
    assert (4, 20, 4, 0, None) == (
        len(summary.evals),
        summary.counts["runs"],
        summary.contents,
        summary.unfinished,
        summary.writer,
    )
    assert summary.counts["output_items"] == sum(each.items for each in summary.evals)


async def test_an_estimate_writes_nothing(sample: tuple[Path, EvalsClient], tmp_path: Path) -> None:
    """The estimate of an export has the counts of the export."""
    async with Archive.open(tmp_path / "empty.db") as archive:
        found = await archive.estimate(sample[1])
        async with Archive.open(sample[0], read_only=True) as full:
            counts = (await full.summary()).counts
        assert (counts["evals"], counts["runs"], counts["output_items"]) == (found.evals, found.runs, found.items)
        assert 0 == (await archive.summary()).counts["evals"]


# --- tables -----------------------------------------------------------------------------------------------------------


async def test_tables_are_those_of_the_client(sample: tuple[Path, EvalsClient]) -> None:
    """A table of an archive has the same rows and columns as `to_rows` and `to_arrow` of the client's objects."""
    pyarrow = pytest.importorskip("pyarrow")
    file, client = sample
    evals = [each async for each in client.evals.list()]
    runs = [run for each in evals async for run in client.evals.runs.list(each.id)]
    items = client.evals.runs.output_items.list_many(runs, concurrency=1)
    kept = [each.unwrap() async for each in items]
    async with Archive.open(file, read_only=True) as archive:
        assert to_rows(evals) == list(archive.table("evals"))
        assert to_rows(runs) == archive.table("runs").to_rows() == await to_rows(archive.runs())
        for name, table in (("items", to_arrow(kept)), ("results", to_arrow(kept, table="results"))):
            assert table.equals(pyarrow.table(archive.table(name)))
            assert list(archive.table(name).columns) == table.schema.names
        one = archive.table("items", eval_id=evals[0].id)
        assert to_rows([each for each in kept if each.eval_id == evals[0].id]) == list(one)
        with pytest.raises(InvalidArgument, match="no table 'rows'"):
            archive.table("rows")


async def test_pandas_polars_and_duckdb_take_a_table(sample: tuple[Path, EvalsClient]) -> None:
    """`pandas.DataFrame(t)`, `polars.DataFrame(t)` and `duckdb.sql("from t")` work, with times and numbers."""
    pandas, polars, duckdb = map(pytest.importorskip, ("pandas", "polars", "duckdb"))
    async with Archive.open(sample[0], read_only=True) as archive:
        t = archive.table("runs")
    frame = pandas.DataFrame(t)
    assert 20 == len(frame)
    assert re.fullmatch(r"datetime64\[\w+, UTC\]", str(frame["created_at"].dtype))  # pandas 2 counts ns, 3 counts us
    assert polars.Int64 == polars.DataFrame(t).schema["passed"]
    assert [(20,)] == duckdb.sql("select count(*) from t").fetchall()


async def test_without_pyarrow_the_extra_is_named(
    sample: tuple[Path, EvalsClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and Parquet say which extra they need; JSON Lines and CSV need none."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with Archive.open(sample[0], read_only=True) as archive:
        assert list(archive.table("items"))
        with pytest.raises(MissingExtra, match=r"pip install '\.\[arrow\]'"):
            archive.table("items").reader()
        with pytest.raises(MissingExtra):
            await archive.convert("parquet", tmp_path / "rows")
        assert 5 == len((await archive.convert("csv", tmp_path / "rows")).written)


def test_rows_are_the_same_in_every_form(sample: tuple[Path, EvalsClient], tmp_path: Path) -> None:
    """JSON Lines, CSV and Parquet hold the same items; the losses are reported."""
    parquet = pytest.importorskip("pyarrow.parquet")
    reports = {form: convert(sample[0], form, tmp_path / form) for form in ("jsonl", "csv", "parquet")}
    lines = [json.loads(line) for line in (tmp_path / "jsonl/items.jsonl").read_text().splitlines()]
    with (tmp_path / "csv/items.csv").open(newline="") as opened:
        cells = list(csv.DictReader(opened))
    stored = parquet.read_table(tmp_path / "parquet/items").to_pylist()
    ids = [line["item_id"] for line in lines]
    assert ids == [cell["item_id"] for cell in cells]
    assert sorted(ids) == sorted(each["item_id"] for each in stored)
    assert {line["eval_id"] for line in lines} == {each["eval_id"] for each in stored}
    assert [line["item.expected"] for line in lines] == [cell["item.expected"] for cell in cells]
    assert {str(line["created_at"]) for line in lines} == {cell["created_at"] for cell in cells}
    assert sum(line["total_tokens"] or 0 for line in lines) == sum(each["total_tokens"] or 0 for each in stored)
    for report in reports.values():
        assert not report.lossless
        assert len(ids) == report.counts()["dropped"]  # the messages sent


def test_a_formula_is_no_formula_in_csv(tmp_path: Path) -> None:
    """A text that a spreadsheet would execute as a formula gets a leading quote."""
    from evals_async.archive.convert.flat import harmless

    assert ["'=1+1", "'@x", "'-2", "x=1", 5, "true"] == [
        harmless(each) for each in ("=1+1", "@x", "-2", "x=1", 5, True)
    ]


# --- promptfoo --------------------------------------------------------------------------------------------------------


def is_accepted(value: dict[str, Any]) -> bool:
    """The checks of promptfoo's importer, written from its description."""

    def number(each: object) -> bool:
        return isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e308

    sample = value["sample"]
    return (
        isinstance(value["run_id"], str)
        and isinstance(value["data_source_idx"], int)
        and value["data_source_idx"] >= 0
        and isinstance(value["item"], dict)
        and all(number(each) for each in value["grades"].values())
        and all(isinstance(each, bool) for each in value.get("passes", {}).values())
        and all(isinstance(each["content"], str) for each in sample["outputs"])
        and all(number(each) for each in sample.get("token_usage", {}).values())
        and sample.get("error", "") is not None
    )


def test_results_are_rows_that_promptfoo_takes(sample: tuple[Path, EvalsClient], tmp_path: Path) -> None:
    """One file per eval, a row per item, each in the form that the importer checks; errors only where there is one."""
    report = convert(sample[0], "promptfoo", tmp_path)
    rows = [json.loads(line) for path in report.written for line in path.read_text().splitlines()]
    assert len(rows) == report.counts()["mapped"] > 50
    assert all(map(is_accepted, rows))
    assert all("-" not in name[-37:-35] for each in rows for name in each["grades"])
    errored = [each for each in rows if "error" in each["sample"]]
    assert all(each["sample"]["error"] for each in errored)


def test_odd_items_become_rows_too() -> None:
    """Null scores, text ids, equal grader names, tool calls and errors are converted, and the losses are reported."""
    report = ConversionReport()
    body: dict[str, Any] = {
        "id": "1",
        "datasource_item_id": "7",
        "datasource_item": None,
        "status": "error",
        "results": [
            {"name": "g", "score": None, "passed": None},
            {"name": "h", "metric": "a", "score": 1, "passed": True},
            {"name": "h", "metric": "b", "score": 0, "passed": False},
        ],
        "sample": {
            "output": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}],
            "usage": {"total_tokens": 3},
            "error": {"code": "x", "message": "no luck"},
        },
    }
    item = structure(body, OutputItem)
    made = row_of(
        EvalRun(id="run", status="completed"), item, 4, CriterionNames().of_results("e", item.results), report
    )
    assert is_accepted(json.loads(json.dumps(made)))
    assert {
        "run_id": "run",
        "data_source_idx": 4,
        "item": {},
        "grades": {"h (a)": 1.0, "h (b)": 0.0},
        "passes": {"h (a)": True, "h (b)": False},
        "sample": {"outputs": [{"role": "assistant", "content": '[{"id":"c"}]'}], "error": "no luck"},
    } == made
    assert {"mapped": 1, "approximated": 3, "dropped": 2} == report.counts()


def read_yaml(text: str) -> Any:
    """The text that another program reads."""
    return pytest.importorskip("yaml").safe_load(text)


OUTPUT, REFERENCE = "{{ sample.output_text }}", "{{ item.answer }}"


@pytest.mark.parametrize(
    ("operation", "kind"), [("eq", "equals"), ("ne", "not-equals"), ("like", "contains"), ("ilike", "icontains")]
)
def test_string_checks_are_exact(operation: str, kind: str) -> None:
    """Each operation becomes the assertion of the same meaning, with the reference's template as it is."""
    converter = Converter(ConversionReport())
    grader = StringCheckGrader(name="g", input=OUTPUT, reference=REFERENCE, operation=operation)
    assert {"type": kind, "metric": "g", "value": REFERENCE} == converter.assertion(grader, grader.name)
    assert converter.report.lossless


@pytest.mark.parametrize(("operation", "verdict"), [("eq", False), ("ne", True), ("like", True), ("ilike", True)])
def test_a_check_of_something_else_runs_in_python(tmp_path: Path, operation: str, verdict: bool) -> None:
    """A string check of another field becomes Python code that says what the grader says."""
    converter = Converter(ConversionReport())
    template = "{{ item.list[1].name }} {{ sample.output_json.x }}"
    grader = StringCheckGrader(name="odd name", input=template, reference="{{item.want}}", operation=operation)
    name = f"{file_name('odd name')}.py"
    assert {"type": "python", "metric": "odd name", "value": f"file://graders/{name}"} == converter.assertion(
        grader, "odd name"
    )
    (tmp_path / "g.py").write_text(converter.files[name])
    ask = runpy.run_path(str(tmp_path / "g.py"))["get_assert"]
    names = {"vars": {"item": {"list": [0, {"name": "Ann"}], "want": "Ann"}}}
    assert verdict == ask('{"x": 5}', names)


def test_python_graders_keep_their_source(tmp_path: Path) -> None:
    """The source is called as the service calls it, and its threshold decides."""
    converter = Converter(ConversionReport())
    source = "def grade(sample, item):\n    return len(sample['output_text']) / item['n']\n"
    assert converter.assertion(PythonGrader(name="p", source=source, pass_threshold=0.5), "p")
    (tmp_path / "g.py").write_text(converter.files["p.py"])
    ask = runpy.run_path(str(tmp_path / "g.py"))["get_assert"]
    assert {"pass": True, "score": 0.5, "reason": "p"} == ask("ab", {"vars": {"item": {"n": 4}}})


def test_every_grader_is_converted_or_reported() -> None:
    """Similarity, score and label graders are approximated with a reason. Graders without an equivalent are reported
    as dropped.
    """
    converter = Converter(ConversionReport())
    messages = ({"role": "system", "content": "Judge {{ sample.output_text }} by {{ item.x }}."},)
    metrics = ("rouge_1", "rouge_l", "bleu", "gleu", "meteor", "cosine", "fuzzy_match")
    made = [
        converter.assertion(
            structure(
                {**EXACT, "type": "text_similarity", "evaluation_metric": metric, "pass_threshold": 0.5},
                TextSimilarityGrader,
            ),
            "Exact",
        )
        for metric in metrics
    ]
    assert ["rouge-n", "python", "bleu", "gleu", "meteor", "similar:cosine", "python"] == [
        each["type"] for each in made if each
    ]
    score = {
        "type": "score_model",
        "name": "s",
        "model": "gpt",
        "input": messages,
        "range": [1, 7],
        "pass_threshold": 5,
    }
    label = {
        "type": "label_model",
        "name": "l",
        "model": "gpt",
        "input": messages,
        "labels": ["a"],
        "passing_labels": ["a"],
    }
    first = converter.assertion(structure(json.loads(json.dumps(score)), ScoreModelGrader), "s")
    second = converter.assertion(structure(json.loads(json.dumps(label)), LabelModelGrader), "l")
    assert first is not None
    assert second is not None
    assert ("llm-rubric", 5.0, "openai:chat:gpt") == (first["type"], first["threshold"], first["provider"])
    assert "Judge {{ output }} by {{ item.x }}." in str(first["rubricPrompt"])
    assert "threshold" not in second
    odd = {**EXACT, "type": "text_similarity", "evaluation_metric": "cosine", "input": "{{ item.x }}"}
    assert converter.assertion(structure(odd, TextSimilarityGrader), "Exact") is None
    assert {"mapped": 0, "approximated": 9, "dropped": 1} == converter.report.counts()
    assert ["grader Exact (cosine of {{ item.x }}) is not converted"] == converter.comments


def test_configurations_are_yaml_with_rows_and_prompts(sample: tuple[Path, EvalsClient], tmp_path: Path) -> None:
    """One directory per eval, with nested variables, the template of a run, and the environment that it needs."""
    report = convert(sample[0], "promptfooconfig", tmp_path / "configs")
    configurations = [path for path in report.written if path.name == "promptfooconfig.yaml"]
    assert 4 == len(configurations)
    assert sorted(report.written) == sorted(path for path in (tmp_path / "configs").rglob("*") if path.is_file())
    for path in configurations:
        config = read_yaml(path.read_text())
        assert {"PROMPTFOO_DISABLE_OBJECT_STRINGIFY": "true"} == config["env"]
        tests = [json.loads(line) for line in (path.parent / "tests.jsonl").read_text().splitlines()]
        assert all(isinstance(test["vars"]["item"], dict) for test in tests)
        (prompt,) = config["prompts"]
        messages = json.loads((path.parent / prompt.removeprefix("file://")).read_text())
        assert any("{{ item." in message["content"] for message in messages)
        assert config["providers"][0].startswith("openai:chat:")
        for each in config["defaultTest"]["assert"]:
            if each["type"] == "python":
                assert (path.parent / each["value"].removeprefix("file://")).exists()


def test_yaml_says_what_json_says() -> None:
    """Nested mappings and lists, empty ones, odd keys and odd texts come back as they were."""
    value: dict[str, Any] = {
        "a": [{"b": [1, [2, "x"], {}], "c": None}, []],
        "odd key: yes": {"t": "a: b # c\n- d\u2028é", "n": 1e-7, "no": "no"},
    }
    assert value == read_yaml(document(value, ["a comment\nin two lines"]))


def test_another_form_is_refused(sample: tuple[Path, EvalsClient], tmp_path: Path) -> None:
    """The error for an unknown format lists the formats."""
    with pytest.raises(
        InvalidArgument, match="the formats are: jsonl, csv, parquet, promptfoo, promptfooconfig, inspect"
    ):
        convert(sample[0], "xml", tmp_path)
    assert 6 == len(FORMATS)


# --- another server ---------------------------------------------------------------------------------------------------


async def test_what_is_pushed_is_the_same_definition(file: Path) -> None:
    """Evals, files and runs are created again with the schema unwrapped; a second push creates nothing twice."""
    clock = ScaledClock(50)
    async with LocalServer(clock=clock) as old, LocalServer(clock=clock) as new:
        here = EvalsClient(base_url=old.base_url, api_key="k", clock=clock)
        there = EvalsClient(base_url=new.base_url, api_key="k", clock=clock)
        async with here, there:
            made = await here.evals.create(**eval_request(metadata={"team": "a"}))  # type: ignore[arg-type]  # plain JSON
            lines = "".join(json.dumps(row(word, word)) + "\n" for word in ("a", "b")).encode()
            upload = await here.files.create(file=("rows.jsonl", lines))
            source: dict[str, Any] = {"type": "jsonl", "source": {"type": "file_id", "id": upload.id}}
            await here.evals.runs.create(made.id, name="from a file", data_source=source)  # type: ignore[arg-type]
            inline = run_request(row("a", "b"))["data_source"]
            last = await here.evals.runs.create(made.id, name="inline", data_source=inline)  # type: ignore[arg-type]
            await here.evals.runs.wait(last.id, eval_id=made.id)
            async with Archive.open(file, clock=clock) as archive:
                await archive.export(here)
                first = await archive.push(there, runs="all")
                second = await archive.push(there, runs="all")
            (pushed,) = [each async for each in there.evals.list()]
            assert made.to_create() | {"metadata": {"team": "a", "archived_as": made.id}} == pushed.to_create()
            runs = [each async for each in there.evals.runs.list(pushed.id)]
            assert ["from a file", "inline"] == [each.name for each in runs]
            ended = await there.evals.runs.wait(runs[0].id, eval_id=pushed.id)
    assert ended.result_counts is not None
    assert (2, 2) == (ended.result_counts.total, ended.result_counts.passed)
    assert (1, 2, 1) == (len(first.evals), len(first.runs), len(first.files))
    assert (first.evals, first.runs, {}) == (second.evals, second.runs, second.files)
    assert {"mapped": 2, "approximated": 2, "dropped": 0} == first.report.counts()


async def test_what_cannot_be_pushed_is_reported(sample: tuple[Path, EvalsClient], file: Path) -> None:
    """A run whose file is not in the archive is dropped with the reason; the evals are created all the same."""
    connection = sqlite3.connect(file)
    connection.execute("UPDATE files SET sha256 = NULL")
    connection.commit()
    connection.close()
    async with LocalServer() as new:
        there = EvalsClient(base_url=new.base_url, api_key="k")
        async with there, Archive.open(file) as archive:
            push = await archive.push(there, runs="newest")
    assert (4, 0) == (len(push.evals), len(push.runs))
    assert {"mapped": 4, "approximated": 0, "dropped": 4} == push.report.counts()


async def test_what_cannot_be_decoded_stops_no_push(file: Path) -> None:
    """An eval and a run of another shape, and a run that the client refuses, are reported; the others are created."""
    clock = ScaledClock(50)
    plain = eval_request()
    source = run_request(row("a", "b"))["data_source"]
    async with LocalServer(clock=clock) as old, LocalServer(clock=clock) as new:
        here = EvalsClient(base_url=old.base_url, api_key="k", clock=clock)
        there = EvalsClient(base_url=new.base_url, api_key="k", clock=clock)
        async with here, there, Archive.open(file, clock=clock) as archive:
            made = await here.evals.create(**plain)  # type: ignore[arg-type]  # plain JSON
            strange = {"status": "completed", "eval_id": made.id, "created_at": 2, "data_source": source}
            await old.seed(
                evals=[{"id": "eval_strange", "name": 5, "created_at": 1}],
                runs=[
                    {"id": "run_strange", **strange, "name": 5},
                    {"id": "run_metadata", **strange, "metadata": {"k" * 100: "v"}},
                    {"id": "run_plain", **strange, "name": "plain"},
                ],
            )
            await archive.export(here)
            push = await archive.push(there, runs="all")
    assert ([made.id], ["run_plain"]) == (list(push.evals), list(push.runs))
    dropped = {remark.what: remark.why for remark in push.report.remarks if remark.result == "dropped"}
    assert {"evals that cannot be decoded", "runs that cannot be decoded", "run run_metadata"} == set(dropped)
    assert "$.name" in dropped["evals that cannot be decoded"]


# --- what users hold --------------------------------------------------------------------------------------------------


async def test_a_bare_run_id_is_refused_with_words(file: Path) -> None:
    """`archive.items("evalrun_1")` says how a run is named, when it is called."""
    async with Archive.open(file) as archive:
        for wrong in ("evalrun_1", ("eval_1", ""), EvalRun(id="evalrun_1", status="queued"), None):
            with pytest.raises(InvalidArgument, match=r"pass the run as \(eval_id, run_id\)"):
                archive.items(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
