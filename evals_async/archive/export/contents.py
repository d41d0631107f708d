"""The contents of files in an export: store them, and compare their sizes with those that the server states.

Plain functions that take a connection, like those of `ledger`.
"""

from typing import IO

from evals_async import _json
from evals_async._json import JSONObject, as_object
from evals_async._store import Connection, rows
from evals_async._store.rows import text_column


def file_size(file: JSONObject) -> int | None:
    """Return how many bytes a file has, as its object says, or `None` if the object does not say it."""
    found = file.get("bytes")
    # Some servers send 0 until they have processed an upload.
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def other_size(announced: int, size: int) -> str:
    return f"the file has {announced} bytes, but its content has {size}"


def put_stream(connection: Connection, file_id: str, digest: str, size: int, source: IO[bytes]) -> None:
    """Store the content of a file in pieces: `size` bytes with the sha256 `digest`. Equal contents are stored once."""
    insert = "INSERT INTO file_contents (sha256, bytes) VALUES (?, zeroblob(?)) ON CONFLICT DO NOTHING"
    made = connection.execute(insert, (digest, size))
    if made.rowcount and size:
        rowid = connection.execute("SELECT rowid FROM file_contents WHERE sha256 = ?", (digest,)).fetchone()[0]
        with connection.blobopen("file_contents", "bytes", rowid) as blob:
            while piece := source.read(2**20):
                blob.write(piece)
    connection.execute("UPDATE files SET sha256 = ? WHERE id = ?", (digest, text_column(file_id)))


def sizes(connection: Connection, file_id: str) -> tuple[int | None, int | None]:
    """Return the size of a file's content in the store, and the size in the file's object; `None` if unknown."""
    text = rows.get(connection, "files", (file_id,))
    announced = None if text is None else file_size(as_object(_json.parse(text.encode())) or {})
    return rows.content_size(connection, file_id), announced
