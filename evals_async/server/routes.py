"""The table of routes, and `match`, which finds the endpoint of a request.

The base path may be the service's `/v1`, Azure's `/openai/v1` or `/openai`, the path of a Foundry project, or empty.
"""

from collections.abc import Mapping
from urllib.parse import unquote

import attrs

from evals_async.server import files, graders, handlers, recording, reports
from evals_async.server.answers import Problem
from evals_async.server.service import Handler


EVAL = "/evals/{eval_id}"
RUN = EVAL + "/runs/{run_id}"

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/evals": {"GET": handlers.list_evals, "POST": handlers.create_eval},
    EVAL: {"GET": handlers.retrieve_eval, "POST": handlers.update_eval, "DELETE": handlers.delete_eval},
    EVAL + "/runs": {"GET": handlers.list_runs, "POST": handlers.create_run},
    # In the API reference, cancel is a POST on the run itself; its examples and the official clients add /cancel.
    RUN: {"GET": handlers.retrieve_run, "POST": handlers.cancel_run, "DELETE": handlers.delete_run},
    RUN + "/cancel": {"POST": handlers.cancel_run},
    RUN + "/output_items": {"GET": handlers.list_output_items},
    RUN + "/output_items/{output_item_id}": {"GET": handlers.retrieve_output_item},
    "/files": {"GET": files.list_files, "POST": files.create_file},
    "/files/{file_id}": {"GET": files.retrieve_file, "DELETE": files.delete_file},
    "/files/{file_id}/content": {"GET": files.file_content},
    "/chat/completions": {"POST": recording.chat_completion},
    "/responses": {"POST": recording.response},
    "/fine_tuning/alpha/graders/run": {"POST": graders.run_grader},
    "/fine_tuning/alpha/graders/validate": {"POST": graders.validate_grader},
}
PAGES: Mapping[str, Handler] = {
    "/": reports.index,
    "/v1": reports.index,
    "/evals": reports.index,
    EVAL: reports.eval_page,
    RUN: reports.run_page,
    "/compare": reports.compare_page,
}
"""The HTML pages at the URLs of the API."""
HARMLESS = (
    "/fine_tuning/alpha/graders/run",
    "/fine_tuning/alpha/graders/validate",
)  # POST requests that do not change the store

BASES: tuple[tuple[str, ...], ...] = (
    ("v1",),
    ("openai", "v1"),
    ("openai",),
    ("api", "projects", "{project}", "openai", "v1"),
    ("api", "projects", "{project}", "openai"),
)


@attrs.frozen
class Match:
    """The endpoint of a request: its handler, its route, and the ids in the path."""

    handler: Handler
    template: str
    ids: tuple[str, ...]
    writes: bool
    page: bool = False


@attrs.define
class Node:
    """A node in the tree of path segments."""

    children: dict[str, "Node"] = attrs.Factory(dict[str, "Node"])
    template: str | None = None


def tree_of(templates: Mapping[str, object]) -> Node:
    root = Node()
    for template in templates:
        node = root
        for segment in template[1:].split("/"):
            node = node.children.setdefault("{}" if segment.startswith("{") else segment, Node())
        node.template = template
    return root


TREE = tree_of(ROUTES)
PAGE_TREE = tree_of(PAGES)


def without_base(segments: list[str]) -> list[str]:
    for base in BASES:
        if len(segments) > len(base) and all(b in (s, "{project}") for b, s in zip(base, segments, strict=False)):
            return segments[len(base) :]
    return segments


def match(method: str, raw_path: str) -> Match:
    """Return the endpoint of a request. Raises `Problem` 404 for an unknown path, and 405 for an unknown method."""
    found = find(TREE, raw_path)
    if found is None:
        raise Problem(404, f"Invalid URL ({method} {raw_path[:200]})", code="unknown_url")
    template, ids = found
    handler = ROUTES[template].get(method)
    if handler is None:
        raise Problem(405, f"Not allowed to {method} on {template}.", code="method_not_supported")
    return Match(handler, template, ids, method != "GET" and template not in HARMLESS)


def match_page(raw_path: str) -> Match | None:
    """Return the HTML page at a path, or `None` if the API responds to browsers too."""
    found = find(PAGE_TREE, raw_path)
    return None if found is None else Match(PAGES[found[0]], *found, writes=False, page=True)


def find(tree: Node, raw_path: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the route that matches a path, and the ids in the path."""
    node: Node | None = tree
    ids: list[str] = []
    for segment in without_base(raw_path.strip("/").split("/")):
        if node is None:
            break
        child = node.children.get(segment)
        if child is None and segment and (child := node.children.get("{}")) is not None:
            ids.append(unquote(segment))
        node = child
    return None if node is None or node.template is None else (node.template, tuple(ids))
