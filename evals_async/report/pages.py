"""The pages: an index, an eval, a run, a comparison. Templates filled with values; pure functions.

Style and script stand inside of each page, so that it is one file without any request. The policy allows these two by
their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from evals_async import encode
from evals_async._extras import extra_missing
from evals_async._json import as_array, as_object
from evals_async.comparison import CriterionName, Interval, Pair, RunComparison
from evals_async.errors import MissingExtra
from evals_async.models import Eval, EvalRun, OutputItem
from evals_async.report.facts import RunFacts
from evals_async.report.items import WORDS, Filter, ItemView, item_view
from evals_async.report.texts import json_text, one_line, shown


if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent / "templates"
POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; base-uri 'none'; form-action {form}"
)
NOTHING = "\N{EN DASH}"
LARGEST_DEFINITION = 20_000  # characters of a run's data source

Mode: TypeAlias = Literal["server", "file"]


# --- what pages are made of -------------------------------------------------------------------------------------------


@attrs.frozen
class Link:
    """A link: its text, and where it leads."""

    text: str
    href: str


@attrs.frozen(kw_only=True)
class Paging:
    """Where a list of items stands, and where it goes on. `note` says what the list leaves out."""

    first: str | None = None
    previous: str | None = None
    following: str | None = None
    note: str = ""


NO_FILTER, NO_PAGING = Filter(), Paging()


@attrs.frozen(kw_only=True)
class RunPage:
    """All that the page of a run shows. Links and paging are for a server's pages; a file has its items at once."""

    mode: Mode
    run: EvalRun
    evaluation: Eval | None
    facts: RunFacts
    items: Sequence[ItemView]
    filter: Filter = NO_FILTER
    paging: Paging = NO_PAGING
    path: Sequence[Link] = ()
    json_href: str | None = None
    item_href: str | None = None
    compare_href: str | None = None
    others: Sequence[EvalRun] = ()
    warning: str | None = None


@attrs.frozen(kw_only=True)
class FlippedRow:
    """A row whose verdict differs: what it is in both runs, and by which criteria."""

    change: Literal["worse", "better"]
    a: ItemView
    b: ItemView
    criteria: Sequence[str]


@attrs.frozen(kw_only=True)
class ComparisonPage:
    """All that the page of a comparison shows. `left_out` rows that flipped are not in `rows`."""

    mode: Mode
    comparison: RunComparison
    rows: Sequence[FlippedRow]
    left_out: int
    path: Sequence[Link] = ()
    a_href: str | None = None
    b_href: str | None = None


@attrs.frozen(kw_only=True)
class EvalSummaryView:
    """An eval in the index."""

    evaluation: Eval
    runs: int
    newest: int | None
    href: str


@attrs.frozen(kw_only=True)
class RunSummaryView:
    """A run in the list of an eval's runs."""

    run: EvalRun
    href: str


# --- the templates ----------------------------------------------------------------------------------------------------


@cache
def environment() -> Environment:
    """The templates' environment, with autoescape. Raises `MissingExtra`."""
    try:
        jinja2 = import_module("jinja2")
    except ImportError as error:
        raise MissingExtra(extra_missing("report pages need", "report")) from error
    made: Any = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent,
        "decimals": decimals,
        "points": points,
        "p": probability,
        "when": when,
        "short": one_line,
        "shown": shown,
        "number": number,
    }
    made.globals |= {"words": WORDS, "style": asset("style.css"), "script": asset("script.js")}
    return cast("Environment", made)


@cache
def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return (HERE / name).read_text(encoding="utf-8")


