"""The three wires as clients write requests and providers write answers, small and exact.

A conversation is a list of parts: what the person said, a turn of the model, the result of its call. Each
wire turns them into a body, a turn into an answer (whole or as events), and reads back what a body holds.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

type Entry = dict[str, Any]

TOOL = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
ARGUMENTS = '{"path": "src/a.py"}'


class Said(msgspec.Struct, frozen=True):
    """One turn of a model: its thought, its text, the id of its one call, and the seal of the thought.

    `seal` is a signature, or the encrypted content, as the wire has it; `details` are chat's.
    """

    thought: str | None = None
    text: str = ""
    call: str = ""
    seal: str = ""
    details: tuple[Entry, ...] = ()


class Found(msgspec.Struct):
    """What a body holds of one turn: whether it calls a tool, what can be read of its thought, the seals."""

    calls: bool
    readable: list[str]
    seals: list[str]
    entry: Entry


class Wire(Protocol):
    """`body` writes a request, `answer` the events or the one document of a turn, `turns` reads a body."""

    name: str

    def user(self, text: str) -> list[Entry]: ...
    def said(self, turn: Said, *, kept: bool = False) -> list[Entry]: ...
    def result(self, call: str, text: str = "ok") -> list[Entry]: ...
    def body(self, model: str, parts: Sequence[list[Entry]], **members: Any) -> bytes: ...
    def answer(self, turn: Said, streamed: bool, field: str = "") -> list[bytes]: ...
    def turns(self, body: Entry) -> list[Found]: ...


def _event(data: Entry, name: str = "") -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _document(data: Entry) -> list[bytes]:
    return [json.dumps(data, ensure_ascii=False).encode()]


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _flat(parts: Sequence[list[Entry]]) -> list[Entry]:
    return [entry for part in parts for entry in part]


def _json(body: Entry) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


class Chat:
    name = "chat"

    def user(self, text: str) -> list[Entry]:
        return [{"role": "user", "content": text}]

    def said(self, turn: Said, *, kept: bool = False, field: str = "reasoning_content") -> list[Entry]:
        message: Entry = {"role": "assistant", "content": turn.text}
        if kept and turn.thought is not None:
            message[field] = turn.thought
        if turn.call:
            message["tool_calls"] = [self._call(turn)]
        return [message]

    def result(self, call: str, text: str = "ok") -> list[Entry]:
        return [{"role": "tool", "tool_call_id": call, "content": text}]

    def body(self, model: str, parts: Sequence[list[Entry]], **members: Any) -> bytes:
        function = {"name": "read_file", "description": "Read a file", "parameters": TOOL}
        tools = [{"type": "function", "function": function}]
        return _json({"model": model, "messages": _flat(parts), "tools": tools, **members})

    def answer(self, turn: Said, streamed: bool, field: str = "reasoning_content") -> list[bytes]:
        field = field or "reasoning_content"
        reason = "tool_calls" if turn.call else "stop"
        if not streamed:
            message: Entry = {"role": "assistant", "content": turn.text}
            if turn.thought is not None:
                message[field] = turn.thought
            if turn.details:
                message["reasoning_details"] = list(turn.details)
            if turn.call:
                message["tool_calls"] = [self._call(turn)]
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return _document({"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]})
        deltas: list[Entry] = [{"role": "assistant", "content": ""}]
        if turn.thought is not None:
            deltas += [{field: half} for half in _halves(turn.thought)]
        deltas += [{"reasoning_details": [detail]} for detail in turn.details]
        if turn.text:
            deltas += [{"content": half} for half in _halves(turn.text)]
        if turn.call:
            deltas.append({"tool_calls": [{"index": 0, **self._call(turn)}]})
        events = [self._chunk(delta, None) for delta in deltas]
        return [*events, self._chunk({}, reason), b"data: [DONE]\n\n"]

    def turns(self, body: Entry) -> list[Found]:
        return [self._found(entry) for entry in body["messages"] if entry["role"] == "assistant"]

    def _found(self, message: Entry) -> Found:
        readable = [message[name] for name in ("reasoning_content", "reasoning") if message.get(name)]
        details = message.get("reasoning_details") or []
        readable += [text for detail in details if (text := detail.get("text") or detail.get("summary"))]
        seals = [seal for detail in details if (seal := detail.get("data") or detail.get("encrypted"))]
        return Found(bool(message.get("tool_calls")), readable, seals, message)

    def _call(self, turn: Said) -> Entry:
        function = {"name": "read_file", "arguments": ARGUMENTS}
        return {"id": turn.call, "type": "function", "function": function}

    def _chunk(self, delta: Entry, reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})


class Messages:
    name = "messages"

    def user(self, text: str) -> list[Entry]:
        return [{"role": "user", "content": text}]

    def said(self, turn: Said, *, kept: bool = False) -> list[Entry]:
        return [{"role": "assistant", "content": self._blocks(turn, kept)}]

    def result(self, call: str, text: str = "ok") -> list[Entry]:
        return [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": text}]}]

    def body(self, model: str, parts: Sequence[list[Entry]], **members: Any) -> bytes:
        tools = [{"name": "read_file", "description": "Read a file", "input_schema": TOOL}]
        members = {"max_tokens": 900, **members}
        return _json({"model": model, "messages": _flat(parts), "tools": tools, **members})

    def answer(self, turn: Said, streamed: bool, field: str = "") -> list[bytes]:
        blocks = self._blocks(turn, True)
        reason = "tool_use" if turn.call else "end_turn"
        head: Entry = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
        usage = {"input_tokens": 9, "output_tokens": 1}
        if not streamed:
            return _document({**head, "content": blocks, "stop_reason": reason, "usage": usage})
        events: list[Entry] = [{"type": "message_start", "message": {**head, "content": [], "usage": usage}}]
        for index, block in enumerate(blocks):
            begun, deltas = self._deltas(block)
            events.append({"type": "content_block_start", "index": index, "content_block": begun})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage})
        events.append({"type": "message_stop"})
        return [_event(event, event["type"]) for event in events]

    def turns(self, body: Entry) -> list[Found]:
        return [self._found(entry) for entry in body["messages"] if entry["role"] == "assistant"]

    def _found(self, message: Entry) -> Found:
        content = message["content"]
        blocks = content if isinstance(content, list) else []
        thoughts = [block for block in blocks if block["type"] == "thinking"]
        readable = [block["thinking"] for block in thoughts if block.get("thinking")]
        seals = [block["signature"] for block in thoughts if block.get("signature")]
        seals += [block["data"] for block in blocks if block["type"] == "redacted_thinking"]
        return Found(any(block["type"] == "tool_use" for block in blocks), readable, seals, message)

    def _blocks(self, turn: Said, kept: bool) -> list[Entry]:
        blocks: list[Entry] = []
        if kept and turn.thought is not None:
            sealed = {"signature": turn.seal} if turn.seal else {}
            blocks.append({"type": "thinking", "thinking": turn.thought, **sealed})
        if turn.text:
            blocks.append({"type": "text", "text": turn.text})
        if turn.call:
            arguments = json.loads(ARGUMENTS)
            blocks.append({"type": "tool_use", "id": turn.call, "name": "read_file", "input": arguments})
        return blocks

    def _deltas(self, block: Entry) -> tuple[Entry, list[Entry]]:
        if block["type"] == "tool_use":
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": ARGUMENTS}]
        kind = "thinking" if block["type"] == "thinking" else "text"
        deltas = [{"type": f"{kind}_delta", kind: half} for half in _halves(block[kind])]
        if seal := block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": seal})
        return {"type": kind, kind: ""}, deltas


class Responses:
    name = "responses"

    def user(self, text: str) -> list[Entry]:
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]

    def said(self, turn: Said, *, kept: bool = False) -> list[Entry]:
        items = list(self._items(turn, kept))
        return [{name: value for name, value in item.items() if name != "status"} for item in items]

    def result(self, call: str, text: str = "ok") -> list[Entry]:
        return [{"type": "function_call_output", "call_id": call, "output": text}]

    def body(self, model: str, parts: Sequence[list[Entry]], **members: Any) -> bytes:
        tools = [{"type": "function", "name": "read_file", "parameters": TOOL}]
        return _json({"model": model, "input": _flat(parts), "tools": tools, "store": False, **members})

    def answer(self, turn: Said, streamed: bool, field: str = "") -> list[bytes]:
        output = list(self._items(turn, True, ids=True))
        response: Entry = {"id": "resp_1", "object": "response", "model": "m"}
        whole = {**response, "status": "completed", "output": output}
        if not streamed:
            return _document(whole)
        started = {**response, "status": "in_progress", "output": []}
        events: list[Entry] = [{"type": "response.created", "response": started}]
        for index, item in enumerate(output):
            place = {"output_index": index}
            events.append({"type": "response.output_item.added", **place, "item": self._begun(item)})
            events += [{**delta, **place, "item_id": item["id"]} for delta in self._deltas(item)]
            events.append({"type": "response.output_item.done", **place, "item": item})
        events.append({"type": "response.completed", "response": whole})
        return [_event(event, event["type"]) for event in events]

    def turns(self, body: Entry) -> list[Found]:
        """One for each run of items of the model; a reasoning item belongs to what follows it."""
        found: list[Found] = []
        run: list[Entry] = []
        for item in [*body["input"], {"type": "end"}]:
            kind = item.get("type", "message")
            if kind in ("reasoning", "function_call") or item.get("role") == "assistant":
                run.append(item)
            elif run:
                found.append(self._found(run))
                run = []
        return found

    def _found(self, run: list[Entry]) -> Found:
        thoughts = [item for item in run if item.get("type") == "reasoning"]
        readable: list[str] = []
        for item in thoughts:
            content = item.get("content") or []
            parts = content if isinstance(content, list) else []
            texts = [part["text"] for part in parts if part["type"] == "reasoning_text"]
            readable += texts or [part["text"] for part in item.get("summary") or []]
        seals = [seal for item in thoughts if (seal := item.get("encrypted_content"))]
        calls = any(item.get("type") == "function_call" for item in run)
        return Found(calls, [text for text in readable if text], seals, {"items": run})

    def _items(self, turn: Said, kept: bool, ids: bool = False) -> Iterator[Entry]:
        def named(prefix: str) -> Entry:
            return {"id": f"{prefix}_{turn.call or len(turn.text)}"} if ids else {}

        if kept and turn.thought is not None:
            sealed = {"encrypted_content": turn.seal} if turn.seal else {}
            content = [{"type": "reasoning_text", "text": turn.thought}]
            yield {**named("rs"), "type": "reasoning", "summary": [], "content": content, **sealed}
        if turn.text:
            content = [{"type": "output_text", "text": turn.text}]
            said: Entry = {"type": "message", "role": "assistant", "content": content}
            yield {**named("msg"), **said, "status": "completed"}
        if turn.call:
            call = {"type": "function_call", "call_id": turn.call, "name": "read_file"}
            yield {**named("fc"), **call, "arguments": ARGUMENTS, "status": "completed"}

    def _begun(self, item: Entry) -> Entry:
        empty = {"content": [], "arguments": ""}
        return {name: empty.get(name, value) for name, value in item.items()}

    def _deltas(self, item: Entry) -> list[Entry]:
        if item["type"] == "function_call":
            return [{"type": "response.function_call_arguments.delta", "delta": ARGUMENTS}]
        kind = "reasoning_text" if item["type"] == "reasoning" else "output_text"
        halves = _halves(item["content"][0]["text"])
        return [{"type": f"response.{kind}.delta", "content_index": 0, "delta": half} for half in halves]


CHAT, MESSAGES, RESPONSES = Chat(), Messages(), Responses()
