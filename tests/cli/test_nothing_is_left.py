"""What a command that failed leaves behind: nothing, if it wrote nothing. And what is missing is said first."""

import socket
import sqlite3
import sys
from pathlib import Path

import pytest
from commandline import KEY, Command

from evals_async import EvalsClient, MissingExtra, Unauthenticated
from evals_async.archive import Archive, RegradeOptions
from evals_async.cli import main
from evals_async.errors import ArchiveError
from evals_async.server import Fault, LocalServer


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_wrong_key_leaves_no_file(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The archive and its lock are removed, nothing is said to be kept, and the right key makes the archive."""
    file = tmp_path / "e.db"
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    refused = await command("export", "--to", str(file))
    assert (4, []) == (refused.code, left(tmp_path))
    assert "kept" not in refused.err
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert 0 == (await command("export", "--to", str(file))).code
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    refused = await command("export", "--to", str(file))  # this time there is something to keep
    assert (4, True) == (refused.code, "what was copied is kept" in refused.err)
    assert "e.db" in left(tmp_path)


def test_an_unreachable_server_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens, or there is no such eval: no file is left, and none is said to be kept."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr("evals_async.archive.export.outages.FIRST_CONTACT", 0.0)
    monkeypatch.setattr("evals_async.archive.export.outages.FIRST_TRIES", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        assert 75 == main(["export", "--to", str(tmp_path / "e.db"), "--base-url", url])
    assert 3 == main(["export", "--to", str(tmp_path / "n.db"), "--demo", "--eval", "eval_nope"])
    assert [] == left(tmp_path)
    assert "kept" not in capsys.readouterr().err


async def test_an_export_that_brought_something_is_kept(command: Command, server: LocalServer, tmp_path: Path) -> None:
    """An export that stored one page and then failed leaves its file, which the next export continues."""
    server.faults.add(Fault(route="/evals/{eval_id}/runs", status=401))
    failed = await command("export", "--to", str(tmp_path / "e.db"))
    assert (4, True) == (failed.code, "what was copied is kept" in failed.err)
    assert "e.db" in left(tmp_path)
    server.faults.clear()
    assert 0 == (await command("export", "--to", str(tmp_path / "e.db"))).code


async def test_a_file_that_was_there_stays(server: LocalServer, tmp_path: Path) -> None:
    """Only a file that this export created is removed: an empty file of the user stays."""
    file = tmp_path / "mine.db"
    file.touch()
    async with EvalsClient(base_url=server.base_url, api_key="wrong") as client, Archive.open(file) as archive:
        with pytest.raises(Unauthenticated):
            await archive.export(client)
    assert file.exists()


async def test_two_exports_into_one_new_file(server: LocalServer, tmp_path: Path) -> None:
    """The file is removed while another export has it open: that one says so, and writes into no removed file."""
    file = tmp_path / "e.db"
    async with EvalsClient(base_url=server.base_url, api_key=KEY) as client:
        wrong = EvalsClient(base_url=server.base_url, api_key="wrong")
        first = Archive.open(file)
        async with wrong, first:
            with pytest.raises(Unauthenticated):
                await first.export(wrong)
            second = await Archive.open(file).__aenter__()
        assert not file.exists()
        with pytest.raises(ArchiveError, match="was removed or replaced while it was opened: export again"):
            await second.export(client)
        await second.__aexit__(None, None, None)
        async with Archive.open(file) as archive:
            assert (await archive.export(client)).complete
    assert 4 == sqlite3.connect(file).execute("SELECT count(*) FROM evals").fetchone()[0]


def test_another_kind_of_file_gets_no_lock(tmp_path: Path) -> None:
    """A command that cannot use a file puts nothing beside it."""
    (tmp_path / "notes.txt").write_text("notes")
    for words in (["regrade"], ["serve"], ["verify", "--offline"], ["info"], ["show"]):
        assert 1 == main([words[0], str(tmp_path / "notes.txt"), *words[1:]])
    assert ["notes.txt"] == left(tmp_path)


# --- extras -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "extra", "words"),
    [
        ("pyarrow", "arrow", ["regrade", "FILE"]),
        ("pyarrow", "arrow", ["convert", "FILE", "--to", "parquet", "--out", "OUT"]),
        ("inspect_ai", "inspect", ["convert", "FILE", "--to", "inspect", "--out", "OUT"]),
        ("jinja2", "report", ["report", "FILE:evalrun_x", "--to", "OUT.html"]),
        ("jinja2", "report", ["report", "eval_x/evalrun_x", "--to", "OUT.html"]),
        ("jinja2", "report", ["compare", "FILE:evalrun_x", "FILE:evalrun_y", "--to", "OUT.html"]),
    ],
    ids=["regrade", "convert parquet", "convert inspect", "report of an archive", "report", "compare"],
)
def test_a_missing_extra_is_said_first(
    module: str,
    extra: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before the file is opened (it is no archive) and before anything is sent (there is no key)."""
    monkeypatch.setitem(sys.modules, module, None)
    file = tmp_path / "notes.db"
    file.write_text("notes")
    given = {"FILE": str(file), "OUT": str(tmp_path / "out")}
    for name, value in given.items():
        words = [word.replace(name, value) for word in words]
    assert 1 == main(words)
    told = capsys.readouterr().err
    assert f"the extra \"{extra}\"; install it with: pip install '.[{extra}]'" in told
    assert "bug in evals-async" not in told
    assert ["notes.db"] == left(tmp_path)


async def test_a_missing_extra_is_said_before_the_archive_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python too: an unknown criterion would be found by reading, but the missing extra comes first."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with Archive.open(tmp_path / "a.db") as archive:
        with pytest.raises(MissingExtra):
            await archive.regrade(RegradeOptions(criteria=("none",)))
        with pytest.raises(MissingExtra):
            await archive.convert("parquet", tmp_path / "rows")


def test_the_demo_says_what_its_page_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra for pages, `demo --run` on a terminal ends with its numbers, and does not wait for a reader."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("evals_async.cli.output.on_terminal", lambda: True)
    assert 0 == main(["demo", "--run"])
    told = capsys.readouterr()
    assert 'the page about the run needs the extra "report"; install it with' in told.err.replace("\n", " ")
    assert "Criteria" in told.out
