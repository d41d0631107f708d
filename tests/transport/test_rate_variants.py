"""How many limits of the map in `variants` are used as well as the promise says, and that no call is lost anywhere."""

import pytest
from transport.variants import FAMILIES, verdict


# How many variants of each family lie outside the bounds. The reliability guide tells which.
OUTSIDE = {"buckets": 30, "latencies": 24, "windows": 3, "concurrent": 0, "late": 26, "changes": 2, "passing": 0}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_map_of_variants_gets_no_worse(family: str) -> None:
    """No more variants than are known take over 1.35 times the ideal or 1.15 requests a call. No call is lost."""
    verdicts = [verdict(scenario) for scenario in FAMILIES[family]()]
    outside = [str(one) for one in verdicts if not one.inside]
    assert len(outside) <= OUTSIDE[family], outside
    assert [] == [str(one) for one in verdicts if one.lost]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_of_ten_variants(family: str) -> None:
    """A part of the map for each day: no call lost, five times the ideal and 1.25 requests a call at most."""
    for scenario in list(FAMILIES[family]())[::10]:
        found = verdict(scenario)
        assert (0, True, True) == (found.lost, found.slower <= 5, found.more <= 1.25), found
