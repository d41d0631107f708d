"""The shared state of one quota in Redis, the script that writes it, and the connection. The limiter and the cache
are in `redis`.
"""

import json
from collections import deque
from typing import Any, Protocol

from evals_async._extras import extra_missing
from evals_async._transport.limiter import QueuedCall
from evals_async._transport.rate_control import RateControl
from evals_async.errors import ConfigurationError, MissingExtra


GONE = 3.0  # seconds without a heartbeat after which the running requests of a process no longer count

EXCHANGE = """
local now = redis.call('TIME')
local kept = redis.call('HMGET', KEYS[1], 'version', 'state')
local version = kept[1] or '0'
if ARGV[1] == version then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'state', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {1, now[1], now[2], ARGV[2], ''}
end
return {0, now[1], now[2], version, kept[2] or ''}
"""
"""The script writes the state if its version has not changed since it was read. Otherwise it returns the current
state. So only one of two processes that read the same state can write it.
"""


class State:
    """The state of one quota, in times of the Redis server, and the number of running requests of each process."""

    def __init__(self, control: RateControl, members: dict[str, tuple[int, float]]) -> None:
        self.control = control
        self.members = members

    def __bytes__(self) -> bytes:
        fields = {**vars(self.control), "refusals": list(self.control.refusals)}
        return json.dumps([fields, self.members]).encode()  # contains Infinity, which only Python's parser accepts

    @classmethod
    def of(cls, data: bytes) -> "State":
        fields, members = json.loads(data)
        control = RateControl(fields["most"], 0.0)  # another version may have written fewer fields, or more
        refusals = (tuple(pair) for pair in fields.pop("refusals"))
        vars(control).update(fields, refusals=deque(refusals, maxlen=4 * fields["most"]))
        return cls(control, {name: (number, seen) for name, (number, seen) in members.items()})

    def count(self, member: str, under_way: int, now: float) -> None:
        """Store the number of this process's running requests, and remove processes without a heartbeat."""
        self.members = {name: kept for name, kept in self.members.items() if now - kept[1] < GONE}
        self.members[member] = (under_way, now)
        self.control.under_way = sum(number for number, _ in self.members.values())
        if not under_way:
            del self.members[member]


class Turn(QueuedCall):
    """A call that waits for a permit of the shared limit."""

    __slots__ = ("among",)

    def __init__(self, end: float) -> None:
        super().__init__(end)
        self.among = 0  # the number of running requests including this one, once it has a permit


class Connection(Protocol):
    """The methods of Redis's client that are used here. Its own types depend on its version."""

    async def execute_command(self, *command: str | bytes | int) -> Any: ...

    def pipeline(self, transaction: bool = True) -> Any: ...

    async def aclose(self) -> None: ...


def connected(url: str, timeout: float) -> Connection:
    """A client that gives up after so many seconds and tries nothing twice.

    Raises `MissingExtra`, and `ConfigurationError` for a URL that is none.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise MissingExtra(extra_missing("Redis needs", "redis")) from None
    kind: Any = Redis  # its annotations are incomplete
    try:
        connection: Connection = kind.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    except ValueError:  # its message may contain a part of the password
        raise ConfigurationError("invalid Redis URL; special characters in its password must be encoded") from None
    return connection
