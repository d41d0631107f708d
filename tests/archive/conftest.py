"""What the tests of the archive share: an export from the reference server, in scaled time."""

from pathlib import Path
from typing import Any

import pytest
from doubles import ScaledClock
from hinting import every_hint_is_a_command
from reference_server import Export, ReferenceServer

from evals_async import EvalsClient
from evals_async.archive import Archive, ExportReport


__all__ = ["every_hint_is_a_command"]  # a fixture for all tests here


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """`await export(server, **options)`: one export into the test's archive, `tmp_path / "evals.db"`."""

    async def run(
        server: ReferenceServer, *args: Any, key: str = "k", path: Path | None = None, **options: Any
    ) -> ExportReport:
        clock = ScaledClock(100)
        client = EvalsClient(base_url=server.base_url, api_key=key, clock=clock)
        async with client, Archive.open(path or tmp_path / "evals.db", clock=clock) as archive:
            return await archive.export(client, *args, **options)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The test's archive."""
    return tmp_path / "evals.db"
