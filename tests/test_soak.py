"""A short soak, and proof that it sees what it looks for. `nox -s soak` runs the ten minutes.

Each ends when it has seen enough, and in virtual time: a slow machine sees the same.
"""

from collections.abc import Callable

import pytest
import soak

from evals_async._transport.retry import RETRIES
from evals_async.resources._caller import Identity


pytestmark = pytest.mark.virtual_time


def enough_of_everything(running: soak.Soak) -> bool:
    """Every fault has happened, and reads and creates have succeeded among them."""
    outcomes = running.outcomes
    return len(running.happened) == 16 and outcomes["read: ok"] > 1000 and outcomes["create: ok"] > 20


def wrong(start: str = "", text: str = "") -> Callable[[soak.Soak], bool]:
    """One thing of this kind has gone wrong."""
    return lambda running: any(line.startswith(start) and text in line for line in running.wrong)


async def test_every_fault_at_once() -> None:
    """Nothing lost, nothing doubled, nothing of another caller, memory flat, nothing left."""
    report = await soak.soak(enough_of_everything, seed=5)
    assert [] == report.wrong, str(report)


async def test_it_sees_answers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ids are not compared, a stale answer reaches a reader, and the soak says so."""

    def believe(self: Identity, value: object, ids: object) -> None:
        """Compare nothing."""

    monkeypatch.setattr(Identity, "check", believe)
    report = await soak.soak(wrong(start="asked for"), seed=5)
    assert [line for line in report.wrong if line.startswith("asked for")]


async def test_it_sees_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where creates are sent again after a lost answer, something exists twice, and the soak says so."""
    for failure in ("lost", "unavailable", "unreadable"):
        monkeypatch.setitem(RETRIES, failure, {**RETRIES[failure], "create": 9})
    monkeypatch.setattr(soak, "GOOD", 0.6)
    monkeypatch.setattr(soak.Soak, "change", soak.Soak.create)
    report = await soak.soak(wrong(text="exists 2 times"), seed=5)
    assert [line for line in report.wrong if "exists 2 times" in line]
