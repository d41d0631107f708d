"""Five seconds of the soak, and proof that it sees what it looks for. `nox -s soak` runs the ten minutes."""

import pytest
import soak

from evals_async._transport.retry import RETRIES
from evals_async.resources._caller import Identity


async def test_five_seconds_of_every_fault_at_once() -> None:
    """Nothing lost, nothing doubled, nothing of another caller, memory flat, nothing left."""
    report = await soak.soak(5.0, seed=5)
    assert [] == report.wrong, str(report)
    assert report.outcomes["read: ok"] > 100
    assert report.outcomes["create: ok"] > 0
    assert len(report.happened) == 16


async def test_it_sees_answers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ids are not compared, a stale answer reaches a reader, and the soak says so."""

    def believe(self: Identity, value: object, ids: object) -> None:
        """Compare nothing."""

    monkeypatch.setattr(Identity, "check", believe)
    report = await soak.soak(2.0, seed=5)
    assert [line for line in report.wrong if line.startswith("asked for")]


async def test_it_sees_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where creates are sent again after a lost answer, something exists twice, and the soak says so."""
    for failure in ("lost", "unavailable", "unreadable"):
        monkeypatch.setitem(RETRIES, failure, {**RETRIES[failure], "create": 9})
    monkeypatch.setattr(soak, "GOOD", 0.6)
    monkeypatch.setattr(soak.Soak, "change", soak.Soak.create)
    report = await soak.soak(2.0, seed=5)
    assert [line for line in report.wrong if "exists 2 times" in line]
