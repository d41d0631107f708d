"""Hostile requests, by raw sockets where no client would send them."""

import asyncio
import json

import pytest
from doubles import FakeClock
from plainhttp import PlainHttp, eval_request
from waiting import LONGEST

from evals_async.server import LocalServer


async def send_raw(server: LocalServer, data: bytes) -> tuple[int, bytes]:
    """The status and the body that raw bytes are answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    answer = b""
    try:
        async with asyncio.timeout(LONGEST):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")
            )
            answer = await reader.readexactly(length)
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), answer


GET = b"GET /v1/evals HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/evals HTTP/9.9\r\n\r\n",
        b"G\x00T /v1/evals HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        GET + b"No colon here\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
        GET + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
        GET + b"Content-Length: -5\r\n\r\n",
        GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        GET.replace(b"/v1/evals", b"/v1/" + b"e" * 100_000) + b"\r\n",
    ],
)
async def test_a_hostile_head_is_a_client_error(server: LocalServer, data: bytes) -> None:
    """What is no HTTP is answered with 400 in the API's form, and the server goes on."""
    status, body = await send_raw(server, data)
    assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    assert (await send_raw(server, GET + b"\r\n"))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Host: 127.0.0.1:8000\r\n", 200),
        (b"Host: LOCALHOST\r\n", 200),
        (b"Host: [::1]:80\r\n", 200),
        (b"Host: named.example\r\n", 200),
        (b"Host: evil.example\r\n", 403),
        (b"Host: 127.0.0.1.evil.example\r\n", 403),
        (b"Host: evil@127.0.0.1:80@evil.example\r\n", 403),
        (b"Host: [::1\r\n", 403),
        (b"Host: \r\n", 403),
        (b"Host: localhost\r\nOrigin: http://localhost:3000\r\n", 200),
        (b"Host: localhost\r\nOrigin: https://named.example\r\n", 200),
        (b"Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        (b"Host: localhost\r\nOrigin: null\r\n", 403),
        (b"Host: localhost\r\nOrigin: http://[\r\n", 403),
    ],
)
async def test_foreign_hosts_and_origins_are_refused(clock: FakeClock, headers: bytes, status: int) -> None:
    """A name that was pointed here, or a page from elsewhere, gets nothing unless it is listed."""
    async with LocalServer(clock=clock, allowed_hosts=["Named.example"]) as server:
        got, body = await send_raw(server, b"GET /v1/evals HTTP/1.1\r\n" + headers + b"\r\n")
    assert got == status
    if status == 403:
        assert json.loads(body)["error"]["code"] in ("host_not_allowed", "origin_not_allowed")


@pytest.mark.parametrize(
    "id",
    [
        *(
            "eval_1'; DROP TABLE evals; --",
            "' OR '1'='1",
            "%",
            "_",
            "..",
            "../files",
            "a/b",
            "a%2Fb",
            "\x00",
            "\n",
            "😀",
        ),
        *("a" * 4000, "eval_1?x=1", "#", "{eval_id}", "runs"),
    ],
)
async def test_hostile_ids_are_just_not_found(http: PlainHttp, id: str) -> None:
    """Whatever stands where an id should, the answer is a 404, and what is there stays."""
    from urllib.parse import quote

    from yarl import URL

    made = (await http.post("/evals", eval_request())).json["id"]
    url = URL(f"{http.base_url}/evals/{quote(id, safe='')}", encoded=True)
    async with http.session.get(url) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (404, "invalid_request_error")
    assert (await http.get("/evals", after=made)).json["data"] == []


@pytest.mark.parametrize(
    "target", ["/v1/evals/../../etc/passwd", "/../../etc/passwd", "/v1/files/..%2f..%2fetc%2fpasswd"]
)
async def test_traversal_leads_nowhere(server: LocalServer, target: str) -> None:
    """Dots and slashes in the path are no way out."""
    status, body = await send_raw(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (status, json.loads(body)["error"]["type"]) == (404, "invalid_request_error")


async def test_a_body_has_a_limit(clock: FakeClock) -> None:
    """More than 10 MiB are refused by their declared length before they are sent, and without one as they come in."""
    async with LocalServer(clock=clock) as server:
        post = b"POST /v1/evals HTTP/1.1\r\nHost: localhost\r\n"
        status, body = await send_raw(server, post + b"Content-Length: 104857600\r\n\r\n")
        assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        status, body = await send_raw(server, post + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 11)
        assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")


async def test_a_body_is_called_for_when_it_is_wanted(server: LocalServer) -> None:
    """A client that asks first is told to go on; one that is refused need not send its body."""
    head = b"POST /v1/evals HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400")
    writer.close()
    async with LocalServer(read_only=True) as closed:
        assert (await send_raw(closed, head))[0] == 403


async def test_a_compressed_bomb_counts_as_what_it_unpacks_to(http: PlainHttp) -> None:
    """Eleven megabytes that come as eleven kilobytes are still too large."""
    import zlib

    bomb = zlib.compress(b'{"name":"' + b"x" * (11 * 2**20))
    answer = await http.send("POST", "/evals", data=bomb, headers={"Content-Encoding": "deflate"})
    assert answer.problem == (413, "request_too_large", None)


async def test_many_connections_are_served(server: LocalServer) -> None:
    """Three hundred at once, most of them idle or half said, do not keep the others waiting."""
    pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
    for _, writer in pairs[::2]:
        writer.write(b"GET /v1/evals HTTP/1.1\r\nHo")
    assert (await send_raw(server, GET + b"\r\n"))[0] == 200
    for _, writer in pairs:
        writer.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\nno gzip 00",
        b"Content-Encoding: deflate\r\nContent-Length: 10\r\n\r\n\xff\xff no zlib",
    ],
)
async def test_a_body_in_a_broken_encoding_is_a_client_error(server: LocalServer, rest: bytes) -> None:
    """Broken chunks and broken compression are 400 in the API's form."""
    status, body = await send_raw(server, b"POST /v1/evals HTTP/1.1\r\nHost: localhost\r\n" + rest)
    assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that never ends is given up with its connection, without a word."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'POST /v1/evals HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"name":')
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.transport.abort()
    assert (await send_raw(server, GET + b"\r\n"))[0] == 200
    assert caplog.records == []
    assert [seen.status for seen in server.requests] == [None, 200]


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({}, (401, None, None)),
        ({"Authorization": "Bearer "}, (401, None, None)),
        ({"Authorization": "Bearer wrong"}, (401, "invalid_api_key", None)),
        ({"Authorization": "Bearer secre"}, (401, "invalid_api_key", None)),
        ({"Authorization": "Basic secret"}, (401, None, None)),
        ({"api-key": "wrong"}, (401, "invalid_api_key", None)),
        ({"Authorization": "Bearer secret"}, None),
        ({"Authorization": "bearer  secret"}, None),
        ({"api-key": "secret"}, None),
    ],
)
async def test_the_key_is_asked_for(
    clock: FakeClock, headers: dict[str, str], problem: tuple[int, str | None, str | None] | None
) -> None:
    """With a key, every request needs it, as a bearer token or as api-key; the answer never repeats what was given."""
    async with LocalServer(clock=clock, api_key="secret") as server, PlainHttp(server, headers) as http:
        answer = await http.get("/evals")
        assert (answer.problem if answer.status != 200 else None) == problem
        assert b"wrong" not in answer.body
        assert "secret" not in repr(server)
        assert "secret" not in repr(server.requests)
