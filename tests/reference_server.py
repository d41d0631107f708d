"""A reference server: it holds a tree of objects in their exact bytes, served with whatever goes wrong in the world.

It runs nothing of the package. `difference` compares an archive with it, by reading the file itself.
"""

import asyncio
import hashlib
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import attrs
from aiohttp import web

from evals_async.archive import ExportReport


Mode: TypeAlias = Literal["plain", "overlap", "empty", "empty_null", "null_last_id", "loop", "cycle", "no_has_more"]
"""How listings behave: as they should; with pages that overlap; with empty pages in between (their `last_id` the
cursor, or null); without `last_id`; ignoring the cursor; going round in circles; without `has_more`.
"""
Gone: TypeAlias = Literal["404", "400", "restart"]
"""What a cursor is answered with whose object was deleted."""

Export: TypeAlias = Callable[..., Awaitable[ExportReport]]
"""The fixture `export`: one export from a server into the test's archive."""

OVERLAP = 3


@attrs.define
class Tree:
    """Objects as exact texts: (kind, parents) to id to text, in the order of the listing; contents by file id."""

    listings: dict[tuple[str, ...], dict[str, bytes]] = attrs.Factory(dict[tuple[str, ...], dict[str, bytes]])
    contents: dict[str, bytes] = attrs.Factory(dict[str, bytes])

    def add(self, listing: Sequence[str], id: str, text: bytes | None = None, **fields: object) -> None:
        """Put an object at the end of a listing: its exact text, or one made of fields."""
        body = {"id": id, "created_at": 1_700_000_000, **fields}
        self.listings.setdefault(tuple(listing), {})[id] = json.dumps(body).encode() if text is None else text

    def children(self, listing: tuple[str, ...], id: str) -> None:
        """Make empty collections for the children of an object."""
        if listing[0] == "evals":
            self.listings.setdefault(("runs", id), {})
        elif listing[0] == "runs":
            self.listings.setdefault(("output_items", listing[1], id), {})

    @property
    def objects(self) -> dict[tuple[str, ...], bytes]:
        """Every object by kind, parents and id."""
        return {(*listing, id): text for listing, found in self.listings.items() for id, text in found.items()}


def tree(evals: int = 3, runs: int = 4, items: int = 23, files: int = 3) -> Tree:
    """A tree of completed runs whose counts are true, with odd spaces, key orders and unknown fields in the texts."""
    made = Tree()
    made.listings[("files",)] = {}
    made.listings[("evals",)] = {}
    for number in range(files):
        made.add(["files"], f"file-{number}", purpose="evals", filename=f"{number}.jsonl", bytes=10)
        made.contents[f"file-{number}"] = b"content %d\n" % (number // 2)  # two files have equal contents
    for e in range(evals):
        text = b'{ "zeta" : 1.50,\n "id":"eval_%d", "created_at":17000000%02d, "name":"\\u00e9\\ud83d\\ude00 %d" }' % (
            e,
            e,
            e,
        )
        made.add(["evals"], f"eval_{e}", text)
        made.listings[("runs", f"eval_{e}")] = {}
        for r in range(runs):
            add_run(made, f"eval_{e}", f"run_{e}_{r}", items, f"file-{r % files}" if files else None)
    return made


def add_run(made: Tree, eval_id: str, run_id: str, items: int, file_id: str | None, status: str = "completed") -> None:
    """Put a run with its items at the end of an eval's runs."""
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}} if file_id else None
    counts = {"total": items, "passed": items, "failed": 0, "errored": 0}
    listing = ["runs", eval_id]
    made.add(listing, run_id, eval_id=eval_id, status=status, result_counts=counts, data_source=source)
    made.listings[("output_items", eval_id, run_id)] = {}
    for i in range(items):
        made.add(
            ["output_items", eval_id, run_id],
            f"item_{i:04}",  # the same ids in every run, as some servers have them
            eval_id=eval_id,
            run_id=run_id,
            status="pass",
            datasource_item_id=i,
            datasource_item={"n": i, "big": 2**70 + i, "small": 1e-7},
        )


