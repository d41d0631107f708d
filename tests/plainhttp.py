"""A client that knows no API: it sends what it is told to the local server, and shows what came back."""

import io
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import attrs

from evals_async.server import LocalServer


@attrs.frozen
class Answered:
    """A status, a body and headers; `json` is the body's value."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str | None, str | None]:
        """The status, and the `code` and `param` of the error."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        return self.status, error["code"], error["param"]


class PlainHttp:
    """`async with PlainHttp(server) as http: await http.get("/evals", limit=2)`"""

    def __init__(self, server: LocalServer | str, headers: Mapping[str, str] | None = None) -> None:
        self.base_url = server if isinstance(server, str) else server.base_url
        self.session = aiohttp.ClientSession(headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def send(self, method: str, path: str, **options: Any) -> Answered:
        url = path if path.startswith("http") else self.base_url + path
        async with self.session.request(method, url, **options) as response:
            return Answered(response.status, await response.read(), response.headers)

    async def get(self, path: str, **query: str | int) -> Answered:
        return await self.send("GET", path, params=query)

    async def post(self, path: str, body: object = None) -> Answered:
        return await self.send("POST", path, json=body)

    async def delete(self, path: str) -> Answered:
        return await self.send("DELETE", path)

    async def upload(self, data: bytes, filename: str = "rows.jsonl", **fields: str) -> Answered:
        form = aiohttp.FormData(quote_fields=False)
        for name, value in {"purpose": "evals", **fields}.items():
            form.add_field(name, value)
        form.add_field("file", io.BytesIO(data), filename=filename)
        return await self.send("POST", "/files", data=form)


# What an eval of the tests looks like, and the row that it grades.
EXACT = {
    "type": "string_check",
    "name": "Exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
ITEM_SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def eval_request(*criteria: Mapping[str, object], **fields: object) -> dict[str, object]:
    config = {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": True}
    return {"name": "Test", "data_source_config": config, "testing_criteria": list(criteria or [EXACT]), **fields}


def row(answer: str, output: str, **sample: object) -> dict[str, object]:
    return {"item": {"answer": answer}, "sample": {"output_text": output, **sample}}


def run_request(*content: Mapping[str, object], kind: str = "jsonl", **fields: object) -> dict[str, object]:
    source = {"type": "file_content", "content": list(content)}
    return {"data_source": {"type": kind, "source": source}, **fields}
