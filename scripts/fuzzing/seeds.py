"""Inputs to begin with, per target: the wire samples of the tests, and what is known to be hard.

The corpus stays this small: what a run finds is kept for that run only.
"""

import base64
import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import brotli
import zstandard
from mitmproxy import http
from mitmproxy.io import FlowWriter

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.providers.rows import Means
from reasoning_fix.providers.table import BUILT_IN
from reasoning_fix.proxy import metadata
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import line
from scripts.fuzzing.targets import CODINGS, _flow
from scripts.fuzzing.worlds import worlds

_SAMPLES = Path(__file__).resolve().parents[2] / "tests" / "samples"
_STREAMS = (
    b"data: a\r\ndata: b\r\n\r\n",
    b"\xef\xbb\xbfdata: x\n\n: c\n\ndata: [DONE]\n\n",
    b"data:\n\ndata\n\nevent: ping\rid: 1\r\r",
    b"data: " + b"x" * 300 + b"\n\ndata: y\n\n",
    b": " + b"x" * 300,
)


def seeds(target: str) -> list[bytes]:
    """The inputs that a target begins with."""
    return _SEEDS[target]()


def _samples(pattern: str, *folders: str) -> list[bytes]:
    return [path.read_bytes() for folder in folders for path in sorted((_SAMPLES / folder).glob(pattern))]


def _streams() -> list[bytes]:
    return [b"\x07\x03" + body for body in (*_STREAMS, *_samples("*.sse", ""))]


def _codings() -> list[bytes]:
    body = _samples("deepseek-chat-tool.sse", "")[0]
    found = []
    for plain in (body, b"\0" * 10_000_000, b""):
        made = _coded(plain)
        found += [bytes([CODINGS.index(name), 9]) + data for name, data in made.items()]
        found += [bytes([CODINGS.index(name), 9]) + data + data[:50] for name, data in made.items()]
    return found


def _coded(plain: bytes) -> dict[str, bytes]:
    zstd = zstandard.ZstdCompressor(level=1)
    raw = zlib.compressobj(wbits=-15)
    many = gzip.compress(zstd.compress(zstd.compress(plain)), mtime=0)
    return {
        "gzip": gzip.compress(plain, mtime=0),
        "deflate": raw.compress(plain) + raw.flush(),
        "br": brotli.compress(plain, quality=1),
        "zstd": zstd.compress(plain),
        "gzip, br": brotli.compress(gzip.compress(plain, mtime=0), quality=1),
        "zstd, zstd, gzip, deflate": zlib.compress(many),
        "identity": plain[:100_000],
    }


def _answers() -> list[bytes]:
    names = list(worlds())
    at = {name: bytes([names.index(name)]) for name in names}
    whole = b"\x01\x05\x05"
    streamed = b"\x00\x05\x05"
    found = [at["chat"] + streamed + body for body in _samples("*.sse", "")]
    found += [at["chat"] + b"\x10\x05\x05" + body for body in _samples("*cumulative.sse", "")]
    found += [at["tags"] + b"\x02\x05\x05" + body for body in _samples("minimax*.sse", "")]
    found += [at["chat"] + whole + body for body in _samples("*nonstream*", "")]
    found += [at["details"] + whole + body for body in _samples("openrouter*.json", "")]
    for wire in ("messages", "responses"):
        found += [at[wire] + streamed + body for body in _samples("*.sse", wire)]
        found += [at[wire] + whole + body for body in _samples("*nonstream*", wire)]
    return found


def _requests(*names: str) -> Callable[[], list[bytes]]:
    def made() -> list[bytes]:
        found = []
        for name in names:
            world = worlds()[name]
            found += [world.body, world.first, *_odd(world.body)]
            found.append(world.fresh().restore_body(world.body, world.caller).body)
            body = json.loads(world.body)
            history = body[world.scene.member]
            found.append(json.dumps(body | {world.scene.member: [*history, *history]}).encode())
            found.append(json.dumps(body | {world.scene.member: history[1:]}, indent=2).encode())
            found.append(json.dumps(body | {"thinking": {"type": "disabled"}}).encode())
            del body["tools"]
            found.append(json.dumps(body | {"stream": True, "temperature": 1.0}).encode())
        return found

    return made


# What clients send in place of a text, and what is not a message at all.
_ODD = (rb"\ud83d", rb"\ude00\ud83d", b"\xed\xa0\xbd", b"\xff", rb"\\\ud83d")
_NO_MESSAGES = (b"null", b"7", rb'"\ud83d"', b"[[[]]]", b"{}", b'{"role":7}', b"[" * 3000 + b"]" * 3000)


