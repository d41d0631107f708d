"""Rows from stored responses: recorded responses of this server, and the output items in its store.

The items of an archive are used too: for a run over stored completions, only they contain the completions.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping

import attrs

from evals_async._json import JSONObject, as_array, as_object, canonical, parse
from evals_async._store import Database, rows
from evals_async._store.answers import AnswerKind, StoredAnswer, next_answers, runs_of_type
from evals_async.server.execution.source import SourceRow


PAGE = 200
KINDS: Mapping[object, AnswerKind] = {"stored_completions": "completions", "responses": "responses"}


@attrs.frozen(kw_only=True)
class AnswerFilter:
    """The filter of a source of stored responses. A condition that is not given matches always."""

    kind: AnswerKind
    source: JSONObject
    until: int

    def fits_time(self, created_at: int) -> bool:
        """Whether the response was made in the time range of the source (inclusive), and before the run."""
        after, before = self.source.get("created_after"), self.source.get("created_before")
        if isinstance(after, int | float) and created_at < after:
            return False
        return created_at <= (min(before, self.until) if isinstance(before, int | float) else self.until)

    def fits_model(self, *names: object) -> bool:
        """Whether one of these models is the model of the source."""
        model = self.source.get("model")
        return model is None or model in names

    def fits_metadata(self, metadata: object) -> bool:
        """Whether the metadata contains the pairs of the source."""
        wanted, found = as_object(self.source.get("metadata")) or {}, as_object(metadata) or {}
        return all(found.get(key) == value for key, value in wanted.items())

    def fits_request(self, request: JSONObject) -> bool:
        """Whether the parameters of a recorded request match."""
        source = self.source
        for name in ("temperature", "top_p", "reasoning_effort"):
            if source.get(name) is not None and request.get(name) != source[name]:
                return False
        search, users, tools = (
            source.get("instructions_search"),
            as_array(source.get("users")),
            as_array(source.get("tools")),
        )
        if isinstance(search, str) and search.lower() not in str(request.get("instructions") or "").lower():
            return False
        if users and request.get("user") not in (as_array(users) or ()):
            return False
        used = as_array(request.get("tools")) or ()
        return all(tool in used for tool in as_array(tools) or ())


def answer_filter(source: JSONObject, until: int) -> AnswerFilter | None:
    """Return the filter in the `source` of a run, or `None` if its rows are not stored responses."""
    kind = KINDS.get(source.get("type"))
    return None if kind is None else AnswerFilter(kind=kind, source=source, until=until)


async def recorded_rows(database: Database, wanted: AnswerFilter) -> AsyncIterator[SourceRow]:
    """Yield rows from the recorded responses of this server."""
    after = (-1, "")
    while page := await database.call(next_answers, wanted.kind, after, PAGE):
        for answer in page:
            if (row := recorded_row(answer, wanted)) is not None:
                yield row
        after = (page[-1].created_at, page[-1].id)


def recorded_row(answer: StoredAnswer, wanted: AnswerFilter) -> SourceRow | None:
    body = as_object(parse(answer.text.encode())) or {}
    item, sample = as_object(body.get("item")) or {}, as_object(body.get("sample")) or {}
    request = as_object(body.get("request")) or {}
    fits = wanted.fits_time(answer.created_at) and wanted.fits_model(answer.model, sample.get("model"))
    if fits and wanted.fits_metadata(item.get("metadata")) and wanted.fits_request(request):
        return SourceRow(item, sample)
    return None


async def archived_rows(database: Database, wanted: AnswerFilter, run_id: str) -> AsyncIterator[SourceRow]:
    """Yield rows from the output items of other runs with the same API. If a filter needs parameters that items do
    not have, there are none.
    """
    if any(wanted.source.get(name) for name in ("instructions_search", "users", "tools")):
        return
    for key in await database.call(runs_of_type, wanted.kind, wanted.until):
        if key[1] == run_id:
            continue
        text = await database.call(rows.get, "runs", key)
        run = as_object(parse(text.encode())) if text is not None else None
        if run is None or not wanted.fits_metadata(run.get("metadata")):
            continue
        async for item in items_of_run(database, key):
            if (row := archived_row(item, run, wanted)) is not None:
                yield row


async def items_of_run(database: Database, key: tuple[str, str]) -> AsyncIterator[JSONObject]:
    after: str | None = None
    while True:
        page = await database.call(rows.page, "output_items", key, after=after, limit=PAGE)
        for text in page.texts:
            yield as_object(parse(text.encode())) or {}
        if not page.has_more:
            return
        after = page.ids[-1]


def archived_row(item: JSONObject, run: JSONObject, wanted: AnswerFilter) -> SourceRow | None:
    sample = as_object(item.get("sample")) or {}
    output = [as_object(message) or {} for message in as_array(sample.get("output")) or ()]
    said = any(message.get("content") or message.get("tool_calls") for message in output)
    if item.get("status") == "error" or not said:
        return None
    if not wanted.fits_time(rows.integer_column(item.get("created_at"))) or not wanted.fits_request(sample):
        return None
    if not wanted.fits_model(run.get("model"), sample.get("model")):
        return None
    given = as_object(item.get("datasource_item")) or {}
    messages = given.get("input") if as_array(given.get("input")) else sample.get("input")
    return SourceRow({**given, "input": messages or []}, sample)


async def stored_rows(database: Database, wanted: AnswerFilter, run_id: str) -> AsyncIterator[SourceRow]:
    """Yield the rows of a source of stored responses. Equal responses to equal messages are returned once."""
    limit = wanted.source.get("limit")
    left = limit if isinstance(limit, int) and limit > 0 else -1
    seen: set[bytes] = set()
    for found in (recorded_rows(database, wanted), archived_rows(database, wanted, run_id)):
        async for row in found:
            digest = hashlib.sha256(canonical([row.item.get("input"), (row.sample or {}).get("output")])).digest()
            if digest in seen:
                continue
            if left == 0:
                return
            seen.add(digest)
            left -= 1
            yield row
