"""The shared state of one quota in Redis, and the script that reads and writes it."""

import bisect
import math
from collections import deque

import msgspec

from evals_async._transport.limiter import QueuedCall
from evals_async._transport.rate_control import RateControl


AHEAD = 0.02  # seconds; permits are taken so long before they are due, so that none is lost while a process is busy
FAR = 0.1  # seconds; the longest such time
LOOK = 0.02  # seconds between two checks for permits that other processes release
SOON = 0.001  # seconds; the shortest time between two checks
HEARTBEAT = 1.0  # seconds between two heartbeats of a process with running requests
FIRST = 32  # running requests of all processes at first; each response allows one more, but not during a search
GONE = 3.0  # seconds without a heartbeat after which the running requests of a process no longer count

EXCHANGE = """
local version, new_version, state, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local member, lease = ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local kept = redis.call('HMGET', KEYS[1], 'version', 'state', 'writer', 'until')
local taken = kept[3] and kept[3] ~= member and (tonumber(kept[4] or '') or 0) > now
if state ~= '' and taken then
  return {2, time[1], time[2], '', ''}
end
if version ~= (kept[1] or '') then
  if lease > 0 and not taken then
    redis.call('HSET', KEYS[1], 'writer', member, 'until', string.format('%.3f', now + lease))
    redis.call('PEXPIRE', KEYS[1], keep)
  end
  return {0, time[1], time[2], kept[1] or '', kept[2] or ''}
end
if state ~= '' then
  redis.call('HSET', KEYS[1], 'version', new_version, 'state', state)
  redis.call('HDEL', KEYS[1], 'writer', 'until')
  redis.call('PEXPIRE', KEYS[1], keep)
end
return {1, time[1], time[2], '', ''}
"""
"""The script compares the version of the caller with the stored one. If they differ, it returns the stored state (0).
Otherwise it writes the new state under a new version, or nothing if the new state is empty (1). So only one of two
processes that have read the same state can write it. No two writes use the same version, so a write that Redis
receives late changes nothing if another one came before.

A process that was too late more than once takes a lease of a few milliseconds when it reads. Until it has written,
or the lease ends, the others must wait (2).
"""


class OtherProcessesWrite(Exception):
    """Other processes prevented too many writes in a row."""


