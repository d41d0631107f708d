"""The benchmark of fewer requests measures what it says: every client gets every run, and by pages in few requests."""

from benchmarks import bench_pages


def test_every_client_gets_every_run() -> None:
    """No row says that runs were lost; by pages it takes a few requests, singly one for each run."""
    table = bench_pages.fetching(150, 0)
    assert [row[0] for row in table.rows] == [
        "evals_async, by_pages, ids in order",
        "evals_async, by_pages, ids shuffled",
        "evals_async, by_pages, ids in order, but not when sorted",
        "evals_async, by_pages, ids in no order",
        "evals_async",
        "openai, 32 at once",
    ]
    *pages, single, theirs = (int(row[1]) for row in table.rows)
    assert max(pages) <= 6
    assert single == theirs == 150
    case = "pages 150 runs at 0 ms"
    assert [table.figures[f"{case}, {kind}: requests"] for kind in ("shuffled", "in no order")] == [
        max(pages[:2]),
        max(pages[2:]),
    ]


def test_runs_end_and_limits_hold() -> None:
    """The server tells runs as in progress until they end, lists them by their status, and refuses beyond its burst."""
    service = bench_pages.Service(3, latency=0, rate=0, seconds=1e9)
    assert b'"in_progress"' in service.answer(f"/v1/evals/e/runs/{service.names[1]}", {})[1]
    listed = service.answer("/v1/evals/e/runs", {"status": "in_progress", "limit": "2"})[1]
    assert (listed.count(b'"eval.run"'), b'"has_more":true' in listed) == (2, True)
    assert b'"data":[]' in service.answer("/v1/evals/e/runs", {"status": "queued"})[1]
    over = bench_pages.Service(3, latency=0, rate=1e-9, seconds=0)
    answers = [over.answer("/v1/evals/e/runs", {})[0] for _ in range(bench_pages.BURST + 1)]
    assert answers == [200] * bench_pages.BURST + [429]


def test_every_case_has_a_name() -> None:
    """`--only pages` chooses them all, in the short form too."""
    assert all(name.startswith("pages") for name in bench_pages.tables(short=True))
    assert bench_pages.tables(short=True).keys() == bench_pages.tables(short=False).keys()
