"""The rows of data sources: what would be lost is an error that names the line."""

import pytest

from evals_async.server.execution.source import BadRows, rows_of_csv, rows_of_lines


def test_a_csv_header_names_each_column_once() -> None:
    """With two columns of one name, the values of one of them would be lost."""
    with pytest.raises(BadRows, match="the name 'a' more than once"):
        list(rows_of_csv(b"a,b,a\n1,2,3\n"))


@pytest.mark.parametrize("sample", [b'"a text"', b"[]", b"0", b"false"])
def test_a_sample_that_is_no_object_is_an_error(sample: bytes) -> None:
    """A row whose sample would be ignored fails the run, and the line is named."""
    with pytest.raises(BadRows, match="line 7 has a `sample` that is not an object"):
        list(rows_of_lines([b'{"item": {}, "sample": %b}' % sample], 7))


def test_a_row_without_a_sample_may_say_null() -> None:
    """`null` means that there is none."""
    (row,) = rows_of_lines([b'{"item": {"a": 1}, "sample": null}'])
    assert ({"a": 1}, None) == (row.item, row.sample)
