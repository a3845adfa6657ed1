"""The clients' side, in a process of its own: opens connections through a proxy and measures.

Reads one command per line as JSON, `{"do": NAME, ...}`, and answers each with a line of JSON. Times are
seconds. A command that sends a history to be restored says so, and fails if it is not.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "api.deepseek.com"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RECEIVED = re.compile(rb"\r\nx-received: *(\d+)", re.IGNORECASE)
_SENT_AT = re.compile(rb'"id":"t(\d{20})"')
_SYSTEM = {"role": "system", "content": "You are a terse assistant. Answer in one sentence. " * 8}
_ANSWERED = "It is 21 degrees and dry, so leave the umbrella at home."


class Connection:
    """A keep-alive TLS connection to the provider through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = 0

    @classmethod
    async def open(cls, port: int, ca: str) -> "Connection":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
        status = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in status, status
        await writer.start_tls(ssl.create_default_context(cafile=ca), server_hostname=HOST)
        return cls(reader, writer)

    async def post(self, answer: str, body: bytes, seen: Callable[[bytes], None] | None = None) -> float:
        """Send a request and read its answer to the end; seconds to the first byte of the answer's body."""
        lines = (
            f"POST /chat/completions HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer sk-bench\r\n"
            f"Content-Type: application/json\r\nx-answer: {answer}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.perf_counter()
        self._writer.write(lines.encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        received = _RECEIVED.search(head)
        self.received = int(received[1]) if received else 0
        length = _LENGTH.search(head)
        data = await self._reader.read(65536)
        first = time.perf_counter() - began
        left = int(length[1]) if length else 0
        tail = b""
        while True:
            assert data, "the connection was closed in the middle of an answer"
            if seen is not None:
                seen(data)
            left -= len(data)
            tail = tail[-6:] + data if len(data) < 7 else data[-7:]
            if left <= 0 if length else tail.endswith(b"0\r\n\r\n"):
                return first
            data = await self._reader.read(65536)

    def close(self) -> None:
        self._writer.close()


class Client:
    """The commands; connections are kept from one to the next."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Connection] = {}
        self._conversations = 0

    async def _connection(self, port: int, ca: str, number: int = 0) -> Connection:
        if (port, number) not in self._open:
            self._open[port, number] = await Connection.open(port, ca)
        return self._open[port, number]

    async def stream(self, port: int, ca: str, times: int) -> float:
        """So many streams of 2,000 chunks, sent as fast as they can be taken."""
        connection = await self._connection(port, ca)
        began = time.perf_counter()
        for _ in range(times):
            await connection.post("stream", self._question())
        return time.perf_counter() - began

    async def first_byte(self, port: int, ca: str, times: int, late: int = 0) -> list[float]:
        """By a provider that answers at once, or so many milliseconds late."""
        connection = await self._connection(port, ca)
        answer = f"late-{late}-0" if late else "short"
        return [await connection.post(answer, self._question()) for _ in range(times)]

    async def small(self, port: int, ca: str, connections: int, times: int, restored: bool) -> float:
        """So many conversations of two requests, shared by the connections; requests per second."""
        opened = [await self._connection(port, ca, number) for number in range(connections)]
        left = times

        async def converse(connection: Connection) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                messages = self._begin()
                await connection.post("whole", _body(messages))
                messages += [
                    {"role": "assistant", "content": _ANSWERED},
                    {"role": "user", "content": "Sure?"},
                ]
                body = _body(messages)
                await connection.post("whole", body)
                if restored and connection.received <= len(body):
                    raise RuntimeError("the proxy did not restore a turn that it had just seen")

        began = time.perf_counter()
        await asyncio.gather(*map(converse, opened))
        return 2 * times / (time.perf_counter() - began)

    async def teach(self, port: int, ca: str, body: str) -> None:
        """Send a request whose history is complete, so that the proxy knows its turns."""
        connection = await self._connection(port, ca)
        await connection.post("whole", Path(body).read_bytes())

    async def delays(
        self, port: int, ca: str, streams: int, seconds: float, bodies: list[str], large: int, restored: bool
    ) -> dict[str, Any]:
        """The delay of each event of paced streams (100 a second each) while large requests go by in turn."""
        sent = [Path(body).read_bytes() for body in bodies]
        events = int(seconds * 100)
        found: list[list[float]] = [[] for _ in range(streams)]
        opened = [await self._connection(port, ca, number) for number in range(streams + 1)]

        def watch(into: list[float]) -> Callable[[bytes], None]:
            rest = b""

            def seen(data: bytes) -> None:
                nonlocal rest
                now = time.monotonic_ns()
                data = rest + data
                end = 0
                for match in _SENT_AT.finditer(data):
                    into.append((now - int(match[1])) / 1e9)
                    end = match.end()
                rest = data[max(end, len(data) - 40) :]

            return seen

        async def send_large() -> list[float]:
            took = []
            for number in range(large):
                await asyncio.sleep(seconds / large / 2)
                body = sent[number % len(sent)]
                took.append(await opened[-1].post("whole", body))
                if restored and opened[-1].received <= len(body):
                    raise RuntimeError("the proxy did not restore the large request")
            return took

        paced = [
            connection.post(f"paced-{events}-10", self._question(), watch(into))
            for connection, into in zip(opened[:-1], found, strict=True)
        ]
        took, *_ = await asyncio.gather(send_large(), *paced)
        every = [delay for one in found for delay in one]
        assert len(every) == streams * events, f"{len(every)} of {streams * events} events were seen"
        return {"delays": every, "large": took}

    def _begin(self) -> list[dict[str, str]]:
        self._conversations += 1
        asked = f"Question {self._conversations}: do I need an umbrella in Zürich today? " * 3
        return [_SYSTEM, {"role": "user", "content": asked}]

    def _question(self) -> bytes:
        return _body(self._begin())


def _body(messages: list[dict[str, str]]) -> bytes:
    whole = {"model": "deepseek-v4-pro", "messages": messages, "temperature": 0.7, "max_tokens": 1000}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


async def main() -> None:
    client = Client()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        answer = await getattr(client, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)
    for connection in client._open.values():
        connection.close()


if __name__ == "__main__":
    asyncio.run(main())
