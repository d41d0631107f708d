"""`demo --run`: create, run and grade an eval on scripted models, without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evals_async._extras import extra_missing, has_extra
from evals_async.cli import output
from evals_async.cli.connection import connect
from evals_async.cli.text import Column, bar, percent, plural


if TYPE_CHECKING:
    from evals_async import EvalsClient
    from evals_async.cli.groups import ConnectionOptions
    from evals_async.inference import Rule
    from evals_async.models import CriterionResult, EvalRun, OutputItem


MODEL, JUDGE = "demo-model", "demo-judge"
SECONDS = 0.15  # of a scripted response, so that the progress is visible
LONGEST_OUTPUT = 60  # characters of an output in the table

TICKETS: tuple[tuple[str, str, str], ...] = (  # the ticket, the right label, the output of the scripted model
    ("My monitor does not turn on.", "Hardware", "Hardware"),
    ("I cannot quit the editor.", "Software", "Software"),
    ("Where is the best restaurant here?", "Other", "Other"),
    ("The hinge of my laptop is broken.", "Hardware", "Hardware"),
    ("The VPN asks for my password every minute.", "Software", "Software"),
    ("Who do I ask about parking?", "Other", "Hardware"),
    ("The printer jams on every second page.", "Hardware", "Hardware, I guess!!!"),
    ("The table says that the file is locked.", "Software", "Software"),
    ("May I bring my dog?", "Other", "Other"),
    ("The keyboard types every letter twice.", "Hardware", "Software"),
    ("The browser shows yesterday's news.", "Software", "Software"),
    ("When is the summer party?", "Other", "Other"),
)
CONFIG: Any = {
    "type": "custom",
    "item_schema": {
        "type": "object",
        "properties": {"ticket": {"type": "string"}, "label": {"type": "string"}},
        "required": ["ticket", "label"],
    },
    "include_sample_schema": True,
}
CRITERIA: Any = [
    {
        "type": "string_check",
        "name": "Right label",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.label }}",
        "operation": "like",
    },
    {
        "type": "label_model",
        "name": "Tone",
        "model": JUDGE,
        "input": [{"role": "user", "content": "Which tone has this answer? {{ sample.output_text }}"}],
        "labels": ["factual", "unsure"],
        "passing_labels": ["factual"],
    },
    {
        "type": "score_model",
        "name": "Brevity",
        "model": JUDGE,
        "input": [{"role": "user", "content": "Score the brevity from 0 to 1: {{ sample.output_text }}"}],
        "range": [0, 1],
        "pass_threshold": 0.5,
    },
]
SOURCE: Any = {
    "type": "completions",
    "model": MODEL,
    "source": {
        "type": "file_content",
        "content": [{"item": {"ticket": ticket, "label": label}} for ticket, label, _ in TICKETS],
    },
    "input_messages": {
        "type": "template",
        "template": [
            {"role": "developer", "content": "Sort the ticket: Hardware, Software or Other."},
            {"role": "user", "content": "{{ item.ticket }}"},
        ],
    },
}


def demo_rules() -> list[Rule]:
    """Return the rules of the scripted endpoint. Those of the judges depend on the output, the others on the ticket."""
    from evals_async.inference import Rule

    unsure = [{"description": "Read the answer", "conclusion": "It says that it guesses."}]
    plain = [{"description": "Read the answer", "conclusion": "It is one word, without a doubt."}]
    return [
        Rule(contains="guess", model=JUDGE, when=asks_for_label, result="unsure", steps=unsure, latency=SECONDS),
        Rule(model=JUDGE, when=asks_for_label, result="factual", steps=plain, latency=SECONDS),
        Rule(contains="guess", model=JUDGE, result=0.2, steps=unsure, latency=SECONDS),
        Rule(model=JUDGE, result=1, steps=plain, latency=SECONDS),
        *(Rule(contains=ticket, text=text, latency=SECONDS) for ticket, _, text in TICKETS),
    ]


def asks_for_label(request: Any) -> bool:
    """Return whether a request is for the judge of the tone."""
    return "Which tone" in request.prompt


async def run_eval(terms: ConnectionOptions) -> int:
    """Create the eval, wait for its run, and print the results. Returns the exit code."""
    from evals_async.inference import ScriptedModels
    from evals_async.server import LocalServer

    async with (
        ScriptedModels(*demo_rules()) as models,
        LocalServer(models=models.base_url, run_concurrency=3) as server,
        connect(terms, base_url=server.base_url, api_key="local") as client,
    ):
        output.note(f"a server that executes runs: {server.base_url}")
        output.note(f"its models are scripted: {models.base_url}")
        made = await client.evals.create(name="Tickets", data_source_config=CONFIG, testing_criteria=CRITERIA)
        run = await client.evals.runs.create(made.id, name="First", data_source=SOURCE)
        run = await watched(client, run)
        items = [item async for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
        show(run, sorted(items, key=lambda item: item.datasource_item_id or 0))
        if output.on_terminal() and has_extra("report"):
            await wait_for_reader(run)
        elif output.on_terminal():
            output.note(extra_missing("the page about the run needs", "report"))
    return 0 if run.status == "completed" else 1


async def watched(client: EvalsClient, run: EvalRun) -> EvalRun:
    """Wait until the run has ended, with its counts as progress. Returns the run."""
    with output.progress("rows sampled and graded", len(TICKETS)) as update:
        while run.status in ("queued", "in_progress"):
            await client.clock.sleep(SECONDS / 2)
            run = await client.evals.runs.retrieve(run)
            counts = run.result_counts
            update(0 if counts is None else (counts.passed or 0) + (counts.failed or 0) + (counts.errored or 0))
    return run


async def wait_for_reader(run: EvalRun) -> None:
    """Keep the server running until Ctrl-C, so that the user can read the report."""
    import asyncio

    from evals_async.cli.actions.serve import catch_signals

    output.note(f"the report is at {run.report_url} until Ctrl-C")
    stop = asyncio.Event()
    catch_signals(asyncio.get_running_loop(), stop)
    await stop.wait()


def show(run: EvalRun, items: list[OutputItem]) -> None:
    """Print the rows, the criteria, the models and the run."""
    criteria = [str(criterion["name"]) for criterion in CRITERIA]
    rates = [rate(found) for found in run.per_testing_criteria_results or ()]
    output.table(
        [Column("Ticket", keep=True), Column("Answer", wrap=True), *map(Column, criteria), Column("Row")],
        [
            (
                (item.datasource_item or {}).get("ticket"),
                (item.sample.output_text or "")[:LONGEST_OUTPUT] if item.sample is not None else None,
                *(result.score for result in item.results or ()),
                item.status,
            )
            for item in items
        ],
        title=f"{plural(len(items), 'row')}, sampled and graded",
    )
    output.say()
    output.table(
        [Column("Criterion", wrap=True), Column("Passed", right=True), Column("Failed", right=True), RATE, BAR],
        [
            (name, found.passed, found.failed, share, share)
            for name, found, share in zip(criteria, run.per_testing_criteria_results or (), rates, strict=True)
        ],
        title="Criteria",
    )
    output.say()
    output.table(
        [Column("Model"), Column("Calls", right=True), Column("Tokens", right=True)],
        [(used.model_name, used.invocation_count, used.total_tokens) for used in run.per_model_usage or ()],
        title="Models",
    )
    output.say()
    output.record(
        [(Column("Status"), run.status), (RATE, run.pass_rate), (Column("Report", keep=True), run.report_url)],
        title="The run",
    )


def rate(found: CriterionResult) -> float | None:
    """Return the pass rate of a criterion."""
    passed, failed = found.passed or 0, found.failed or 0
    return passed / (passed + failed) if passed + failed else None


RATE = Column("Pass rate", show=percent, right=True)
BAR = Column("", show=bar, keep=True, where="terminal")
