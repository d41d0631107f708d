"""The environment of every test: no key, no base URL from outside."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings
from virtual_time import SkippingLoop


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell. Child processes would ignore Ctrl-C too, which some tests are about.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair. By default the examples are the same each time, so that a change is
# not held up by what another one brought; `pytest --hypothesis-profile=random` looks for new ones.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("repeatable", settings.get_profile("random"), derandomize=True)
settings.load_profile("repeatable")

VIRTUAL = ("archive", "faults", "transport")  # folders all of whose tests run in virtual time
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NETRC")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_OPENAI_")) or name.upper() in PROXIES:
            monkeypatch.delenv(name)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests of those folders, and with the mark `virtual_time`, get a loop that waits for no timer. Those with the mark
    `real_time` do not.
    """
    virtual = item.path.parent.name in VIRTUAL or item.get_closest_marker("virtual_time") is not None
    virtual = virtual and item.get_closest_marker("real_time") is None
    return {"virtual": SkippingLoop} if virtual else {"real": asyncio.new_event_loop}


def pytest_collection_finish() -> None:
    """What is there before the first test is no test's garbage: collections, which many tests ask for, leave it out."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat the tests that measure time, and no other: to repeat the rest would hide a race."""
    for item in items:
        repeats = item.config.pluginmanager.has_plugin("rerunfailures")
        if repeats and item.get_closest_marker("measures_time") is not None:
            item.add_marker(pytest.mark.flaky(reruns=2))
