"""The probe: what the models of a map can do, as values, as a table, and as JSON."""

import asyncio
import json
from pathlib import Path

import pytest
from commandline import Ended

from evals_async import InvalidArgument
from evals_async.cli import main
from evals_async.inference import Models, Rule, ScriptedModels, probe_models


YES = Rule(text='{"result": "yes"}')


async def test_abilities_are_found_out() -> None:
    """Each ability by asking for it; what an entry cannot is no exception."""
    async with (
        ScriptedModels(YES, models=("one",)) as able,
        ScriptedModels(YES, structured_output="json_object", responses=False, embeddings=False) as less,
        ScriptedModels() as vectors,
        ScriptedModels(YES, api_key="other-key") as locked,
    ):
        entries = {
            "able": {"base_url": able.base_url},
            "less": {"base_url": less.base_url, "model": "small"},
            "vectors": {"base_url": vectors.base_url},
            "locked": {"base_url": locked.base_url},
            "misled": {"base_url": able.base_url + "/else"},
            "*": {"base_url": able.base_url},
        }
        async with Models.from_mapping({"models": entries}) as models:
            found = {ability.entry: ability for ability in await probe_models(models)}
            with pytest.raises(InvalidArgument):
                await probe_models(Models.from_mapping({"models": {"a": entries["able"]}}), ["b"])
    assert found["able"].model == "able-scripted"
    assert found["*"].asked == "one"
    told = {
        name: (each.answers, each.structured_output, each.responses, each.embeddings, each.logprobs)
        for name, each in found.items()
    }
    assert told == {
        "able": (True, "json_schema", True, True, True),
        "less": (True, "json_object", False, False, True),
        "vectors": (True, None, False, True, False),
        "misled": (False, None, False, False, False),
        "locked": (False, None, False, False, False),
        "*": (True, "json_schema", True, True, True),
    }
    assert str(found["misled"].error).endswith("check base_url, which usually ends in /v1")
    assert "Incorrect API key" in str(found["locked"].error)


async def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    code = await asyncio.to_thread(main, ["models", *arguments])
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


async def test_the_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One row per entry; JSON has every field; exit code 0 as all answer."""
    async with ScriptedModels(YES) as scripted:
        file = tmp_path / "models.toml"
        file.write_text(f'[models."gpt-4.1"]\nbase_url = "{scripted.base_url}"\n')
        table = await run(capsys, "--models", str(file))
        exact = await run(capsys, "--models", str(file), "--json")
    assert (table.code, table.err) == (0, "")
    head, row = (line.split("\t") for line in table.out.splitlines())
    shown = dict(zip(head, row, strict=True))
    assert shown["entry"] == "gpt-4.1"
    assert shown["model"] == "gpt-4.1-scripted"
    assert shown["structured_output"] == "json_schema"
    [ability] = json.loads(exact.out)
    assert ability["answers"] is True
    assert ability["base_url"] == scripted.base_url


async def test_a_model_that_does_not_answer_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is on stderr, the table is complete."""
    async with ScriptedModels(embeddings=False) as scripted:
        ended = await run(capsys, "--model-endpoint", scripted.base_url, "m")
    assert ended.code == 1
    assert "error: m: 400 no_rule" in ended.err
    assert "m\tno\t" in ended.out


async def test_the_command_needs_one_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """None and two are mistakes of usage; a map that is wrong is told as such."""
    assert (await run(capsys)).code == 2
    file = tmp_path / "models.toml"
    file.write_text("[models.x]\n")
    assert (await run(capsys, "--models", str(file), "--model-endpoint", "http://127.0.0.1:1/v1")).code == 2
    ended = await run(capsys, "--models", str(file))
    assert ended.code == 2
    assert 'models."x" needs a base_url' in ended.err
