"""`client.files`: the files with the rows of evals.

Source: https://platform.openai.com/docs/api-reference/files
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from evals_async._json import JSONValue, parse
from evals_async._omit import OMIT, given, is_omitted
from evals_async._paging.pages import Pager
from evals_async._transport.messages import Response
from evals_async.models.files import File, FileDeleted
from evals_async.models.params import Order
from evals_async.resources._caller import Fetched, Identity
from evals_async.resources._many import ById
from evals_async.resources._raw import RawResponse, raw
from evals_async.resources._requests import CallOptions, parameters, request
from evals_async.resources._uploads import FileInput, PartFile, form_fields, uploadable, with_extra


MAX_FILES_PER_PAGE = 10_000

FILE_ID = Identity("id")


class FileBytes(bytes):
    """The content of a file: bytes, with the attributes of the official client's response."""

    @property
    def content(self) -> bytes:
        return bytes(self)

    @property
    def text(self) -> str:
        """The content as UTF-8."""
        return self.decode()

    def read(self) -> bytes:
        return bytes(self)

    def json(self) -> Any:
        """Return the content, read as JSON. Raises `ValueError` if it is not JSON."""
        return parse(self)

    def iter_lines(self) -> Iterator[str]:
        """Yield the lines of the text, without their ends, for JSON Lines. Only a line feed ends a line."""
        for line in self.removesuffix(b"\n").split(b"\n") if self else ():
            yield line.removesuffix(b"\r").decode()

    def write_to_file(self, path: str | os.PathLike[str]) -> None:
        Path(path).write_bytes(self)


class Files(ById[File]):
    """The files of a project."""

    @property
    def with_raw_response(self) -> "FilesWithRawResponse":
        """The same methods; they return status, headers and exact bytes."""
        return FilesWithRawResponse(self)

    async def create(
        self,
        *,
        file: FileInput,
        purpose: Literal["evals"] | str = "evals",
        expires_after: Mapping[str, JSONValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> File:
        """Upload a file of at most 512 MB: POST /files, multipart.

        A path is streamed, other files are sent from memory. An open file is sent from its start, whatever its
        position. `expires_after` is `{"anchor": "created_at", "seconds": n}`. `extra_body` adds fields to the form. The
        request is sent again only if the server certainly did not carry it out. Raises `InvalidArgument` for a value
        that cannot be uploaded.
        """
        fields = (("purpose", given(purpose) or "evals"), *form_fields("expires_after", given(expires_after)))
        upload = uploadable(file, with_extra(fields, given(options.get("extra_body")) or {}))
        return (
            await self._caller.fetch(request("POST", "/files", "create", options, upload=upload), File, options)
        ).value

    async def retrieve(self, file_id: str, **options: Unpack[CallOptions]) -> File:
        """Return the description of a file: GET /files/{file_id}. Raises `NotFound` if it does not exist."""
        wanted = request("GET", "/files/{file_id}", "read", options, (file_id,))
        return (await self._caller.fetch(wanted, File, options, expected=(FILE_ID, (file_id,)), share=True)).value

    def list(
        self,
        *,
        purpose: Literal["evals"] | str | None = None,
        after: str | None = None,
        limit: int | None = None,
        order: Order | None = None,
        **options: Unpack[CallOptions],
    ) -> Pager[File]:
        """List the files of the project: GET /files. The order is newest first, unless `order` is `asc`. `limit` is
        the page size, from 1 to 10,000.
        """
        wanted = request("GET", "/files", "read", options, query=parameters(purpose=purpose, order=order))
        return self._caller.listing(wanted, File, options, after=after, limit=limit, max_limit=MAX_FILES_PER_PAGE)

    @overload
    async def content(self, file_id: str, **options: Unpack[CallOptions]) -> FileBytes: ...

    @overload
    async def content(self, file_id: str, *, to: str | os.PathLike[str], **options: Unpack[CallOptions]) -> Path: ...

    async def content(
        self, file_id: str, *, to: str | os.PathLike[str] | None = None, **options: Unpack[CallOptions]
    ) -> FileBytes | Path:
        """Download the content of a file: GET /files/{file_id}/content.

        Without `to` the content is returned as bytes. More than 32 MiB (or the client's `max_body`) raise
        `BodyTooLarge`. With `to` the content is streamed to this path in constant memory, and the file appears only
        when it is complete. Raises `BadRequest` for files whose purpose cannot be downloaded.
        """
        if to is None or is_omitted(to):
            wanted = request("GET", "/files/{file_id}/content", "read", options, (file_id,))
            return await self._caller.send(wanted, file_bytes, timeout=options.get("timeout", OMIT))
        sink = PartFile(Path(to))
        wanted = request("GET", "/files/{file_id}/content", "read", options, (file_id,), sink=sink)
        try:
            await self._caller.send(wanted, file_bytes, timeout=options.get("timeout", OMIT))
            sink.keep()
        except BaseException:
            sink.discard()
            raise
        return sink.path

    async def delete(self, file_id: str, **options: Unpack[CallOptions]) -> FileDeleted:
        """Delete a file: DELETE /files/{file_id}. If the file was already gone after a lost response, the result
        has `assumed=True`.
        """

        async def gone() -> Fetched[FileDeleted]:
            return Fetched(FileDeleted(object="file", id=file_id, deleted=True, assumed=True))

        wanted = request("DELETE", "/files/{file_id}", "delete", options, (file_id,))
        return (
            await self._caller.fetch(wanted, FileDeleted, options, expected=(FILE_ID, (file_id,)), resolve=gone)
        ).value


async def file_bytes(response: Response) -> FileBytes:
    return FileBytes(response.body)


class FilesWithRawResponse:
    """`Files` with methods that return a `RawResponse`."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.create = raw(files, Files.create)
        self.retrieve = raw(files, Files.retrieve)
        self.list = raw(files, Files.list)
        self.delete = raw(files, Files.delete)

    async def content(self, file_id: str, **options: Unpack[CallOptions]) -> RawResponse[FileBytes]:
        """Download the content of a file, at most 32 MiB. The bytes are in `content`, and `parse()` returns them as
        `FileBytes`.
        """

        async def content(files: Files) -> FileBytes:
            return await files.content(file_id, **options)

        return await raw(self._files, content)()
