"""Conversations for tests without a proxy: record answers, restore requests, look at the bytes."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from reasoning_fix.engine.caller import Caller, caller_at
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.engine.restoring import restore
from reasoning_fix.providers.lessons import Lesson, Lessons
from reasoning_fix.providers.table import load_table
from reasoning_fix.store import Store
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation

type Message = dict[str, Any]

SECRET = b"s" * 32
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def call(call_id: str, arguments: str = "{}", name: str = "f") -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def tool(call_id: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def turn(text: str | None = None, calls: Sequence[Message] = (), **more: object) -> Message:
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    return message | more


class Scene:
    """One installation with a store, and requests of any credential to any provider's host."""

    def __init__(
        self, host: str = "api.deepseek.com", model: str = "deepseek-v4-pro", path: str = ""
    ) -> None:
        self.table = load_table()
        self.store: Store = MemoryStore()
        self.installation = Installation(SECRET)
        self.host = host
        self.model = model
        self.path = path
        self.mode = "auto"
        self.preferences = Preferences()
        self.lessons = Lessons(None)
        self.memory: PrefixCache | None = PrefixCache()
        self.defers = False
        self.accepts = True

    def restore(
        self,
        messages: Sequence[Message],
        key: str = "sk-one",
        session: str = "",
        body: bytes | None = None,
        **parameters: object,
    ) -> Exchange:
        caller = self.caller(key, session)
        if body is None:
            body = self.body(messages, **parameters)
        return self.restore_body(body, caller)

    def body(self, messages: Sequence[Message], **parameters: object) -> bytes:
        whole = {"model": self.model, self.member: list(messages), "tools": TOOLS} | parameters
        return json.dumps(whole).encode()

    @property
    def member(self) -> str:
        """The member of a request that holds its history."""
        return "input" if self.caller().endpoint.dialect == "responses" else "messages"

    def caller(self, key: str = "sk-one", session: str = "") -> Caller:
        provider = self.table.provider(self.host)
        assert provider is not None
        endpoint = provider.endpoints[0]
        if self.path:
            found = self.table.endpoint(provider, "POST", self.path)
            assert found is not None, f"{self.host} has no endpoint {self.path}"
            endpoint = found
        return caller_at(self.installation.scope(key), provider, endpoint, self.host, session)

    def use_table(self, path: Path) -> None:
        """A user's own file on top of the built-in table."""
        self.table = load_table(path)

    def restore_body(self, body: bytes, caller: Caller, *taught: Lesson) -> Exchange:
        exchange = Exchange(restore(body, caller, self.knowledge, taught=taught, defers=self.defers))
        if self.accepts and not self.defers:
            exchange.accept()
        return exchange

    @property
    def knowledge(self) -> Knowledge:
        preferences = msgspec.structs.replace(self.preferences, mode=self.mode)
        return Knowledge(self.table, self.store, self.lessons, preferences, self.memory)

    def sent(self, messages: Sequence[Message], **options: Any) -> list[Message]:
        """The messages as the provider gets them."""
        exchange = self.restore(messages, **options)
        return list(json.loads(exchange.body)[self.member]) if exchange.is_changed else list(messages)

    def say(self, messages: Sequence[Message], answer: Message, **options: Any) -> Message:
        """Send a request and let the provider answer with this message; what a plain client keeps of it."""
        exchange = self.restore(messages, **options)
        self.answer(exchange, answer)
        return {name: value for name, value in answer.items() if not name.startswith("reasoning")}

    def reply(self, exchange: Exchange, blocks: Sequence[Message]) -> None:
        """Let the provider answer a messages request with these content blocks."""
        recorder = exchange.recorder
        folder = recorder.caller.dialect.folder(recorder.caller.snapshots)
        body = {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": "end_turn"}
        for one in folder.feed(json.dumps(body).encode()):
            recorder.record(one)

    def answer(self, exchange: Exchange, *answers: Message, finish: str | None = "stop") -> None:
        recorder = exchange.recorder
        folder = recorder.caller.dialect.folder(recorder.caller.snapshots)
        choices = [{"index": i, "message": a, "finish_reason": finish} for i, a in enumerate(answers)]
        for one in folder.feed(json.dumps({"choices": choices}).encode()) + folder.end(complete=False):
            recorder.record(one)

    def watch(
        self, exchange: Exchange, chunks: Iterable[bytes], coding: str = "", streamed: bool = True
    ) -> None:
        """Let an answer pass through a tap, which must hand on every chunk as it came, but no empty ones."""
        tap = exchange.tap(coding, streamed=streamed)
        for chunk in chunks:
            passed = tap(chunk)
            assert passed is chunk if chunk else passed == []
        tap.finish(complete=True)

    def records(self, key: str = "sk-one") -> list[tuple[Content, bool]]:
        """What is on record, oldest first, and whether each turn was complete."""
        assert isinstance(self.store, MemoryStore)
        scope = self.installation.scope(key)
        return [
            (msgspec.msgpack.decode(scope.open(record.sealed, record.key), type=Content), record.complete)
            for owner, record in self.store.take()
            if owner == scope.id
        ]


def reasoning(messages: Sequence[Message]) -> list[object]:
    """The reasoning of each assistant message; `...` where the field is missing."""
    return [m.get("reasoning_content", ...) for m in messages if m["role"] == "assistant"]
