"""At 80 columns: what a person needs is whole, whatever the command."""

import re
from pathlib import Path

import pytest
from commandline import Command

from evals_async.cli import main, output
from evals_async.server import LocalServer, SampleTree, sample_tree


LONG = "evalrun_0123456789abcdef0123456789abcdef"
REASON = "the model was not available in this region at that time, and the row was therefore left without an answer"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person looks at stdout and stderr, on a terminal of 80 columns."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr(output, "width_of_stderr", lambda: 80)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the demo, made once."""
    file = tmp_path_factory.mktemp("archive") / "d.db"
    assert 0 == main(["export", "--to", str(file), "--demo"])
    return file


def too_wide(text: str) -> list[str]:
    """Lines that are wider than the terminal, but for hints, which are copied, and for words that fill a line."""
    lines = [line for line in text.splitlines() if not line.startswith("next: ")]
    return [line for line in lines if len(line.rstrip()) > 80 and max(map(len, line.split())) < 60]


IDS = re.compile(r"(?:evalrun|eval|outputitem)_[0-9a-f]{16,}")


def broken_ids(text: str) -> list[str]:
    """Ids that have lost their end: those of the sample are all of one length."""
    return [found for found in IDS.findall(text) if len(found.rpartition("_")[2]) != 32]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "words",
    [
        ["info", "FILE"],
        ["show", "FILE"],
        ["show", "FILE", "RUN"],
        ["verify", "FILE", "--offline"],
        ["compare", "FILE:RUN", "FILE:OTHER"],
        ["regrade", "FILE"],
        ["convert", "FILE", "--to", "promptfooconfig", "--out", "OUT"],
        ["convert", "FILE", "--to", "csv", "--out", "OUT", "--dry-run"],
    ],
    ids=" ".join,
)
def test_commands_of_an_archive(
    words: list[str], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids are whole, no line is wider than the terminal, and only outputs of models may be cut."""
    run, other = (str(sample_tree(300)["runs"][number]["id"]) for number in (0, 20))  # of one eval
    given = {"FILE": str(archive), "RUN": run, "OTHER": other, "OUT": str(tmp_path / "out")}
    for name, value in given.items():
        words = [word.replace(name, value) for word in words]
    assert 0 == main(words)
    captured = capsys.readouterr()
    assert [] == broken_ids(captured.out)
    assert [] == too_wide(captured.out) + too_wide(captured.err)
    if words[0] != "show":
        assert "…" not in captured.out


@pytest.mark.usefixtures("narrow")
async def test_commands_of_the_service(command: Command, server: LocalServer, tree: SampleTree) -> None:
    """Lists of evals, runs and items have whole ids, names and scores."""
    eval_id = str(tree["output_items"][0]["eval_id"])
    for words in (["evals", "list"], ["runs", "list", eval_id], ["items", "list", "--eval", eval_id]):
        ended = await command(*words)
        assert (0, []) == (ended.code, broken_ids(ended.out))
        assert [] == too_wide(ended.out) + too_wide(ended.err)
    names = {str(entry["name"]) for entry in tree["evals"]}
    shown = re.sub(r"\s+", " ", (await command("evals", "list")).out)
    for word in {word for name in names for word in name.split()}:
        assert word in shown


@pytest.mark.usefixtures("narrow")
async def test_an_error_breaks_between_words(command: Command, server: LocalServer) -> None:
    """A long reason goes on in the next line between two words; the id of the run is in one piece."""
    error = {"code": "model_gone", "message": REASON}
    await server.seed(
        evals=[{"id": "eval_s", "created_at": 1}],
        runs=[{"id": LONG, "eval_id": "eval_s", "status": "failed", "created_at": 1, "error": error}],
    )
    ended = await command("runs", "wait", f"eval_s/{LONG}")
    assert 1 == ended.code
    said = ended.err.partition("error: ")[2].splitlines()
    assert max(map(len, said)) <= 80
    assert " ".join(said) == f"the run {LONG} ended as failed: {REASON}"
    assert REASON in re.sub(r"\s+", " ", ended.out)


@pytest.mark.usefixtures("narrow")
def test_a_hint_stays_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is longer than the terminal is wide is copied in one piece."""
    output.hint(f"evals-async items list eval_{'a' * 40}/{LONG} --base-url https://evals.example/v1")
    assert 1 == capsys.readouterr().err.count("\n")


@pytest.mark.usefixtures("narrow")
async def test_narrow_terminals_get_lists_instead_of_tables(
    command: Command, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 30 columns an id does not fit into a table: each row is a list, and the id is whole."""
    monkeypatch.setenv("COLUMNS", "30")
    await server.seed(
        evals=[{"id": "eval_s", "created_at": 1}],
        runs=[{"id": LONG, "eval_id": "eval_s", "status": "failed", "created_at": 1, "name": "one"}],
    )
    shown = (await command("runs", "list", "eval_s")).out
    assert LONG in shown
    assert re.search(r"^Status +failed$", shown, re.MULTILINE)


@pytest.mark.usefixtures("narrow")
def test_columns_that_are_left_out_are_named(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comparison at 80 columns keeps rates, differences and verdicts, and lists the columns that were left out."""
    run, other = (str(sample_tree(300)["runs"][number]["id"]) for number in (0, 20))  # of one eval
    assert 0 == main(["compare", f"{archive}:{run}", f"{archive}:{other}"])
    captured = capsys.readouterr()
    assert re.search(r"Criterion +A +B +Difference +Worse +Better +p Holm +Verdict", captured.out)
    assert "too wide for this terminal: Interval, Errors A, Errors B, p, Rows needed" in captured.err
