"""Hashes of what is in a store: of an object, the sha256 of its canonical JSON; of many, the sha256 of their list.

Two servers that hold the same objects have the same hashes, however they order keys and write spaces. Read in batches,
so that nothing holds the store for long and nothing grows with it.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence

import attrs

from evals_async import _json
from evals_async._json import NotJSON
from evals_async._store import TABLES, Connection, Database, Kind


BATCH = 500
PIECE = 2**20  # bytes of a content that are read at once


def object_hash(text: str | bytes) -> str:
    """The sha256 of an object's canonical JSON; of its exact text, where it is nested too deeply to be written anew.

    Raises `NotJSON`.
    """
    data = text.encode() if isinstance(text, str) else text
    value = _json.parse(data)
    try:
        whole = _json.canonical(value)
    except NotJSON:  # too deep
        whole = data
    return hashlib.sha256(whole).hexdigest()


@attrs.frozen
class Hashed:
    """An object by its key, with its hash; `None` where the text is no JSON any more."""

    key: tuple[str, ...]
    sha256: str | None


def hashed_batch(connection: Connection, kind: Kind, after: Sequence[str]) -> list[Hashed]:
    """The next objects after the key `after`, by their keys."""
    names = ", ".join(TABLES[kind].key)
    where = f"WHERE ({names}) > ({', '.join('?' * len(after))})" if after else ""
    rows = connection.execute(f"SELECT {names}, body FROM {kind} {where} ORDER BY {names} LIMIT {BATCH}", tuple(after))
    found: list[Hashed] = []
    for row in rows.fetchall():
        try:
            digest = object_hash(row[-1])
        except NotJSON:
            digest = None
        found.append(Hashed(tuple(row[:-1]), digest))
    return found


async def hashes(database: Database, kind: Kind) -> AsyncIterator[Hashed]:
    """All objects of a kind with their hashes, ordered by key."""
    after: tuple[str, ...] = ()
    while batch := await database.call(hashed_batch, kind, after):
        for each in batch:
            yield each
        after = batch[-1].key


class Digest:
    """The hash of many: over their keys and hashes, in order; `count` says how many."""

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
    """A content as it is kept: the hash it is filed under, the hash that its bytes have, its size."""

    sha256: str
    found: str
    size: int


def contents_after(connection: Connection, after: str) -> Content | None:
    """The next content after the one filed under `after`, read piece by piece."""
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
    """All contents with the hashes that their bytes really have."""
    after = ""
    while (each := await database.call(contents_after, after)) is not None:
        yield each
        after = each.sha256