class State:
    """The state of one quota, in times of the Redis server.

    `members` has, for each process, the number of its running requests, the time of its last heartbeat, the number of
    its last write, and whether calls wait in it. With the number of its last write, a process whose response was lost
    finds out if Redis has executed its write.
    """

    def __init__(self, control: RateControl, members: dict[str, tuple[int, float, int, bool]]) -> None:
        self.control = control
        self.members = members

    @classmethod
    def first(
        cls, own: RateControl, processes: int, now: float, *, start_rate: float | None, max_rate: float | None
    ) -> "State":
        """Return the first state of a quota, with what one of its processes knows."""
        known = None if own.rate == math.inf else own.rate * processes
        control = RateControl(own.most, now, start_rate=known or start_rate, max_rate=max_rate)
        control.width = min(control.width, FIRST)
        control.prompt = False
        if own.source == "measured":
            control.source = "measured"
        return cls(control, {})

    def __bytes__(self) -> bytes:
        fields = {**vars(self.control), "refusals": list(self.control.refusals)}
        del fields["unanswered"]  # it is empty, because silence says nothing here
        return msgspec.msgpack.encode([fields, self.members])  # JSON has no infinity, and takes ten times as long

    @classmethod
    def of(cls, data: bytes) -> "State":
        """Return the state that was written. Raises `ValueError` for data in another format."""
        try:
            fields, members = msgspec.msgpack.decode(data)
            control = RateControl(fields["most"], 0.0)  # another version may have written fewer fields, or more
            control.refusals.extend((sent, answered) for sent, answered in fields.pop("refusals"))
            vars(control).update(fields)
            return cls(control, {name: member_of(*kept) for name, kept in members.items()})
        except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError("the shared state has another format") from error

    def copy(self) -> "State":
        return State.of(bytes(self))

    def count(self, member: str, under_way: int, now: float, serial: int, *, waiting: bool) -> None:
        """Store the number of this process's running requests, and remove processes without a heartbeat."""
        self.members = {name: kept for name, kept in self.members.items() if now - kept[1] < GONE}
        self.members[member] = (under_way, now, serial, waiting)
        self.control.under_way = sum(number for number, _, _, _ in self.members.values())

    def differs(self, before: "State | None", member: str) -> bool:
        """Whether other processes do not know what this state says about the process."""
        if before is None:
            return True
        number, at, _, waited = before.members.get(member, (0, -math.inf, 0, False))
        now_running, now, _, waiting = self.members[member]
        # A heartbeat is due, or will be before the next look.
        return (number, waited) != (now_running, waiting) or now - at >= HEARTBEAT / 2

    def most_of(self, member: str) -> float:
        """Return how many requests of this process may run: its part of all, if calls wait in other processes too.

        Otherwise a process would take each permit that it releases again, before another one sees it.
        """
        others = [kept for name, kept in self.members.items() if name != member]
        if not any(waiting for _, _, _, waiting in others):
            return math.inf
        active = sum(1 for number, _, _, waiting in others if number or waiting)
        return math.ceil(self.control.at_once / (active + 1))

    def paced(self, now: float) -> bool:
        """Whether a rate alone decides when requests may be sent, so that responses are not urgent for others."""
        control = self.control
        if control.rate == math.inf or control.ceiling < control.most or control.held() or control.told(now):
            return False
        return control.next_turn(now) < math.inf

    def ahead(self, member: str, spacing: float) -> tuple[float, float]:
        """Return how many seconds before they are due a process takes permits, and how many of them at most.

        Where calls wait in many processes, each takes permits for a longer time, so that together they write only once
        in `spacing` seconds.
        """
        control, waiting = self.control, self.waiting(member)
        if control.rate == math.inf or control.ceiling < control.most or waiting == 1:
            return AHEAD, math.inf
        ahead = min(FAR, max(AHEAD, spacing * waiting))
        return ahead, max(1.0, ahead * control.rate / waiting)

    def next_look(self, now: float, last: float, member: str, spacing: float, apart: float) -> float:
        """Return the seconds until a process with waiting calls reads the state again. Its last permit is due at
        `last`, and `apart` is its random delay.
        """
        at = self.control.next_turn(now)
        if not self.paced(now):
            return min(LOOK, max(SOON, at - AHEAD / 2 - now) + apart)
        ahead, _ = self.ahead(member, spacing)
        return min(2 * ahead, max(SOON, max(at - ahead, last - spacing) - now))

    def waiting(self, member: str) -> int:
        """Return in how many processes calls wait, with this one."""
        return 1 + sum(1 for name, (_, _, _, waiting) in self.members.items() if waiting and name != member)

    def part(self, most: int, ahead: float) -> RateControl:
        """Return the share of one process, for a time without Redis. The clock of the state is so many seconds
        `ahead`.
        """
        whole, processes = self.control, max(1, len(self.members))
        part = RateControl(most, whole.filled - ahead)
        for name in ("max_rate", "pace", "low", "high"):
            setattr(part, name, getattr(whole, name) / processes)
        part.width = max(1.0, whole.width / processes)
        if whole.ceiling < whole.most:
            part.ceiling, part.met = (max(1.0, number / processes) for number in (whole.ceiling, whole.met))
        for name in ("source", "untouched", "searching", "proven", "expected", "gap", "latency", "quickest"):
            setattr(part, name, getattr(whole, name))
        part.left, part.shared = whole.left, max(whole.shared, float(processes))
        for name in (
            "since",
            "refused_at",
            "granted_at",
            "cut_at",
            "held_until",
            "held_from",
            "probe_at",
            "tracked_from",
        ):
            setattr(part, name, getattr(whole, name) - ahead)
        part.left_at, part.reset_at = whole.left_at - ahead, whole.reset_at - ahead
        part.tokens = min(0.0, whole.tokens)
        return part


def member_of(number: int, seen: float, serial: int, waiting: bool) -> tuple[int, float, int, bool]:
    return number, seen, serial, waiting


class Turn(QueuedCall):
    """A call that waits for a permit of the shared limit."""

    __slots__ = ("among", "at", "taken")

    def __init__(self, end: float) -> None:
        super().__init__(end)
        self.among = 0  # the number of running requests including this one, once it has a permit
        self.at = 0.0  # when it may be sent, by the clock of this process
        self.taken = 0.0  # when the permit was taken, by the same clock


class PermitTimes:
    """When the last permits were taken, and when they were used. The times are those of this process."""

    def __init__(self, most: int) -> None:
        self.times: deque[tuple[float, float]] = deque(maxlen=most)

    def add(self, used: float, taken: float) -> None:
        self.times.append((used, taken))

    def taken(self, used: float) -> float:
        """Return when the permit was taken that was used at this time, or a moment before."""
        index = bisect.bisect(self.times, (used, math.inf))
        return self.times[index - 1][1] if index else used


class Write:
    """A write of the state: its number, the observations in it, and the calls for which it takes permits.

    `turns` has, for each call, the number of running requests, and the time when it may be sent.
    """

    def __init__(self, serial: int, seen: int, turns: list[tuple[Turn, int, float]], at: float) -> None:
        self.serial = serial
        self.seen = seen
        self.turns = turns
        self.at = at


class Offset:
    """How many seconds the clock of the Redis server is ahead of this process's clock.

    The response with the shortest duration gives the best estimate, so longer ones change nothing for a while.
    """

    AGING = 1.02  # factor between two responses: clocks drift, so an old estimate is replaced in the end

    def __init__(self) -> None:
        self.seconds = 0.0
        self.shortest = math.inf

    @property
    def known(self) -> bool:
        return self.shortest < math.inf

    def measure(self, began: float, ended: float, server: float) -> None:
        if ended - began <= self.shortest:
            self.seconds, self.shortest = server - (began + ended) / 2, ended - began
        else:
            self.shortest *= self.AGING
