"""What `dir()` shows of the objects that users hold: what the documentation explains, and nothing else."""

import inspect
from datetime import timedelta

import pytest
from doubles import caller_over, reply_of

from evals_async import EvalsClient, Request, Response, decode
from evals_async.archive import Archive, Gaps, Push
from evals_async.models import EvalRun
from evals_async.resources import Evals, RawResponse, ResponseHeaders
from evals_async.server import LocalServer


NAMES: dict[str, str] = {
    "client": """
        api_key azure base_url clock close copy evals files graders has_credentials is_closed max_retries
        organization prepare project request send statistics timeout webhooks with_options with_raw_response
    """,
    "client.evals": "create delete list retrieve retrieve_many runs stream_many update with_raw_response",
    "client.evals.runs": """
        cancel create create_and_wait delete list list_many output_items retrieve retrieve_many stream_many wait
        wait_many with_raw_response
    """,
    "client.evals.runs.output_items": "list list_many retrieve retrieve_many stream_many with_raw_response",
    "client.files": "content create delete list retrieve retrieve_many stream_many with_raw_response",
    "client.graders": "run validate with_raw_response",
    "client.webhooks": "unwrap verify_signature",
    "client.with_raw_response": "evals files graders",
    "client.evals.with_raw_response": "create delete list retrieve runs update",
    "client.evals.runs.with_raw_response": "cancel create delete list output_items retrieve",
    "client.files.with_raw_response": "content create delete list retrieve",
    "pager": "collect first pages",
    "run": """
        completed_at created created_at created_by data_source duration error estimated_cost eval_id execution extra
        failure id is_known_status is_terminal latency metadata model modified_at name nulls object
        output_dataset_id pass_rate per_model_usage per_testing_criteria_results properties report_url
        result_counts shared_with_openai started_at status total_tokens
    """,
    "page": "data extra first_id get_next_page has_more has_next_page iter_pages last_id",
    "archive": """
        agreement content convert estimate estimate_regrade eval evals export files gaps item items open path push
        regrade run runs summary table verify
    """,
    "archive table": "columns eval_id name reader to_rows",
    "push": "evals files report runs",
    "gaps": "complete left_out missing open",
    "local server": "base_url close faults in_thread port request_count requests seed start",
    "raw response": """
        content elapsed headers method parse request_id retries_taken status status_code text url
    """,
    "raw response.headers": "get get_list items keys values",
}
"""The public names of each object. A name that is added here is added to the reference too."""


async def things() -> dict[str, object]:
    """One object for each row of the table."""
    client = EvalsClient(api_key="sk-namespaces-1")
    evals, files = client.evals, client.files
    raw = RawResponse[None](
        status=200,
        headers=ResponseHeaders(),
        request_id=None,
        content=b"",
        method="GET",
        url="https://api.example/v1/evals",
        elapsed=timedelta(),
        retries_taken=0,
        result=None,
    )
    return {
        "client": client,
        "client.evals": evals,
        "client.evals.runs": evals.runs,
        "client.evals.runs.output_items": evals.runs.output_items,
        "client.files": files,
        "client.graders": client.graders,
        "client.webhooks": client.webhooks,
        "client.with_raw_response": client.with_raw_response,
        "client.evals.with_raw_response": evals.with_raw_response,
        "client.evals.runs.with_raw_response": evals.runs.with_raw_response,
        "client.files.with_raw_response": files.with_raw_response,
        "pager": evals.list(),
        "page": await caller_page(),
        "run": decode(b'{"id": "r1", "eval_id": "e1", "status": "completed"}', EvalRun),
        "archive": Archive.open("evals.db"),
        "archive table": Archive.open("evals.db").table("runs"),
        "push": Push(),
        "gaps": Gaps(),
        "local server": LocalServer(),
        "raw response": raw,
        "raw response.headers": raw.headers,
    }


async def caller_page() -> object:
    """A page that came from nowhere."""

    async def respond(request: Request) -> Response:
        return reply_of(b'{"object": "list", "data": [], "has_more": false}')

    return await Evals(caller_over(respond)).list()


@pytest.mark.parametrize("name", NAMES)
async def test_what_dir_shows(name: str) -> None:
    """The public names are the listed ones, and each method and property among them has a docstring."""
    thing = (await things())[name]
    public = [each for each in dir(thing) if not each.startswith("_")]
    assert NAMES[name].split() == public
    for each in public:
        member = inspect.getattr_static(type(thing), each, None)
        if isinstance(member, property) or inspect.isfunction(member):
            assert inspect.getdoc(member), each


async def test_every_row_has_its_object() -> None:
    """The table and the objects are about the same things."""
    assert NAMES.keys() == (await things()).keys()
