"""The endpoints of files, over a real socket."""

import re

import pytest
from doubles import FakeClock
from plainhttp import PlainHttp

from evals_async.server import LocalServer


async def test_an_uploaded_file_has_the_services_shape(http: PlainHttp, clock: FakeClock) -> None:
    """200, the captured fields, and an id of the service's form."""
    answer = await http.upload(b'{"item": {}}\n', "tickets.jsonl")
    assert answer.status == 200
    assert re.fullmatch(r"file-[0-9A-Za-z]{22}", answer.json["id"])
    assert answer.json == {
        "object": "file",
        "id": answer.json["id"],
        "purpose": "evals",
        "filename": "tickets.jsonl",
        "bytes": 13,
        "created_at": int(clock.time()),
        "expires_at": None,
        "status": "processed",
        "status_details": None,
    }
    assert (await http.get(f"/files/{answer.json['id']}")).json == answer.json


async def test_the_content_comes_back_to_the_byte(http: PlainHttp) -> None:
    """Every byte of an upload can be had again, with its name in the header."""
    data = bytes(range(256)) * 4096
    file_id = (await http.upload(data, "ä b.bin")).json["id"]
    answer = await http.get(f"/files/{file_id}/content")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%A4%20b.bin"


async def test_a_file_can_be_deleted(http: PlainHttp) -> None:
    """The service's object, then its 404, which has no code."""
    file_id = (await http.upload(b"x")).json["id"]
    removed = await http.delete(f"/files/{file_id}")
    assert (removed.status, removed.json) == (200, {"id": file_id, "object": "file", "deleted": True})
    for path in (f"/files/{file_id}", f"/files/{file_id}/content"):
        answer = await http.get(path)
        assert answer.problem == (404, None, "id")
        assert answer.json["error"]["message"] == f"No such File object: {file_id}"
    assert (await http.delete(f"/files/{file_id}")).problem == (404, None, "id")


async def test_files_are_listed_newest_first(http: PlainHttp, clock: FakeClock) -> None:
    """Unlike elsewhere: newest first, all on one page, filtered by purpose, up to 10,000."""
    ids: list[str] = []
    for number in range(25):
        clock.now += 1
        purpose = "batch" if number == 3 else "evals"
        ids.append((await http.upload(b"x", purpose=purpose)).json["id"])
    listed = (await http.get("/files")).json
    assert [entry["id"] for entry in listed["data"]] == ids[::-1]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (ids[-1], ids[0], False)
    only = (await http.get("/files", purpose="batch")).json
    assert [entry["id"] for entry in only["data"]] == [ids[3]]
    page = (await http.get("/files", order="asc", limit=2, after=ids[1])).json
    assert [entry["id"] for entry in page["data"]] == ids[2:4]
    assert (await http.get("/files", limit=10_000)).status == 200
    assert (await http.get("/files", limit=10_001)).problem == (400, "integer_above_max_value", "limit")
    assert (await http.get("/files", after="file-x")).problem == (404, "not_found", "after")


async def test_expiry_is_told_in_seconds(http: PlainHttp, clock: FakeClock) -> None:
    """`expires_after` makes `expires_at`, within the service's limits."""
    form = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert (await http.upload(b"x", **form)).json["expires_at"] == int(clock.time()) + 3600
    for seconds in ("3599", "2592001", "x", "1e4"):
        answer = await http.upload(b"x", **{**form, "expires_after[seconds]": seconds})
        assert answer.problem == (400, "invalid_value", "expires_after.seconds")
    answer = await http.upload(b"x", **{**form, "expires_after[anchor]": "now"})
    assert answer.problem == (400, "invalid_value", "expires_after.anchor")


async def test_content_of_some_purposes_is_not_given_out(http: PlainHttp) -> None:
    """The service's refusal, word by word."""
    file_id = (await http.upload(b"x", purpose="user_data")).json["id"]
    assert (await http.get(f"/files/{file_id}/content")).json == {
        "error": {
            "message": "Not allowed to download files of purpose: user_data",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }


async def test_a_file_without_its_content_is_told(http: PlainHttp, server: LocalServer) -> None:
    """An archive may know a file and not have its bytes: 404, not an empty file."""
    await server.seed(files=[{"id": "file-1", "object": "file", "purpose": "evals", "created_at": 1}])
    assert (await http.get("/files/file-1")).status == 200
    assert (await http.get("/files/file-1/content")).problem == (404, None, "id")


async def test_a_wrong_form_is_refused(http: PlainHttp) -> None:
    """A missing or unknown purpose, a missing file, another content type, broken multipart."""
    assert (await http.upload(b"x", purpose="fun")).problem == (400, "invalid_value", "purpose")
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    field = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n--b--\r\n'
    assert (await http.send("POST", "/files", data=field, headers=form)).problem == (
        400,
        "missing_required_parameter",
        "file",
    )
    without_purpose = field.replace(b'"purpose"', b'"file"; filename="a"')
    assert (await http.send("POST", "/files", data=without_purpose, headers=form)).problem == (
        400,
        "missing_required_parameter",
        "purpose",
    )
    assert (await http.post("/files", {"purpose": "evals"})).problem == (400, "invalid_type", None)


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")  # aiohttp warns of these, too
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"no boundary here"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=\r\n\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\xff\xfe: x\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Transfer-Encoding: rot13\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=" + "b" * 100, b"--" + b"b" * 100 + b"\r\n\r\n"),
    ],
)
async def test_a_broken_form_is_a_client_error(http: PlainHttp, content_type: str, body: bytes) -> None:
    """However a form is broken, the answer is a 400 in the API's form."""
    answer = await http.send("POST", "/files", data=body, headers={"Content-Type": content_type})
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


async def test_uploads_have_their_own_limit(clock: FakeClock) -> None:
    """An upload may be larger than a JSON body, up to a limit of its own."""
    async with LocalServer(clock=clock, body_limit=100, upload_limit=2000) as server, PlainHttp(server) as http:
        assert (await http.upload(b"x" * 2000)).status == 200
        assert (await http.upload(b"x" * 2001)).problem == (413, "request_too_large", None)
        assert (await http.upload(b"x" * (2000 + 2**20))).problem == (413, "request_too_large", None)
        assert (await http.post("/evals", {"name": "x" * 100})).problem == (413, "request_too_large", None)
