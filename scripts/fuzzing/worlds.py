"""Conversations on record, one per wire, that hostile requests and answers are tried on.

A world is put back into the same state before every case, so that a case says the same on its own as in a
run of a million.
"""

import json
from functools import cache
from random import Random
from typing import Any

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.store import Record
from reasoning_fix.store.memory import MemoryStore
from tests.conversations import Scene, call, tool, turn, user

type Message = dict[str, Any]

ID = "call_00_abcdefgh12345678"
THOUGHT = "The user wants the weather: call the tool."


class World:
    """One provider and wire with a turn on record; `body` is a request that gets its reasoning back."""

    def __init__(self, scene: Scene, first: list[Message], answer: Message, then: list[Message]) -> None:
        self.scene = scene
        self.caller = scene.caller()
        exchange = scene.restore(first)
        folder = exchange.caller.dialect.folder(exchange.caller.snapshots)
        for one in folder.feed(json.dumps(answer).encode()):
            exchange.recorder.record(one)
        assert isinstance(scene.store, MemoryStore)
        self._kept: list[tuple[bytes, Record]] = scene.store.take()
        self.first = scene.body(first)
        self.body = scene.body(then)
        assert scene.restore_body(self.body, self.caller).report.restored == 1

    def fresh(self) -> Scene:
        """The scene as it was when the conversation was on record."""
        store = MemoryStore()
        for scope, record in self._kept:
            store.put(scope, [record])
        self.scene.store = store
        return self.scene

    def exchange(self) -> Exchange:
        """A request that waits for its answer."""
        return self.fresh().restore_body(self.first, self.caller)


@cache
def worlds() -> dict[str, World]:
    """By name: each wire, and the `<think>` blocks and details that some chat providers speak in."""
    said = turn("Let me look.", [call(ID, '{"city":"Paris"}')])
    asked, result = user("Weather?"), tool(ID, "mild")
    details = [{"type": "reasoning.text", "text": THOUGHT, "format": "unknown", "index": 0}]
    return {
        "chat": World(
            Scene(),
            [asked],
            _choice(said | {"reasoning_content": THOUGHT}),
            [asked, said, result],
        ),
        "tags": World(
            Scene("api.minimax.io", "MiniMax-M2"),
            [asked],
            _choice(said | {"content": f"<think>{THOUGHT}</think>\n\nLet me look."}),
            [asked, said, result],
        ),
        "details": World(
            Scene("openrouter.ai", "deepseek/deepseek-v3.2", "/api/v1/chat/completions"),
            [asked],
            _choice(said | {"reasoning": THOUGHT, "reasoning_details": details}),
            [asked, said, result],
        ),
        "messages": _messages(),
        "responses": _responses(),
    }


def _choice(message: Message) -> Message:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def _messages() -> World:
    thinking = {"type": "thinking", "thinking": THOUGHT, "signature": "sig="}
    said = [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": ID, "name": "f", "input": {"city": "Paris"}},
    ]
    answer = {"type": "message", "role": "assistant", "content": [thinking, *said], "stop_reason": "tool_use"}
    result = {"type": "tool_result", "tool_use_id": ID, "content": "mild"}
    asked = user("Weather?")
    return World(
        Scene(path="/anthropic/v1/messages"),
        [asked],
        answer,
        [asked, {"role": "assistant", "content": said}, {"role": "user", "content": [result]}],
    )


def _responses() -> World:
    content = [{"type": "reasoning_text", "text": THOUGHT}]
    thinking = {"id": "rs_1", "type": "reasoning", "summary": [], "content": content}
    text = [{"type": "output_text", "text": "Let me look.", "annotations": []}]
    said: list[Message] = [
        {"id": "msg_1", "type": "message", "role": "assistant", "content": text},
        {"id": "fc_1", "type": "function_call", "call_id": ID, "name": "f", "arguments": '{"city":"Paris"}'},
    ]
    result = {"type": "function_call_output", "call_id": ID, "output": "mild"}
    asked = user("Weather?")
    return World(
        Scene(path="/v1/responses"),
        [asked],
        {"object": "response", "status": "completed", "output": [thinking, *said]},
        [asked, *said, result],
    )


def pieces(data: bytes, seed: int) -> list[bytes]:
    """The bytes in up to nine pieces, some of them empty; the same seed cuts the same."""
    random = Random(seed)
    edges = sorted(random.randint(0, len(data)) for _ in range(random.randrange(9)))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]
