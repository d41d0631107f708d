"""Every hint that a command of the archive prints is followed: it is a command that works, or a word that is true."""

import asyncio
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commandline import KEY

from evals_async import EvalsClient
from evals_async.archive import Archive, ConversionReport, Push
from evals_async.cli import main, output
from evals_async.cli.actions.convert import show_conversion
from evals_async.cli.actions.push import show_ids
from evals_async.server import LocalServer, sample_tree


@pytest.fixture
def archive(file: Path) -> Path:
    """A whole archive of the demo."""
    assert 0 == main(["export", "--to", str(file), "--demo"])
    return file


def hints(told: str) -> list[list[str]]:
    """The commands in the hints, without the name of the program."""
    lines = [line.removeprefix("next: ") for line in told.splitlines() if line.startswith("next: ")]
    assert lines
    assert all(line.startswith("evals-async ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def follow(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> list[str]:
    """Run a command, and return the command in its hint."""
    capsys.readouterr()
    assert code == main(words)
    [found] = hints(capsys.readouterr().err)
    return found


def test_from_a_dry_run_to_a_served_archive(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each hint is the next command, with the same options: --demo, --to and the selection."""
    export = follow(["export", "--to", str(file), "--demo", "--dry-run", "--no-files"], capsys)
    assert ["export", "--to", str(file), "--no-files", "--demo"] == export
    assert not file.exists()
    verify = follow(export, capsys)
    assert ["verify", str(file), "--demo"] == verify
    serve = follow([*verify, "--all"], capsys)
    assert ["serve", str(file)] == serve
    assert 0 == main([*serve, "--help"])
    show = follow(["info", str(file)], capsys)
    assert ["show", str(file)] == show
    assert 0 == main(show)


def test_verify_leads_back_into_the_same_file(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command in the hint of `verify` fetches the missing objects from the same server into the same file."""
    connection = sqlite3.connect(archive)
    connection.execute("UPDATE work SET state = 'failed', note = 'lost', settled = 0 WHERE kind = 'runs'")
    connection.execute("DELETE FROM runs")
    connection.commit()
    connection.close()
    again = follow(["verify", str(archive), "--demo"], capsys, 3)
    assert ["export", "--to", str(archive), "--demo"] == again
    assert 0 == main(again)
    assert 0 == main(["verify", str(archive), "--demo"])


def test_the_servers_address_is_kept(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --base-url, each hint names the same server, so that the file gets runs of this server only."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LocalServer.in_thread() as server:
        asyncio.run(seed(server.base_url))
        url = ["--base-url", server.base_url]
        export = follow(["export", "--to", str(file), "--dry-run", *url], capsys)
        assert ["export", "--to", str(file), *url] == export
        verify = follow(export, capsys)
        assert ["verify", str(file), *url] == verify
        follow(verify, capsys)
        push = follow(["push", str(file), *url], capsys)
        assert ["evals", "list", *url] == push
        assert 0 == main(push)


async def seed(base_url: str) -> None:
    """An eval to export."""
    async with EvalsClient(base_url=base_url, api_key=KEY) as client:
        config: Any = {"type": "custom", "item_schema": {"type": "object", "properties": {}}}
        check: Any = {"type": "string_check", "name": "g", "input": "a", "reference": "a", "operation": "eq"}
        await client.evals.create(name="x", data_source_config=config, testing_criteria=[check])


async def test_a_push_to_a_server_that_takes_no_writes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint says that the server is read-only, and how to serve a writable one. For another refusal it names the
    key.
    """
    target = file.with_name("target.db")
    for path in (file, target):
        async with LocalServer(path) as server:
            await server.seed(**sample_tree(runs=2, items=2))
    connection = sqlite3.connect(target)
    connection.execute("DELETE FROM evals")
    connection.commit()
    connection.close()
    async with LocalServer(target, read_only=True) as server:
        words = ["push", str(file), "--base-url", server.base_url, "--runs", "none"]
        assert 4 == await asyncio.to_thread(main, words)
    told = capsys.readouterr().err
    assert "next: that server is read-only; for a writable one: evals-async serve FILE.db --writable" in told
    assert "may read evals" not in told
    async with LocalServer(target) as server:
        words = ["push", str(file), "--base-url", server.base_url]
        assert 0 == await asyncio.to_thread(main, words)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is set in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def test_another_projects_archive_says_the_way_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names another file and --another-server. With this option, the export succeeds."""
    async with LocalServer() as server:
        await server.seed(evals=[{"id": "eval_a", "created_at": 1}])
        async with EvalsClient(base_url=server.base_url, api_key=KEY) as client, Archive.open(file) as archive:
            await archive.export(client)
    async with LocalServer() as server:
        await server.seed(evals=[{"id": "eval_b", "created_at": 1}])
        words = ["export", "--to", str(file), "--base-url", server.base_url]
        assert 1 == await asyncio.to_thread(main, words)
        told = capsys.readouterr().err
        assert "--to OTHER.db" in told
        assert "--another-server" in told
        other = str(file.with_name("OTHER.db"))
        assert 0 == await asyncio.to_thread(main, ["export", "--to", other, "--base-url", server.base_url])
        assert 0 == await asyncio.to_thread(main, [*words, "--another-server"])


# --- at 80 columns ----------------------------------------------------------------------------------------------------


def test_ids_and_reasons_are_whole_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a narrow terminal, ids and reasons are complete: ids are on their own lines, and reasons are wrapped."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    old, new = f"evalrun_{'a' * 32}", f"evalrun_{'b' * 32}"
    push = Push()
    push.runs[old] = new
    show_ids(push)
    told = capsys.readouterr().out
    assert old in told
    assert new in told
    report = ConversionReport()
    why = "they are carried out again: their answers and ids are new, and so is what they cost at that server's price"
    report.add("approximated", "runs that were sampled by a model which is not there any more", why)
    show_conversion(report)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for word in (*why.split(), "sampled"):
        assert word in shown
