"""Whoever comes from the official client finds each of its calls and attributes in the migration guide."""

from contract import migration


def test_the_guide_names_everything_that_the_official_client_has() -> None:
    """The table in the guide is the one that the installed official package gives (see `migration.py`)."""
    page = migration.GUIDE.read_text()
    begin, end = page.index(migration.BEGIN) + len(migration.BEGIN), page.index(migration.END)
    assert migration.table() == page[begin:end].strip(), "run: python tests/contract/migration.py --write"


def test_the_official_client_was_read() -> None:
    """The table is about all resources, and the results' nested objects."""
    text = migration.table()
    for name in (
        "client.evals.runs.cancel(",
        "client.files.content(",
        "run.result_counts",
        "run.data_source[completions]",
    ):
        assert name in text
