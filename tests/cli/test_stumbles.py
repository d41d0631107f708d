"""What people stumble over: wrong files, wrong addresses, silent servers, full disks. Each is told with the way on."""

import errno
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import KEY, Command
from doubles import FakeClock

from evals_async import EvalsClient
from evals_async.cli import connection, main
from evals_async.server import Fault, LocalServer, sample_tree


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the demo, made once."""
    file = tmp_path_factory.mktemp("archive") / "d.db"
    assert 0 == main(["export", "--to", str(file), "--demo"])
    return file


RUN, OTHER = (str(sample_tree(300)["runs"][number]["id"]) for number in (0, 20))  # of one eval


@pytest.mark.parametrize(
    "words",
    [["info"], ["show"], ["verify", "--offline"], ["convert", "--to", "csv", "--out", "o"], ["regrade"], ["serve"]],
    ids=" ".join,
)
def test_another_kind_of_file(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no archive is named, left as it is, and the way to an archive is told."""
    notes = tmp_path / "notes.txt"
    notes.write_text("notes")
    assert 1 == main([words[0], str(notes), *words[1:]])
    told = capsys.readouterr().err
    assert f"error: {notes}: file is not a database" in told
    assert "next: use an archive; to create one: evals-async export --to FILE.db\n" in told
    assert "notes" == notes.read_text()


def test_a_database_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is left as it is, and said to be no archive."""
    file = tmp_path / "other.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("PRAGMA application_id = 7")
    connection.commit()
    connection.close()
    assert 1 == main(["info", str(file)])
    assert "next: use an archive; to create one: evals-async export --to FILE.db\n" in capsys.readouterr().err


def test_an_archive_of_an_older_version(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be read before it was opened for writing once; the hint does that, and then it can be read."""
    file = tmp_path / "old.db"
    file.touch()
    assert 1 == main(["info", str(file)])
    told = capsys.readouterr().err
    assert "next: open it once for writing; this needs no server: evals-async regrade FILE.db --estimate\n" in told
    assert 0 == main(["regrade", str(file), "--estimate"])
    assert 0 == main(["info", str(file)])


