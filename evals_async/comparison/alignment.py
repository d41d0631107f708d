"""Align two runs: find the rows and the criteria that are the same in both.

Rows are matched by their position in the data source and their content. The content hash of the server is not used,
because an Azure server returned one hash for all rows. The order of a listing is not used, because servers differ.
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

    `pairs` are the rows in both runs. `by_row` of them have another position in the data source. These rows are not
    compared: `changed` (another row at the same position), `ambiguous` (equal rows that cannot be matched), and `only`
    (in one run only). `repeated` items were listed twice and count once.
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
        """Whether every row and every criterion of each run is also in the other run."""
        unmatched = (self.changed, self.ambiguous_a, self.ambiguous_b, self.only_a, self.only_b)
        return not any((*unmatched, self.criteria_only_a, self.criteria_only_b))

    def sentences(self) -> list[str]:
        """Describe what was aligned and what was not, one text per fact. Read this before the numbers."""
        found = [f"{counted(len(self.pairs), 'row')} aligned"]
        facts = (
            (self.by_row, "row", "aligned by content only, because the position in the data source differs"),
            (len(self.changed), "row", "changed between A and B: not compared"),
            (len(self.ambiguous_a), "equal row", "of A cannot be matched: not compared"),
            (len(self.ambiguous_b), "equal row", "of B cannot be matched: not compared"),
            (len(self.only_a), "row", "only in A: not compared"),
            (len(self.only_b), "row", "only in B: not compared"),
            (self.repeated, "item", "listed twice: counted once"),
        )
        found += [f"{counted(number, noun)} {what}" for number, noun, what in facts if number]
        for side, names in (("A", self.criteria_only_a), ("B", self.criteria_only_b)):
            if names:
                listed = ", ".join(name.plain for name in names)
                found.append(f"criteria only in {side}: {listed}: not compared")
        return found


def counted(number: int, noun: str) -> str:
    """Return `1 row` or `300 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def position_of(row: RowOutcome) -> str:
    """Return the position in the data source as text: some servers send numbers, others send strings."""
    return "" if row.source_id is None else str(row.source_id)


def in_order(rows: Iterable[RowOutcome]) -> list[RowOutcome]:
    """Sort rows by their position in the data source: first numbers, then texts."""

    def key(row: RowOutcome) -> tuple[int, int, str, str]:
        position = position_of(row)
        number = position.isascii() and position.isdigit() and len(position) < 19
        return (0 if number else 1, int(position) if number else 0, position, row.item_id)

    return sorted(rows, key=key)


def grouped(rows: Iterable[RowOutcome], by_position: bool) -> dict[Hashable, list[RowOutcome]]:
    found: dict[Hashable, list[RowOutcome]] = defaultdict(list)
    for row in rows:
        found[(position_of(row), row.row) if by_position else row.row].append(row)
    return found


@attrs.define
class Matching:
    """The rows without a match, and the pairs found so far."""

    a: list[RowOutcome]
    b: list[RowOutcome]
    pairs: list[Pair] = attrs.Factory(list[Pair])
    ambiguous_a: list[RowOutcome] = attrs.Factory(list[RowOutcome])
    ambiguous_b: list[RowOutcome] = attrs.Factory(list[RowOutcome])

    def match(self, *, by_position: bool) -> int:
        """Pair rows with the same key. Returns the number of new pairs.

        If several rows have the same key, they are paired in the order of their positions. This needs the same number
        of rows in both runs and distinct positions. Otherwise the rows are ambiguous.
        """
        left, right = grouped(self.a, by_position), grouped(self.b, by_position)
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
    return len(rows) == 1 or len({position_of(row) for row in rows}) == len(rows)


def align(a: RunOutcomes, b: RunOutcomes) -> Alignment:
    """Find the rows and criteria that are in both runs, and those that are not."""
    matching = Matching(list(a.rows), list(b.rows))
    matching.match(by_position=True)
    by_row = matching.match(by_position=False)
    in_b = {position_of(row): row for row in matching.b if row.source_id is not None}
    changed = tuple(Pair(row, in_b[position_of(row)]) for row in in_order(matching.a) if position_of(row) in in_b)
    changed_a, changed_b = {pair.a.item_id for pair in changed}, {pair.b.item_id for pair in changed}
    criteria = align_criteria(list(a.criteria), list(b.criteria))
    return Alignment(
        pairs=tuple(ordered_pairs(matching.pairs)),
        by_row=by_row,
        changed=changed,
        ambiguous_a=tuple(in_order(matching.ambiguous_a)),
        ambiguous_b=tuple(in_order(matching.ambiguous_b)),
        only_a=tuple(row for row in in_order(matching.a) if row.item_id not in changed_a),
        only_b=tuple(row for row in in_order(matching.b) if row.item_id not in changed_b),
        repeated=a.repeated + b.repeated,
        criteria=tuple(criteria),
        criteria_only_a=tuple(name for name in a.criteria if name not in {left for left, _ in criteria}),
        criteria_only_b=tuple(name for name in b.criteria if name not in {right for _, right in criteria}),
    )


def ordered_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    by_item = {pair.a.item_id: pair for pair in pairs}
    return [by_item[row.item_id] for row in in_order(pair.a for pair in pairs)]


def align_criteria(a: Sequence[CriterionName], b: Sequence[CriterionName]) -> list[tuple[CriterionName, CriterionName]]:
    """Match criteria, in the order of `a`: by id, or by the user's name for them if it is unique in both."""
    found = {name: name for name in a if name in set(b)}
    for name in a:
        if name in found:
            continue
        plain = name.without_uuid()
        same_in_a = [other for other in a if other.without_uuid() == plain and other not in found]
        same_in_b = [other for other in b if other.without_uuid() == plain and other not in found.values()]
        if len(same_in_a) == len(same_in_b) == 1:
            found[name] = same_in_b[0]
    return [(name, found[name]) for name in a if name in found]
