"""Which rows of two runs are the same row, and which criteria are the same criterion.

By the place in the data source and the row itself: never by the server's content hash (on Azure it is the same for
every row), never by the order of a listing (it differs from server to server).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import attrs

from evals_async.comparison.outcomes import CriterionName, RowOutcome, RunOutcomes


@attrs.frozen
class Pair:
    """The same row in both runs."""

    a: RowOutcome
    b: RowOutcome


@attrs.frozen(kw_only=True)
class Alignment:
    """What two runs have in common.

    `by_row` of the `pairs` are the same row at another place in the data source. Not compared are: `changed` places
    with another row in b than in a; `ambiguous` rows, which are there several times without telling which is which; and
    those in one of the runs only. `repeated` items came twice in a listing and count once.
    """

    pairs: tuple[Pair, ...]
    by_row: int
    changed: tuple[Pair, ...]
    ambiguous_a: tuple[RowOutcome, ...]
    ambiguous_b: tuple[RowOutcome, ...]
    only_a: tuple[RowOutcome, ...]
    only_b: tuple[RowOutcome, ...]
    repeated: int
    criteria: tuple[tuple[CriterionName, CriterionName], ...]
    criteria_only_a: tuple[CriterionName, ...]
    criteria_only_b: tuple[CriterionName, ...]

    @property
    def complete(self) -> bool:
        """Does every row and every criterion of one run have its partner in the other?"""
        left = (self.changed, self.ambiguous_a, self.ambiguous_b, self.only_a, self.only_b)
        return not any((*left, self.criteria_only_a, self.criteria_only_b))

    def sentences(self) -> list[str]:
        """What is to be known before any number: what was aligned how, and what was not."""
        found = [f"{len(self.pairs):,} {'row' if len(self.pairs) == 1 else 'rows'} aligned"]
        told = (
            (self.by_row, "of them have another place in the data source: aligned by the row alone"),
            (len(self.changed), "places have another row in B than in A: not compared"),
            (len(self.ambiguous_a), "rows of A are there several times, in unequal numbers: not compared"),
            (len(self.ambiguous_b), "rows of B are there several times, in unequal numbers: not compared"),
            (len(self.only_a), "rows are in A only: not compared"),
            (len(self.only_b), "rows are in B only: not compared"),
            (self.repeated, "items came twice: counted once"),
        )
        found += [f"{number:,} {what}" for number, what in told if number]
        for side, names in (("A", self.criteria_only_a), ("B", self.criteria_only_b)):
            if names:
                listed = ", ".join(name.plain for name in names)
                found.append(f"criteria in {side} only: {listed}: not compared")
        return found


def place_of(row: RowOutcome) -> str:
    """The place in the data source as text: some servers send numbers, some send strings."""
    return "" if row.source_id is None else str(row.source_id)


def in_order(rows: Iterable[RowOutcome]) -> list[RowOutcome]:
    """The rows by their place in the data source: numbers as numbers, then texts."""

    def key(row: RowOutcome) -> tuple[int, int, str, str]:
        place = place_of(row)
        number = place.isascii() and place.isdigit() and len(place) < 19
        return (0 if number else 1, int(place) if number else 0, place, row.item_id)

    return sorted(rows, key=key)


def grouped(rows: Iterable[RowOutcome], by_place: bool) -> dict[Hashable, list[RowOutcome]]:
    found: dict[Hashable, list[RowOutcome]] = defaultdict(list)
    for row in rows:
        found[(place_of(row), row.row) if by_place else row.row].append(row)
    return found


@attrs.define
class Matching:
    """Rows that are still without a partner, and the pairs found so far."""

    a: list[RowOutcome]
    b: list[RowOutcome]
    pairs: list[Pair] = attrs.Factory(list[Pair])
    ambiguous_a: list[RowOutcome] = attrs.Factory(list[RowOutcome])
    ambiguous_b: list[RowOutcome] = attrs.Factory(list[RowOutcome])

    def match(self, *, by_place: bool) -> int:
        """Pair rows of the same key; returns how many. Of several with one key the places decide, if the numbers are
        equal and each has its own place; else they are ambiguous.
        """
        left, right = grouped(self.a, by_place), grouped(self.b, by_place)
        self.a, self.b, before = [], [], len(self.pairs)
        for key, rows in left.items():
            others = right.pop(key, [])
            if not others:
                self.a += rows
            elif len(rows) == len(others) and distinct(rows) and distinct(others):
                self.pairs += map(Pair, in_order(rows), in_order(others))
            else:
                self.ambiguous_a += rows
                self.ambiguous_b += others
        for rows in right.values():
            self.b += rows
        return len(self.pairs) - before


def distinct(rows: Sequence[RowOutcome]) -> bool:
    return len(rows) == 1 or len({place_of(row) for row in rows}) == len(rows)


def align(a: RunOutcomes, b: RunOutcomes) -> Alignment:
    """The rows and criteria that are in both runs, and those that are not."""
    matching = Matching(list(a.rows), list(b.rows))
    matching.match(by_place=True)
    by_row = matching.match(by_place=False)
    places = {place_of(row): row for row in matching.b if row.source_id is not None}
    changed = tuple(Pair(row, places[place_of(row)]) for row in in_order(matching.a) if place_of(row) in places)
    gone = {pair.a.item_id for pair in changed}, {pair.b.item_id for pair in changed}
    criteria = align_criteria(list(a.criteria), list(b.criteria))
    return Alignment(
        pairs=tuple(ordered_pairs(matching.pairs)),
        by_row=by_row,
        changed=changed,
        ambiguous_a=tuple(in_order(matching.ambiguous_a)),
        ambiguous_b=tuple(in_order(matching.ambiguous_b)),
        only_a=tuple(row for row in in_order(matching.a) if row.item_id not in gone[0]),
        only_b=tuple(row for row in in_order(matching.b) if row.item_id not in gone[1]),
        repeated=a.repeated + b.repeated,
        criteria=tuple(criteria),
        criteria_only_a=tuple(name for name in a.criteria if name not in {left for left, _ in criteria}),
        criteria_only_b=tuple(name for name in b.criteria if name not in {right for _, right in criteria}),
    )


def ordered_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    by_item = {pair.a.item_id: pair for pair in pairs}
    return [by_item[row.item_id] for row in in_order(pair.a for pair in pairs)]


def align_criteria(a: Sequence[CriterionName], b: Sequence[CriterionName]) -> list[tuple[CriterionName, CriterionName]]:
    """The criteria of both, in the order of a: by id; else by the name that users gave, where only one has it."""
    found = {name: name for name in a if name in set(b)}
    for name in a:
        if name in found:
            continue
        plain = name.without_uuid()
        here = [other for other in a if other.without_uuid() == plain and other not in found]
        there = [other for other in b if other.without_uuid() == plain and other not in found.values()]
        if len(here) == len(there) == 1:
            found[name] = there[0]
    return [(name, found[name]) for name in a if name in found]
