"""The endpoints of files: upload, list, retrieve, content, delete.

An upload is kept in memory while it is received, up to the server's limit.
"""

from collections.abc import Mapping
from urllib.parse import quote

import attrs
from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http_exceptions import HttpProcessingError

from evals_async._json import JSONObject
from evals_async._store import Connection, Row, rows
from evals_async.server import checks
from evals_async.server.answers import Answer, Problem, no_such_file
from evals_async.server.handlers import listing
from evals_async.server.runs import stored_object
from evals_async.server.service import RequestContext, Service, arrival_deadline, too_large
from evals_async.server.shapes import new_file


PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
NOT_DOWNLOADABLE = ("assistants", "user_data", "vision")
MOST = 10_000  # the largest page, and the default one
LONGEST_FIELD = 4096
MOST_PARTS = 100  # of a form
LONGEST_UPLOAD = 3600.0  # seconds
SHORTEST_LIFE, LONGEST_LIFE = 3600, 2_592_000  # seconds, of `expires_after`


@attrs.frozen
class Form:
    """A multipart form: its text fields, and its file."""

    fields: Mapping[str, str]
    filename: str | None
    data: bytes


async def read_part(part: BodyPartReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await part.read_chunk(2**18):
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


async def read_form(call: RequestContext, limit: int) -> Form:
    """Read the multipart form of a request.

    Raises `Problem` 413 for too many bytes, 400 for an invalid form, and 408 for a slow one.
    """
    request = call.request
    if not request.content_type.startswith("multipart/form-data"):
        raise Problem(
            400, f"Invalid content type '{request.content_type}': expected multipart/form-data.", code="invalid_type"
        )
    if request.content_length is not None and request.content_length > limit + 2**20:
        raise too_large(limit)
    fields: dict[str, str] = {}
    filename, data = None, b""
    try:
        async with arrival_deadline(LONGEST_UPLOAD):
            reader = await request.multipart()
            for _ in range(MOST_PARTS):
                part = await reader.next()
                if part is None:
                    return Form(fields, filename, data)
                if isinstance(part, MultipartReader):
                    raise Problem(400, "A nested form is not supported.")
                if part.name == "file":
                    if filename is not None:
                        raise Problem(400, "The form has more than one file.", param="file", code="invalid_value")
                    filename, data = part.filename or "file", await read_part(part, limit)
                else:
                    text = await read_part(part, LONGEST_FIELD)
                    fields[part.name or ""] = text.decode("utf-8", "replace")
    except (
        ValueError,
        AssertionError,
        EOFError,
        HttpProcessingError,
    ) as error:  # aiohttp raises these for invalid forms
        raise Problem(400, f"We could not parse the form of your request: {error}") from None
    raise Problem(400, f"The form has too many parts: at most {MOST_PARTS - 1} are accepted here.")


def expiry(fields: Mapping[str, str]) -> int | None:
    """Return the seconds of `expires_after`, or `None` if it is missing."""
    given = fields.get("expires_after[seconds]")
    if given is None:
        return None
    if fields.get("expires_after[anchor]") != "created_at":
        raise Problem(
            400,
            "Invalid value: 'expires_after.anchor' must be 'created_at'.",
            param="expires_after.anchor",
            code="invalid_value",
        )
    if not given.isdecimal() or not SHORTEST_LIFE <= int(given) <= LONGEST_LIFE:
        message = f"Invalid 'expires_after.seconds': expected an integer from {SHORTEST_LIFE} to {LONGEST_LIFE}."
        raise Problem(400, message, param="expires_after.seconds", code="invalid_value")
    return int(given)


async def create_file(service: Service, call: RequestContext) -> Answer:
    form = await read_form(call, service.limits.upload)
    purpose = checks.required(form.fields, "purpose", checks.one_of(*PURPOSES))
    if form.filename is None:
        raise Problem(400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    made = new_file(
        service.ids, filename=form.filename, purpose=purpose, size=len(form.data), expires_in=expiry(form.fields)
    )

    def write(connection: Connection) -> None:
        rows.put(connection, "files", [Row.of("files", made)])
        rows.put_content(connection, str(made["id"]), form.data)

    await service.database.atomic(write)
    return Answer.of(200, made)


async def list_files(service: Service, call: RequestContext) -> Answer:
    purpose = call.query.get("purpose")
    return await listing(service, call, "files", label=purpose, default=MOST, most=MOST, order="desc")


async def find_file(service: Service, file_id: str) -> JSONObject:
    text = await service.database.call(rows.get, "files", (file_id,))
    if text is None:
        raise no_such_file(file_id)
    return stored_object(text)


async def retrieve_file(service: Service, call: RequestContext) -> Answer:
    text = await service.database.call(rows.get, "files", call.ids)
    if text is None:
        raise no_such_file(call.ids[0])
    return Answer.text(200, text)


async def file_content(service: Service, call: RequestContext) -> Answer:
    (file_id,) = call.ids
    file = await find_file(service, file_id)
    data = await service.database.call(rows.get_content, file_id)
    if data is None:  # an archive may have the description of a file without its content
        raise Problem(404, f"The content of {file_id} is not in this archive.", param="id")
    if file.get("purpose") in NOT_DOWNLOADABLE:
        raise Problem(400, f"Not allowed to download files of purpose: {file['purpose']}")
    name = quote(str(file.get("filename") or file_id), safe="")
    return Answer(
        200, data, "application/octet-stream", {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
    )


async def delete_file(service: Service, call: RequestContext) -> Answer:
    (file_id,) = call.ids
    if not await service.database.atomic(rows.delete, "files", call.ids):
        raise no_such_file(file_id)
    return Answer.of(200, {"id": file_id, "object": "file", "deleted": True})