def _odd(body: bytes) -> list[bytes]:
    """The body with a text cut in the middle of a character, or with something else before its messages."""
    found = [body.replace(text, text + odd) for text in (b"mild", b"Let me", b"Paris") for odd in _ODD]
    found += [body.replace(b'"role"', b'"x%b": 1, "role"' % odd) for odd in _ODD]
    history = body.index(b"[", max(body.find(b'"messages"'), body.find(b'"input": [')))
    return found + [body[: history + 1] + odd + b", " + body[history + 1 :] for odd in _NO_MESSAGES]


def _tables() -> list[bytes]:
    built_in = BUILT_IN.read_bytes()
    rows = built_in.split(b"\n[[provider]]")
    own = b"""[[provider]]
name = "my-vllm"
title = "My vLLM"
hosts = ["llm.example.internal", "*.example.org"]
source = "https://docs.vllm.ai/"
reads = ["reasoning", "reasoning_content"]

[[provider.endpoint]]
path = "^/v1/chat/completions$"
dialect = "chat_completions"
source = "https://docs.vllm.ai/"

[[provider.rule]]
models = "^kimi"
required = "tool_calls"
placeholder = " "
source = "https://docs.vllm.ai/"
"""
    return [own, rows[0], *(b"[[provider]]" + row for row in rows[1:4])]


def _lessons() -> list[bytes]:
    host, dialect, family = "api.deepseek.com", "chat_completions", "deepseek-v4-pro"
    about = {"host": host, "dialect": dialect, "family": family, "learned": 4_000_000_000}
    means = get_args(Means.__value__)
    details = ("off", " ", "reasoning_content", "tools", "messages", "")
    return [
        json.dumps([about | {"means": mean, "detail": detail}]).encode()
        for mean in means
        for detail in details
    ]


def _counts() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.sqlite3"
        book = Book(path)
        book.add(line(0.0, "deepseek", "deepseek-flash", "client/1.0"), {"requests": 3})
        book.flush()
        book.close()
        return [path.read_bytes()]


def _noted() -> list[bytes]:
    found = []
    for world in worlds().values():
        report = world.fresh().restore_body(world.body, world.caller).report
        written = metadata.written(report, world.caller.endpoint, Preferences())
        found.append(json.dumps(written, default=lambda value: base64.b64encode(value).decode()).encode())
    return found


def _flows() -> list[bytes]:
    found = []
    for world in worlds().values():
        file = io.BytesIO()
        writer = FlowWriter(file)
        restored = world.fresh().restore_body(world.body, world.caller)
        for body, noted in ((world.body, False), (restored.body, True)):
            flow = _flow(http.Headers(host=world.scene.host, authorization="Bearer sk-one"))
            flow.request.host = world.scene.host
            flow.request.path = world.scene.path or "/chat/completions"
            flow.request.content = body
            if noted:
                flow.metadata[metadata.KEY] = metadata.written(
                    restored.report, world.caller.endpoint, Preferences()
                )
            writer.add(flow)
        found.append(file.getvalue())
    return found


def _credentials() -> list[bytes]:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    jwt = part({"alg": "none"}) + b"." + part({"iss": "https://id.example", "sub": "user-1"}) + b".c2ln"
    return [
        b"authorization: Bearer sk-one\nhost: api.deepseek.com",
        b"Authorization: bearer  sk-one \nx-session-id: s",
        b"x-api-key: sk-one\nx-claude-code-session-id: s\nx-claude-code-agent-id: a",
        b"authorization: Bearer " + jwt,
        b"api-key: " + jwt,
        b"authorization: public\nx-opencode-session: s",
        b"authorization: Bearer \xff\xfe",
    ]


def _views() -> list[bytes]:
    requests = [world.body for world in worlds().values()]
    folders = ("", "messages", "responses", "errors")
    return [*requests, *_samples("*.sse", *folders), *_samples("*json", *folders)]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "events": _streams,
    "codings": _codings,
    "answers": _answers,
    "requests-chat": _requests("chat", "tags", "details"),
    "requests-messages": _requests("messages"),
    "requests-responses": _requests("responses"),
    "refusals": lambda: _samples("*", "errors"),
    "provider-table": _tables,
    "lessons": _lessons,
    "counts": _counts,
    "flow-notes": _noted,
    "flow-files": _flows,
    "credentials": _credentials,
    "views": _views,
}
