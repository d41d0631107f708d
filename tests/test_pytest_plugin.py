"""The pytest plugin, as a user's test run sees it: in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LONGEST


USERS_TESTS = """
import asyncio

{imports}

{mark}
async def test_the_server_answers(evals_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", evals_server.port)
    writer.write(b"GET /v1/evals HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    writer.close()


{mark}
async def test_the_client_reaches_the_server(evals_server, evals_client):
    await evals_server.seed(evals=[{{"id": "eval_1", "object": "eval", "created_at": 1, "name": "Mine"}}])
    assert (await evals_client.evals.retrieve("eval_1")).name == "Mine"
    assert [seen.path for seen in evals_server.requests] == ["/v1/evals/eval_1"]


def test_a_synchronous_test_is_answered(evals_server_in_thread):
    from urllib.request import urlopen

    with urlopen(f"{{evals_server_in_thread.base_url}}/evals", timeout=300) as answer:
        assert answer.status == 200


def test_that_needs_nothing():
    pass
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    fixed = ["-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", "-q", *fixed, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONGEST, check=False)


@pytest.mark.parametrize(
    ("mode", "imports", "mark"),
    [("auto", "", ""), ("strict", "import pytest", "@pytest.mark.asyncio")],
)
def test_the_fixtures_work_in_both_modes(tmp_path: Path, mode: str, imports: str, mark: str) -> None:
    """The fixtures are there without an import, in auto mode and in strict mode."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS.format(imports=imports, mark=mark))
    done = run_pytest(tmp_path, "-o", f"asyncio_mode={mode}")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_loading_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    """A test run that uses no fixture of ours does not pay for aiohttp, attrs, msgspec or sqlite3."""
    heavy = ("aiohttp", "attrs", "attr", "cattrs", "msgspec", "sqlite3", "tenacity", "yarl")
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\n\ndef test_light():\n"
        "    assert 'evals_async.pytest_plugin' in sys.modules\n"
        f"    assert [name for name in {heavy!r} if name in sys.modules] == []\n"
    )
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
