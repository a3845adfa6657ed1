"""Small strict providers: what they refuse, how they say it, and one server that is all of them.

A provider is a list of rules; each looks at a request and refuses it or lets it be. The `ledger` keeps every
request as it came in. Nothing here knows of the proxy.
"""

import asyncio
import itertools
import json
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trustme

from tests.provider.http import chunk, head, read
from tests.provider.refusals import (
    DEEPSEEK_MESSAGES_MISSING,
    DEEPSEEK_MISSING,
    DEEPSEEK_RESPONSES_MISSING,
    KIMI_MISSING,
)
from tests.wires import CHAT, MESSAGES, RESPONSES, Entry, Found, Said, Wire

DONE = Said(text="Done.")
# Whoever holds a stream back so long holds it back for good.
_LONGEST_SECONDS = 5.0
unique = itertools.count(1)


def thought() -> str:
    """A thought that nobody had before."""
    return f"Thought {next(unique)}: größer ≥ 3, so look at the file first.\nThen decide."


def call(**more: Any) -> Said:
    """A turn with a thought and a call that nobody made before."""
    return Said(**{"thought": thought(), "call": f"call_{next(unique):016x}", **more})


class Place(msgspec.Struct, frozen=True):
    """Where a model is served. `field` is where a chat host writes its thoughts."""

    host: str
    path: str
    model: str
    field: str = ""

    @property
    def wire(self) -> Wire:
        return wire_of(self.path)

    def __str__(self) -> str:
        return f"{self.model} at {self.host}{self.path}"


def wire_of(path: str) -> Wire:
    if path.endswith("/responses"):
        return RESPONSES
    return MESSAGES if path.endswith("/messages") else CHAT


class Asked(msgspec.Struct):
    """A request as it reached the provider."""

    host: str
    path: str
    body: bytes
    json: Entry

    @property
    def model(self) -> str:
        return str(self.json["model"])

    @property
    def turns(self) -> list[Found]:
        return wire_of(self.path).turns(self.json)

    @property
    def readable(self) -> list[list[str]]:
        """What can be read of the thoughts of its turns with calls."""
        return [turn.readable for turn in self.turns if turn.calls]

    @property
    def settings(self) -> Entry:
        """Everything but the conversation."""
        return {name: value for name, value in self.json.items() if name not in ("messages", "input")}

    def has(self, setting: Entry) -> bool:
        """Whether these members, down to the values, are among its own."""
        return _holds(self.json, setting)


def _holds(value: Any, part: Any) -> bool:
    if not isinstance(part, dict):
        return bool(value == part and type(value) is type(part))
    return isinstance(value, dict) and all(
        name in value and _holds(value[name], one) for name, one in part.items()
    )


class Answer(msgspec.Struct):
    """What the provider answers; with a `gate` nothing after the first chunk until it opens."""

    status: int
    chunks: Sequence[bytes]
    content_type: str = "application/json"
    gate: threading.Event | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


type Rule = Callable[[Asked], Answer | None]


# --- what providers refuse ----------------------------------------------------------------------------------


def document(body: Any, status: int = 400) -> Answer:
    return Answer(status, [json.dumps(body).encode()])


def refusal(text: str, status: int = 400) -> Answer:
    """As most providers wrap it."""
    return document({"error": {"message": text, "type": "invalid_request_error"}}, status)


def relayed(text: str, status: int = 400, provider: str = "OpenAI") -> Answer:
    """As OpenRouter wraps the refusal of another: https://openrouter.ai/docs/api/reference/errors."""
    raw = json.dumps({"error": {"message": text, "type": "invalid_request_error"}})
    metadata = {"raw": raw, "provider_name": provider}
    error = {"message": "Provider returned error", "code": status, "metadata": metadata}
    return document({"error": error}, status)


def missing(place: Place, status: int = 400) -> Answer:
    """How the provider of this model says that a thought is missing."""
    if "deepseek" in place.model:
        text = {
            "chat": DEEPSEEK_MISSING,
            "messages": DEEPSEEK_MESSAGES_MISSING,
            "responses": DEEPSEEK_RESPONSES_MISSING,
        }[place.wire.name]
    else:
        text = KIMI_MISSING.format(1)
    return relayed(text, status) if place.host == "openrouter.ai" else refusal(text, status)


class Demands:
    """Refuses turns with calls without a thought that it can read, while thinking is on.

    `accepts` tells which texts count, `off` is the one switch that it listens to, `no` how it refuses.
    """

    def __init__(
        self,
        place: Place,
        *,
        accepts: Callable[[str], bool] = bool,
        off: Entry | None = None,
        no: Answer | None = None,
    ) -> None:
        self._model, self._accepts, self._off = place.model, accepts, off
        self._no = no or missing(place)

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.model != self._model or (self._off is not None and asked.has(self._off)):
            return None
        lacking = any(not any(map(self._accepts, texts)) for texts in asked.readable)
        return self._no if lacking else None


class Refuses:
    """Refuses requests of which `when` holds, of one model, or of all."""

    def __init__(self, when: Callable[[Asked], bool], no: Answer, model: str = "") -> None:
        self._when, self._no, self._model = when, no, model

    def __call__(self, asked: Asked) -> Answer | None:
        return self._no if self._model in ("", asked.model) and self._when(asked) else None


# --- the server ---------------------------------------------------------------------------------------------


class Servers:
    """TLS on loopback for whatever host is asked for, with certificates made on demand."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="laboratory-")
        self._authority = trustme.CA(organization_name="laboratory")
        self.ca = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._entrance = self._context("localhost")
        self._entrance.sni_callback = self._choose
        self.port = 0
        self.reset()
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="laboratory", daemon=True)
        self._thread.start()
        assert ready.wait(10), "the laboratory's server did not start within 10 s"

    def reset(self) -> None:
        self.ledger: list[Asked] = []
        self.rules: Sequence[Rule] = ()
        self.script: deque[Said | Answer] = deque()
        self.field = ""
        self.waited_in_vain = False

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._folder.cleanup()

    def _context(self, name: str) -> ssl.SSLContext:
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(name).configure_cert(context)
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[name] = context
        return self._contexts[name]

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._context(name or "localhost")

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._entrance, limit=2**26)
        server = self._loop.run_until_complete(starting)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read(reader)) is not None:
                asked = Asked(request.host, request.path, request.body, request.json)
                self.ledger.append(asked)
                await self._send(self._answer(asked), writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass  # the other side went away, or the laboratory closes
        finally:
            writer.close()

    def _answer(self, asked: Asked) -> Answer:
        for rule in self.rules:
            if (no := rule(asked)) is not None:
                return no
        said = self.script.popleft() if self.script else DONE
        if isinstance(said, Answer):
            return said
        streamed = bool(asked.json.get("stream"))
        kind = "text/event-stream" if streamed else "application/json"
        return Answer(200, wire_of(asked.path).answer(said, streamed, self.field), kind)

    async def _send(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        headers = [("content-type", answer.content_type)]
        if answer.content_type != "text/event-stream":
            writer.write(head(answer.status, [*headers, ("content-length", str(len(answer.body)))]))
            writer.write(answer.body)
            await writer.drain()
            return
        writer.write(head(answer.status, [*headers, ("transfer-encoding", "chunked")]))
        for number, data in enumerate(answer.chunks):
            if number == 1 and answer.gate is not None:
                opened = await self._loop.run_in_executor(None, answer.gate.wait, _LONGEST_SECONDS)
                self.waited_in_vain = not opened
            writer.write(chunk(data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
