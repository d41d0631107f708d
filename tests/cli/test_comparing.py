"""`evals-async compare`: runs of the service and of archives, told as tables and as JSON, with an exit code for CI."""

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import KEY, Command

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.server import LocalServer


EVAL = "eval_compared"


def run_of(name: str, **fields: Any) -> dict[str, Any]:
    return {"object": "eval.run", "id": name, "eval_id": EVAL, "status": "completed", "created_at": 1, **fields}


def items_of(run: str, passes: int, total: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{run}_{number}",
            "run_id": run,
            "eval_id": EVAL,
            "created_at": total - number,
            "status": "pass" if number < passes else "fail",
            "datasource_item_id": number,
            "datasource_item": {"question": number, "topic": number % 4},
            "results": [{"name": "match", "passed": number < passes, "score": float(number < passes)}],
            "sample": {"model": "gpt-x", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}},
            **fields,
        }
        for number in range(total)
    ]


@pytest.fixture
async def runs(server: LocalServer) -> None:
    """Three runs of twenty rows: a good one, a worse one, one that differs by chance; and one of other rows."""
    items = [*items_of("good", 20, 20), *items_of("worse", 10, 20), *items_of("near", 19, 20)]
    items += items_of("other", 3, 3, datasource_item={"question": "another"})
    await server.seed(
        evals=[{"object": "eval", "id": EVAL, "name": "Compared", "created_at": 1, "testing_criteria": []}],
        runs=[run_of(name) for name in ("good", "worse", "near", "other")],
        output_items=items,
    )


@pytest.mark.usefixtures("runs")
async def test_what_is_told(command: Command) -> None:
    """What aligns is said, then the rates of all and of each criterion, tokens and cost, and the rows that flipped."""
    ended = await command("compare", "good", "worse", "--eval", EVAL, "--rows", "3", "--price", "gpt*=1/2")
    assert 0 == ended.code
    assert "20 rows aligned" in ended.err
    assert "verdict: worse" in ended.err
    assert "cost of A: 0.0240" in ended.err
    lines = [line.split("\t") for line in ended.out.splitlines()]
    assert ["match", "1.0", "0.5", "-0.5"] == lines[2][:4]
    assert ["10", "0", "0", "0"] == lines[2][6:10]
    assert "worse" == lines[2][-1]
    assert ["A", "gpt-x", "20", "20000", "0", "2000"] in lines
    assert [["10", "worse", "match", "good_10", "worse_10"]] == [line for line in lines if line[0] == "10"]
    assert "7 more rows flipped\n" in ended.err


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("names", "fail_on", "code"),
    [
        (("good", "worse"), "regression", 5),
        (("good", "near"), "regression", 0),
        (("good", "near"), "flip", 5),
        (("worse", "good"), "flip", 0),
        (("good", "near", "worse"), "regression", 5),
        (("good", "other"), "regression", 3),
    ],
)
async def test_exit_code_for_ci(command: Command, names: tuple[str, ...], fail_on: str, code: int) -> None:
    """A regression beyond chance, or any flip, has an exit code of its own; so have runs without a common row."""
    ended = await command("compare", *names, "--eval", EVAL, "--fail-on", fail_on)
    assert code == ended.code


@pytest.mark.usefixtures("runs")
async def test_json(command: Command) -> None:
    """One comparison is an object, several are an array; clusters are named in it."""
    ended = await command("compare", "good", "worse", "--eval", EVAL, "--json", "--cluster", "item.topic")
    found = json.loads(ended.out)
    assert ("worse", "item.topic", 10) == (found["verdict"], found["cluster"], found["overall"]["regressed"])
    assert 4 == found["overall"]["difference"]["clusters"]
    ended = await command("compare", "good", "worse", "near", "--eval", EVAL, "--json")
    assert ["worse", "no difference seen"] == [each["verdict"] for each in json.loads(ended.out)]


@pytest.mark.usefixtures("runs")
async def test_a_run_of_an_archive_with_one_of_the_service(
    command: Command, server: LocalServer, tmp_path: Path
) -> None:
    """What an archive kept is held against what the service has now."""
    file = tmp_path / "kept.db"
    async with EvalsClient(base_url=server.base_url, api_key=KEY) as client, Archive.open(file) as archive:
        await archive.export(client)
    ended = await command("compare", f"{file}:good", f"{EVAL}/worse", "--json")
    assert "worse" == json.loads(ended.out)["verdict"]
    ended = await command("compare", f"{file}:{EVAL}/good", f"{file}:near")
    assert 0 == ended.code
    assert "verdict: no difference seen" in ended.err


@pytest.mark.usefixtures("runs")
async def test_the_page_of_a_comparison(command: Command, tmp_path: Path) -> None:
    """The page has the rows that got worse, each with the item of both runs."""
    file = tmp_path / "compared.html"
    ended = await command("compare", "good", "worse", "--eval", EVAL, "--to", str(file))
    assert (0, f"written: {file}") == (ended.code, ended.err.splitlines()[0])
    text = file.read_text(encoding="utf-8")
    assert 10 == text.count('data-verdict="worse"')
    assert "B is significantly worse" in text


@pytest.mark.usefixtures("runs")
async def test_the_page_of_a_run(command: Command, server: LocalServer, tmp_path: Path) -> None:
    """The page of a run is written from the service and from an archive alike."""
    file, kept = tmp_path / "run.html", tmp_path / "kept.db"
    ended = await command("report", f"{EVAL}/worse", "--to", str(file), "--items", "15")
    assert (0, f"{file}\n") == (ended.code, ended.out)
    assert "20 items, 50.0 % of the graded ones passed" in ended.err
    text = file.read_text(encoding="utf-8")
    assert (10, 5) == (text.count('data-verdict="fail"'), text.count('data-verdict="pass"'))
    async with EvalsClient(base_url=server.base_url, api_key=KEY) as client, Archive.open(kept) as archive:
        await archive.export(client)
    ended = await command("report", f"{kept}:worse", "--to", str(file), "--items", "15")
    assert 0 == ended.code
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("good", "--eval", EVAL), "compare needs at least two runs"),
        (("a", "b", "c", "--eval", EVAL, "--to", "x.html"), "--to writes a page about two runs"),
        (("good", "worse"), "The eval of the run good is missing."),
        (("nowhere.db:good", "worse"), "There is no file nowhere.db: an archive is needed."),
        (("good", "worse", "--eval", EVAL, "--price", "gpt"), "a price must be"),
        (("good", "worse", "--eval", EVAL, "--cluster", "topic"), "must be a field of the item"),
    ],
)
async def test_mistakes(command: Command, arguments: tuple[str, ...], why: str) -> None:
    """A mistake in the command line has exit code 2, and is told."""
    ended = await command("compare", *arguments)
    assert 2 == ended.code
    assert why in ended.err
