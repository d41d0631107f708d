"""`Pusher`: create the definitions, files and runs of an archive on another server of the same API.

The server's ids and its wrapper around schemas are removed. Each object has its old id in the metadata, so that a
second push creates nothing twice. The other server executes the runs again, at its price.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Literal, TypeAlias, TypeVar

import attrs

from evals_async import _json, decode, encode
from evals_async._json import JSONObject, as_object
from evals_async._store import Database, Kind, rows
from evals_async.archive import reading
from evals_async.archive.convert.report import ConversionReport
from evals_async.client import EvalsClient
from evals_async.errors import ApiError, DecodeError, InvalidArgument
from evals_async.models import Eval, EvalRun, File, Unknown
from evals_async.models.sources import FileContent, FileId, RunDataSource


RunsToPush: TypeAlias = Literal["none", "newest", "all"]

T = TypeVar("T")

TAG = "archived_as"  # the key of the old id in the metadata
MOST_PAIRS = 16  # pairs of metadata that the API accepts


@attrs.frozen
class Push:
    """The result of a push: `evals`, `runs` and `files` map old ids to new ids; `report` counts what was lost."""

    report: ConversionReport = attrs.Factory(ConversionReport)
    evals: dict[str, str] = attrs.Factory(dict[str, str])
    runs: dict[str, str] = attrs.Factory(dict[str, str])
    files: dict[str, str] = attrs.Factory(dict[str, str])


@attrs.frozen
class Pusher:
    """Pushes one archive to one server."""

    database: Database
    client: EvalsClient
    made: Push = attrs.Factory(Push)

    async def everything(self, which: RunsToPush) -> Push:
        """Create all evals with the selected runs. Raises the errors of the client."""
        existing = {old: each.id async for each in self.client.evals.list() if (old := old_id(each.metadata))}
        async for evaluation in self.models("evals", Eval):
            new = existing.get(evaluation.id) or await self.create_eval(evaluation)
            if new is None:
                continue
            self.made.evals[evaluation.id] = new
            if which != "none":
                await self.create_runs(evaluation.id, new, which)
        return self.made

    async def models(self, kind: Kind, shape: type[T], *parents: str) -> AsyncIterator[T]:
        """Yield the objects of `parents`, oldest first. Those that cannot be decoded are reported."""
        async for text in reading.texts(self.database, kind, parents):
            try:
                yield decode(text.encode(), shape)
            except DecodeError as error:
                self.made.report.add("dropped", f"{kind} that cannot be decoded", f"{error}"[:200])

    async def create_eval(self, evaluation: Eval) -> str | None:
        try:
            definition = evaluation.to_create()
            made = await self.client.evals.create(
                data_source_config=definition["data_source_config"],
                testing_criteria=definition["testing_criteria"],
                name=evaluation.name,
                metadata=self.tagged(evaluation.metadata, evaluation.id),
            )
        except (InvalidArgument, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in (400, 422):
                raise
            self.made.report.add("dropped", f"eval {evaluation.id}", f"the server rejects it: {error}")
            return None
        self.made.report.add("mapped", "evals")
        return made.id

    async def create_runs(self, old_eval: str, new_eval: str, which: RunsToPush) -> None:
        runs = self.client.evals.runs.list(new_eval)
        existing = {old: each.id async for each in runs if (old := old_id(each.metadata))}
        async for run in self.selected(old_eval, which):
            new = existing.get(run.id) or await self.create_run(new_eval, run)
            if new is not None:
                self.made.runs[run.id] = new

    async def selected(self, eval_id: str, which: RunsToPush) -> AsyncIterator[EvalRun]:
        newest: EvalRun | None = None
        async for run in self.models("runs", EvalRun, eval_id):
            if which == "all":
                yield run
            newest = run
        if which == "newest" and newest is not None:
            yield newest

    async def create_run(self, new_eval: str, run: EvalRun) -> str | None:
        source = await self.source_of(run)
        if source is None:
            return None
        try:
            made = await self.client.evals.runs.create(
                new_eval, data_source=source, name=run.name, metadata=self.tagged(run.metadata, run.id)
            )
        except (InvalidArgument, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in (400, 422):
                raise
            self.made.report.add("dropped", f"run {run.id}", f"the server rejects it: {error}")
            return None
        self.made.report.add("approximated", "runs", "they are executed again: their outputs and ids are new")
        return made.id

    async def source_of(self, run: EvalRun) -> RunDataSource | None:
        """Return a run's data source for the new server, with its file uploaded; `None` (reported) if impossible."""
        source = run.data_source
        rows_from = getattr(source, "source", None)
        if source is None or isinstance(source, Unknown) or not isinstance(rows_from, FileContent | FileId):
            kind = "none" if source is None else source.type
            self.made.report.add(
                "dropped", f"runs with a data source of type {kind}", "its rows are only on the old server"
            )
            return None
        body = dict(as_object(without_nulls(encode(source))) or {})
        if isinstance(rows_from, FileId):
            new_file = await self.upload(rows_from.id)
            if new_file is None:
                return None
            body["source"] = {"type": "file_id", "id": new_file}
        return decode(_json.dump(body), type(source))

    async def upload(self, file_id: str) -> str | None:
        """Upload a file, unless this push has already done it. Returns its new id."""
        if file_id in self.made.files:
            return self.made.files[file_id]
        data = await self.database.call(rows.get_content, file_id)
        if data is None:
            self.made.report.add("dropped", "runs whose file is not in the archive", "the file cannot be uploaded")
            return None
        file = await reading.one(self.database, "files", (file_id,), File)
        name = (file.filename if file is not None else None) or f"{file_id}.jsonl"
        made = await self.client.files.create(file=(name, data), purpose="evals")
        self.made.files[file_id] = made.id
        self.made.report.add("mapped", "files")
        return made.id

    def tagged(self, metadata: JSONObject | None, old: str) -> Mapping[str, str]:
        """Add the old id to the metadata, unless the metadata is full."""
        pairs = {key: str(value) for key, value in (metadata or {}).items()}
        if TAG not in pairs and len(pairs) >= MOST_PAIRS:
            self.made.report.add("approximated", "metadata that is full", "a second push creates the object again")
            return pairs
        return {**pairs, TAG: old}


def old_id(metadata: JSONObject | None) -> str | None:
    """Return the id that an object had before it was pushed."""
    found = (metadata or {}).get(TAG)
    return found if isinstance(found, str) else None


def without_nulls(value: object) -> object:
    """Remove the top-level nulls that a server adds to a definition."""
    return {key: entry for key, entry in (as_object(value) or {}).items() if entry is not None}
