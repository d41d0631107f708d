"""`client.files`: the files that evals take their rows from.

Source: https://platform.openai.com/docs/api-reference/files
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, Unpack, cast, overload, runtime_checkable

from evals_async._json import JSONValue
from evals_async._paging.pages import Pager
from evals_async._transport.messages import Response, Upload
from evals_async.errors import InvalidArgument
from evals_async.models.files import File, FileDeleted
from evals_async.models.params import Order
from evals_async.resources._caller import Fetched, Identity
from evals_async.resources._many import ById
from evals_async.resources._raw import RawResponse, raw
from evals_async.resources._requests import OMIT, CallOptions, parameters, request, text_of


FileSource: TypeAlias = bytes | os.PathLike[str] | BinaryIO
FileInput: TypeAlias = FileSource | tuple[str | None, FileSource] | tuple[str | None, FileSource, str | None]
"""What can be uploaded: bytes, a path, an open binary file; or a file's name and one of these, and then its media type.
"""

MAX_FILES_PER_PAGE = 10_000

FILE_ID = Identity("id")


@runtime_checkable
class Readable(Protocol):
    """An open file, of whatever class."""

    def read(self) -> object: ...


class FileBytes(bytes):
    """A file's content: bytes, with the attributes that the official client's answer has."""

    @property
    def content(self) -> bytes:
        return bytes(self)

    @property
    def text(self) -> str:
        """The content as UTF-8."""
        return self.decode()

    def read(self) -> bytes:
        return bytes(self)

    def write_to_file(self, path: str | os.PathLike[str]) -> None:
        Path(path).write_bytes(self)


class PartFile:
    """A sink that becomes the file at `path` only when it is whole; until then it is `path` with `.part` behind it.

    Nothing is made before the first byte of a good answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.file: BinaryIO | None = None

    def restart(self) -> None:
        self.close()
        self.file = self.part.open("wb")

    def write(self, chunk: bytes, /) -> int:
        assert self.file is not None  # noqa: S101  # restart() comes first
        return self.file.write(chunk)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def keep(self) -> None:
        self.close()
        self.part.replace(self.path)

    def discard(self) -> None:
        self.close()
        if self.file is not None:
            self.part.unlink(missing_ok=True)


class Files(ById[File]):
    """The files of a project."""

    @property
    def with_raw_response(self) -> "FilesWithRawResponse":
        """The same methods, answering with status, headers and exact bytes."""
        return FilesWithRawResponse(self)

    async def create(
        self,
        *,
        file: FileInput,
        purpose: Literal["evals"] | str = "evals",
        expires_after: Mapping[str, JSONValue] | None = None,
        **options: Unpack[CallOptions],
    ) -> File:
        """Upload a file, of 512 MB at most: POST /files, multipart. A path is streamed, everything else is sent from
        memory.

        `expires_after` is `{"anchor": "created_at", "seconds": n}`. Never sent twice, unless the first was surely not
        carried out.
        """
        fields = [("purpose", purpose)]
        for name, value in (expires_after or {}).items():
            fields.append((f"expires_after[{name}]", text_of(f"expires_after.{name}", value)))
        upload = uploadable(file, tuple(fields))
        return (
            await self._caller.fetch(request("POST", "/files", "create", options, upload=upload), File, options)
        ).value

    async def retrieve(self, file_id: str, **options: Unpack[CallOptions]) -> File:
        """What is known of a file: GET /files/{file_id}. Raises `NotFound`."""
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
        """The files of the project, newest first unless `order` says otherwise: GET /files. `limit` is 1 to 10,000."""
        wanted = request("GET", "/files", "read", options, query=parameters(purpose=purpose, order=order))
        return self._caller.listing(wanted, File, options, after=after, limit=limit, max_limit=MAX_FILES_PER_PAGE)

    @overload
    async def content(self, file_id: str, **options: Unpack[CallOptions]) -> FileBytes: ...

    @overload
    async def content(self, file_id: str, *, to: str | os.PathLike[str], **options: Unpack[CallOptions]) -> Path: ...

    async def content(
        self, file_id: str, *, to: str | os.PathLike[str] | None = None, **options: Unpack[CallOptions]
    ) -> FileBytes | Path:
        """A file's content: GET /files/{file_id}/content.

        Without `to` it is returned as bytes, of 32 MiB at most (else `BodyTooLarge`). With `to` it is streamed to that
        path, in constant memory; the path appears only when it is whole. Raises `BadRequest` for files whose purpose
        cannot be downloaded.
        """
        if to is None:
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
        """Delete a file: DELETE /files/{file_id}."""

        async def gone() -> Fetched[FileDeleted]:
            return Fetched(FileDeleted(object="file", id=file_id, deleted=True, assumed=True))

        wanted = request("DELETE", "/files/{file_id}", "delete", options, (file_id,))
        return (
            await self._caller.fetch(wanted, FileDeleted, options, expected=(FILE_ID, (file_id,)), resolve=gone)
        ).value


async def file_bytes(response: Response) -> FileBytes:
    return FileBytes(response.body)


def uploadable(file: FileInput, fields: tuple[tuple[str, str], ...]) -> Upload:
    """The upload of what the caller gave.

    Raises `InvalidArgument` for anything else, a `str` included: is it a path or the content?
    """
    given: list[Any] = [*file] if isinstance(file, tuple) else [None, file]
    filename, source, media_type = [*given, None, None, None][:3]
    name, content = "upload.jsonl", source
    if isinstance(source, os.PathLike):
        path = Path(cast("os.PathLike[str]", source))
        if not path.is_file():
            raise InvalidArgument(f"file: there is no file {str(path)!r}")
        name, content = path.name, path
    elif isinstance(source, bytearray | memoryview):
        content = bytes(cast("bytearray", source))
    elif isinstance(source, Readable):
        name, content = Path(str(getattr(source, "name", name))).name, source.read()
    if not isinstance(content, bytes | Path):  # a file opened as text has given a str, whatever its type says
        raise InvalidArgument(
            "file must be bytes, a path (os.PathLike), a file opened in binary mode, or (filename, one of these)"
        )
    media_type = media_type or "application/octet-stream"
    return Upload(filename=filename or name, source=content, fields=fields, content_type=media_type)


class FilesWithRawResponse:
    """`Files`, answering with `RawResponse`."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.create = raw(files, Files.create)
        self.retrieve = raw(files, Files.retrieve)
        self.list = raw(files, Files.list)
        self.delete = raw(files, Files.delete)

    async def content(self, file_id: str, **options: Unpack[CallOptions]) -> RawResponse[FileBytes]:
        """A file's content, of 32 MiB at most: the bytes are in `content`, and `parse()` gives them as `FileBytes`."""

        async def content(files: Files) -> FileBytes:
            return await files.content(file_id, **options)

        return await raw(self._files, content)()
