"""Evals, runs and output items, read by command over a real socket."""

import asyncio
import json
import os
import re
import signal
import sys

import pytest
from commandline import KEY, Command, ended, start
from waiting import LONGEST

from evals_async._json import as_object
from evals_async.server import Fault, FaultPlan, LocalServer, SampleTree


class Doorbell(FaultPlan):
    """Faults, and a sign that a request has come."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.rang = asyncio.Event()

    def take(self, method: str, template: str) -> Fault | None:
        self.rang.set()
        return super().take(method, template)


def ids(tree: SampleTree) -> tuple[str, str]:
    """The first eval of the sample, and its first run."""
    run = next(run for run in tree["runs"] if run["eval_id"] == tree["evals"][0]["id"])
    return str(run["eval_id"]), str(run["id"])


def runs_of(tree: SampleTree, eval_id: str) -> list[object]:
    return [run for run in tree["runs"] if run["eval_id"] == eval_id]


async def test_evals_list_prints_tab_separated_lines(command: Command, tree: SampleTree) -> None:
    """Where stdout is no terminal: a header, full values, one line each; the hint is on stderr."""
    result = await command("evals", "list")
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert 0 == result.code
    assert ["id", "name", "criteria", "created"] == lines[0]
    assert [entry["id"] for entry in tree["evals"]] == [line[0] for line in lines[1:]]
    assert "2025-05-01T21:00:00Z" == lines[1][3]
    assert f"next: evals-async runs list {tree['evals'][0]['id']}\n" == result.err


async def test_json_is_exact(command: Command, tree: SampleTree) -> None:
    """--json and --jsonl print what the server sent: a list as one array or as lines, a single thing as one object."""
    eval_id, run_id = ids(tree)
    expected = runs_of(tree, eval_id)
    whole = await command("runs", "list", eval_id, "--json")
    lines = await command("runs", "list", eval_id, "--jsonl")
    one = await command("runs", "get", f"{eval_id}/{run_id}", "--json")
    line = await command("runs", "get", f"{eval_id}/{run_id}", "--jsonl")
    assert expected == json.loads(whole.out)
    assert expected == [json.loads(text) for text in lines.out.splitlines()]
    assert expected[0] == json.loads(one.out) == json.loads(line.out)
    assert 1 == len(line.out.splitlines())
    assert ["", "", "", ""] == [result.err for result in (whole, lines, one, line)]


async def test_empty_list(command: Command, tree: SampleTree) -> None:
    """Nothing found is an empty array, or a header alone with a word on stderr; never an error."""
    eval_id, _ = ids(tree)
    last = as_object(runs_of(tree, eval_id)[-1])
    assert last
    empty = ("runs", "list", eval_id, "--after", str(last["id"]))
    assert (0, []) == ((result := await command(*empty, "--json")).code, json.loads(result.out))
    assert (0, "") == ((result := await command(*empty, "--jsonl")).code, result.out)
    result = await command(*empty)
    assert (0, 1, "no runs\n") == (result.code, len(result.out.splitlines()), result.err)


async def test_limit_asks_for_no_more_than_needed(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """--limit ends the listing without a further page; --order is passed on."""
    eval_id, _ = ids(tree)
    result = await command("runs", "list", eval_id, "--limit", "2", "--order", "desc", "--jsonl")
    newest = [run["id"] for run in map(as_object, runs_of(tree, eval_id)) if run]
    assert newest[::-1][:2] == [json.loads(line)["id"] for line in result.out.splitlines()]
    assert [{"limit": "2", "order": "desc"}] == [dict(seen.query) for seen in server.requests]


async def test_runs_are_named_in_two_ways(command: Command, tree: SampleTree) -> None:
    """EVAL_ID/RUN_ID, or RUN_ID with --eval."""
    eval_id, run_id = ids(tree)
    pair = await command("runs", "get", f"{eval_id}/{run_id}")
    option = await command("runs", "get", run_id, "--eval", eval_id)
    assert pair == option
    fields = dict(line.split("\t", 1) for line in pair.out.split("\n\n")[0].splitlines())
    assert (run_id, eval_id) == (fields["id"], fields["eval_id"])
    assert f"next: evals-async items list {eval_id}/{run_id}\n" == pair.err


async def test_several_runs_keep_their_order_and_failures_lose_nothing(command: Command, tree: SampleTree) -> None:
    """What can be fetched is printed in the order asked; what cannot is told, with its request id; the code is 1."""
    eval_id, _ = ids(tree)
    wanted = [str(run["id"]) for run in map(as_object, runs_of(tree, eval_id)) if run][::-1]
    result = await command("runs", "get", *wanted, "evalrun_none", "--eval", eval_id, "--jsonl")
    assert wanted == [json.loads(line)["id"] for line in result.out.splitlines()]
    assert 1 == result.code
    assert re.search(r"error: 404 .*evalrun_none \(req_\w+\): ", result.err)
    assert f"next: evals-async runs list {eval_id}\n" in result.err


async def test_items_of_a_run(command: Command, tree: SampleTree) -> None:
    """Output items are listed with verdict and answer, exactly with --jsonl, filtered with --status."""
    run_id = str(tree["output_items"][0]["run_id"])
    eval_id = str(tree["output_items"][0]["eval_id"])
    expected = [item for item in tree["output_items"] if item["run_id"] == run_id]
    table = await command("items", "list", f"{eval_id}/{run_id}")
    lines = await command("items", "list", run_id, "--eval", eval_id, "--jsonl")
    passed = await command("items", "list", run_id, "--eval", eval_id, "--status", "pass", "--jsonl")
    assert "row\tstatus\tfailed_criteria\tscores\toutput\tid\trun_id" == table.out.splitlines()[0]
    assert [item["id"] for item in expected] == [line.split("\t")[5] for line in table.out.splitlines()[1:]]
    assert expected == [json.loads(line) for line in lines.out.splitlines()]
    assert [item for item in expected if item["status"] == "pass"] == [json.loads(x) for x in passed.out.splitlines()]


async def test_items_of_all_runs_of_an_eval(command: Command, tree: SampleTree) -> None:
    """`items list --eval EVAL_ID` has the items of all runs: each once, those of one run in their order."""
    eval_id = str(tree["output_items"][0]["eval_id"])
    expected = [item for item in tree["output_items"] if item["eval_id"] == eval_id]
    runs = {str(item["run_id"]) for item in expected}
    assert len(runs) > 1
    lines = await command("items", "list", "--eval", eval_id, "--jsonl")
    found = [json.loads(line) for line in lines.out.splitlines()]
    for run in runs:
        assert [item for item in expected if item["run_id"] == run] == [item for item in found if item["run_id"] == run]
    assert len(expected) == len(found)
    table = (await command("items", "list", "--eval", eval_id, "--status", "pass")).out.splitlines()
    assert "run_id\trow\tstatus\tfailed_criteria\tscores\toutput\tid" == table[0]
    passed = {(str(item["run_id"]), str(item["id"])) for item in expected if item["status"] == "pass"}
    assert passed == {(line.split("\t")[0], line.split("\t")[-1]) for line in table[1:]}
    limited = await command("items", "list", "--eval", eval_id, "--limit", "4", "--json")
    assert (0, 4) == (limited.code, len(json.loads(limited.out)))


async def test_items_of_all_runs_when_some_cannot_be_read(
    command: Command, server: LocalServer, tree: SampleTree
) -> None:
    """The items of the other runs are printed; what failed is told, a few in full, and the exit code is 1."""
    eval_id = str(tree["output_items"][0]["eval_id"])
    server.faults.add(Fault(route="/evals/{eval_id}/runs/{run_id}/output_items", status=404, times=1))
    ended = await command("items", "list", "--eval", eval_id, "--jsonl")
    expected = [item for item in tree["output_items"] if item["eval_id"] == eval_id]
    assert 1 == ended.code
    assert 0 < len(ended.out.splitlines()) < len(expected)
    assert 1 == ended.err.count("error: 404")
    assert f"next: evals-async runs list {eval_id}\n" in ended.err
    none = await command("items", "list", "--eval", "eval_none")
    assert (1, "next: evals-async evals list") == (none.code, none.err.splitlines()[-1])


async def test_scores_stand_in_the_table(command: Command, server: LocalServer) -> None:
    """Each criterion has its name, its score and its verdict in the table of items; what is not known is said."""
    results = [
        {"name": "Grade", "score": 0.25, "passed": False},
        {"name": "Tone", "score": 1.0, "passed": True},
        {"name": "Broken", "score": None, "passed": None},
    ]
    await server.seed(
        evals=[{"id": "eval_s", "created_at": 1}],
        runs=[{"id": "run_s", "eval_id": "eval_s", "status": "completed", "created_at": 1}],
        output_items=[
            {"id": "o", "eval_id": "eval_s", "run_id": "run_s", "created_at": 1, "status": "fail", "results": results}
        ],
    )
    ended = await command("items", "list", "eval_s/run_s")
    header, row = (line.split("\t") for line in ended.out.splitlines())
    assert "Grade 0.25 fail, Tone 1 pass, Broken no verdict" == dict(zip(header, row, strict=True))["scores"]
    assert "Grade" == dict(zip(header, row, strict=True))["failed_criteria"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "error: The run is missing.\n"),
        (
            ["--eval", "eval_a", "--after", "x"],
            "error: --order and --after need a run: ",
        ),
    ],
)
async def test_items_of_nothing(command: Command, words: list[str], told: str) -> None:
    """A listing without a run or an eval is a mistake in the command line, which is told; nothing is sent."""
    ended = await command("items", "list", *words)
    assert 2 == ended.code
    assert told in ended.err


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("canceled", 1)])
async def test_wait_tells_by_its_code_how_the_run_ended(
    command: Command, server: LocalServer, tree: SampleTree, status: str, code: int
) -> None:
    """`runs wait` prints the run, and ends with 0 only if it is completed."""
    eval_id, run_id = ids(tree)
    await server.seed(runs=[{**tree["runs"][0], "id": run_id, "eval_id": eval_id, "status": status}])
    result = await command("runs", "wait", f"{eval_id}/{run_id}", "--json")
    assert (code, status) == (result.code, json.loads(result.out)["status"])
    assert ("" if status == "completed" else f"error: the run {run_id} ended as {status}") in result.err


async def test_wait_ends_at_its_deadline(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """A run that is not over in time is an error that names the option to wait longer."""
    eval_id, run_id = ids(tree)
    await server.seed(runs=[{**tree["runs"][0], "id": run_id, "eval_id": eval_id, "status": "queued"}])
    result = await command("runs", "wait", f"{eval_id}/{run_id}", "--deadline", "0.05")
    assert (1, "") == (result.code, result.out)
    assert "error: not done within 0.05 seconds\nnext: wait longer: " in result.err
    assert result.err.endswith(f"evals-async runs wait {eval_id}/{run_id} --deadline 0.1\n")


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_unknown_id(command: Command) -> None:
    """An id that does not exist: code 1, the request id, what to do next, nothing on stdout."""
    result = await command("evals", "get", "eval_none")
    assert (1, "") == (result.code, result.out)
    assert re.fullmatch(
        r"error: 404 .* on GET /evals/eval_none \(req_\w+\): .*\nnext: evals-async evals list\n", result.err
    )


async def test_wrong_key(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is refused: code 4, the request id, and never the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-and-wrong")
    result = await command("evals", "list", "--json")
    assert (4, "") == (result.code, result.out)
    assert re.match(r"error: 401 .*\(req_\w+\)", result.err)
    assert "next: check the key" in result.err
    assert "sk-secret" not in result.err


async def test_an_answer_that_is_too_large(command: Command, tree: SampleTree) -> None:
    """The limit is told, and the option that moves it."""
    eval_id = str(tree["evals"][0]["id"])
    result = await command("evals", "get", eval_id, "--max-body", "100")
    assert 1 == result.code
    assert (
        f"the body is larger than 100 bytes\nnext: accept more: evals-async evals get {eval_id} --max-body {2**27}\n"
        in result.err
    )
    assert 0 == (await command("evals", "get", eval_id, "--max-body", "1M")).code


@pytest.mark.parametrize("key", [None, ""])
async def test_no_key(command: Command, server: LocalServer, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    """Without a key nothing is sent: code 4, and the variables to set."""
    if key is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    result = await command("evals", "list")
    assert (4, "") == (result.code, result.out)
    assert "next: set OPENAI_API_KEY, or AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY" in result.err
    assert [] == list(server.requests)


async def test_azure(command: Command, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --azure, or with nothing but an Azure endpoint in the environment, Azure's key and path are used."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    assert 0 == (await command("evals", "list", "--azure")).code
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert 0 == (await command("evals", "list")).code
    assert [("/openai/v1/evals", KEY)] * 2 == [(seen.path, seen.headers["api-key"]) for seen in server.requests]


async def test_broken_listing_says_where_to_go_on(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """A later page that fails: what came before is printed, the array stays open, and --after is told."""
    eval_id, _ = ids(tree)
    server.faults.add(Fault(route="/evals/{eval_id}/runs", status=503, skip=1, times=None))
    first = [run["id"] for run in map(as_object, runs_of(tree, eval_id)) if run]
    extra = [{**tree["runs"][0], "id": f"evalrun_extra{number:03}", "eval_id": eval_id} for number in range(120)]
    await server.seed(runs=extra)
    result = await command("--max-retries", "0", "runs", "list", eval_id, "--json")
    assert 1 == result.code
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.out)
    assert 100 == len(json.loads(result.out + "]"))
    assert first
    assert re.search(
        r"\nnext: to continue the listing: evals-async .* --after evalrun_\w+\nnext: try again later",
        result.err,
    )


async def test_no_server(command: Command) -> None:
    """No connection: code 1, and a word about the base URL."""
    result = await command("--base-url", "http://127.0.0.1:1/v1", "--max-retries", "0", "evals", "list")
    assert (1, "next: check --base-url and OPENAI_BASE_URL") == (result.code, result.err.splitlines()[-1][:42])


async def test_control_characters_of_a_server_are_escaped(
    command: Command, server: LocalServer, tree: SampleTree
) -> None:
    """Names that would move the cursor or break a table come out escaped; --json has them exactly."""
    name = "a\tb\nc\x1b[31md\u202ee"
    await server.seed(evals=[{**tree["evals"][0], "name": name}])
    table = await command("evals", "list", "--limit", "1")
    exact = await command("evals", "list", "--limit", "1", "--json")
    assert r"a\tb\nc\x1b[31md\u202ee" == table.out.splitlines()[1].split("\t")[1]
    assert name == json.loads(exact.out)[0]["name"]


# --- as a process -----------------------------------------------------------------------------------------------------


async def test_verbose_logs_to_stderr(environment: None, tree: SampleTree) -> None:
    """--verbose shows the requests on stderr, without the key; stdout stays data."""
    result = await ended(await start("evals", "list", "--json", "-v"))
    assert 0 == result.code
    assert tree["evals"] == json.loads(result.out)
    assert "DEBUG evals_async" in result.err
    assert "GET /evals" in result.err
    assert KEY not in result.err


async def test_reader_that_leaves_is_no_traceback(environment: None, tree: SampleTree) -> None:
    """When the reader of stdout goes away, the command ends with 141, as other programs do, and says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "evals_async", "runs", "list", ids(tree)[0], "--json"),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    async with asyncio.timeout(LONGEST):
        _, err = await process.communicate()
    assert (141, b"") == (process.returncode, err)


async def test_interrupt_ends_with_130_and_no_traceback(
    environment: None, server: LocalServer, tree: SampleTree
) -> None:
    """Ctrl-C while a request is under way: code 130, one word, no traceback."""
    server.faults = Doorbell(Fault(delay=60.0, times=None))
    process = await start("evals", "list", "--json")
    async with asyncio.timeout(LONGEST):
        await server.faults.rang.wait()
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert (130, "", "interrupted") == (result.code, result.out, result.err.strip())
