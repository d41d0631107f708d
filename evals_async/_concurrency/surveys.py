"""Polling of many objects in groups: one request for a group instead of one request for each object.

The request for a group is called a survey. It returns the states of the objects that are certainly not done. Each
object that is missing from it is polled by itself, so a final state is always up to date. Groups of less than ten
objects are not surveyed. A group is surveyed no longer if its survey returns `None`, fails permanently, five times in a
row misses objects that were not done, or contains an object that is done in three checks. Each object is then polled by
itself, as in `poll_many`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import attrs

from evals_async._concurrency.channel import refuse_one
from evals_async._concurrency.fanout import FanOut, OnProgress, Outcome
from evals_async._concurrency.polling import PollState, Rules, Schedule, Wait, run_schedule
from evals_async.errors import WaitTimeout


K = TypeVar("K")
T = TypeVar("T")

LEAST = 10  # objects in a group; smaller groups are not surveyed
FEW = 5  # objects that a survey may miss before the miss counts
MOST_MISSES = 5  # surveys in a row that missed objects which were not done; a listing may lag for the first seconds
CHECKED = 10  # one of so many surveys is checked: an object that it contains is polled by itself
MOST_STALE = 3  # checks in a row that found an object which was done

Survey: TypeAlias = Callable[[Hashable, int], Awaitable[Mapping[str, T] | None]]
"""`await survey(group, count)` returns the states, by id, of the objects of a group that are not done. It returns
`None` if the group cannot be surveyed. `count` is the number of waits in the group.
"""


@attrs.frozen(kw_only=True)
class Grouping(Generic[K, T]):
    """How objects are polled in groups. `locate` returns the group and the id of a key. `surveyed` returns whether
    a survey finds an object with that state.
    """

    locate: Callable[[K], tuple[Hashable, str]]
    survey: Survey[T]
    surveyed: Callable[[T], bool]


class Member(Wait[K, T]):
    """One object of a group. If `verdict` is set, this error is the outcome. `checking` says that it is polled although
    the last survey contained it.
    """

    def __init__(self, key: K, state: PollState[T], schedule: Schedule[K, T], group: Group[K, T], id: str) -> None:
        super().__init__(key, state, schedule)
        self.group = group
        self.id = id
        self.verdict: Exception | None = None
        self.checking = False

    async def look(self) -> Outcome[K, T] | None:
        outcome: Outcome[K, T] | None
        outcome = await super().look() if self.verdict is None else Outcome(self.key, error=self.verdict)
        if self.checking:
            self.checking = False
            self.group.stale = 0 if outcome is None else self.group.stale + 1
        if outcome is not None:
            self.group.members -= 1
        return outcome

    def look_again(self, pause: float) -> None:
        if self.state.failure is None and self.group.takes(self.state.value):
            self.group.waiting.append(self)
            self.group.misled += not self.checking
        else:
            super().look_again(pause)


class Group(Generic[K, T]):
    """A group of objects that are surveyed together. `waiting` are the objects of the next survey."""

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
        self.members = 0  # objects that wait for a survey, and objects that are polled by themselves
        self.missed = 0  # objects that the last survey did not find
        self.misled = 0  # of these, the objects that were not done
        self.misses = 0  # surveys in a row that missed many objects
        self.surveys = 0
        self.stale = 0  # checks in a row that contradicted a survey
        self.retired = False

    async def survey(self) -> Mapping[str, T] | None:
        return await self.grouping.survey(self.name, len(self.waiting))

    def takes(self, value: T) -> bool:
        """Whether the next survey will include an object with that state."""
        return not self.retired and self.grouping.surveyed(value)

    async def look(self) -> Outcome[K, T] | None:
        """Make one survey, if it is useful. A survey ends no wait: objects that may be done are polled by
        themselves.
        """
        self.misses = self.misses + 1 if self.missed > FEW and 2 * self.misled > self.missed else 0
        self.missed = self.misled = 0
        if self.members < LEAST or self.misses >= MOST_MISSES or self.stale >= MOST_STALE:
            self.retire()
            return None
        self.state.seen.clear()  # so that it has the result of this survey only
        try:
            pause = self.state.pause() if not self.waiting else await self.state.look()
        except WaitTimeout:
            self.expire()
            return None
        except Exception:  # noqa: BLE001  # the polls of the objects raise a permanent error
            self.retire()
            return None
        if self.state.seen:
            if self.state.value is None:
                self.retire()
                return None
            self.sort(self.state.value)
        assert pause is not None  # noqa: S101  # a survey is never done
        self.schedule.put(self, pause)
        return None

    def expire(self) -> None:
        """End the surveys because there is no time for another one. Objects that are missing from the last survey are
        polled by themselves, as before the deadline of a single wait.
        """
        self.retired = True
        if self.state.seen:
            if self.state.value is None:
                self.release(self.waiting)
                return
            self.sort(self.state.value)
        for member in self.waiting:
            member.verdict = member.state.late()
        self.release(self.waiting)

    def sort(self, seen: Mapping[str, T]) -> None:
        """Give the states to the objects, and schedule polls of the missing objects."""
        kept: list[Member[K, T]] = []
        missing: list[Member[K, T]] = []
        for member in self.waiting:
            if member.id not in seen:
                missing.append(member)
                continue
            try:
                member.state.observe(seen[member.id])
            except Exception as error:  # noqa: BLE001  # an error of `on_poll` is the outcome
                member.verdict = error
                self.schedule.put(member)
            else:
                kept.append(member)
        self.missed = len(missing)
        self.surveys += 1
        if kept and not self.retired and (self.stale or self.surveys % CHECKED == 0):
            checked = kept.pop(0)  # it has waited longest
            checked.checking = True
            missing.append(checked)
        self.release(missing)
        self.waiting = kept

    def release(self, members: list[Member[K, T]]) -> None:
        """Schedule polls of these objects now."""
        if members is self.waiting:
            self.waiting = []
        for member in members:
            self.schedule.put(member)

    def retire(self) -> None:
        """End the surveys of this group."""
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
    """Like `poll_many`, with surveys of groups of ten or more objects."""
    refuse_one(keys)
    all_keys = list(keys)
    schedule: Schedule[K, T] = Schedule(rules, len(all_keys))
    groups: dict[Hashable, Group[K, T]] = {}
    for key in all_keys:
        state = PollState(partial(fetch, key), rules)
        try:
            name, id = grouping.locate(key)
        except Exception:  # noqa: BLE001  # its own poll raises the error
            schedule.put(Wait(key, state, schedule))
            continue
        group = groups.setdefault(name, Group(name, grouping, schedule))
        group.members += 1
        group.waiting.append(Member(key, state, schedule, group, id))
    for group in groups.values():
        schedule.put(group)
    return run_schedule(schedule, concurrency, on_progress)
