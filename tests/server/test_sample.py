"""The sample tree: the same every time, true to itself, and good to look at."""

import json
from collections import Counter

from plainhttp import PlainHttp

from evals_async.server import LocalServer, sample_tree


def test_the_same_arguments_give_the_same_tree() -> None:
    """Equal to the byte for the same seed, and different for another."""
    assert json.dumps(sample_tree(20, seed=3)["runs"]) == json.dumps(sample_tree(20, seed=3)["runs"])
    assert sample_tree(20, seed=3) == sample_tree(20, seed=3)
    assert sample_tree(20, seed=3) != sample_tree(20, seed=4)


def test_it_shows_what_happens_in_life() -> None:
    """Every status, several kinds of graders, failures, errors and usage are in it, as many runs as were asked for."""
    tree = sample_tree()
    statuses = Counter(str(run["status"]) for run in tree["runs"])
    assert statuses.total() == 300
    assert set(statuses) == {"completed", "failed", "canceled", "queued", "in_progress"}
    assert {str(item["status"]) for item in tree["output_items"]} == {"pass", "fail", "error"}
    criteria = [entry for parent in tree["evals"] for entry in json.loads(json.dumps(parent["testing_criteria"]))]
    assert {entry["type"] for entry in criteria} == {"string_check", "text_similarity", "score_model"}
    assert len({str(item["id"]) for item in tree["output_items"]}) == len(tree["output_items"])


def test_counts_are_those_of_the_items() -> None:
    """The sums in a run are the sums of its items, and every id points to something."""
    tree = sample_tree(60)
    for run in json.loads(json.dumps(tree["runs"])):
        items = [item for item in json.loads(json.dumps(tree["output_items"])) if item["run_id"] == run["id"]]
        found = Counter(item["status"] for item in items)
        assert run["result_counts"] == {
            "total": len(items),
            "errored": found["error"],
            "failed": found["fail"],
            "passed": found["pass"],
        }
        assert (run["per_model_usage"] is None) == (run["status"] != "completed")
        assert run["data_source"]["source"]["id"] in tree["contents"]
        assert run["eval_id"] in {parent["id"] for parent in tree["evals"]}


async def test_a_server_can_be_seeded_with_it(http: PlainHttp, server: LocalServer) -> None:
    """The tree is what `seed` takes, and comes back as it is."""
    tree = sample_tree(12)
    await server.seed(**tree)
    assert (await http.get("/evals")).json["data"] == tree["evals"]
    file_id, data = next(iter(tree["contents"].items()))
    assert (await http.get(f"/files/{file_id}/content")).body == data
