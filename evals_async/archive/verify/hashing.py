"""Hash the objects of a store: the sha256 of the canonical JSON of each object, and of the list of all hashes.

Equal objects have equal hashes, independent of the order of keys and of spaces. Objects are read in batches, so that
memory is bounded and the store is not blocked for long.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence

import attrs

from evals_async import _json
from evals_async._json import NotJSON
from evals_async._store import TABLES, Connection, Database, Kind


BATCH = 500  # objects of one query
PIECE = 2**20  # bytes of a content that are read at a time


def object_hash(text: str | bytes) -> str:
    """Return the sha256 of an object's canonical JSON, or of its exact text if it is nested too deeply to encode.

    Raises `NotJSON` if the text is not JSON.
    """
    data = text.encode() if isinstance(text, str) else text
    value = _json.parse(data)
    try:
        whole = _json.canonical(value)
    except NotJSON:  # nested too deeply
        whole = data
    return hashlib.sha256(whole).hexdigest()


@attrs.frozen
class Hashed:
    """The key of an object and its hash; `None` if its text is not valid JSON."""

    key: tuple[str, ...]
    sha256: str | None


def hashed_batch(connection: Connection, kind: Kind, after: Sequence[str]) -> list[Hashed]:
    """Return the hashes of the next objects after the key `after`, ordered by key."""
    names = ", ".join(TABLES[kind].key)
    where = f"WHERE ({names}) > ({', '.join('?' * len(after))})" if after else ""
    sql = f"SELECT {names}, body FROM {kind} {where} ORDER BY {names} LIMIT {BATCH}"
    found: list[Hashed] = []
    for row in connection.execute(sql, tuple(after)):  # one body is in memory
        try:
            digest = object_hash(row[-1])
        except NotJSON:
            digest = None
        found.append(Hashed(tuple(row[:-1]), digest))
    return found


async def hashes(database: Database, kind: Kind) -> AsyncIterator[Hashed]:
    """Yield the hashes of all objects of a kind, ordered by key."""
    after: tuple[str, ...] = ()
    while batch := await database.call(hashed_batch, kind, after):
        for each in batch:
            yield each
        after = batch[-1].key


class Digest:
    """The hash of many objects, over their keys and hashes in order. `count` is the number of objects."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.count = 0

    def add(self, key: Sequence[str], sha256: str | None) -> None:
        self.hash.update(f"{_json.canonical(list(key)).decode()} {sha256}\n".encode())
        self.count += 1

    def as_json(self) -> dict[str, object]:
        return {"count": self.count, "sha256": self.hash.hexdigest()}


@attrs.frozen
class Content:
    """A stored content: its key `sha256`, the `found` sha256 of its bytes, and its size in bytes."""

    sha256: str
    found: str
    size: int


def contents_after(connection: Connection, after: str) -> Content | None:
    """Return the next content after the key `after`, read in pieces; `None` at the end."""
    select = "SELECT rowid, sha256 FROM file_contents WHERE sha256 > ? ORDER BY sha256 LIMIT 1"
    row = connection.execute(select, (after,)).fetchone()
    if row is None:
        return None
    digest, size = hashlib.sha256(), 0
    with connection.blobopen("file_contents", "bytes", row[0], readonly=True) as blob:
        while piece := blob.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return Content(row[1], digest.hexdigest(), size)


async def contents(database: Database) -> AsyncIterator[Content]:
    """Yield all contents with the computed hashes of their bytes."""
    after = ""
    while (each := await database.call(contents_after, after)) is not None:
        yield each
        after = each.sha256
