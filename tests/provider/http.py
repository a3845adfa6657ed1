"""HTTP/1.1 by hand, because a test may want it broken: one request in, heads and chunks out."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.provider.turns import RawAnswer, Verdict


class Request(msgspec.Struct):
    """One request as it came in; `status` is what it was answered with."""

    host: str
    path: str
    headers: dict[str, str]
    body: bytes
    verdicts: list[Verdict] = []
    conversation: str = ""
    status: int = 0

    @property
    def json(self) -> Any:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return json.loads(body)


def plain(status: int, body: bytes, content_type: str = "application/json") -> RawAnswer:
    headers = (("content-type", content_type), ("content-length", str(len(body))))
    return RawAnswer(status, headers, (body,))


def head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


async def read(reader: asyncio.StreamReader) -> Request | None:
    """One request, its body as it was sent; None when the connection ended between requests."""
    try:
        start = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = start.rstrip("\r\n").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:size]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    host = headers.get("host", "").partition(":")[0].lower()
    return Request(host, first.split(" ")[1], headers, body)
