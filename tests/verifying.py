"""Verification of an archive, by itself and beside a server."""

from pathlib import Path
from typing import Any

from doubles import ScaledClock
from reference_server import ReferenceServer

from evals_async import EvalsClient
from evals_async.archive import Archive, VerifyReport


async def offline(file: Path) -> VerifyReport:
    async with Archive.open(file, clock=ScaledClock(100)) as archive:
        return await archive.verify()


async def online(file: Path, server: ReferenceServer, **options: Any) -> VerifyReport:
    clock = ScaledClock(100)
    client = EvalsClient(base_url=server.base_url, api_key="k", clock=clock)
    async with client, Archive.open(file, clock=clock) as archive:
        return await archive.verify(client, **options)
