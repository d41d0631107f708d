"""`evals-async serve`: what it prints, how it ends, and that clients can use it."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from commandline import Ended, ended, start
from executing import ECHO, ended as run_ended, sampling
from plainhttp import EXACT, PlainHttp, eval_request
from waiting import LONGEST

from evals_async import EvalsClient
from evals_async.cli import main
from evals_async.errors import PermissionDenied
from evals_async.inference import Rule, ScriptedModels


async def serving(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """A running `serve` on a free port, and its base URL, the first line of stdout."""
    process = await start("serve", "--port", "0", *arguments)
    assert process.stdout is not None
    async with asyncio.timeout(LONGEST):
        return process, (await process.stdout.readline()).decode().strip()


async def stopped(process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGINT) -> Ended:
    process.send_signal(number)
    return await ended(process)


async def test_serve_a_sample_until_interrupted() -> None:
    """stdout has the base URL and nothing else, stderr says how to use it, and Ctrl-C ends it with code 0."""
    process, base_url = await serving("--sample", "--read-only")
    async with EvalsClient(base_url=base_url, api_key="any") as client:
        found = await client.evals.list().collect()
        counts = [len(await client.evals.runs.list(entry.id).collect()) for entry in found]
        with pytest.raises(PermissionDenied):
            await client.evals.delete(found[0].id)
    result = await stopped(process)
    assert (4, 300) == (len(found), sum(counts))
    assert (0, "") == (result.code, result.out)
    assert f"export OPENAI_BASE_URL={base_url} OPENAI_API_KEY=local\n" in result.err
    assert result.err.endswith("Ctrl-C stops the server.\nstopped\n")


async def test_serve_a_file_until_terminated(tmp_path: Path) -> None:
    """What is written is kept in the file; SIGTERM ends the server like Ctrl-C does."""
    file = tmp_path / "evals.db"
    process, base_url = await serving(str(file), "--new")
    async with EvalsClient(base_url=base_url, api_key="any") as client:
        made = await client.evals.create(
            name="kept", data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=[]
        )
    first = await stopped(process, signal.SIGTERM)
    process, base_url = await serving(str(file), "--read-only")
    async with EvalsClient(base_url=base_url, api_key="any") as client:
        assert made == await client.evals.retrieve(made.id)
    second = await stopped(process)
    assert (0, 0) == (first.code, second.code)
    assert f"{file} does not exist: an empty file is created\n" in first.err
    assert "is new" not in second.err


def test_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is told in one line, with the way out; exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert 1 == run_serve("--port", str(port))
    captured = capsys.readouterr()
    assert "" == captured.out
    assert f"error: cannot listen on 127.0.0.1:{port}: " in captured.err
    assert captured.err.endswith("next: use any free port: evals-async serve --port 0\n")


def test_file_that_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another kind of file is refused, and left as it is; so is a file that is not there, with --read-only."""
    other = tmp_path / "notes.txt"
    other.write_text("notes")
    assert 1 == run_serve(str(other))
    assert f"error: {other}" in capsys.readouterr().err
    assert "notes" == other.read_text()
    assert 1 == run_serve(str(tmp_path / "none.db"), "--read-only")
    assert "none.db" in capsys.readouterr().err
    assert [other] == list(tmp_path.iterdir())


def run_serve(*arguments: str) -> int:
    return main(["serve", *arguments])


async def test_the_official_variables_are_enough() -> None:
    """A command finds the server by the two variables that `serve` tells."""
    process, base_url = await serving("--sample")
    listing = await ended(await start("evals", "list", "--json", OPENAI_BASE_URL=base_url, OPENAI_API_KEY="local"))
    result = await stopped(process)
    assert (0, 4) == (listing.code, len(json.loads(listing.out)))
    assert 0 == result.code


def test_unexpected_error_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that nobody thought of is one line and what to do about it; exit code 1."""
    monkeypatch.setattr("evals_async.cli.actions.serve.SAMPLE_RUNS", "many")
    assert 1 == run_serve("--sample", "--port", "0")
    captured = capsys.readouterr()
    assert "" == captured.out
    assert captured.err.startswith("error: TypeError: ")
    assert "\nnext: repeat with --verbose" in captured.err
    assert "Traceback" not in captured.err


async def test_serve_carries_runs_out_and_says_what_is_on(tmp_path: Path) -> None:
    """With an endpoint: models, python graders and limits are told at the start; a run ends; what was left when the
    server was stopped is told by the next one, and gone on with.
    """
    file = str(tmp_path / "evals.db")
    slow = Rule(contains="Say: slow", text="slow", latency=60)
    async with ScriptedModels(slow, ECHO) as models:
        options = ("--model-endpoint", models.base_url, "--max-calls", "1000", "--python-graders", "trusted")
        process, base_url = await serving(file, *options, "--record")
        async with PlainHttp(base_url) as http:
            path = f"/evals/{(await http.post('/evals', eval_request(EXACT))).json['id']}/runs"
            done = (await http.post(path, {"data_source": sampling("a")})).json["id"]
            run, _ = await run_ended(http, f"{path}/{done}")
            left = (await http.post(path, {"data_source": sampling("slow", "b")})).json["id"]
            async with asyncio.timeout(LONGEST):
                while models.request_count < 3:
                    await asyncio.sleep(0.01)
        first = await stopped(process)
        models.rules[:] = [ECHO]
        plain = await stopped((await serving(file))[0])
        process, base_url = await serving(file, "--model-endpoint", models.base_url)
        async with PlainHttp(base_url) as http:
            later, _ = await run_ended(http, f"{path}/{left}")
        second = await stopped(process)
    assert (run["status"], later["status"]) == ("completed", "completed")
    for line in (
        "models: *\n",
        "python graders: as plain child processes, only for code that you trust like your own\n",
        "limits of a run: 1,000 model calls\n",
        "recording: POST /chat/completions with store, and POST /responses\n",
    ):
        assert line in first.err
    assert "no models: existing outputs are graded" in plain.err
    assert "1 unfinished run in this file" in plain.err
    assert "continuing 1 unfinished run of an earlier server\n" in second.err
    assert "limits of a run: none (--max-calls, --max-tokens)\n" in second.err
    assert (first.code, plain.code, second.code) == (0, 0, 0)


async def test_serve_wants_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment must be sent, and is in nothing that is printed."""
    monkeypatch.setenv("EVALS_SERVER_API_KEY", "sk-secret")
    process, base_url = await serving()
    async with PlainHttp(base_url) as http, PlainHttp(base_url, {"Authorization": "Bearer sk-secret"}) as knowing:
        assert (await http.get("/evals")).status == 401
        assert (await knowing.get("/evals")).status == 200
    result = await stopped(process)
    assert "sk-secret" not in result.err + result.out
    assert "OPENAI_API_KEY=$EVALS_SERVER_API_KEY" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--record"], "add --models or --model-endpoint"),
        (["--read-only", "--model-endpoint", "http://127.0.0.1:1/v1"], "cannot execute runs"),
        (["--model-endpoint", "ftp://x"], "must start with https:// or http://"),
        (["--max-calls", "0"], "--max-calls"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened, with what is wrong."""
    assert main(["serve", "--port", "0", *options]) != 0
    assert words in capsys.readouterr().err
