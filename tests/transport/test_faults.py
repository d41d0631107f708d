"""The fault matrix, one row or more for each fault: a raw server misbehaves, and a call through the pipeline copes.

What every row checks beside its own expectation is in `harness.run`.
"""

import gzip
import zlib

import pytest
from transport.faultserver import answer, drip, endless, message, raw
from transport.harness import KEY, Case, json_of, run

from evals_async._transport import RetryPolicy, Timeouts
from evals_async.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    Conflict,
    ConnectionDropped,
    DeadlineExceeded,
    DecodeError,
    NotFound,
    PermissionDenied,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    ResponseTruncated,
    ServerError,
    Unauthenticated,
    UnexpectedRedirect,
    Unprocessable,
)


OK = answer()
UNAVAILABLE = (500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 408, 425)
FINAL = {
    400: BadRequest,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: ApiError,
    422: Unprocessable,
    501: ServerError,
    505: ServerError,
}
QUOTA = (
    b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}'
)
ECHO = b'{"error":{"message":"Incorrect API key provided: %s","code":"invalid_api_key"}}' % KEY.encode()
SHORT = Timeouts(total=3.0, attempt=1.0, connect=1.0)
ZIPPED = ("Content-Encoding", "gzip")
BOMB = gzip.compress(bytes(60 << 20))
HTML = b"<html><body>Bad gateway " + b"x" * 200_000 + b"</body></html>"


STATUSES = [
    Case(
        id="S01 429 then 200",
        scenes=(answer(429, b"{}", ("Retry-After", "1")), OK),
        requests=2,
        value=b"{}",
        gap=(1.0, 1.35),
        within=1.4,
    ),
    Case(
        id="S02 429 for ever",
        scenes=(answer(429, b"{}", ("Retry-After", "1")),),
        requests=2,
        error=RateLimited,
        check=lambda e: e.retry_after == 1 and e.attempts == 2 and "too late" in e.note and not e.maybe_executed,
        times=Timeouts(total=2.1),
        within=2.1,
    ),
    Case(
        id="S02 429 for ever, rounds",
        scenes=(answer(429, b"{}", ("Retry-After-Ms", "1")),),
        requests=4,
        error=RateLimited,
        check=lambda e: "4 times" in e.note,
        policy=RetryPolicy(throttle_rounds=3),
        within=5.0,
    ),
    Case(
        id="S04 delay above the policy's",
        scenes=(answer(429, b"{}", ("Retry-After", "61")),),
        requests=1,
        error=RateLimited,
        check=lambda e: e.retry_after == 61 and "61 s" in e.note and e.elapsed < 0.5,
        times=Timeouts(total=100.0),
        within=0.0,
    ),
    Case(
        id="S04 delay above the time left",
        scenes=(answer(503, b"{}", ("Retry-After", "11")),),
        requests=1,
        error=ServerError,
        check=lambda e: e.retry_after == 11 and "too late" in e.note,
        within=0.0,
    ),
    Case(
        id="S05 only a reset of the rate limit",
        scenes=(
            answer(429, b"{}", ("X-RateLimit-Remaining-Requests", "0"), ("X-RateLimit-Reset-Requests", "1s500ms")),
            OK,
        ),
        requests=2,
        value=b"{}",
        gap=(1.5, 1.875),
        within=2.0,
    ),
    Case(
        id="S06 quota",
        scenes=(answer(429, QUOTA, ("Retry-After", "1"), ("X-Should-Retry", "true")),),
        requests=1,
        error=QuotaExceeded,
        check=lambda e: e.code == "insufficient_quota" and "current quota" in str(e),
        within=0.0,
    ),
    *(
        Case(
            id=f"S07 {status} then 200",
            scenes=(answer(status), OK),
            requests=2,
            value=b"{}",
            gap=(0.0, 0.25),
            within=0.25,
        )
        for status in UNAVAILABLE
    ),
    *(
        Case(
            id=f"S08 {status} for ever",
            scenes=(answer(status, b"", ("X-Request-Id", "req_9")),),
            requests=3,
            error=ServerError,
            check=lambda e: (
                e.attempts == 3
                and len(e.history) == 3
                and e.request_id == "req_9"
                and [a.status for a in e.history] == [e.status] * 3
            ),
            within=0.75,
        )
        for status in UNAVAILABLE
    ),
    *(
        Case(
            id=f"S09 {status}",
            scenes=(answer(status, b'{"error":{"message":"no","code":"c","type":"t","param":"p"}}'),),
            requests=1,
            error=error,
            check=lambda e: (e.code, e.type, e.param, e.message, e.attempts) == ("c", "t", "p", "no", 1),
            within=0.0,
        )
        for status, error in FINAL.items()
    ),
    Case(id="S10 told not to", scenes=(answer(503, b"", ("X-Should-Retry", "false")),), requests=1, error=ServerError),
    Case(id="S10 told to, read", scenes=(answer(400, b"", ("X-Should-Retry", "true")),), requests=3, error=BadRequest),
    Case(
        id="S10 told to, create",
        scenes=(answer(400, b"", ("X-Should-Retry", "true")),),
        requests=1,
        error=BadRequest,
        kind="create",
        check=lambda e: not e.maybe_executed,
    ),
    Case(
        id="S11 error body is a page",
        scenes=(answer(404, HTML),),
        requests=1,
        error=NotFound,
        check=lambda e: len(e.body) <= 2048 and len(str(e)) < 400 and "Bad gateway" in str(e),
    ),
    Case(id="S11 error body empty", scenes=(answer(404, b""),), requests=1, error=NotFound, check=lambda e: e.message),
    Case(id="S11 error body no UTF-8", scenes=(answer(404, b"\xff\xfe"),), requests=1, error=NotFound),
    Case(id="S11 error body a bomb", scenes=(answer(404, BOMB, ZIPPED),), requests=1, error=NotFound),
    Case(id="S11 error body broken", scenes=(answer(404, b"nonsense", ZIPPED),), requests=1, error=NotFound),
    Case(
        id="S11 error body stalls",
        scenes=(answer(404, b'{"error":', length=100, then="stall"),),
        requests=1,
        error=NotFound,
        within=1.0,
    ),
    Case(
        id="S12 key echoed",
        scenes=(answer(401, ECHO, ("X-Request-Id", f"r-{KEY}")),),
        requests=1,
        error=Unauthenticated,
        check=lambda e: "[redacted]" in e.message and "[redacted]" in e.body and e.request_id == "r-[redacted]",
    ),
    Case(
        id="S13 200 and Retry-After",
        scenes=(answer(200, b"1", ("Retry-After", "5")),),
        requests=1,
        value=b"1",
        within=0.0,
    ),
    Case(id="S13 201", scenes=(answer(201),), requests=1, value=b"{}"),
    *(
        Case(
            id=f"S14 {status}",
            scenes=(answer(status, b"" if status == 204 else b"{}"),),
            requests=2,
            error=DecodeError,
            check=lambda e: e.expected == "200 or 201",
        )
        for status in (202, 203, 204, 206, 226)
    ),
    Case(
        id="S14 202 to a create",
        scenes=(answer(202),),
        requests=1,
        error=DecodeError,
        kind="create",
        check=lambda e: e.maybe_executed,
    ),
]

