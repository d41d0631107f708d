"""The benchmarks of pages, comparisons and regrades run, and name their cases."""

from benchmarks import bench_reports


def test_every_case_runs() -> None:
    """In a very small form each gives its rows."""
    assert len(bench_reports.pages(60).rows) == 5
    assert [row[0] for row in bench_reports.comparing(40).rows][-1] == "compare 2 x 40"
    assert len(bench_reports.grading(20).rows) == len(bench_reports.CHECKS)
    assert bench_reports.tables(short=True).keys() == bench_reports.tables(short=False).keys()
