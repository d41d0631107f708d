"""Each hint of the table is printed in its situation, then done as it says; and what it promises comes true."""

import asyncio
import errno
import logging
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from commandline import KEY, ended, start
from following import Person

from evals_async import EvalsClient
from evals_async._store.lock import WriterLock
from evals_async.cli.hints import Hint
from evals_async.inference import Rule, ScriptedModels
from evals_async.server import Fault, LocalServer, SampleTree


Situation = Callable[[Person], Awaitable[None]]
SITUATIONS: dict[Hint, Situation] = {}
RUNS = "/evals/{eval_id}/runs"
FREE = ("--port", "0")


def situation(*hints: Hint) -> Callable[[Situation], Situation]:
    """This function brings these hints about, and follows them."""

    def add(act: Situation) -> Situation:
        SITUATIONS.update(dict.fromkeys(hints, act))
        return act

    return add


@pytest.fixture
def person(
    server: LocalServer,
    tree: SampleTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Person:
    """Someone whose environment names the server, in an empty directory."""
    return Person(server, tree, tmp_path, monkeypatch, capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("hint", Hint, ids=lambda hint: hint.name.lower())
async def test_a_hint_that_is_followed_keeps_its_promise(hint: Hint, person: Person) -> None:
    """Every hint that the program can print has a situation here, in which it is printed and followed."""
    await SITUATIONS[hint](person)
    assert hint in person.followed


def test_hints_are_printed_from_the_table_alone() -> None:
    """No module of the command line prints a hint of its own."""
    package = Path(sys.modules["evals_async.cli"].__file__ or "").parent
    for module in package.rglob("*.py"):
        if module.name not in ("hints.py", "output.py"):
            assert "next: " not in (text := module.read_text()), module
            assert "output.hint(" not in text, module


# --- from one command to the next -------------------------------------------------------------------------------------


@situation(Hint.HELP)
async def help_is_shown(person: Person) -> None:
    wrong = await person.run("runs", "frob")
    assert 2 == wrong.code
    assert "Usage: evals-async runs [OPTIONS] COMMAND" in (await person.follow(Hint.HELP, wrong)).out


@situation(Hint.LIST_EVALS, Hint.LIST_RUNS, Hint.GET_RUN, Hint.LIST_ITEMS)
async def from_an_id_that_is_not_there_to_items(person: Person) -> None:
    shown = await person.run("evals", "get", "eval_none")
    assert 1 == shown.code
    for hint in (Hint.LIST_EVALS, Hint.LIST_RUNS, Hint.GET_RUN, Hint.LIST_ITEMS):
        shown = await person.follow(hint, shown)
        assert shown.out


@situation(Hint.NAME_RUN)
async def a_run_is_named(person: Person) -> None:
    shown = await person.run("items", "list")
    assert 2 == shown.code
    items = await person.follow(Hint.NAME_RUN, shown, EVAL_ID=person.eval_id, RUN_ID=person.run_ids[0])
    assert 1 < len(items.out.splitlines())


@situation(Hint.ADD_EVAL)
async def the_eval_of_runs_is_added(person: Person) -> None:
    a, b = person.run_ids[:2]
    for words in (["runs", "get", a, b, "--json"], ["compare", a, b]):
        shown = await person.run(*words)
        assert (2, "") == (shown.code, shown.out)
        assert a in (found := await person.follow(Hint.ADD_EVAL, shown, EVAL_ID=person.eval_id)).out + found.err


@situation(Hint.GO_ON_LISTING, Hint.MORE_RETRIES)
async def a_listing_that_broke_goes_on(person: Person) -> None:
    more = [{**run(person), "id": f"evalrun_more{number:03}", "created_at": 9} for number in range(120)]
    await person.server.seed(runs=more)
    person.server.faults.add(Fault(route=RUNS, status=503, skip=1, times=1))
    words = ("runs", "list", person.eval_id)
    broken = await person.run(*words, "--max-retries", "0")
    assert 1 == broken.code
    command = person.command_in(Hint.MORE_RETRIES, broken)
    rest = await person.follow(Hint.GO_ON_LISTING, broken)
    whole = await person.run(*words)
    assert whole.out.splitlines()[1:] == broken.out.splitlines()[1:] + rest.out.splitlines()[1:]
    person.server.faults.add(Fault(route=RUNS, status=503, headers={"retry-after": "0"}, times=3))
    assert whole.out == (await person.run(*command.split())).out


def run(person: Person) -> dict[str, Any]:
    return {"object": "eval.run", "eval_id": person.eval_id, "status": "completed", "created_at": 1}


@situation(Hint.ALL_ROWS)
async def all_rows_that_flipped(person: Person) -> None:
    items = [
        {
            "id": f"{name}_{row}",
            "eval_id": person.eval_id,
            "run_id": name,
            "created_at": row,
            "datasource_item_id": row,
            "datasource_item": {"question": row},
            "status": "pass" if passed else "fail",
            "results": [{"name": "match", "passed": passed, "score": float(passed)}],
        }
        for name, passed in (("evalrun_good", True), ("evalrun_bad", False))
        for row in range(9)
    ]
    runs = [{**run(person), "id": name} for name in ("evalrun_good", "evalrun_bad")]
    await person.server.seed(runs=runs, output_items=items)
    names = (f"{person.eval_id}/evalrun_good", f"{person.eval_id}/evalrun_bad")
    some = await person.run("compare", *names, "--rows", "2")
    assert (0, 2) == (some.code, some.out.count("\tworse\tmatch\t"))
    assert 9 == (await person.follow(Hint.ALL_ROWS, some)).out.count("\tworse\tmatch\t")


# --- the demo and the server ------------------------------------------------------------------------------------------


async def evals_at(url: str, key: str = "local") -> int:
    async with EvalsClient(base_url=url, api_key=key) as client:
        return len(await client.evals.list().collect())


@situation(Hint.SERVE_SAMPLE, Hint.DEMO_LIVE)
async def after_the_demo(person: Person) -> None:
    demo = await person.run("demo", "--runs", "5")
    live = person.command_in(Hint.DEMO_LIVE, demo)
    async with person.serve(Hint.SERVE_SAMPLE, demo, *FREE) as url:
        assert 4 == await evals_at(url)
    assert 0 == (await person.run(*live.split())).code


@situation(Hint.SERVE_MODELS)
async def a_demo_with_models(person: Person) -> None:
    async with ScriptedModels(Rule(text="yes")) as models:
        demo = await person.run("demo", "--run")
        async with person.serve(Hint.SERVE_MODELS, demo, *FREE, URL=models.base_url) as url:
            assert 0 == await evals_at(url)
    assert (person.place / "runs.db").exists()


@situation(Hint.NEW_FILE)
async def a_file_that_is_not_there(person: Person) -> None:
    file = person.place / "new file.db"
    missing = await person.run("serve", str(file), *FREE)
    assert (2, False) == (missing.code, file.exists())
    async with person.serve(Hint.NEW_FILE, missing) as url:
        assert (0, True) == (await evals_at(url), file.exists())


@situation(Hint.FREE_PORT)
async def a_port_that_is_taken(person: Person) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = await ended(await start("serve", "--sample", "--api-key", "sk-of-mine", "--port", port))
        assert 1 == refused.code
        assert "sk-of-mine" not in refused.err
        person.patch.setenv("EVALS_SERVER_API_KEY", "sk-of-mine")
        async with person.serve(Hint.FREE_PORT, refused) as url:
            assert 4 == await evals_at(url, "sk-of-mine")


@situation(Hint.MODELS)
async def a_wrong_endpoint(person: Person) -> None:
    async with ScriptedModels(Rule(text="yes")) as models:
        wrong = await person.run("models", "--model-endpoint", f"{models.base_url}/none", "any")
        assert 1 == wrong.code
        assert person.hinted(Hint.MODELS, wrong).endswith("; a base URL usually ends in /v1")
        assert 0 == (await person.run("models", "--model-endpoint", models.base_url, "any")).code


@situation(Hint.MODEL_MAP)
async def a_model_map_that_is_not_there(person: Person) -> None:
    async with ScriptedModels(Rule(text="yes")) as models:
        missing = await person.run("models", "--models", "map.toml", "any")
        assert 2 == missing.code
        assert "write the model map to map.toml" in person.hinted(Hint.MODEL_MAP, missing)
        await person.follow(Hint.MODEL_MAP, missing, URL=models.base_url)
        (person.place / "map.toml").write_text(f'[models."any"]\nbase_url = "{models.base_url}"\n')
        assert 0 == (await person.run("models", "--models", "map.toml", "any")).code


# --- archives ---------------------------------------------------------------------------------------------------------


async def exported(person: Person, name: str = "e.db") -> str:
    file = str(person.place / name)
    assert 0 == (await person.run("export", "--to", file)).code
    return file


@situation(Hint.EXPORT, Hint.VERIFY, Hint.SERVE, Hint.SHOW)
async def from_an_estimate_to_a_served_archive(person: Person) -> None:
    file = person.place / "a file.db"
    estimate = await person.run("export", "--to", str(file), "--dry-run", "--no-files", "--max-outage", "9")
    assert (0, False) == (estimate.code, file.exists())
    assert "--no-files" in person.command_in(Hint.EXPORT, estimate)
    assert "--max-outage 9" in person.command_in(Hint.EXPORT, estimate)
    verified = await person.follow(Hint.VERIFY, await person.follow(Hint.EXPORT, estimate))
    async with person.serve(Hint.SERVE, verified, *FREE) as url:
        assert 4 == await evals_at(url)
    shown = await person.follow(Hint.SHOW, await person.run("info", str(file)))
    assert person.run_ids[0] in shown.out


@situation(Hint.EXPORT_WHEN_SOLVED, Hint.WRONG_KEY)
async def a_key_that_is_refused(person: Person) -> None:
    file = person.place / "e.db"
    person.patch.setenv("OPENAI_API_KEY", "wrong")
    refused = await person.run("export", "--to", str(file), "--concurrency", "3")
    assert 4 == refused.code
    assert "check the key" in person.hinted(Hint.WRONG_KEY, refused)
    person.names_the_server()
    await person.follow(Hint.EXPORT_WHEN_SOLVED, refused)
    assert 0 == (await person.run("verify", str(file))).code


@situation(Hint.EXPORT_INTO)
async def an_archive_that_is_not_there(person: Person) -> None:
    missing = await person.run("show", str(person.place / "none.db"))
    assert 2 == missing.code
    await person.follow(Hint.EXPORT_INTO, missing)
    assert 0 == (await person.run("show", str(person.place / "none.db"))).code


@situation(Hint.NO_ARCHIVE)
async def another_kind_of_file(person: Person) -> None:
    notes = person.place / "notes.txt"
    notes.write_text("notes")
    wrong = await person.run("info", str(notes))
    assert 1 == wrong.code
    await person.follow(Hint.NO_ARCHIVE, wrong, FILE="made.db")
    assert 0 == (await person.run("info", "made.db")).code


@situation(Hint.OLD_ARCHIVE)
async def an_archive_of_an_older_version(person: Person) -> None:
    file = person.place / "old.db"
    file.touch()
    old = await person.run("info", str(file))
    assert 1 == old.code
    await person.follow(Hint.OLD_ARCHIVE, old, FILE=str(file))
    assert 0 == (await person.run("info", str(file))).code


@situation(Hint.VERIFY_DEMO, Hint.VERIFY_WITHOUT_KEY, Hint.VERIFY_DEMO_INSTEAD)
async def an_archive_of_the_demo(person: Person) -> None:
    await person.follow(Hint.VERIFY_DEMO, await person.run("export", "--to", "d.db", "--demo"))
    person.patch.delenv("OPENAI_API_KEY")
    without = await person.run("verify", "d.db")
    assert 4 == without.code
    demo = person.command_in(Hint.VERIFY_DEMO_INSTEAD, without)
    await person.follow(Hint.VERIFY_WITHOUT_KEY, without)
    assert 0 == (await person.run(*demo.split())).code


@situation(Hint.VERIFY_ALL)
async def a_sample_of_runs_was_compared(person: Person) -> None:
    file = await exported(person)
    some = await person.run("verify", file, "--sample", "2")
    assert "complete; the items of 2 of 12 runs were compared with the server\n" in some.err
    everything = await person.follow(Hint.VERIFY_ALL, some)
    assert "\ncomplete\n" in everything.err
    assert "next: to compare the items" not in everything.err


@situation(Hint.VERIFY_WITHOUT_SERVER)
async def a_server_that_is_gone(person: Person) -> None:
    file = await exported(person)
    person.patch.setattr("evals_async.archive.export.outages.FIRST_CONTACT", 0.0)
    person.patch.setattr("evals_async.archive.export.outages.FIRST_TRIES", 1)
    await person.server.close()
    stopped = await person.run("verify", file)
    assert 75 == stopped.code
    await person.follow(Hint.VERIFY_WITHOUT_SERVER, stopped)


@situation(Hint.ALLOW_INCOMPLETE)
async def an_archive_that_lacks_something(person: Person) -> None:
    person.server.faults.add(Fault(route=f"{RUNS}/{{run_id}}/output_items", status=400, times=1))
    file = str(person.place / "half.db")
    assert 3 == (await person.run("export", "--to", file)).code
    convert = ("convert", file, "--to", "promptfooconfig", "--out", str(person.place / "out"), "--strict")
    for words, code in ((convert, 3), (("push", file), 0)):
        refused = await person.run(*words)
        assert (3, "") == (refused.code, refused.out)
        allowed = await person.follow(Hint.ALLOW_INCOMPLETE, refused, code)
        assert "mapped" in allowed.out  # --strict is kept: the code is that of what was lost on the way


@situation(Hint.OTHER_DIRECTORY)
async def a_directory_that_is_a_file(person: Person) -> None:
    file = await exported(person)
    wrong = await person.run("convert", file, "--to", "csv", "--out", f"{file}/out")
    assert 1 == wrong.code
    await person.follow(Hint.OTHER_DIRECTORY, wrong, DIRECTORY=str(person.place / "out"))
    assert any((person.place / "out").iterdir())


@situation(Hint.FREE_SPACE)
async def a_full_disk(person: Person) -> None:
    file = await exported(person)
    page = str(person.place / "run.html")
    open_file = Path.open

    def full(path: Path, mode: str = "r", *how: Any, **more: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_file(path, mode, *how, **more)

    convert = ("convert", file, "--to", "csv", "--out", str(person.place / "out"))
    for words in (convert, ("report", f"{file}:{person.run_ids[0]}", "--to", page)):
        with person.patch.context() as patched:
            patched.setattr(Path, "open", full)
            shown = await person.run(*words)
        assert 74 == shown.code
        await person.follow(Hint.FREE_SPACE, shown)


@situation(Hint.DIRECTORY)
async def a_directory_that_is_not_there(person: Person) -> None:
    words = ("export", "--to", str(person.place / "none" / "e.db"))
    wrong = await person.run(*words)
    assert 1 == wrong.code
    assert "the directory must exist" in person.hinted(Hint.DIRECTORY, wrong)
    (person.place / "none").mkdir()
    assert 0 == (await person.run(*words)).code


@situation(Hint.BEING_WRITTEN)
async def two_exports(person: Person) -> None:
    file = await exported(person)
    with WriterLock(Path(file)):
        second = await person.run("export", "--to", file)
    assert 1 == second.code
    assert "wait until" in person.hinted(Hint.BEING_WRITTEN, second)
    assert 0 == (await person.run("export", "--to", file)).code


@situation(Hint.OTHER_PATH)
async def a_page_without_a_directory(person: Person) -> None:
    name = f"{person.eval_id}/{person.run_ids[0]}"
    wrong = await person.run("report", name, "--to", str(person.place / "none" / "run.html"))
    assert 1 == wrong.code
    assert "choose another path" in person.hinted(Hint.OTHER_PATH, wrong)
    assert 0 == (await person.run("report", name, "--to", str(person.place / "run.html"))).code


# --- errors of requests -----------------------------------------------------------------------------------------------


@situation(Hint.KEY)
async def no_key(person: Person) -> None:
    person.patch.delenv("OPENAI_API_KEY")
    without = await person.run("evals", "list")
    assert 4 == without.code
    await person.follow(Hint.KEY, without)
    for names in (
        {"OPENAI_API_KEY": KEY},
        {"AZURE_OPENAI_ENDPOINT": person.server.base_url.removesuffix("/v1"), "AZURE_OPENAI_API_KEY": KEY},
    ):
        with person.patch.context() as patched:
            if "OPENAI_API_KEY" not in names:
                patched.delenv("OPENAI_BASE_URL")
            for name, value in names.items():
                patched.setenv(name, value)
            assert 0 == (await person.run("evals", "list")).code


@situation(Hint.READING, Hint.QUOTA, Hint.NO_EVALS_API, Hint.REDIRECTED, Hint.LATER)
async def answers_of_servers(person: Person) -> None:
    spent: Any = {"error": {"message": "spent", "type": "insufficient_quota", "code": "insufficient_quota"}}
    for hint, code, fault in (
        (Hint.READING, 4, Fault(status=403)),
        (Hint.QUOTA, 1, Fault(status=429, body=spent)),
        (Hint.NO_EVALS_API, 1, Fault(status=200, body="<html>hello</html>")),
        (Hint.REDIRECTED, 1, Fault(status=301, headers={"location": "https://elsewhere.invalid"})),
    ):
        person.server.faults.add(fault)
        shown = await person.run("evals", "list", "--max-retries", "0")
        assert code == shown.code
        assert person.hinted(hint, shown)
        person.server.faults.clear()
        assert 0 == (await person.run("evals", "list")).code
    person.server.faults.add(Fault(status=429))
    limited = await person.run("evals", "list", "--max-retries", "0")
    assert "--concurrency 16" in person.command_in(Hint.LATER, limited)
    await person.follow(Hint.LATER, limited)


@situation(Hint.WRITING, Hint.READ_ONLY)
async def writes_that_are_refused(person: Person) -> None:
    file = await exported(person)
    async with LocalServer() as other:
        person.names_the_server(other)
        other.faults.add(Fault(route="POST /evals", status=403))
        refused = await person.run("push", file)
        assert (4, "may write") == (refused.code, person.hinted(Hint.WRITING, refused)[15:24])
        assert 0 == (await person.run("push", file)).code
    (person.place / "target.db").touch()
    assert 0 == (await person.run("regrade", "target.db", "--estimate")).code
    async with LocalServer(person.place / "target.db", read_only=True) as other:
        person.names_the_server(other)
        refused = await person.run("push", file)
    assert 4 == refused.code
    async with person.serve(Hint.READ_ONLY, refused, *FREE, FILE="target.db") as url:
        assert 0 == (await person.run("push", file, "--base-url", url)).code


@situation(Hint.MORE_TIME)
async def a_slow_answer(person: Person) -> None:
    person.server.faults.add(Fault(delay=600))
    slow = await person.run("evals", "list", "--timeout", "2")
    assert 1 == slow.code
    assert "--timeout 4" in person.command_in(Hint.MORE_TIME, slow)
    await person.follow(Hint.MORE_TIME, slow)


@situation(Hint.LONGER_WAIT)
async def a_run_that_is_not_over(person: Person) -> None:
    queued = {**run(person), "id": "evalrun_queued", "status": "queued"}
    await person.server.seed(runs=[queued])
    early = await person.run("runs", "wait", f"{person.eval_id}/evalrun_queued", "--deadline", "2")
    assert 1 == early.code
    assert "--deadline 4" in person.command_in(Hint.LONGER_WAIT, early)
    await person.server.seed(runs=[{**queued, "status": "completed"}])
    await person.follow(Hint.LONGER_WAIT, early)


@situation(Hint.LARGER_BODY)
async def an_answer_that_is_too_large(person: Person) -> None:
    large = await person.run("evals", "get", person.eval_id, "--max-body=100")
    assert 1 == large.code
    assert person.eval_id in (await person.follow(Hint.LARGER_BODY, large)).out


@situation(Hint.CERTIFICATE)
async def a_certificate_of_nobody(person: Person) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # names pyOpenSSL's types too
    body = b'{"object":"list","data":[],"has_more":false}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        unknown = await person.run("evals", "list", "--base-url", url, "--max-retries", "0")
        assert 1 == unknown.code
        assert "check the certificate" in person.hinted(Hint.CERTIFICATE, unknown)
        authority.cert_pem.write_to_path(str(person.place / "ca.pem"))
        person.patch.setenv("SSL_CERT_FILE", str(person.place / "ca.pem"))
        assert 0 == (await ended(await start("evals", "list", "--base-url", url))).code


@situation(Hint.PLAIN_HTTP)
async def tls_to_a_server_without_it(person: Person) -> None:
    url = person.server.base_url
    wrong = await person.run("evals", "list", "--base-url", url.replace("http://", "https://"))
    assert (1, False) == (wrong.code, "certificate" in wrong.err)
    assert "use http:// for a server without TLS" in person.hinted(Hint.PLAIN_HTTP, wrong)
    assert 0 == (await person.run("evals", "list", "--base-url", url)).code


@situation(Hint.NO_SERVER, Hint.WRONG_ADDRESS)
async def addresses_without_the_api(person: Person) -> None:
    wrong = await person.run("evals", "list", "--base-url", person.server.base_url.replace("/v1", "/v2"))
    assert person.hinted(Hint.WRONG_ADDRESS, wrong).endswith("a base URL usually ends in /v1")
    assert 0 == (await person.run("evals", "list", "--base-url", person.server.base_url)).code
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        nobody = await person.run("evals", "list", "--base-url", url, "--max-retries", "0")
    assert 1 == nobody.code
    async with person.serve(Hint.NO_SERVER, nobody, *FREE) as served:
        assert 0 == (await person.run("evals", "list", "--base-url", served)).code


@situation(Hint.UNEXPECTED)
async def an_error_that_nobody_thought_of(person: Person) -> None:
    person.patch.setattr("evals_async.cli.actions.serve.SAMPLE_RUNS", "many")
    shown = await person.run("serve", "--sample", *FREE)
    assert (1, False) == (shown.code, "Traceback" in shown.err)
    assert "repeat with --verbose" in person.hinted(Hint.UNEXPECTED, shown)
    with not_logging_later():
        assert "Traceback" in (await person.run("serve", "--sample", *FREE, "--verbose")).err


@contextmanager
def not_logging_later() -> Generator[None]:
    """Undo what --verbose does to the logger of this process."""
    logger = logging.getLogger("evals_async")
    handlers, level = list(logger.handlers), logger.level
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)