def source_hash(name: str) -> str:
    """The hash of the style or the script, as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()


@cache
def policy(mode: Mode) -> str:
    """The Content-Security-Policy of a page: its own style and script, images that are in it, and nothing else."""
    form = "'self'" if mode == "server" else "'none'"
    said = POLICY.format(style=source_hash("style.css"), script=source_hash("script.js"), form=form)
    # In a file the policy stands in a meta element, where browsers do not take frame-ancestors.
    return said + ("; frame-ancestors 'none'" if mode == "server" else "")


def headers() -> Mapping[str, str]:
    """The headers of a page that a server sends."""
    return {
        "Content-Security-Policy": policy("server"),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }


def filled(template: str, mode: Mode, **values: object) -> Iterator[str]:
    """The parts of a page, as they are made."""
    return environment().get_template(template).generate(mode=mode, policy=policy(mode), **values)


def run_page(page: RunPage) -> Iterator[str]:
    """The page of a run."""
    return filled("run.html", page.mode, page=page, run=page.run, facts=page.facts, about=about(page))


def comparison_page(page: ComparisonPage) -> Iterator[str]:
    """The page of a comparison."""
    return filled("compare.html", page.mode, page=page, comparison=page.comparison)


def index_page(
    evals: Iterable[EvalSummaryView], path: Sequence[Link], following: str | None, warning: str | None
) -> Iterator[str]:
    """The page with all evals."""
    return filled("index.html", "server", evals=evals, path=path, following=following, warning=warning)


def eval_page(
    evaluation: Eval,
    runs: Iterable[RunSummaryView],
    path: Sequence[Link],
    following: str | None,
    compare_href: str,
    warning: str | None,
) -> Iterator[str]:
    """The page of an eval, with its runs."""
    criteria = [
        (criterion_name(each), each.type or "?", definition(each)) for each in evaluation.testing_criteria or ()
    ]
    values = {"criteria": criteria, "following": following, "compare_href": compare_href, "warning": warning}
    return filled("eval.html", "server", evaluation=evaluation, runs=runs, path=path, **values)


def message_page(title: str, message: str, path: Sequence[Link]) -> Iterator[str]:
    """A page that says why there is no other."""
    return filled("message.html", "server", title=title, message=message, path=path)


def criterion_name(criterion: object) -> str:
    return str(getattr(criterion, "plain_name", None) or "?")


def definition(thing: object) -> str:
    """The definition of something as JSON; of a long one the beginning."""
    return shown(json_text(encode(thing)), LARGEST_DEFINITION).text


def about(page: RunPage) -> list[tuple[str, str]]:
    """The parts of a run's definition: where its rows came from, and how its model was asked."""
    fields = None if page.run.data_source is None else as_object(encode(page.run.data_source))
    found: list[tuple[str, str]] = []
    for name, value in (fields or {}).items():
        source = as_object(value) if name == "source" else None
        rows = None if source is None else as_array(source.get("content"))
        # Rows in the definition stand below, one by one.
        kept = value if source is None or rows is None else {**source, "content": f"{len(rows):,} rows"}
        found.append((name.replace("_", " "), shown(json_text(kept), LARGEST_DEFINITION).text))
    if page.run.execution is not None:
        found.append(("execution", shown(json_text(encode(page.run.execution)), LARGEST_DEFINITION).text))
    return found


def flipped_criteria(comparison: RunComparison, pair: Pair) -> list[str]:
    """The names of the criteria by which the verdicts of a row differ."""

    def passed(side: Literal["a", "b"], name: CriterionName) -> bool | None:
        outcomes, row = (comparison.a, pair.a) if side == "a" else (comparison.b, pair.b)
        found = row.results.get(outcomes.criteria[name])
        return None if found is None else found.passed

    return [a.plain for a, b in comparison.alignment.criteria if passed("a", a) is not passed("b", b)]


def flipped_row(comparison: RunComparison, pair: Pair, a: OutputItem, b: OutputItem) -> FlippedRow:
    """The row of that pair as a page shows it; `a` and `b` are its items."""
    change: Literal["worse", "better"] = "better" if pair.b.passed else "worse"
    return FlippedRow(change=change, a=item_view(a), b=item_view(b), criteria=flipped_criteria(comparison, pair))


# --- filters ----------------------------------------------------------------------------------------------------------


def number(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def percent(share: float | None, digits: int = 1) -> str:
    return NOTHING if share is None else f"{share * 100:.{digits}f} %"


def points(value: float | Interval | None) -> str:
    """A difference of rates in percentage points."""
    if isinstance(value, Interval):
        return f"{points(value.low)} to {points(value.high)}"
    return NOTHING if value is None else f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def decimals(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def probability(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def when(seconds: int | None) -> str:
    try:
        return NOTHING if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return NOTHING
