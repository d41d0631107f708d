"""Mistakes that mypy and pyright must both find. Checked, never run; see test_typing.py.

Every mistake is marked for both. A mark that is no longer needed is an error itself, so that the check cannot go blind.
"""

from evals_async import EvalsClient
from evals_async.models import (
    CustomDataSourceConfig,
    EvalRun,
    FileId,
    GraderInput,
    JsonlDataSource,
    Message,
    MessageInput,
    OutputItem,
    RunDataSourceInput,
    StringCheckGrader,
)


# --- classes: what is required, what a field may be, and that nothing changes ----------------------------------------

StringCheckGrader()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
StringCheckGrader(name="a", input="x", reference="y")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
StringCheckGrader("a", "x", "y", "eq")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
StringCheckGrader(name=1, input="x", reference="y", operation="eq")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
StringCheckGrader(name="a", input="x", reference="y", operation="eq", type="python")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
StringCheckGrader(name="a", input="x", reference="y", operation="eq", nmae="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Message(role="user")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
FileId()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JsonlDataSource(source=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
CustomDataSourceConfig(item_schema="{}")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
EvalRun(id="r")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
EvalRun()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
EvalRun(id="r", status="s", object="eval")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OutputItem(id="i", status="s", results=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
EvalRun(id="r", status="s").id = "s"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
print(EvalRun(id="r", status="s").statsu)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]

# --- mappings: tags, words, required and unknown fields --------------------------------------------------------------

wrong_word: GraderInput = {"type": "string_check", "name": "a", "input": "x", "reference": "y", "operation": "equals"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
missing_field: GraderInput = {"type": "string_check", "name": "a", "input": "x", "operation": "eq"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
unknown_tag: GraderInput = {"type": "string_chek", "name": "a", "input": "x", "reference": "y", "operation": "eq"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
unknown_field: GraderInput = {"type": "python", "name": "a", "source": "…", "imagetag": "2025-05-08"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
just_one: GraderInput = {
    "type": "label_model",
    "name": "a",
    "model": "m",
    "input": [],
    "labels": "a",
    "passing_labels": [],
}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
wrong_role: MessageInput = {"role": "robot", "content": "hi"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
wrong_part: MessageInput = {"role": "user", "content": [{"type": "input_text"}]}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
wrong_source: RunDataSourceInput = {"type": "jsonl", "source": {"type": "stored_completions"}}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
wrong_limit: RunDataSourceInput = {"type": "completions", "source": {"type": "stored_completions", "limit": "10"}}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
no_source: RunDataSourceInput = {"type": "responses"}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

# --- calls -----------------------------------------------------------------------------------------------------------


async def calling(client: EvalsClient) -> None:
    """Calls that are wrong."""
    await client.evals.create(data_source_config={"type": "custom"}, testing_criteria=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.evals.create(data_source_config={"type": "logs"}, testing_criteria=StringCheckGrader)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.evals.create(testing_criteria=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.evals.create(data_source_config={"type": "logs"}, testing_criteria=[], metadata={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.create("e", data_source={"type": "jsonl", "source": {"type": "file", "id": "file-1"}})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.create("e", data_source=FileId(id="file-1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.evals.runs.list("e", status="done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.evals.runs.output_items.list("r", eval_id="e", status="failed")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.evals.runs.retrieve("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.retrieve("r", eval_id=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.evals.runs.cancel("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.delete("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.wait("r", timeout=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    client.evals.runs.output_items.list("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.output_items.retrieve("i", run_id="r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.with_raw_response.retrieve("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.with_raw_response.cancel("r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.retrieve_many(["r"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.retrieve_many(["r"], on_error="return")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.evals.runs.retrieve_many([("e", "r")], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    client.evals.runs.stream_many(["r"], by_pages=True)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    client.evals.runs.wait_many(["r"], timeout=5)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    client.evals.runs.output_items.list_many(["r"], status="pass")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await client.evals.runs.output_items.retrieve_many(["i"], run_id="r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    client.evals.runs.output_items.stream_many(["i"], run_id="r")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    client.evals.list(order="down")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.evals.list(order_by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.with_options(tiemout=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.request("GTE", "/evals")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
