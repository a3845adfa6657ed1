"""A provider that costs nothing: prepared bytes over TLS, in a process of its own.

Its argument is a PEM file (key and certificate); it prints its port. A request's header `x-answer` chooses
the answer, whose `x-received` is the length of the request's body: a restored request is longer. Paced
streams put the clock's nanoseconds into each event; late ones begin some milliseconds after the request, as
if they thought.
"""

import asyncio
import json
import re
import ssl
import sys
import time

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = re.compile(rb"\r\nx-answer: *([a-z]+)(?:-(\d+)-(\d+))?", re.IGNORECASE)
ID = "b7c5a0f4-6f0e-4a54-9a0b-7d7f3f0c9b1d"
REASONING = "The user asks for the weather, so the tool has to be called first. "
TEXT = "It is 21 degrees and dry, so leave the umbrella at home."


def event(delta: dict[str, str | None], finish: str | None = None, event_id: str = ID) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    whole = {
        "id": event_id,
        "object": "chat.completion.chunk",
        "created": 1795000001,
        "model": "deepseek-v4-pro",
        "system_fingerprint": "fp_a5b0f4c2d1",
        "choices": [choice],
    }
    return b"data: %b\n\n" % json.dumps(whole, separators=(",", ":")).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def thought(text: str) -> dict[str, str | None]:
    return {"content": None, "reasoning_content": text}


def stream(events: int) -> bytes:
    """A chunked body of this many chunks: three quarters reasoning, then text, finish, [DONE]."""
    words = (events - 2) * 3 // 4
    told = [event(thought(f" word{i}")) for i in range(words)]
    told += [event({"content": f" word{i}", "reasoning_content": None}) for i in range(events - 2 - words)]
    told += [event({"content": "", "reasoning_content": None}, "stop"), b"data: [DONE]\n\n"]
    return b"".join(map(chunk, told)) + b"0\r\n\r\n"


def whole() -> bytes:
    message = {"role": "assistant", "content": TEXT, "reasoning_content": REASONING * 4}
    answer = {
        "id": ID,
        "object": "chat.completion",
        "created": 1795000001,
        "model": "deepseek-v4-pro",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
    }
    return json.dumps(answer, separators=(",", ":")).encode()


PREPARED = {b"whole": whole(), b"stream": stream(2000), b"short": stream(10)}


def head(kind: bytes, received: int) -> bytes:
    if kind == b"whole":
        body = b"application/json\r\ncontent-length: %d" % len(PREPARED[kind])
    else:
        body = b"text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked"
    return b"HTTP/1.1 200 OK\r\nx-received: %d\r\ncontent-type: %b\r\n\r\n" % (received, body)


class Answering(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._head = b""
        self._length = -1
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._length < 0:
            self._head += data
            if (end := self._head.find(b"\r\n\r\n")) < 0:
                return
            length = _LENGTH.search(self._head)
            self._length = self._left = int(length[1]) if length else 0
            data = self._head[end + 4 :]
        self._left -= len(data)
        if self._left <= 0:
            self._answer()

    def _answer(self) -> None:
        chosen = _ANSWER.search(self._head)
        kind = chosen[1] if chosen else b"whole"
        start = head(kind, self._length)
        if kind == b"paced":
            assert chosen is not None
            self._transport.write(start)
            interval = int(chosen[3]) / 1000
            self._pace(int(chosen[2]), interval, asyncio.get_running_loop().time() + interval)
        elif kind == b"late":
            assert chosen is not None
            whole = start + PREPARED[b"short"]
            asyncio.get_running_loop().call_later(int(chosen[2]) / 1000, self._transport.write, whole)
        else:
            self._transport.write(start + PREPARED[kind])
        self._head, self._length = b"", -1

    def _pace(self, left: int, interval: float, due: float) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._transport.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        self._transport.write(chunk(event(thought(" word"), event_id=f"t{time.monotonic_ns():020}")))
        asyncio.get_running_loop().call_at(due, self._pace, left - 1, interval, due + interval)


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.get_running_loop().create_server(
        Answering, "127.0.0.1", 0, ssl=context, backlog=200
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
