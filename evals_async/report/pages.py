"""Render the pages from templates: an index, an eval, a run, a comparison. Pure functions.

Style and script are inside each page, so a page is one file and loads nothing. The Content-Security-Policy allows only
these two, by their hashes.
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
LARGEST_DEFINITION = 20_000  # characters of a definition on a page

Mode: TypeAlias = Literal["server", "file"]


# --- the values of the templates --------------------------------------------------------------------------------------


@attrs.frozen
class Link:
    """A link: its text and its address."""

    text: str
    href: str


@attrs.frozen(kw_only=True)
class Paging:
    """The addresses of the first, previous and next page of a list. `note` describes which items the list omits."""

    first: str | None = None
    previous: str | None = None
    following: str | None = None
    note: str = ""


NO_FILTER, NO_PAGING = Filter(), Paging()


@attrs.frozen(kw_only=True)
class RunPage:
    """The values of a run's page. Links and paging are for the server; a file contains all its items."""

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
    """A row whose verdict differs: its items in both runs, and the names of the criteria that differ."""

    change: Literal["worse", "better"]
    a: ItemView
    b: ItemView
    criteria: Sequence[str]


@attrs.frozen(kw_only=True)
class ComparisonPage:
    """The values of a comparison's page. `left_out` is the number of flipped rows that are not in `rows`."""

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

    @property
    def rate(self) -> float | None:
        """The share of passes among passes and failures, from 0 to 1. `None` without them, or with strange counts."""
        counts = self.run.result_counts
        passed, failed = (0, 0) if counts is None else (counts.passed or 0, counts.failed or 0)
        return passed / (passed + failed) if min(passed, failed) >= 0 < passed + failed else None

    @property
    def has_bar(self) -> bool:
        """Whether the counts are parts of the total."""
        counts = self.run.result_counts
        if counts is None or not counts.total:
            return False
        return all(0 <= (part or 0) <= counts.total for part in (counts.passed, counts.failed, counts.errored))


# --- the templates ----------------------------------------------------------------------------------------------------


@cache
def environment() -> Environment:
    """Return the environment of the templates, with autoescape. Raises `MissingExtra` without Jinja2."""
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
    """Return the text of a file in the directory of the templates."""
    return (HERE / name).read_text(encoding="utf-8")


def source_hash(name: str) -> str:
    """Return the hash of the style or the script, in the format of a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()


@cache
def policy(mode: Mode) -> str:
    """Return the Content-Security-Policy of a page: it allows only its own style, script and embedded images."""
    form = "'self'" if mode == "server" else "'none'"
    text = POLICY.format(style=source_hash("style.css"), script=source_hash("script.js"), form=form)
    # A file has its policy in a meta element, where browsers ignore frame-ancestors.
    return text + ("; frame-ancestors 'none'" if mode == "server" else "")


def headers() -> Mapping[str, str]:
    """Return the HTTP headers of a page."""
    return {
        "Content-Security-Policy": policy("server"),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }


def filled(template: str, mode: Mode, **values: object) -> Iterator[str]:
    """Render a template; yields the parts of the page."""
    return environment().get_template(template).generate(mode=mode, policy=policy(mode), **values)


def run_page(page: RunPage) -> Iterator[str]:
    """Render the page of a run."""
    return filled("run.html", page.mode, page=page, run=page.run, facts=page.facts, about=about(page))


def comparison_page(page: ComparisonPage) -> Iterator[str]:
    """Render the page of a comparison."""
    return filled("compare.html", page.mode, page=page, comparison=page.comparison)


def index_page(
    evals: Iterable[EvalSummaryView], path: Sequence[Link], following: str | None, warning: str | None
) -> Iterator[str]:
    """Render the page with all evals."""
    return filled("index.html", "server", evals=evals, path=path, following=following, warning=warning)


def eval_page(
    evaluation: Eval,
    runs: Iterable[RunSummaryView],
    path: Sequence[Link],
    following: str | None,
    compare_href: str,
    warning: str | None,
) -> Iterator[str]:
    """Render the page of an eval with its runs."""
    criteria = [
        (criterion_name(each), each.type or "?", definition(each)) for each in evaluation.testing_criteria or ()
    ]
    values = {"criteria": criteria, "following": following, "compare_href": compare_href, "warning": warning}
    return filled("eval.html", "server", evaluation=evaluation, runs=runs, path=path, **values)


def message_page(title: str, message: str, path: Sequence[Link]) -> Iterator[str]:
    """Render a page with an error message."""
    return filled("message.html", "server", title=title, message=message, path=path)


def criterion_name(criterion: object) -> str:
    return str(getattr(criterion, "plain_name", None) or "?")


def definition(thing: object) -> str:
    """Return a definition as JSON, cut if it is long."""
    return shown(json_text(encode(thing)), LARGEST_DEFINITION).text


def about(page: RunPage) -> list[tuple[str, str]]:
    """Return the parts of a run's definition: the source of its rows and the parameters of its model."""
    fields = None if page.run.data_source is None else as_object(encode(page.run.data_source))
    found: list[tuple[str, str]] = []
    for name, value in (fields or {}).items():
        source = as_object(value) if name == "source" else None
        rows = None if source is None else as_array(source.get("content"))
        # The page lists the rows as items, so the definition only counts them.
        kept = value if source is None or rows is None else {**source, "content": f"{len(rows):,} rows"}
        found.append((name.replace("_", " "), shown(json_text(kept), LARGEST_DEFINITION).text))
    if page.run.execution is not None:
        found.append(("execution", shown(json_text(encode(page.run.execution)), LARGEST_DEFINITION).text))
    return found


def flipped_criteria(comparison: RunComparison, pair: Pair) -> list[str]:
    """Return the names of the criteria whose verdicts differ for this row."""

    def passed(side: Literal["a", "b"], name: CriterionName) -> bool | None:
        outcomes, row = (comparison.a, pair.a) if side == "a" else (comparison.b, pair.b)
        found = row.results.get(outcomes.criteria[name])
        return None if found is None else found.passed

    return [a.plain for a, b in comparison.alignment.criteria if passed("a", a) is not passed("b", b)]


def flipped_row(comparison: RunComparison, pair: Pair, a: OutputItem, b: OutputItem) -> FlippedRow:
    """Prepare a pair for a page; `a` and `b` are its items."""
    change: Literal["worse", "better"] = "better" if pair.b.passed else "worse"
    return FlippedRow(change=change, a=item_view(a), b=item_view(b), criteria=flipped_criteria(comparison, pair))


# --- filters ----------------------------------------------------------------------------------------------------------


def number(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def percent(share: float | None, digits: int = 1) -> str:
    return NOTHING if share is None else f"{share * 100:.{digits}f} %"


def points(value: float | Interval | None) -> str:
    """Format a difference of rates in percentage points."""
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