def test_an_archive_of_a_newer_version(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused with both numbers, and what to use."""
    file = tmp_path / "new.db"
    file.write_bytes(archive.read_bytes())
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert 1 == main(["show", str(file)])
    assert "the file has schema 99, but this evals-async supports only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "FILE", "evalrun_none"], "error: there is no run evalrun_none in the archive\n"),
        (["compare", "FILE:none", "FILE:none2"], "error: there is no run none in the archive\n"),
        (["report", "FILE:none", "--to", "x.html"], "error: there is no run none in the archive\n"),
        (["regrade", "FILE", "--eval", "eval_x"], "error: there is no eval eval_x in the archive\n"),
        (["regrade", "FILE", "--criteria", "none"], "error: there is no criterion 'none'; the criteria are: "),
        (["report", "FILE", "--to", "x.html"], "names an archive, and no run of it.\n"),
        (["report", "FILE:", "--to", "x.html"], "names no run.\n"),
    ],
    ids=["show", "compare", "report", "eval", "criterion", "report of the archive", "report of no run"],
)
def test_a_run_that_is_not_there(
    words: list[str], told: str, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an archive does not have ends with 1, like a 404; no name ends with 2. The hint shows its runs."""
    assert (1 if "there is no" in told else 2) == main([word.replace("FILE", str(archive)) for word in words])
    said = capsys.readouterr().err
    assert told in said
    assert f"next: evals-async show {archive}\n" in said


def test_a_directory_that_is_not_there(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive or a page is to be written where no directory is: what is wrong is said, and is no fault of ours."""
    assert 1 == main(["export", "--demo", "--to", str(tmp_path / "none" / "x.db")])
    assert "next: the directory must exist" in capsys.readouterr().err
    page = tmp_path / "none" / "x.html"
    assert 1 == main(["report", f"{archive}:{RUN}", "--to", str(page)])
    told = capsys.readouterr().err
    assert f"error: {page}: No such file or directory\n" in told
    assert "bug in evals-async" not in told


def test_a_file_that_is_not_there_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name does not become an empty server: it is refused, with the way to a new one, and not made."""
    file = tmp_path / "typo.db"
    assert 2 == main(["serve", str(file), "--port", "0"])
    told = capsys.readouterr().err
    assert f"error: There is no file {file}.\n" in told
    assert f"next: create a new, empty file: evals-async serve {file} --port 0 --new\n" in told
    assert not file.exists()


def test_runs_of_one_archive_in_either_form(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`FILE.db RUN` and `FILE.db:RUN` mean the same in show, compare and report."""
    page = str(tmp_path / "page.html")
    forms = [
        (["show", f"{archive}:{RUN}"], ["show", str(archive), RUN]),
        (["compare", f"{archive}:{RUN}", f"{archive}:{OTHER}"], ["compare", str(archive), RUN, OTHER]),
        (["report", f"{archive}:{RUN}", "--to", page], ["report", str(archive), RUN, "--to", page]),
    ]
    for words in forms:
        told: list[str] = []
        for form in words:
            assert 0 == main(form)
            told.append(capsys.readouterr().out)
        assert told[0] == told[1] != ""
    assert 2 == main(["compare", "typo.db", RUN, OTHER])
    assert "error: There is no file typo.db: an archive is needed.\n" in capsys.readouterr().err


def test_verify_without_a_key(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key, the hints name the check that needs none and that of the demo; each works."""
    assert 4 == main(["verify", str(archive)])
    told = capsys.readouterr().err.splitlines()
    ways = [line.rpartition(": evals-async ")[2] for line in told if line.startswith("next: ")][1:]
    assert [f"verify {archive} --offline", f"verify {archive} --demo"] == ways
    assert [0, 0] == [main(way.split()) for way in ways]


def test_strict_says_why_it_fails(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 of --strict has a line of its own; without --strict there is no error."""
    words = ["convert", str(archive), "--to", "promptfooconfig", "--out", str(tmp_path / "out")]
    assert 0 == main(words)
    assert "--strict" not in capsys.readouterr().err
    assert 3 == main([*words, "--strict"])
    assert "approximated or dropped, see the table\n" in capsys.readouterr().err


def test_a_model_endpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """What to check is told after the reason."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        assert 1 == main(["models", "--model-endpoint", url, "any", "--timeout", "1"])
    assert "next: check --model-endpoint, its key, and that the endpoint is running" in capsys.readouterr().err


def test_all_files_are_counted(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`N files written` counts every file, those in directories too."""
    for form in ("csv", "promptfoo", "promptfooconfig", "parquet"):
        place = tmp_path / form
        assert 0 == main(["convert", str(archive), "--to", form, "--out", str(place)])
        number = sum(path.is_file() for path in place.rglob("*"))
        assert f"{number} files written to {place}\n" in capsys.readouterr().err


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "FILE", "--to", "csv", "--out", "OUT"],
        ["convert", "FILE", "--to", "promptfooconfig", "--out", "OUT"],
        ["report", "FILE:RUN", "--to", "OUT.html"],
        ["compare", "FILE:RUN", "FILE:RUN", "--to", "OUT.html"],
        ["verify", "FILE", "--offline", "--manifest", "OUT.json"],
    ],
    ids=" ".join,
)
def test_a_full_disk(
    words: list[str],
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk has exit code 74 in every command that writes, says what to do, and is no fault of evals-async."""
    open_file = Path.open

    def full(path: Path, mode: str = "r", *how: Any, **more: Any) -> Any:
        if "w" in mode and path.is_relative_to(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_file(path, mode, *how, **more)

    monkeypatch.setattr(Path, "open", full)
    given = {"FILE": str(archive), "RUN": RUN, "OUT": str(tmp_path / "out")}
    for name, value in given.items():
        words = [word.replace(name, value) for word in words]
    assert 74 == main(words)
    told = capsys.readouterr().err
    assert "error: the disk is full: " in told
    assert "next: free disk space" in told
    assert "bug in evals-async" not in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [["--version"], ["info", "FILE"], ["show", "FILE"]], ids=" ".join)
def test_a_full_disk_behind_stdout(words: list[str], archive: Path) -> None:
    """`evals-async show d.db > full-disk/x` ends with 74 as well, in two lines and without a traceback."""
    given = [word.replace("FILE", str(archive)) for word in words]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "evals_async", *given], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert 74 == ended.returncode
    assert "error: the disk is full: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    "words", [["evals", "list"], ["demo", "--live"], ["items", "list", "--eval", "eval_a"]], ids=" ".join
)
def test_a_server_that_never_answers(
    words: list[str], silent: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some seconds the silence is told, whether or not a terminal is there; then the deadline ends it."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr(connection, "SILENCE", 0.02)
    assert 1 == main([*words, "--base-url", silent, "--timeout", "0.3", "--max-retries", "0"])
    captured = capsys.readouterr()
    assert f"no response from {silent} yet; waiting for 0.3 s at most, or until Ctrl-C\n" in captured.err
    assert "next: allow more time: evals-async " in captured.err
    assert captured.err.endswith(" --timeout 0.6\n")
    assert "" == captured.out


@pytest.mark.parametrize("words", [["export", "--to", "NEW"], ["verify", "FILE"]], ids=" ".join)
def test_a_silent_server_ends_an_export_soon(
    words: list[str],
    silent: str,
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for the first answer has an end of its own, which is told at once, and an option for slow servers."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr(connection, "SILENCE", 0.02)
    given = {"NEW": str(tmp_path / "e.db"), "FILE": str(archive)}
    words = [*(given.get(word, word) for word in words), "--base-url", silent, "--first-answer", "0.3"]
    assert 75 == main(words)
    told = capsys.readouterr().err
    assert f"no response from {silent} yet; waiting for 0.3 s at most, or until Ctrl-C\n" in told
    assert (
        "stopped: the server has not responded within 0.3 s; if it is slow, give it more time: --first-answer" in told
    )
    if words[0] == "export":
        assert told.endswith(f"export --to {tmp_path / 'e.db'} --first-answer 0.3 --base-url {silent}\n")


async def test_a_server_that_answers_is_not_told_of(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Once something has come, nothing is said of silence."""
    clock = FakeClock()
    async with EvalsClient(base_url=server.base_url, api_key=KEY, clock=clock) as client:
        await client.evals.list()
        await connection.report_silence(client, 60)
    assert "" == capsys.readouterr().err


def test_nobody_listens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port: the address is named at once, and a listing that failed prints no header."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        assert 1 == main(["evals", "list", "--base-url", url, "--max-retries", "0"])
    captured = capsys.readouterr()
    assert "" == captured.out
    assert (
        "next: check --base-url and OPENAI_BASE_URL; to start a local server: evals-async serve --sample"
        in captured.err
    )


async def test_an_address_without_the_api(command: Command, server: LocalServer, tmp_path: Path) -> None:
    """A 404 for a listing that every server has: the base URL is wrong, and that is said; not `evals list` again."""
    url = server.base_url.replace("/v1", "/v2")
    words = "next: check --base-url and OPENAI_BASE_URL: there is no Evals API; a base URL usually ends in /v1\n"
    listed = await command("evals", "list", "--base-url", url)
    assert (1, True) == (listed.code, words in listed.err)
    exported = await command("export", "--to", str(tmp_path / "e.db"), "--base-url", url)
    assert (3, True) == (exported.code, words in exported.err)


def test_an_export_of_an_eval_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command would fail again, so the hint lists the evals of the server."""
    assert 3 == main(["export", "--to", str(tmp_path / "n.db"), "--demo", "--eval", "eval_nope"])
    told = capsys.readouterr().err
    assert "No such eval: eval_nope" in told
    assert "evals list" in told.partition("next: ")[2]


async def test_an_export_that_lacks_something_is_run_again(
    command: Command, server: LocalServer, tmp_path: Path
) -> None:
    """Not `verify`, which could only say the same: the hint is the export, and followed it gets the rest."""
    server.faults.add(Fault(route="/evals/{eval_id}/runs/{run_id}/output_items", status=400, times=1))
    file = tmp_path / "e.db"
    first = await command("export", "--to", str(file))
    assert (3, f"next: evals-async export --to {file}") == (first.code, first.err.splitlines()[-1])
    again = await command("export", "--to", str(file))
    assert (0, f"next: evals-async verify {file}") == (again.code, again.err.splitlines()[-1])


async def test_verify_without_the_server(
    command: Command, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that stopped hints at the check that needs no server, and says nothing of the client's retries."""
    file = tmp_path / "e.db"
    assert 0 == (await command("export", "--to", str(file))).code
    monkeypatch.setattr("evals_async.archive.export.outages.FIRST_CONTACT", 0.0)
    monkeypatch.setattr("evals_async.archive.export.outages.FIRST_TRIES", 1)
    await server.close()
    ended = await command("verify", str(file))
    assert 75 == ended.code
    assert f"next: without the server: evals-async verify {file} --offline\n" in ended.err
    assert "retries are off" not in ended.err
