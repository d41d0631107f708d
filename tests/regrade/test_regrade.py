"""An archive graded again: beside the service's grades, resumable, capped, and told honestly."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import Ended
from waiting import LONGEST, until

from evals_async import InvalidArgument
from evals_async.archive import Archive, RegradeOptions
from evals_async.archive.regrade import regrade
from evals_async.cli import main
from evals_async.inference import Models, Rule, ScriptedModels

from .conftest import CLOSE, EXACT, JUDGE


SCORE = Rule(result=0.8)


def at(scripted: ScriptedModels) -> Callable[[], Models]:
    return partial(Models.from_endpoint, scripted.base_url)


def bodies(file: Path) -> list[Any]:
    with sqlite3.connect(file) as connection:
        return connection.execute("SELECT body FROM output_items ORDER BY id").fetchall()


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    code = await asyncio.to_thread(main, list(arguments))
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


async def test_string_checks_agree_fully(file: Path) -> None:
    """Exact checks give the service's verdict for every row; errors of sampling are not graded."""
    before = bodies(file)
    async with Archive.open(file) as archive:
        report = await archive.regrade()
    exact = next(each for each in report.agreement if each.criterion == EXACT)
    assert (18, 1.0, 1.0) == (exact.rows, exact.rate, exact.kappa)
    assert {("pass", "pass"): 4, ("fail", "fail"): 14} == dict(exact.confusion)
    assert 36 == report.graded
    assert before == bodies(file)


async def test_the_service_s_variant_of_a_similarity_is_found(file: Path) -> None:
    """Scores that differ are told, with the variant that gives the service's own."""
    async with Archive.open(file) as archive:
        report = await archive.regrade(RegradeOptions(criteria=("Close",)))
    [close] = report.agreement
    assert close.criterion == CLOSE
    assert close.scores is not None
    assert close.scores.same < 18
    assert ("ratio", 18, 0.0) == (close.variants[0].name, close.variants[0].same, close.variants[0].mean_absolute)


async def test_what_was_graded_is_not_graded_again(file: Path) -> None:
    """A second regrade has nothing to do; after an interruption the rest is graded."""
    async with Archive.open(file) as archive:
        await archive.regrade()
        assert 0 == (await archive.regrade()).graded
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM regrades WHERE item_id >= 'item_0010'")
        # A criterion that changed is another one.
        connection.execute("UPDATE regrades SET definition = 'old' WHERE item_id = 'item_0001'")
    async with Archive.open(file) as archive:
        assert (18 + 2, 18 + 2) == ((await archive.estimate_regrade()).rows, (await archive.regrade()).graded)


async def test_judges_only_when_told(file: Path) -> None:
    """Without models judges are left out, and that is said; with them their calls are estimated from the service's."""
    async with Archive.open(file) as archive:
        report = await archive.regrade()
        assert {JUDGE: "its judge runs only with --models (RegradeOptions.models)"} == report.left_out
        with ScriptedModels.in_thread(SCORE) as scripted:
            options = RegradeOptions(criteria=("Judge",), models=at(scripted))
            cost = await archive.estimate_regrade(options)
            assert (18, 18, 1800) == (cost.rows, cost.calls, cost.tokens)
            assert 0 == len(scripted.requests)
            report = await archive.regrade(options)
    [judge] = report.agreement
    assert ({("pass", "pass"): 4, ("fail", "pass"): 14}, 0.0) == (dict(judge.confusion), judge.kappa)


async def test_caps(file: Path) -> None:
    """No judge is asked beyond `max_calls`; the next regrade goes on, and pays no row twice. Tokens end it too."""
    async with Archive.open(file) as archive:
        with ScriptedModels.in_thread(SCORE) as scripted:
            options = RegradeOptions(criteria=("Judge",), models=at(scripted), max_calls=7)
            for graded, stopped in ((7, True), (7, True), (4, False)):
                report = await archive.regrade(options)
                assert (graded, stopped) == (report.graded, report.stopped is not None)
            assert 18 == len(scripted.requests)


