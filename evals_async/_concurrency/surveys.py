"""Waiting for many things that can be looked at together: one survey of a group in place of one look at each.

A survey gives the states of things that are certainly not done. What is missing from it is looked at singly, so that a
result is always fresh. A group of less than ten things is not surveyed. Nor is a group whose survey turns out to be of
no use: because it says so, because it fails for good, or because it twice missed things that were under way. Then each
thing is looked at singly, as `poll_many` does it. Nothing here knows an endpoint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import attrs

from evals_async._concurrency.channel import refuse_one
from evals_async._concurrency.fanout import FanOut, OnProgress, Outcome
from evals_async._concurrency.polling import PollState, Rules, Schedule, Wait, carry_out
from evals_async.errors import WaitTimeout


K = TypeVar("K")
T = TypeVar("T")

LEAST = 10  # things that are surveyed together
FEW = 5  # things that a survey may miss without being suspected
MOST_MISSES = 2  # surveys in a row that missed things which were under way

Survey: TypeAlias = Callable[[Hashable, int], Awaitable[Mapping[str, T] | None]]
"""`await survey(group, count)`: the states of the things of a group that are not done, by their ids; `None` if nothing
can be learnt from it. `count` things of the group are waited for.
"""


@attrs.frozen(kw_only=True)
class Grouping(Generic[K, T]):
    """How things are looked at together. `locate` gives the group and the id of a key; `surveyed` tells whether a
    thing in that state is one that surveys find.
    """

    locate: Callable[[K], tuple[Hashable, str]]
    survey: Survey[T]
    surveyed: Callable[[T], bool]


class Member(Wait[K, T]):
    """One thing of a group. `verdict` is an error that is its outcome, whatever another look would say."""

    def __init__(self, key: K, state: PollState[T], schedule: Schedule[K, T], group: Group[K, T], id: str) -> None:
        super().__init__(key, state, schedule)
        self.group = group
        self.id = id
        self.verdict: Exception | None = None

    async def look(self) -> Outcome[K, T] | None:
        outcome: Outcome[K, T] | None
        outcome = await super().look() if self.verdict is None else Outcome(self.key, error=self.verdict)
        if outcome is not None:
            self.group.members -= 1
        return outcome

    def look_again(self, pause: float) -> None:
        if self.state.failure is None and self.group.takes(self.state.value):
            self.group.waiting.append(self)
            self.group.misled += 1
        else:
            super().look_again(pause)


class Group(Generic[K, T]):
    """Things that are surveyed together, at one pace. `waiting` are those that the next survey looks at."""

    def __init__(self, name: Hashable, grouping: Grouping[K, T], schedule: Schedule[K, T]) -> None:
        self.name = name
        self.grouping = grouping
        self.schedule = schedule
        rules: Rules[Mapping[str, T] | None] = Rules(
            done=lambda _: False,
            clock=schedule.rules.clock,
            deadline=schedule.rules.deadline,
            pace=schedule.rules.pace,
            on_poll=None,
            delay_of=None,
        )
        self.state = PollState(self.survey, rules)
        self.waiting: list[Member[K, T]] = []
        self.members = 0  # those that wait, and those that are looked at singly
        self.missed = 0  # things that the last survey did not find
        self.misled = 0  # those of them that were under way all the same
        self.misses = 0  # surveys in a row that missed many
        self.retired = False

    async def survey(self) -> Mapping[str, T] | None:
        return await self.grouping.survey(self.name, len(self.waiting))

    def takes(self, value: T) -> bool:
        """Whether the next survey will look at a thing in that state."""
        return not self.retired and self.grouping.surveyed(value)

    async def look(self) -> Outcome[K, T] | None:
        """One survey, where it is of any use. Nothing ends by it: what may be over is looked at singly."""
        self.misses = self.misses + 1 if self.missed > FEW and 2 * self.misled > self.missed else 0
        self.missed = self.misled = 0
        if self.members < LEAST or self.misses >= MOST_MISSES:
            self.retire()
            return None
        try:
            pause = await self.state.look() if self.waiting else None
            pause = self.state.pause() if pause is None else pause
        except WaitTimeout:
            for member in self.waiting:
                member.verdict = member.state.late()
            self.release(self.waiting)
            return None
        except Exception:  # noqa: BLE001  # what does not pass is told by the looks at each
            self.retire()
            return None
        if self.state.failure is None and self.waiting:
            if self.state.value is None:
                self.retire()
                return None
            self.sort(self.state.value)
        self.schedule.put(self, pause)
        return None

    def sort(self, seen: Mapping[str, T]) -> None:
        """Tell the members what was seen of them, and have the others looked at singly."""
        kept: list[Member[K, T]] = []
        missing: list[Member[K, T]] = []
        for member in self.waiting:
            if member.id not in seen:
                missing.append(member)
                continue
            try:
                member.state.observe(seen[member.id])
            except Exception as error:  # noqa: BLE001  # what `on_poll` raises is the outcome
                member.verdict = error
                self.schedule.put(member)
            else:
                kept.append(member)
        self.missed = len(missing)
        self.release(missing)
        self.waiting = kept

    def release(self, members: list[Member[K, T]]) -> None:
        """Have members looked at singly, at once."""
        if members is self.waiting:
            self.waiting = []
        for member in members:
            self.schedule.put(member)

    def retire(self) -> None:
        """No survey any more."""
        self.retired = True
        self.release(self.waiting)


def poll_groups(
    fetch: Callable[[K], Awaitable[T]],
    keys: Iterable[K],
    grouping: Grouping[K, T],
    rules: Rules[T],
    *,
    concurrency: int,
    on_progress: OnProgress | None,
) -> FanOut[K, T]:
    """`poll_many`, with surveys of the groups of ten things and more."""
    refuse_one(keys)
    all_keys = list(keys)
    schedule: Schedule[K, T] = Schedule(rules, len(all_keys))
    groups: dict[Hashable, Group[K, T]] = {}
    for key in all_keys:
        state = PollState(partial(fetch, key), rules)
        try:
            name, id = grouping.locate(key)
        except Exception:  # noqa: BLE001  # told by the look at it
            schedule.put(Wait(key, state, schedule))
            continue
        group = groups.setdefault(name, Group(name, grouping, schedule))
        group.members += 1
        group.waiting.append(Member(key, state, schedule, group, id))
    for group in groups.values():
        schedule.put(group)
    return carry_out(schedule, concurrency, on_progress)
