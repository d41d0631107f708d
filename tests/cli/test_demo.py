"""The demo: the same table every time, from a sample or from a service, in a file or on a terminal."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from commandline import Command

from evals_async.cli import main
from evals_async.server import Fault, LocalServer, SampleTree


def without_times(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("seconds\t", "requests_per_second\t"))]


def test_demo_needs_no_key_and_prints_the_same_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any setting: four tables on stdout, equal but for the time; progress and hints on stderr."""
    seen: list[str] = []
    for _ in range(2):
        assert 0 == main(["demo", "--runs", "40", "--top", "3"])
        captured = capsys.readouterr()
        seen.append(captured.out)
        assert "fetching runs: 40 of 40, in " in captured.err
        assert "next: evals-async serve --sample\nnext: with a key: evals-async demo --live\n" in captured.err
    assert without_times(seen[0]) == without_times(seen[1])
    runs, graders, tokens, summary = seen[0].split("\n\n")
    assert ["run\tpassed\trows\tpass_rate\ttokens", 4] == [(lines := runs.splitlines())[0], len(lines)]
    assert "eval\tgrader\tpassed\tfailed\tpass_rate" == graders.splitlines()[0]
    assert "model\tcalls\tprompt\tcompletion\ttokens" == tokens.splitlines()[0]
    assert "runs\t40" == summary.splitlines()[0]
    assert re.search(r"\nseconds\t[\d.]+\nrequests_per_second\t\d+\n", summary)


def test_demo_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The tokens of the models make the total, and the runs shown are those with the lowest pass rates."""
    assert 0 == main(["demo", "--runs", "20", "--top", "100"])
    runs, _, tokens, summary = capsys.readouterr().out.split("\n\n")
    rates = [float(line.split("\t")[3]) for line in runs.splitlines()[1:]]
    assert sorted(rates) == rates
    fields = dict(line.split("\t") for line in summary.splitlines())
    assert sum(int(line.split("\t")[4]) for line in tokens.splitlines()[1:]) == int(fields["tokens"])
    assert sum(int(line.split("\t")[4]) for line in runs.splitlines()[1:]) == int(fields["tokens"])


async def test_live_demo_reads_from_the_service(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """--live fetches the runs of the service that the environment names, one request for each, and only reads."""
    result = await command("demo", "--live")
    assert 0 == result.code
    assert f"runs\t{len(tree['runs'])}\n" in result.out
    fetched = [seen.path for seen in server.requests if seen.route == "/evals/{eval_id}/runs/{run_id}"]
    assert sorted(f"/v1/evals/{run['eval_id']}/runs/{run['id']}" for run in tree["runs"]) == sorted(fetched)
    assert {"GET"} == {seen.method for seen in server.requests}


async def test_live_demo_without_a_key(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """--live without a key is told as such, with exit code 4."""
    monkeypatch.delenv("OPENAI_API_KEY")
    result = await command("demo", "--live")
    assert (4, "") == (result.code, result.out)
    assert "next: set OPENAI_API_KEY" in result.err


async def test_runs_that_fail_do_not_lose_the_others(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """The table shows what came; failures are told, the first few in full, and the exit code is 1."""
    server.faults.add(Fault(route="/evals/{eval_id}/runs/{run_id}", status=404, times=5))
    result = await command("demo", "--live")
    assert 1 == result.code
    assert f"runs\t{len(tree['runs']) - 5}\n" in result.out
    assert 3 == result.err.count("error: 404")
    assert "2 more could not be fetched\n" in result.err


def on_terminal(*arguments: str, columns: int = 80, **variables: str) -> str:
    """What a command shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "evals_async", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)} | variables,
    )
    os.close(theirs)
    parts: list[bytes] = []
    with suppress(OSError):  # how Linux tells that the other side is closed
        while part := os.read(ours, 65_536):
            parts.append(part)
    os.close(ours)
    assert 0 == process.wait(30)
    return b"".join(parts).decode().replace("\r\n", "\n")


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def test_demo_on_a_terminal_of_80_columns() -> None:
    """A person sees a bar and tables with titles, units and bars, no line wider than the terminal, no number cut."""
    shown = on_terminal("demo", "--runs", "60", "--top", "4")
    assert "\x1b[1mGraders\x1b[0m" in shown
    tables = ESCAPES.sub("", shown).partition("Lowest pass rates")[2].splitlines()
    assert "60 of 60" in ESCAPES.sub("", shown)
    # A hint is one line, however long the path of the program is.
    assert all(len(line.rstrip()) <= 80 for line in tables if not line.startswith("next: "))
    assert re.search(
        r"^IT ticket routing +Matches the human label +\d+ +\d+ +\d\d\.\d % +━+·* *$", "\n".join(tables), re.MULTILINE
    )


def test_no_color() -> None:
    """With NO_COLOR, a terminal gets the same tables without any colour or weight."""
    shown = on_terminal("demo", "--runs", "8", "--top", "1", NO_COLOR="1")
    assert "Graders" in shown
    assert [] == re.findall(r"\x1b\[[0-9;]*m", shown)


def test_demo_carries_an_eval_out(capsys: pytest.CaptureFixture[str]) -> None:
    """--run: twelve rows are sampled and graded by three criteria, without a key; the last line is the report."""
    assert main(["demo", "--run"]) == 0
    captured = capsys.readouterr()
    rows, criteria, models, summary = captured.out.split("\n\n")
    assert len(rows.splitlines()) == 13
    assert "The printer jams on every second page.\tHardware, I guess!!!\t1.0\t0.0\t0.2\tfail" in rows
    assert [line.split("\t")[:4] for line in criteria.splitlines()[1:]] == [
        ["Right label", "10", "2", "0.8333333333333334"],
        ["Tone", "11", "1", "0.9166666666666666"],
        ["Brevity", "11", "1", "0.9166666666666666"],
    ]
    assert [line.split("\t")[:2] for line in models.splitlines()[1:]] == [
        ["demo-judge-scripted", "24"],
        ["demo-model-scripted", "12"],
    ]
    assert summary.splitlines()[0] == "status\tcompleted"
    assert re.fullmatch(r"report\thttp://127\.0\.0\.1:\d+/v1/evals/\w+/runs/\w+", summary.splitlines()[-1])
    assert "its models are scripted: http" in captured.err
    assert main(["demo", "--run", "--live"]) == 2