class ReferenceServer:
    """Serves a tree. `async with ReferenceServer(tree()) as server: ... server.base_url ...`

    `page` is the largest page, whatever is asked for. `faults` is the share of requests that fail in one of several
    ways. `after_page` is called with the listing and the page's ids after a page was made, and may change the tree.
    `key`, where set, must be sent.
    """

    def __init__(
        self,
        reference: Tree,
        *,
        page: int = 7,
        mode: Mode = "plain",
        gone: Gone = "404",
        faults: float = 0.0,
        seed: int = 0,
        key: str | None = None,
        after_page: Callable[[tuple[str, ...], list[str]], object] | None = None,
    ) -> None:
        self.reference = reference
        self.page = page
        self.mode = mode
        self.gone = gone
        self.faults = faults
        self.dice = random.Random(seed)
        self.key = key
        self.after_page = after_page
        self.down = False
        self.requests = 0
        self.pages = 0
        self.refused: set[str] = set()  # files whose contents are not given
        self.limits: list[int] = []
        self.heavy: dict[str, int] = {}  # kind of listing: the largest page that does not time out
        self.asked: dict[tuple[tuple[str, ...], str | None], int] = {}
        self.runner: web.ServerRunner | None = None
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self.runner = web.ServerRunner(web.Server(self.respond, access_log=None), shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.runner is not None
        await self.runner.cleanup()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        assert request.method == "GET"
        if self.down or self.dice.random() < self.faults:
            fault = self.dice.choice([429, 500, 502, 503, 0])
            if self.down or fault == 0:
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            return error(fault, "a bad day", {"Retry-After": "0.01"} if fault == 429 else None)
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, "Incorrect API key provided.")
        path = tuple(part for part in request.rel_url.raw_path.split("/") if part)[1:]
        return self.answer(path, dict(request.rel_url.query))

    def answer(self, path: tuple[str, ...], query: dict[str, str]) -> web.StreamResponse:
        listings = self.reference.listings
        match path:
            case ("evals",) | ("files",):
                return self.listing(path, query)
            case ("evals", eval_id, "runs") if ("runs", eval_id) in listings:
                return self.listing(("runs", eval_id), query)
            case ("evals", e, "runs", r, "output_items") if ("output_items", e, r) in listings:
                return self.listing(("output_items", e, r), query)
            case ("evals", eval_id) if eval_id in listings[("evals",)]:
                return body(listings[("evals",)][eval_id])
            case ("evals", e, "runs", r) if r in listings.get(("runs", e), {}):
                return body(listings[("runs", e)][r])
            case ("files", file_id) if file_id in listings[("files",)]:
                return body(listings[("files",)][file_id])
            case ("files", file_id, "content") if file_id in self.reference.contents:
                if file_id in self.refused:
                    return error(400, "Not allowed to download files of purpose: user_data")
                return web.Response(body=self.reference.contents[file_id])
            case _:
                return error(404, "No such thing")

    def listing(self, name: tuple[str, ...], query: dict[str, str]) -> web.StreamResponse:
        self.pages += 1
        objects, after, limit = self.reference.listings[name], query.get("after"), int(query["limit"])
        self.limits.append(limit)
        if limit > self.heavy.get(name[0], limit):
            return error(504, "Gateway timeout")
        ids = list(objects)
        start = 0
        if after is not None and self.mode != "loop":
            if after not in objects and self.gone != "restart":
                return error(int(self.gone), f"No such object: {after}")
            start = ids.index(after) + 1 if after in objects else 0
        if self.mode == "cycle" and start + 2 * self.page >= len(ids) > 3 * self.page:
            start = 0
        if self.mode == "overlap":
            start = max(0, start - OVERLAP)
        times = self.asked[name, after] = self.asked.get((name, after), 0) + 1
        if self.mode in ("empty", "empty_null") and times == 1:
            return envelope([], after if self.mode == "empty" else None, True)
        chosen = ids[start : start + min(limit, self.page)]
        more = True if self.mode in ("loop", "cycle") else start + len(chosen) < len(ids)
        last = chosen[-1] if chosen and self.mode != "null_last_id" else None
        answer = envelope([objects[each] for each in chosen], last, None if self.mode == "no_has_more" else more)
        if self.after_page is not None:
            self.after_page(name, chosen)
        return answer


def body(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/json")


def error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None}})
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


def envelope(texts: list[bytes], last_id: str | None, has_more: bool | None) -> web.Response:
    more = b"" if has_more is None else b', "has_more": ' + json.dumps(has_more).encode()
    return body(
        b'{"object":"list","data":['
        + b" ,\n".join(texts)
        + b'],"last_id":'
        + json.dumps(last_id).encode()
        + more
        + b"}"
    )


# --- comparison with an archive ------------------------------------------------------------------------------------

KEYS = {"evals": ("id",), "runs": ("eval_id", "id"), "output_items": ("eval_id", "run_id", "id"), "files": ("id",)}


@attrs.frozen
class Difference:
    """What the archive lacks, has otherwise, and has too much; all empty when it is the same, byte for byte."""

    lost: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    integrity: str = "ok"


SAME = Difference()


def stored(path: Path) -> tuple[dict[tuple[str, ...], bytes], dict[str, bytes], str]:
    """Every object and every content in an archive's file, and what SQLite says of the file."""
    connection = sqlite3.connect(path)
    try:
        objects = {
            (kind, *row[:-1]): row[-1].encode()
            for kind, names in KEYS.items()
            for row in connection.execute(f"SELECT {', '.join(names)}, body FROM {kind}")
        }
        select = "SELECT id, bytes FROM files JOIN file_contents USING (sha256)"
        contents = dict(connection.execute(select).fetchall())
        (state,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return objects, contents, state


def difference(path: Path, reference: Tree, *, deleted: Collection[tuple[str, ...]] = ()) -> Difference:
    """How the archive differs from the server: bytes and sha256 of every object, count per parent, every content.

    Objects that were `deleted` on the way may be there or not.
    """
    objects, contents, state = stored(path)
    wanted = reference.objects
    lost = [key for key in wanted if key not in objects]
    wrong = [key for key in wanted if key in objects and digest(objects[key]) != digest(wanted[key])]
    extra = [key for key in objects if key not in wanted and key not in deleted]
    lost += [("content", each) for each in reference.contents if each not in contents]
    wrong += [("content", each) for each, data in reference.contents.items() if contents.get(each, data) != data]
    return Difference(joined(lost), joined(wrong), joined(extra), state)


def joined(keys: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted("/".join(key) for key in keys))


def digest(text: bytes) -> tuple[str, str]:
    """The sha256 of the bytes, and that of the canonical JSON."""
    value: Any = json.loads(text)
    whole = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest(), hashlib.sha256(whole).hexdigest()


async def run_pending() -> None:
    """Let connections that were closed be noticed."""
    await asyncio.sleep(0)
