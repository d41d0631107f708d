"""Values as text, and the widths of columns: tables of what goes in and what comes out."""

from datetime import UTC, datetime

import pytest

from evals_async.cli.text import (
    bar,
    columns_for,
    fitting,
    human_bytes,
    human_seconds,
    in_width,
    percent,
    plain,
    plural,
    printable,
    shown,
    wrapped,
)


@pytest.mark.parametrize(
    ("value", "in_a_file", "on_a_terminal"),
    [
        (None, "", "-"),
        (True, "true", "true"),
        (1234567, "1234567", "1,234,567"),
        (0.8125, "0.8125", "0.81"),
        (datetime(2025, 5, 1, 21, 0, 5, tzinfo=UTC), "2025-05-01T21:00:05Z", "2025-05-01 21:00"),
        ("a\tb", r"a\tb", r"a\tb"),
    ],
)
def test_values(value: object, in_a_file: str, on_a_terminal: str) -> None:
    """Files get values whole and plain; people get them rounded and grouped."""
    assert (in_a_file, on_a_terminal) == (plain(value), shown(value))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Grüße, 世界 👩‍🚀", "Grüße, 世界 👩‍🚀"),
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("two\r\nlines\u2028three", r"two\r\nlines\u2028three"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(given: str, expected: str) -> None:
    """What would steer a terminal or break a line is escaped; every writing stays as it is."""
    assert expected == printable(given)


def test_parts_that_fit() -> None:
    """Of what stands beside a bar, the last parts are left out if the width is too small, and no word is cut."""
    detail = "2,815 items/s, 3.3 MiB, 300 runs"
    assert [detail, "2,815 items/s, 3.3 MiB", ""] == [in_width(detail, width) for width in (32, 31, 5)]


def test_numbers_for_people() -> None:
    """Shares, sizes, durations and counts, as a person says them."""
    assert ["-", "0.0 %", "87.5 %", "100.0 %"] == [percent(share) for share in (None, 0.0, 0.875, 1.0)]
    assert ["········", "━━━━····", "━━━━━━━━"] == [bar(share) for share in (None, 0.5, 1.0)]
    assert ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.0 GiB", "3.0 TiB"] == [
        human_bytes(size) for size in (0, 1023, 1024, 1.5 * 2**20, 2**31, 3 * 2**40)
    ]
    assert ["0.42 s", "12.3 s", "3 min 20 s", "2 h 05 min"] == [human_seconds(s) for s in (0.42, 12.34, 200, 7_500)]
    assert ["1 run", "2,000 runs"] == [plural(number, "run") for number in (1, 2000)]


@pytest.mark.parametrize(
    ("wanted", "least", "width", "expected"),
    [
        ([10, 20, 5], [10, 8, 5], 80, [10, 20, 5]),
        ([10, 90, 5], [10, 8, 5], 80, [10, 65, 5]),
        ([10, 90, 90], [10, 8, 8], 80, [10, 35, 35]),
        ([10, 20, 90], [10, 8, 8], 80, [10, 20, 50]),
        ([50, 20, 20], [50, 4, 4], 60, [50, 5, 5]),
    ],
)
def test_widths(wanted: list[int], least: list[int], width: int, expected: list[int]) -> None:
    """Numbers and ids are never cut; the rest of the line is shared by the texts, the short ones first."""
    assert expected == fitting(wanted, least, width)


@pytest.mark.parametrize(
    ("least", "spare", "width", "expected"),
    [
        ([10, 10, 10], [False, False, False], 34, [0, 1, 2]),
        ([10, 10, 10], [False, True, False], 33, [0, 2]),
        ([10, 10, 10, 10], [False, True, True, False], 34, [0, 1, 3]),
        ([10, 10, 10, 10], [False, True, True, False], 22, [0, 3]),
        ([10, 10, 10], [False, False, False], 33, None),
        ([10, 10, 10], [True, False, False], 21, None),
    ],
)
def test_columns_that_are_left_out(least: list[int], spare: list[bool], width: int, expected: list[int] | None) -> None:
    """If not all columns fit, the spare ones are left out from the right; the others are never cut."""
    assert expected == columns_for(least, least, spare, width)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("no run of this name is here", 12, ["no run of", "this name is", "here"]),
        ("see evalrun_0123456789abcdef there", 12, ["see", "evalrun_0123456789abcdef", "there"]),
        ("  evals-async evals list", 12, ["  evals-async evals list"]),
        ("not on a terminal", None, ["not on a terminal"]),
    ],
)
def test_long_lines_break_between_words(text: str, width: int | None, expected: list[str]) -> None:
    """On a terminal no word, id or address is broken; what is indented is to be copied and stays one line."""
    assert expected == wrapped(text, width)
