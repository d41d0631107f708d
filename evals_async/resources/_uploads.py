"""Uploads and downloads of files. Arguments are checked before any request."""

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, cast, runtime_checkable

from evals_async._json import as_array, as_object
from evals_async._omit import is_omitted
from evals_async._settings import header_fault, value_fault
from evals_async._transport.messages import Upload
from evals_async.errors import InvalidArgument
from evals_async.resources._requests import text_of


FileSource: TypeAlias = bytes | os.PathLike[str] | BinaryIO
FileInput: TypeAlias = (
    FileSource
    | tuple[str | None, FileSource]
    | tuple[str | None, FileSource, str | None]
    | tuple[str | None, FileSource, str | None, Mapping[str, str]]
)
"""A file to upload: bytes, a path, or an open binary file.

Or a tuple: a filename, one of these, then optionally its media type, and then headers for its part of the form.
"""

Fields: TypeAlias = tuple[tuple[str, str], ...]

NAME = "upload.jsonl"
MEDIA_TYPE = "application/octet-stream"
FORBIDDEN = ("\r", "\n", "\0")
OWN_HEADERS = ("content-disposition", "content-length", "content-transfer-encoding")
MOST_NESTED = 20  # levels of nesting in a form field
LONGEST_NAME = 60  # characters of the filename that the name of the temporary file contains

KINDS = (
    "file must be bytes, a path (os.PathLike), a file opened in binary mode, "
    "or a tuple (filename, one of these), (filename, one of these, media type), or that and headers"
)


@runtime_checkable
class Readable(Protocol):
    """An open file of any class."""

    def read(self) -> object: ...


def uploadable(file: FileInput, fields: Fields) -> Upload:
    """Make an upload of the given file. An open file is read from its start.

    Raises `InvalidArgument` for other types. A `str` is refused, because it could be a path or the content.
    """
    given: tuple[Any, ...] = cast("tuple[Any, ...]", file) if isinstance(file, tuple) else (None, file)
    if not 2 <= len(given) <= 4:
        raise InvalidArgument(KINDS)
    filename, source, media_type, headers = (*given, None, None)[:4]
    name, content = NAME, source
    if isinstance(source, os.PathLike):
        path = Path(cast("os.PathLike[str]", source))
        if not path.is_file():
            raise InvalidArgument(f"file: there is no file {str(path)!r}")
        name, content = path.name, path
    elif isinstance(source, bytearray | memoryview):
        content = bytes(cast("bytearray", source))
    elif isinstance(source, Readable):
        name, content = name_of(source), whole_content(source)
    if not isinstance(content, bytes | Path):
        raise InvalidArgument(KINDS)
    return Upload(
        filename=form_text(name if filename is None else filename, "the file's name"),
        source=content,
        fields=tuple(
            (form_text(field, "a field's name"), form_text(text, field, lines=True)) for field, text in fields
        ),
        content_type=media_type_of(media_type),
        headers=part_headers(headers),
    )


def name_of(source: Readable) -> str:
    """Return the name of an open file, or `None`. The name of a file that was opened by its number is a number."""
    name = getattr(source, "name", None)
    return Path(name).name if isinstance(name, str) and Path(name).name else NAME


def whole_content(source: Any) -> object:
    """Read a whole open file, from its start.

    Raises `InvalidArgument` if the file cannot be read, or if it was read before and cannot be rewound.
    """
    try:
        seekable = bool(source.seekable()) if hasattr(source, "seekable") else hasattr(source, "seek")
        if seekable:
            source.seek(0)
        content = source.read()
    except (OSError, ValueError) as error:  # the file is closed or write-only, or the disk has an error
        raise InvalidArgument(f"file cannot be read: {error}") from None
    if isinstance(content, str):
        raise InvalidArgument("file was opened as text: open it in binary mode, open(path, 'rb')")
    if hasattr(content, "__await__"):
        if hasattr(content, "close"):
            content.close()  # otherwise Python warns that it was never awaited
        raise InvalidArgument("file is an asynchronous file: pass its bytes, `await file.read()`, or its path")
    if not content and not seekable:
        raise InvalidArgument("file has no more bytes to read and cannot be rewound: open it again")
    return content


def form_text(value: object, name: str, *, lines: bool = False) -> str:
    """Check a name or a value in a form. `lines` allows line breaks, which only a value may contain."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a str, not {type(value).__name__}")
    if not lines and any(character in value for character in FORBIDDEN):
        raise InvalidArgument(f"{name} contains a line break or a NUL character: {value!a}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} cannot be encoded as UTF-8: {value!a}") from None
    return value


def media_type_of(value: object) -> str:
    if value is None:
        return MEDIA_TYPE
    if (fault := value_fault(value, "the file's media type")) is not None:
        raise InvalidArgument(fault)
    kind = str(value)
    main, _, sub = kind.partition(";")[0].partition("/")
    if not main.strip() or not sub.strip():
        raise InvalidArgument(f"the file's media type must be like application/jsonl, not {kind!r}")
    return kind


def part_headers(headers: object) -> Fields:
    """Check the headers of a file's part of the form."""
    if headers is None:
        return ()
    named = as_object(headers)
    if named is None:
        raise InvalidArgument(f"the headers of a file must be a mapping, not {type(headers).__name__}")
    for name, value in named.items():
        if (fault := header_fault(name, value)) is not None:
            raise InvalidArgument(f"file: {fault}")
        if name.lower() in OWN_HEADERS:
            raise InvalidArgument(f"file: the header {name} is set by this package and cannot be passed")
    return tuple((name, str(value)) for name, value in named.items())


def form_fields(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Return the form fields for a value: `name[key]` for the members of an object, `name[]` for those of an array."""
    if value is None or is_omitted(value):
        return
    if depth > MOST_NESTED:
        raise InvalidArgument(f"{name} is nested too deeply for a form")
    members, elements = as_object(value), as_array(value)
    if value in ({}, [], ()):
        raise InvalidArgument(f"{name} is empty: a form cannot contain an empty object or array")
    if members is not None:
        for key, member in members.items():
            yield from form_fields(f"{name}[{key}]", member, depth + 1)
    elif elements is not None:
        for element in elements:
            yield from form_fields(f"{name}[]", element, depth + 1)
    else:
        yield name, text_of(name, value)


def with_extra(fields: Fields, extra: Mapping[str, object]) -> Fields:
    """Return the form fields with those of `extra_body`, which have priority. Raises `InvalidArgument` if it
    contains the file.
    """
    if "file" in extra:
        raise InvalidArgument("extra_body cannot replace the file of an upload: pass it as file=")
    kept = tuple(pair for pair in fields if pair[0].partition("[")[0] not in extra)
    return (*kept, *(pair for name, value in extra.items() for pair in form_fields(name, value)))


class PartFile:
    """A sink that writes a download to `path`. The file appears there only when it is complete.

    An existing file stays until then. Each download writes to its own temporary file in the same directory, so that
    concurrent downloads to one path do not mix. No file is made before the first byte of a successful response.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name[:LONGEST_NAME]}.{uuid.uuid4().hex}.part")
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
