"""The commands of the archive, as a worried user types them: what they print, how they end, what they leave behind."""

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import openai
import pytest
from commandline import Ended, ended, start
from reference_server import SAME, ReferenceServer, difference, tree
from waiting import LONGEST

from evals_async.cli import main
from evals_async.server import sample_tree


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the demo's sample, made by the command once."""
    file = tmp_path_factory.mktemp("exported") / "demo.db"
    assert 0 == main(["export", "--to", str(file), "--demo"])
    return file


@pytest.fixture
def demo(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of that archive for one test."""
    capsys.readouterr()
    return Path(shutil.copy(exported, tmp_path / "demo.db"))


def test_two_commands_from_nothing_to_a_verified_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`export --demo` and `verify --demo`, without a key: complete, with a manifest."""
    file = tmp_path / "demo.db"
    assert 0 == main(["export", "--to", str(file), "--demo"])
    told = capsys.readouterr()
    assert "runs\t300\n" in told.out
    assert "complete\tyes\n" in told.out
    assert f"next: evals-async verify {file} --demo\n" in told.err
    assert 0 == main(["verify", str(file), "--demo", "--all"])
    told = capsys.readouterr()
    assert "runs\t300\t300\n" in told.out
    assert "\ncomplete\n" in told.err
    manifest = json.loads((tmp_path / "demo.db.manifest.json").read_text())
    assert (300, []) == (manifest["counts"]["runs"], manifest["unfinished"])


def test_an_archive_can_be_looked_into(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`info` counts, `show` lists the runs, and shows one with its failures; an unknown run is named."""
    assert 0 == main(["info", str(demo)])
    assert "state\tcomplete\n" in capsys.readouterr().out
    assert 0 == main(["show", str(demo)])
    header, *lines = capsys.readouterr().out.splitlines()
    runs = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert 300 == len(runs)
    failing = next(run for run in runs if run["failed"] not in ("", "0"))
    assert 0 == main(["show", str(demo), f"{failing['eval_id']}/{failing['id']}", "--rows", "2"])
    shown = capsys.readouterr().out
    assert f"failed\t{failing['failed']}\n" in shown
    assert "row\tstatus\tcriterion\tscore\twhy\toutput\n" in shown
    assert 1 == main(["show", str(demo), "evalrun_x"])
    assert "there is no run evalrun_x in the archive" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` counts and estimates, and leaves no file."""
    assert 0 == main(["export", "--to", str(tmp_path / "x.db"), "--demo", "--dry-run"])
    assert "runs\t300\n" in capsys.readouterr().out
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["jsonl", "csv", "promptfoo", "promptfooconfig"])
def test_conversions_report_and_strict_fails_on_a_loss(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """`convert` writes files and says what was lost; with --strict a loss is exit code 3."""
    arguments = ["convert", str(demo), "--to", form, "--out", str(tmp_path / form)]
    assert 0 == main(arguments)
    told = capsys.readouterr()
    assert told.out.startswith("result\twhat\tnumber\twhy\n")
    assert "\nmapped\t" in told.out
    assert any((tmp_path / form).iterdir())
    assert 3 == main([*arguments, "--strict"])


async def test_ctrl_c_leaves_a_consistent_store_and_says_how_to_go_on(tmp_path: Path) -> None:
    """Ctrl-C ends an export with exit code 130 and prints the command to continue. That command completes the copy."""
    file, reference = tmp_path / "evals.db", tree(evals=3, runs=10, items=60)
    async with ReferenceServer(reference, page=2) as server:
        interrupted = asyncio.Event()

        def notice(listing: tuple[str, ...], ids: list[str]) -> None:
            if server.pages > 100:
                interrupted.set()

        server.after_page = notice
        process = await start("export", "--to", str(file), "--base-url", server.base_url, OPENAI_API_KEY="k")
        await asyncio.wait_for(interrupted.wait(), LONGEST)
        process.send_signal(signal.SIGINT)
        first = await ended(process)
        found = difference(file, reference)
        assert (130, (), (), "ok") == (first.code, found.wrong, found.extra, found.integrity)
        assert found.lost
        again = f"{sys.executable} -m evals_async export --to {file} --base-url {server.base_url}"
        assert f"stopped; what was copied is kept\nnext: {again}\n" in first.err
        process = await start("export", "--to", str(file), "--base-url", server.base_url, OPENAI_API_KEY="k")
        second = await ended(process)
    assert (0, SAME) == (second.code, difference(file, reference))
    assert "export again to copy newer data" in second.err


async def test_what_is_incomplete_is_named(tmp_path: Path) -> None:
    """Exit code 3 with the listings that are broken, and 75 when the server is gone."""
    file = tmp_path / "evals.db"
    async with ReferenceServer(tree(evals=1, runs=1, items=30), mode="loop") as server:
        arguments = ("export", "--to", str(file), "--base-url", server.base_url)
        result = await ended(await start(*arguments, OPENAI_API_KEY="k"))
        assert 3 == result.code
        assert "incomplete: output items of eval_0/run_0_0: broken: " in result.err
    result = await ended(await start(*arguments, "--max-outage", "0.1", OPENAI_API_KEY="k"))
    assert 75 == result.code
    assert "error: stopped: the server cannot be reached: " in result.err


async def test_what_is_too_large_is_named_with_the_option_that_gets_it(tmp_path: Path) -> None:
    """An item above the size limit: exit code 3, and the message names --max-body. With a higher limit, the archive is
    complete.
    """
    file, reference = tmp_path / "evals.db", tree(evals=1, runs=2, items=5)
    items = reference.listings["output_items", "eval_0", "run_0_0"]
    items["item_0003"] = b'{"id":"item_0003","text":"%s"}' % (b"x" * 2**21)
    async with ReferenceServer(reference) as server:

        async def command(*arguments: str, max_body: str) -> Ended:
            limited = (*arguments, "--base-url", server.base_url, "--max-body", max_body)
            return await ended(await start(*limited, OPENAI_API_KEY="k"))

        first = await command("export", "--to", str(file), max_body="1M")
        found = difference(file, reference)
        assert (3, (), ()) == (first.code, found.wrong, found.extra)
        assert 2 == len(found.lost)  # it, and what comes after it
        assert "incomplete: output items of eval_0/run_0_0: failed: BodyTooLarge on GET " in first.err
        assert "the body is larger than 1048576 bytes; to accept more: --max-body SIZE" in first.err
        second = await command("export", "--to", str(file), max_body="4M")
        assert (0, SAME) == (second.code, difference(file, reference))
        without = await command("verify", str(file), "--all", max_body="1M")
        assert 3 == without.code
        assert "could not be compared: BodyTooLarge on GET " in without.err
        assert "to accept more: --max-body SIZE" in without.err
        proof = await command("verify", str(file), "--all", max_body="4M")
        assert (0, True) == (proof.code, "\ncomplete\n" in proof.err)


async def test_the_official_client_reads_the_whole_tree_back(demo: Path) -> None:
    """`serve` on an archive is read-only, and the official client gets every object as the first server had it."""
    reference = sample_tree(300)
    process = await start("serve", str(demo), "--port", "0")
    assert process.stdout is not None
    base_url = (await process.stdout.readline()).decode().strip()
    found: dict[str, list[Mapping[str, object]]] = {"evals": [], "runs": [], "output_items": [], "files": []}
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any") as client:
        async for evaluation in client.evals.list(limit=100):
            found["evals"].append(evaluation.to_dict(warnings=False))
            async for run in client.evals.runs.list(evaluation.id, limit=100):
                found["runs"].append(run.to_dict(warnings=False))
                async for item in client.evals.runs.output_items.list(run.id, eval_id=evaluation.id, limit=100):
                    found["output_items"].append(item.to_dict(warnings=False))
        async for file in client.files.list(purpose="evals"):
            found["files"].append(file.to_dict(warnings=False))
            assert reference["contents"][file.id] == (await client.files.content(file.id)).content
        with pytest.raises(openai.PermissionDeniedError):
            await client.evals.delete("eval_x")
    process.send_signal(signal.SIGINT)
    await ended(process)
    assert by_id(reference["evals"]) == by_id(found["evals"])  # the client makes 0.0 and 1.0 of a range's 0 and 1
    assert by_id(reference["runs"]) == by_id(found["runs"])
    assert by_id(reference["output_items"]) == by_id(found["output_items"])
    assert by_id(reference["files"]) == by_id(found["files"])


def by_id(objects: Sequence[Mapping[str, object]]) -> dict[object, Mapping[str, object]]:
    """JSON objects by their ids."""
    return {each["id"]: each for each in objects}


async def test_an_archive_can_be_made_writable(demo: Path) -> None:
    """With --writable, the served archive accepts writes."""
    process = await start("serve", str(demo), "--port", "0", "--writable")
    assert process.stdout is not None
    base_url = (await process.stdout.readline()).decode().strip()
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any") as client:
        evaluation = await anext(aiter(client.evals.list()))
        assert (await client.evals.delete(evaluation.id)).deleted
    process.send_signal(signal.SIGINT)
    assert 0 == (await ended(process)).code