async def test_a_cap_on_tokens(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the tokens are used no further batch is given to judges."""
    monkeypatch.setattr(regrade, "JUDGED_BATCH", 5)
    async with Archive.open(file) as archive:
        with ScriptedModels.in_thread(SCORE) as scripted:
            report = await archive.regrade(RegradeOptions(criteria=("Judge",), models=at(scripted), max_tokens=1))
            assert 5 == len(scripted.requests)
    assert report.stopped is not None
    assert "the limit is 1" in report.stopped


async def test_a_cancelled_regrade_does_not_wait_for_its_judges(file: Path) -> None:
    """Cancelling ends the calls to the judges at once, and the event loop is not blocked; a later regrade continues."""
    with ScriptedModels.in_thread(Rule(result=0.8, latency=3600.0)) as slow:
        async with Archive.open(file) as archive:
            options = RegradeOptions(criteria=("Judge",), models=at(slow))
            task = asyncio.create_task(archive.regrade(options))
            await until(lambda: slow.request_count > 0)
            task.cancel()
            async with asyncio.timeout(LONGEST):
                await asyncio.wait([task])
            assert task.cancelled()
            with ScriptedModels.in_thread(SCORE) as scripted:
                report = await archive.regrade(RegradeOptions(criteria=("Judge",), models=at(scripted)))
    assert 18 == report.graded


async def test_failures_are_tried_again(file: Path) -> None:
    """A row that a judge failed on has its reason, and the next regrade asks again."""
    async with Archive.open(file) as archive:
        with ScriptedModels.in_thread(Rule(status=400, message="no")) as scripted:
            report = await archive.regrade(RegradeOptions(criteria=("Judge",), models=at(scripted)))
        [judge] = report.agreement
        assert (0, 18) == (judge.rows, sum(judge.reasons.values()))
        with ScriptedModels.in_thread(SCORE) as scripted:
            report = await archive.regrade(RegradeOptions(criteria=("Judge",), models=at(scripted)))
        assert (18, {}) == (report.graded, dict(report.agreement[0].reasons))


async def test_criteria_are_named(file: Path) -> None:
    """A criterion that is not there is refused, with those that are."""
    async with Archive.open(file) as archive:
        with pytest.raises(InvalidArgument, match="there is no criterion 'Exactly'; the criteria are: Close"):
            await archive.regrade(RegradeOptions(criteria=("Exactly",)))
        assert {EXACT} == {each.criterion for each in await archive.agreement(RegradeOptions(criteria=(EXACT,)))}


async def test_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has agreement, kappa and confusion; what is left out and which variant fits is said."""
    ended = await command(capsys, "regrade", str(file), "--estimate")
    assert (0, "", "36 rows to grade\n") == (ended.code, ended.out, ended.err)
    ended = await command(capsys, "regrade", str(file))
    assert 0 == ended.code
    lines = [line.split("\t") for line in ended.out.splitlines()]
    assert ["Exact", "string_check", "18", "1.0", "1.0", "4", "0", "0", "14", "0", "0"] in lines
    assert "Close: ratio: 18 of 18 scores are the service's, distance 0.0000" in ended.err
    assert "left out: Judge-" in ended.err
    ended = await command(capsys, "regrade", str(file), "--json", "--criteria", "Exact")
    [exact] = json.loads(ended.out)["agreement"]
    assert (1.0, 1.0, 18) == (exact["agreement"], exact["kappa"], exact["scores"]["same"])


async def test_the_command_with_judges(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Judges come from a model map; a cap has exit code 3, and the same command goes on."""
    with ScriptedModels.in_thread(SCORE) as scripted:
        models = tmp_path / "models.toml"
        models.write_text(f'[models.judge]\nbase_url = "{scripted.base_url}"\n')
        arguments = ("regrade", str(file), "--models", str(models), "--criteria", "Judge", "--max-calls", "10")
        ended = await command(capsys, *arguments)
        assert 3 == ended.code
        assert "18 judge calls, about 1,800 tokens" in ended.err
        assert "run the same command again" in ended.err
        assert 0 == (await command(capsys, *arguments)).code
        assert 18 == len(scripted.requests)
