"""The sample archive, graded again: string checks agree fully, everything else is told honestly."""

from pathlib import Path

from evals_async import EvalsClient
from evals_async.archive import Archive
from evals_async.server import LocalServer, sample_tree


async def test_the_sample_archive_agrees(tmp_path: Path) -> None:
    """Every string check of the sample has the verdict that it was given; judges are left out, and said."""
    async with LocalServer() as server:
        await server.seed(**sample_tree(60))
        client = EvalsClient(base_url=server.base_url, api_key="k")
        async with client, Archive.open(tmp_path / "evals.db") as archive:
            await archive.export(client)
            report = await archive.regrade()
    checks = [each for each in report.agreement if each.type == "string_check"]
    assert len(checks) == 4
    for each in checks:
        assert (each.rate, each.kappa) == (1.0, 1.0)
        assert each.rows > 50
        assert not each.reasons
    [similar] = [each for each in report.agreement if each.type == "text_similarity"]
    assert similar.scores is not None
    assert similar.scores.mean_absolute > 0  # the sample's scores are invented
    assert {each.criterion for each in report.agreement if each.type == "score_model"} == set(report.left_out)
