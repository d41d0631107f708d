"""What of `evals_async.ray` needs no Ray: its message where Ray is missing, and its import."""

import sys

import pytest

from evals_async import MissingExtra


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is imported without Ray; who uses it then is told what to install."""
    from evals_async import ray

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtra, match=r"\[ray\]"):
        ray.read_items("tables")
    with pytest.raises(MissingExtra, match=r"\[ray\]"):
        ray.grade(None, {})
