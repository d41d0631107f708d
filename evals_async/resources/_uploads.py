"""Files on their way: what may be uploaded, and the file that a download becomes. Checked before any I/O."""

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
"""What can be uploaded: bytes, a path, an open binary file; or a file's name and one of these, then its media type, and
then headers of its part of the form.
"""

Fields: TypeAlias = tuple[tuple[str, str], ...]

NAME = "upload.jsonl"
MEDIA_TYPE = "application/octet-stream"
FORBIDDEN = ("\r", "\n", "\0")
OWN_HEADERS = ("content-disposition", "content-length", "content-transfer-encoding")
MOST_NESTED = 20  # levels of a field of a form
LONGEST_NAME = 60  # characters of a file's name that stand in the name of its temporary file

KINDS = (
    "file must be bytes, a path (os.PathLike), a file opened in binary mode, "
    "or a tuple (filename, one of these), (filename, one of these, media type), or that and headers"
)


@runtime_checkable
class Readable(Protocol):
    """An open file, of whatever class."""

    def read(self) -> object: ...


def uploadable(file: FileInput, fields: Fields) -> Upload:
    """The upload of what the caller gave. An open file is read from its beginning.

    Raises `InvalidArgument` for anything else, a `str` included: is it a path or the content?
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
    """The name of an open file, if it has one. A file that was opened by its number has that as its name."""
    name = getattr(source, "name", None)
    return Path(name).name if isinstance(name, str) and Path(name).name else NAME


def whole_content(source: Any) -> object:
    """Everything in an open file, from its beginning.

    Raises `InvalidArgument` for a file that cannot be read, and for one that cannot go back to its beginning and has
    nothing left: it was read before.
    """
    try:
        seekable = bool(source.seekable()) if hasattr(source, "seekable") else hasattr(source, "seek")
        if seekable:
            source.seek(0)
        content = source.read()
    except (OSError, ValueError) as error:  # closed, opened for writing only, or the disk's own error
        raise InvalidArgument(f"file cannot be read: {error}") from None
    if isinstance(content, str):
        raise InvalidArgument("file was opened as text: open it in binary mode, open(path, 'rb')")
    if hasattr(content, "__await__"):
        if hasattr(content, "close"):
            content.close()  # or Python would say that it was never awaited
        raise InvalidArgument("file is an asynchronous file: pass its bytes, `await file.read()`, or its path")
    if not content and not seekable:
        raise InvalidArgument("file has nothing left to read and cannot go back to its beginning: was it read before?")
    return content


def form_text(value: object, name: str, *, lines: bool = False) -> str:
    """A name or a value in a form: `lines` may be in a value only."""
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
    """The headers of a file's part of the form, checked."""
    if headers is None:
        return ()
    named = as_object(headers)
    if named is None:
        raise InvalidArgument(f"the headers of a file must be a mapping, not {type(headers).__name__}")
    for name, value in named.items():
        if (fault := header_fault(name, value)) is not None:
            raise InvalidArgument(f"file: {fault}")
        if name.lower() in OWN_HEADERS:
            raise InvalidArgument(f"file: the header {name} is made by this package, and cannot be given")
    return tuple((name, str(value)) for name, value in named.items())


def form_fields(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The fields of a form that a value makes: `name[key]` for those of an object, `name[]` for those of an array."""
    if value is None or is_omitted(value):
        return
    if depth > MOST_NESTED:
        raise InvalidArgument(f"{name} is nested too deeply for a form")
    members, elements = as_object(value), as_array(value)
    if value in ({}, [], ()):
        raise InvalidArgument(f"{name} is empty: a form has no field for that")
    if members is not None:
        for key, member in members.items():
            yield from form_fields(f"{name}[{key}]", member, depth + 1)
    elif elements is not None:
        for element in elements:
            yield from form_fields(f"{name}[]", element, depth + 1)
    else:
        yield name, text_of(name, value)


def with_extra(fields: Fields, extra: Mapping[str, object]) -> Fields:
    """The fields of a form with those of `extra_body`, which win. Raises `InvalidArgument` for the file itself."""
    if "file" in extra:
        raise InvalidArgument("extra_body cannot replace the file of an upload: pass it as file=")
    kept = tuple(pair for pair in fields if pair[0].partition("[")[0] not in extra)
    return (*kept, *(pair for name, value in extra.items() for pair in form_fields(name, value)))


class PartFile:
    """A sink that becomes the file at `path` only when it is whole: the last whole one stays.

    Until then it has a temporary name of its own in the same folder, so that downloads to one path do not meet. Nothing
    is made before the first byte of a good response.
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