CONNECTIONS = [
    *(
        Case(
            id=f"C04 {then} {where}, {kind}",
            scenes=(raw(data, then=then),),
            requests=1 if kind == "create" else 3,
            error=ConnectionDropped,
            kind=kind,
            check=lambda e: e.maybe_executed == (e.method != "GET"),
        )
        for then in ("rst", "fin")
        for where, data in (("before headers", b""), ("in headers", b"HTTP/1.1 200 OK\r\nContent-Le"))
        for kind in ("read", "create", "delete", "update", "cancel")
    ),
    Case(id="C04 once", scenes=(raw(b"", then="rst"), OK), requests=2, value=b"{}"),
    *(
        Case(id=f"C05 {name}, {then}", scenes=(raw(data, then=then),), requests=3, error=ResponseTruncated)
        for then in ("rst", "fin")
        for name, data in (
            ("in the body", message(200, b'{"id":', length=100)),
            ("one byte short", message(200, b"{}", length=3)),
            ("no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        )
    ),
    Case(
        id="C05 create",
        scenes=(raw(message(201, b"{", length=9), then="fin"),),
        requests=1,
        error=ResponseTruncated,
        kind="create",
        check=lambda e: e.maybe_executed,
    ),
    Case(id="C05 once", scenes=(raw(message(200, b"{", length=9), then="fin"), OK), requests=2, value=b"{}"),
    *(
        Case(
            id=f"C07 {name}",
            scenes=(raw(data, then="stall"),),
            requests=2,
            error=DeadlineExceeded,
            times=SHORT,
            within=2.25,
            check=lambda e: e.attempts == 2 and isinstance(e.last, DeadlineExceeded) and isinstance(e, TimeoutError),
        )
        for name, data in (
            ("silent", b""),
            ("headers stall", b"HTTP/1.1 200 OK\r\nCont"),
            ("body stalls", message(200, b"{", length=9)),
        )
    ),
    Case(
        id="C07 create",
        scenes=(raw(b"", then="stall"),),
        requests=1,
        error=DeadlineExceeded,
        times=SHORT,
        kind="create",
        check=lambda e: e.maybe_executed,
    ),
    Case(id="C07 once", scenes=(raw(b"", then="stall"), OK), requests=2, value=b"{}", times=SHORT, within=1.25),
    Case(
        id="C07 whole call",
        scenes=(raw(b"", then="stall"),),
        requests=1,
        error=DeadlineExceeded,
        times=Timeouts(total=1.0),
        check=lambda e: e.last is None and "1 s of the call" in str(e),
        within=1.0,
    ),
    *(
        Case(id=f"C08 {name}", scenes=(scene,), requests=2, error=DeadlineExceeded, times=SHORT, within=2.25)
        for name, scene in (
            ("slow headers", drip(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 10_000)),
            ("slow body", drip(message(200, b"x", length=100_000))),
            ("endless 1xx", endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
        )
    ),
    *(
        Case(id=f"C13 {name}", scenes=(raw(data, then="fin"),), requests=3, error=ProtocolError)
        for name, data in (
            ("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
            ("long header", b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 60_000 + b"\r\n\r\n"),
            ("many headers", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\n"),
        )
    ),
    Case(
        id="C13 bad chunk",
        scenes=(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", then="fin"),),
        requests=3,
        error=ProtocolError,
    ),
    Case(
        id="C13 status 600",
        scenes=(answer(600),),
        requests=3,
        error=ProtocolError,
    ),
]

BODIES = [
    *(
        Case(
            id=f"B01 {name}",
            scenes=(answer(200, body),),
            requests=2,
            error=DecodeError,
            read=json_of,
            check=lambda e: e.body and not e.maybe_executed,
        )
        for name, body in (
            ("HTML", b"<html>"),
            ("cut", b'{"id":'),
            ("two documents", b"{}{}"),
        )
    ),
    Case(id="B01 empty", scenes=(answer(200, b""),), requests=2, error=DecodeError, read=json_of),
    Case(id="B01 once", scenes=(answer(200, b"<html>"), OK), requests=2, value={}, read=json_of),
    Case(
        id="B01 create",
        scenes=(answer(201, b"<html>"),),
        requests=1,
        error=DecodeError,
        read=json_of,
        kind="create",
        check=lambda e: e.maybe_executed,
    ),
    Case(
        id="B02 JSON as text",
        scenes=(answer(200, b"{}", ("Content-Type", "text/plain; charset=latin-1")),),
        requests=1,
        value={},
        read=json_of,
    ),
    Case(
        id="C06 HTTP/1.0 cut",
        scenes=(raw(b'HTTP/1.0 200 OK\r\n\r\n{"id":', then="fin"),),
        requests=2,
        error=DecodeError,
        read=json_of,
    ),
    *(
        Case(
            id=f"B14 {name}",
            scenes=(answer(200, body, ("Content-Encoding", encoding)),),
            requests=3,
            error=ResponseTruncated,
        )
        for name, body, encoding in (
            ("bad gzip", b"nonsense", "gzip"),
            ("bad deflate", b"nonsense", "deflate"),
        )
    ),
    Case(
        id="B14 deflate",
        scenes=(answer(200, zlib.compress(b"{}"), ("Content-Encoding", "deflate")),),
        requests=1,
        value=b"{}",
    ),
    Case(id="B14 gzip", scenes=(answer(200, gzip.compress(b"{}"), ZIPPED),), requests=1, value=b"{}"),
    Case(
        id="B14 truncated gzip",
        scenes=(answer(200, gzip.compress(b"[%s]" % (b"1," * 999))[:-12], ZIPPED),),
        requests=2,
        error=DecodeError,
        read=json_of,
    ),
    Case(id="B14 unknown", scenes=(answer(200, b"{}", ("Content-Encoding", "rot13")),), requests=1, value=b"{}"),
    Case(
        id="B14 double",
        scenes=(answer(200, gzip.compress(gzip.compress(b"{}")), ("Content-Encoding", "gzip, gzip")),),
        requests=2,
        error=DecodeError,
        read=json_of,
    ),
    Case(id="B14 once", scenes=(answer(200, b"nonsense", ZIPPED), OK), requests=2, value=b"{}"),
    Case(
        id="B15 too large",
        scenes=(answer(200, b"x" * (1 << 20) + b"x"),),
        requests=1,
        error=BodyTooLarge,
        check=lambda e: e.limit == 1 << 20,
    ),
    Case(id="B15 just not", scenes=(answer(200, b"x" * (1 << 20)),), requests=1, value=b"x" * (1 << 20)),
    Case(id="B15 bomb", scenes=(answer(200, BOMB, ZIPPED),), requests=1, error=BodyTooLarge),
    Case(
        id="B15 endless",
        scenes=(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),),
        requests=1,
        error=BodyTooLarge,
    ),
    Case(
        id="B15 create",
        scenes=(answer(201, BOMB, ZIPPED),),
        requests=1,
        error=BodyTooLarge,
        kind="create",
        check=lambda e: e.maybe_executed,
    ),
]

REDIRECTS = [
    Case(
        id=f"R01 {status} to {location or 'nowhere'}",
        scenes=(answer(status, b"", *([("Location", location)] if location else [])),),
        requests=1,
        error=UnexpectedRedirect,
        check=lambda e, status=status, host=host: (e.status, e.location_host) == (status, host),  # type: ignore[misc]
        kind="create" if status == 307 else "read",
        body=b'{"secret": 1}' if status == 307 else None,
    )
    for status in (301, 302, 303, 307, 308)
    for location, host in (
        ("/v2/evals", ""),
        ("evals", ""),
        ("/v1/evals/e1", ""),  # itself: a loop
        ("http://elsewhere.example:81/x", "elsewhere.example"),
        ("https://localhost/v1/evals/e1", "localhost"),
        ("//other.example/x", "other.example"),
        ("file:///etc/passwd", ""),
        ("http://[bad/", ""),
        ("", ""),
    )
]

WRITES = [
    *(
        Case(
            id=f"W01 {name}",
            scenes=(scene,),
            requests=1,
            error=error,
            kind="create",
            body=b'{"name": "e"}',
            times=SHORT,
            check=lambda e: e.maybe_executed and "check before you send it again" in str(e) and e.attempts == 1,
        )
        for name, scene, error in (
            ("reset", raw(b"", then="rst"), ConnectionDropped),
            ("500", answer(500), ServerError),
            ("503", answer(503), ServerError),
            ("504", answer(504), ServerError),
            ("507", answer(507), ServerError),
            ("time-out", raw(b"", then="stall"), DeadlineExceeded),
        )
    ),
    Case(
        id="W02 429",
        scenes=(answer(429, b"", ("Retry-After-Ms", "100")), OK),
        requests=2,
        value=b"{}",
        kind="create",
        within=1.3,
    ),
    Case(
        id="W02 503 and Retry-After",
        scenes=(answer(503, b"", ("Retry-After", "1")), OK),
        requests=2,
        value=b"{}",
        kind="create",
        within=1.25,
    ),
    Case(id="update 500", scenes=(answer(500), OK), requests=2, value=b"{}", kind="update"),
    Case(
        id="update for ever",
        scenes=(answer(500),),
        requests=3,
        error=ServerError,
        kind="update",
        check=lambda e: e.maybe_executed,
    ),
    Case(
        id="the last answer is told, not the broken connection after it",
        scenes=(answer(500, b'{"error":{"message":"out of disk"}}'), raw(b"", then="rst")),
        requests=4,  # one of them free: the connection was a reused one
        error=ServerError,
        check=lambda e: (
            "out of disk" in str(e) and ["ServerError"] + ["ConnectionDropped"] * 3 == [a.outcome for a in e.history]
        ),
    ),
    Case(
        id="retries off",
        scenes=(answer(500),),
        requests=1,
        error=ServerError,
        policy=RetryPolicy(attempts=1),
        check=lambda e: e.note == "retries are off",
    ),
    Case(id="retries off, 429", scenes=(answer(429),), requests=1, error=RateLimited, policy=RetryPolicy(attempts=1)),
]

TABLE = [*STATUSES, *CONNECTIONS, *BODIES, *REDIRECTS, *WRITES]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
async def test_fault(case: Case) -> None:
    """Each fault ends as its row says, in time, with so many requests, and without a trace of the key."""
    await run(case)
