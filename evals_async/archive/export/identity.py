"""Whose data a store holds: one server, organization and project. What another one has does not belong into it.

The server, and what its client was told to be, are compared before anything is sent. A key alone does not tell its
project, so the first page of evals is looked at too, before a new pass begins, and the dashboard's URL of every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, urlsplit

import attrs

from evals_async import _json
from evals_async._json import JSONObject, NotJSON, as_object
from evals_async._store import Connection
from evals_async._store.rows import text_column
from evals_async.client import EvalsClient
from evals_async.errors import ArchiveError


WAY_OUT = (
    "export to another file (--to OTHER.db); or, if it is the same data at another address, say so "
    "(another_server=True, on the command line --another-server)"
)


class ForeignData(ArchiveError):
    """What was to be copied belongs to another server, organization or project than what is in the archive."""


@attrs.frozen(kw_only=True)
class Origin:
    """Where objects come from, as far as it is known."""

    server: str
    organization: str | None = None
    project: str | None = None

    @classmethod
    def of(cls, client: EvalsClient) -> Origin:
        """What a client is going to ask."""
        return cls(server=server_name(client.base_url), organization=client.organization, project=client.project)

    @classmethod
    def read(cls, server: str, text: str | None) -> Origin:
        """What a pass remembers."""
        try:
            found = as_object(_json.parse((text or "{}").encode())) or {}
        except NotJSON:
            found = {}
        names = {name: value for name in ("organization", "project") if isinstance(value := found.get(name), str)}
        return cls(server=server, organization=names.get("organization"), project=names.get("project"))

    def text(self) -> str:
        """What a pass remembers beside the server."""
        return _json.canonical({"organization": self.organization, "project": self.project}).decode()

    def completed(self, before: Origin | None) -> Origin:
        """With what is known of it from before."""
        if before is None:
            return self
        return attrs.evolve(
            self, organization=self.organization or before.organization, project=self.project or before.project
        )

    def check(self, there: Origin) -> None:
        """Raise `ForeignData` where `there` is known to be somewhere else."""
        for name in ("server", "organization", "project"):
            ours, theirs = getattr(self, name), getattr(there, name)
            if ours is not None and theirs is not None and ours != theirs:
                words = "" if name == "server" else f"{name} "
                raise ForeignData(f"this archive was made from {words}{ours}, not from {words}{theirs}: {WAY_OUT}")


def server_name(base_url: str) -> str:
    """What a store remembers of a server: its URL without query; of this machine's servers the port does not count."""
    parts = urlsplit(base_url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return "local" + parts.path.rstrip("/") if local else f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def project_in(runs: Iterable[JSONObject]) -> str | None:
    """The project that the dashboard's URL of a run names."""
    for run in runs:
        url = run.get("report_url")
        try:
            found = parse_qs(urlsplit(url).query).get("project_id") if isinstance(url, str) else None
        except ValueError:
            continue
        if found:
            return found[0]
    return None


def project_of_runs(connection: Connection) -> str | None:
    """The project of the newest runs in the store."""
    sql = "SELECT body FROM runs WHERE seen IS NOT NULL ORDER BY rowid DESC LIMIT 20"
    bodies = [as_object(_json.parse(row[0].encode())) for row in connection.execute(sql)]
    return project_in(body for body in bodies if body is not None)


def knows_none(connection: Connection, ids: Sequence[str]) -> bool:
    """Whether the store has evals that should still be on the server, and none of these, of which there are some."""
    marks = ", ".join("?" * len(ids))
    own = connection.execute("SELECT count(*) FROM evals WHERE seen IS NOT NULL AND missing_since IS NULL").fetchone()
    known = connection.execute(f"SELECT count(*) FROM evals WHERE id IN ({marks})", list(map(text_column, ids)))
    return bool(ids) and own[0] > 0 and known.fetchone()[0] == 0


def check_evals(connection: Connection, ids: Sequence[str]) -> None:
    """Raise `ForeignData` if a server's oldest evals are others than those in the store."""
    if knows_none(connection, ids):
        raise ForeignData(
            "none of the evals in this archive are among the oldest on that server: its key is of another project. "
            f"If so, {WAY_OUT}"
        )
