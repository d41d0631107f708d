"""The origin of an archive: one server, organization and project. Data of another origin is an error.

The server and the settings of the client are compared before any request. A key alone does not show its project, so
the first page of evals and the report URLs of all runs are compared too.
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


ADVICE = (
    "export to another file (--to OTHER.db); if it is the same data at another address, pass "
    "another_server=True (on the command line --another-server)"
)


class ForeignData(ArchiveError):
    """The server has data of another server, organization or project than the archive."""


@attrs.frozen(kw_only=True)
class Origin:
    """The server, organization and project of an archive; `None` if unknown."""

    server: str
    organization: str | None = None
    project: str | None = None

    @classmethod
    def of(cls, client: EvalsClient) -> Origin:
        """Return the origin that a client is configured for."""
        return cls(server=server_name(client.base_url), organization=client.organization, project=client.project)

    @classmethod
    def read(cls, server: str, text: str | None) -> Origin:
        """Parse the origin of a stored pass."""
        try:
            found = as_object(_json.parse((text or "{}").encode())) or {}
        except NotJSON:
            found = {}
        names = {name: value for name in ("organization", "project") if isinstance(value := found.get(name), str)}
        return cls(server=server, organization=names.get("organization"), project=names.get("project"))

    def text(self) -> str:
        """Return the organization and project as JSON, to store with a pass."""
        return _json.canonical({"organization": self.organization, "project": self.project}).decode()

    def completed(self, before: Origin | None) -> Origin:
        """Fill unknown fields from an earlier origin."""
        if before is None:
            return self
        return attrs.evolve(
            self, organization=self.organization or before.organization, project=self.project or before.project
        )

    def check(self, other: Origin) -> None:
        """Raise `ForeignData` if `other` is known to be another origin."""
        for name in ("server", "organization", "project"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours is not None and theirs is not None and ours != theirs:
                words = "" if name == "server" else f"{name} "
                raise ForeignData(f"this archive was made from {words}{ours}, not from {words}{theirs}: {ADVICE}")


def server_name(base_url: str) -> str:
    """Return the name of a server in the store: its URL without query; for servers of this machine without port."""
    parts = urlsplit(base_url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return "local" + parts.path.rstrip("/") if local else f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def project_in(runs: Iterable[JSONObject]) -> str | None:
    """Return the project in the report URL of the first run that has one."""
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
    """Return the project of the newest runs in the store."""
    sql = "SELECT body FROM runs WHERE seen IS NOT NULL ORDER BY rowid DESC LIMIT 20"
    bodies = [as_object(_json.parse(row[0].encode())) for row in connection.execute(sql)]
    return project_in(body for body in bodies if body is not None)


def shares_no_eval(connection: Connection, ids: Sequence[str]) -> bool:
    """Return whether the store has evals that should be on the server, but none of `ids`."""
    marks = ", ".join("?" * len(ids))
    own = connection.execute("SELECT count(*) FROM evals WHERE seen IS NOT NULL AND missing_since IS NULL").fetchone()
    known = connection.execute(f"SELECT count(*) FROM evals WHERE id IN ({marks})", list(map(text_column, ids)))
    return bool(ids) and own[0] > 0 and known.fetchone()[0] == 0


def check_evals(connection: Connection, ids: Sequence[str]) -> None:
    """Raise `ForeignData` if none of a server's oldest evals is in the store."""
    if shares_no_eval(connection, ids):
        raise ForeignData(
            "none of the evals in this archive are among the oldest on that server: the key seems to belong to another "
            f"project. If so, {ADVICE}"
        )
