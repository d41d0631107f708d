"""What an archive lacks, as text. Every command that reads an archive prints this first.

A store without an export is always complete.
"""

import json
from collections.abc import Sequence
from sqlite3 import Connection

import attrs

from evals_async._store.rows import Kind, text_column


WORDS = {
    "evals": ("list of evals", "lists of evals"),
    "runs": ("list of runs", "lists of runs"),
    "output_items": ("list of output items", "lists of output items"),
    "files": ("list of files", "lists of files"),
    "eval": ("eval", "evals"),
    "file": ("file", "files"),
}


@attrs.frozen
class Gaps:
    """What an archive lacks, one text per reason.

    `missing` should have been exported. `left_out` was excluded by the options of the export. `open` is the number of
    listings, evals and files that are missing or incomplete.
    """

    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    open: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is missing; data in `left_out` does not count."""
        return not self.missing


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def of_kinds(found: Sequence[tuple[str, int]]) -> str:
    """`3 lists of runs, 1 file`."""
    return ", ".join(f"{number:,} {WORDS[kind][number != 1]}" for kind, number in found)


def gaps(connection: Connection) -> Gaps:
    """Return what the store lacks."""
    last = connection.execute("SELECT selection, ended FROM passes ORDER BY number DESC LIMIT 1").fetchone()
    if last is None:
        return Gaps()
    missing: list[str] = []
    still_open = of_state(connection, "state = 'open'")
    if last[1] is None:
        missing.append("the last export was interrupted")
    if still_open:
        missing.append(f"not read to the end: {of_kinds(still_open)}")
    for state, words in (
        ("failed", "could not be read"),
        ("broken", "could not be read, because the server repeats the same page"),
        ("short", "shorter or longer than the server states"),
    ):
        if found := of_state(connection, f"state = '{state}'"):
            missing.append(f"{words}: {of_kinds(found)}")
    damaged = connection.execute("SELECT count(*) FROM damaged").fetchone()[0]
    if damaged:
        missing.append(f"the server sent {counted(damaged, 'object')} damaged")
    number = sum(each for _, each in of_state(connection, "state IN ('open', 'failed', 'broken', 'short')"))
    chosen, left_out = json.loads(last[0]), list[str]()
    unread = connection.execute(UNREAD).fetchone()[0]
    if unread:
        on_purpose = not chosen.get("items", True) or chosen.get("evals") or chosen.get("since") is not None
        words = f"the output items of {counted(unread, 'run')} were " + ("left out" if on_purpose else "never read")
        (left_out if on_purpose else missing).append(words)
    if not chosen.get("files", True):
        left_out.append("files were not copied")
    return Gaps(tuple(missing), tuple(left_out), number + damaged)


UNREAD = (
    "SELECT count(*) FROM runs r WHERE r.seen IS NOT NULL AND NOT EXISTS (SELECT 1 FROM work w WHERE "
    "w.kind = 'output_items' AND w.eval_id = r.eval_id AND w.run_id = r.id AND w.id = '')"
)


def of_state(connection: Connection, condition: str) -> list[tuple[str, int]]:
    sql = f"SELECT kind, count(*) FROM work WHERE {condition} GROUP BY kind ORDER BY kind"
    return connection.execute(sql).fetchall()


def gap_of(connection: Connection, kind: Kind, parents: Sequence[str]) -> str | None:
    """Return why a listing is incomplete in an archive, or `None` if it is complete.

    A listing is also complete if the server returned no more objects, or if this store created its objects.
    """
    ids = [text_column(part) for part in (*parents, "", "")][:2]
    sql = "SELECT state, note FROM work WHERE kind = ? AND eval_id = ? AND run_id = ? AND id = ''"
    row = connection.execute(sql, (kind, *ids)).fetchone()
    if row is not None:
        state, note = row
        return None if state in ("done", "gone", "short") else note or "the export was interrupted"
    if kind in ("runs", "output_items"):
        table, where = ("evals", "id = ?") if kind == "runs" else ("runs", "eval_id = ? AND id = ?")
        sql = f"SELECT 1 FROM {table} WHERE {where} AND seen IS NOT NULL"
        if connection.execute(sql, ids[: len(parents)]).fetchone():
            return "the options of the export excluded it"
    return None
