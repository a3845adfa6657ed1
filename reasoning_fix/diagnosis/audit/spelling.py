"""Histories and answers on each wire, as the audit needs them: bytes out, bytes in, no network.

Histories are spelled without reasoning, which is then written by the code that restores it for the proxy:
what the audit tests is what the proxy sends.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.turns import Call, Turn
from reasoning_fix.dialects.wire import read_request, write_request
from reasoning_fix.engine import usage
from reasoning_fix.engine.history import visible
from reasoning_fix.engine.usage import Usage
from reasoning_fix.providers.rows import Dialect
from reasoning_fix.streams.events import EventReader

type Json = dict[str, object]
type Settings = Mapping[str, object]

TAGS = "<think> in the content"
_TOOL = "get_weather"
_DESCRIPTION = "The weather in a city, right now."
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_LONG_TAIL = re.compile(r"[A-Za-z0-9]{8}$")


class User(msgspec.Struct, frozen=True):
    """What the person says."""

    text: str


class Said(msgspec.Struct, frozen=True):
    """What the model said; `fields` are its reasoning as it goes into the history."""

    turn: Turn
    fields: dict[str, bytes] = {}

    def without(self) -> "Said":
        """The turn as clients keep it that drop reasoning, also the kind between tags."""
        return Said(Turn(visible(self.turn.text), self.turn.calls))

    def carrying(self, fields: Mapping[str, bytes]) -> "Said":
        """The turn with other reasoning."""
        return Said(self.without().turn, dict(fields))

    def elsewhere(self) -> "Said":
        """The turn in other words and with other tool-call ids, so that the server has never said it.

        Servers may still hold what they said a moment ago, and then do not miss it
        (https://github.com/esengine/DeepSeek-Reasonix/pull/4022).
        """
        calls = tuple(Call(_other_id(call.id), call.name, call.arguments) for call in self.turn.calls)
        text = f"{self.turn.text}\n\nSo much for that." if self.turn.text else ""
        return Said(Turn(text, calls), self.fields)


class Results(msgspec.Struct, frozen=True):
    """What the tools answered to every call of a turn."""

    turn: Turn


type Step = User | Said | Results


class Answer(msgspec.Struct, frozen=True):
    """The turn with its reasoning, where that stands ("" if there is none), and what it cost."""

    said: Said
    place: str
    cost: Usage


def request(
    dialect: Dialect,
    model: str,
    steps: Sequence[Step],
    *,
    tools: bool,
    stream: bool,
    most: int,
    more: Settings,
) -> bytes:
    """A request body: this history, and at most so many tokens of answer."""
    spelled = _SPELLINGS[dialect](steps) | {"model": model, _LIMITS[dialect]: most, "stream": stream}
    if tools:
        spelled["tools"] = [_TOOLS[dialect]]
    body = msgspec.json.encode(spelled | dict(more))
    wire = DIALECTS[dialect]
    read = read_request(wire, body)
    turns = [index for index, message in enumerate(read.messages) if isinstance(message, Turn)]
    said = [step for step in steps if isinstance(step, Said)]
    changes = {index: step.fields for index, step in zip(turns, said, strict=True) if step.fields}
    return write_request(wire, read, changes, {}) if changes else body


def answer(dialect: Dialect, body: bytes, streamed: bool, snapshots: bool) -> Answer | None:
    """Read an answer; None if the body is not one. Raises AnswerError if it is an error."""
    folder = DIALECTS[dialect].folder(snapshots)
    reader = EventReader()
    payloads = [*reader.feed(body), *reader.end()] if streamed else [body.strip()]
    found = []
    cost = Usage()
    for payload in payloads:
        cost = cost.with_later(usage.read(payload) or Usage())
        found += folder.feed(payload)
    found += folder.end(complete=True)
    if not found:
        return None
    first = found[0]
    fields = {name: value for name, value in first.fields.items() if _says(dialect, name, value)}
    tagged = visible(first.turn.text) != first.turn.text.strip()
    place = ", ".join(fields) or (TAGS if tagged else "")
    return Answer(Said(first.turn, fields), place, cost)


def _says(dialect: Dialect, name: str, value: bytes) -> bool:
    if value in (b"null", b"[]"):
        return False
    texts = DIALECTS[dialect].texts(name, value)
    return texts is None or any(text.strip() for text in texts)


def made_up_answer(dialect: Dialect, calls: bool) -> bytes:
    """A made-up answer, to show what would be sent."""
    call, city = "call_00_0123456789abcdef", '{"city":"Oslo"}'
    if dialect == "messages":
        block: Json = {"type": "tool_use", "id": call, "name": _TOOL, "input": {"city": "Oslo"}}
        content = [
            {"type": "thinking", "thinking": "..."},
            block if calls else {"type": "text", "text": "..."},
        ]
        return msgspec.json.encode(
            {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
        )
    if dialect == "responses":
        thought: Json = {
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "..."}],
        }
        called: Json = {"type": "function_call", "call_id": call, "name": _TOOL, "arguments": city}
        return msgspec.json.encode(
            {"status": "completed", "output": [thought, called if calls else _spoken("...")]}
        )
    message: Json = {"role": "assistant", "content": "" if calls else "...", "reasoning_content": "..."}
    if calls:
        message["tool_calls"] = [_chat_call(Call(call, _TOOL, city))]
    return msgspec.json.encode({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def _other_id(call_id: str) -> str:
    """Counted ids (Kimi's end in a number) stay: they are the same in every conversation."""
    if not _LONG_TAIL.search(call_id):
        return call_id
    turned = str.maketrans("0123456789abcdef", "123456789abcdef0")
    return call_id[:-8] + call_id[-8:].lower().translate(turned)


# --- the three wires ----------------------------------------------------------------------------------------


def _chat(steps: Sequence[Step]) -> Json:
    messages: list[Json] = []
    for step in steps:
        match step:
            case User(text):
                messages.append({"role": "user", "content": text})
            case Said(turn):
                # Empty rather than null: some hosts refuse null, none refuses this.
                message: Json = {"role": "assistant", "content": turn.text}
                if turn.calls:
                    message["tool_calls"] = [_chat_call(call) for call in turn.calls]
                messages.append(message)
            case Results(turn):
                messages += [
                    {"role": "tool", "tool_call_id": call.id, "content": _RESULT} for call in turn.calls
                ]
    return {"messages": messages}


def _chat_call(call: Call) -> Json:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }


def _messages(steps: Sequence[Step]) -> Json:
    messages: list[Json] = []
    for step in steps:
        match step:
            case User(text):
                messages.append({"role": "user", "content": text})
            case Said(turn):
                blocks: list[Json] = [{"type": "text", "text": turn.text}] if turn.text else []
                for call in turn.calls:
                    given = msgspec.json.decode(call.arguments or "{}")
                    blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
                messages.append({"role": "assistant", "content": blocks})
            case Results(turn):
                found = [
                    {"type": "tool_result", "tool_use_id": call.id, "content": _RESULT} for call in turn.calls
                ]
                messages.append({"role": "user", "content": found})
    return {"messages": messages}


def _responses(steps: Sequence[Step]) -> Json:
    items: list[Json] = []
    for step in steps:
        match step:
            case User(text):
                items.append({"type": "message", "role": "user", "content": text})
            case Said(turn):
                items += [_spoken(turn.text)] if turn.text else []
                for call in turn.calls:
                    item: Json = {"type": "function_call", "call_id": call.id, "name": call.name}
                    items.append(item | {"arguments": call.arguments or "{}"})
            case Results(turn):
                items += [
                    {"type": "function_call_output", "call_id": call.id, "output": _RESULT}
                    for call in turn.calls
                ]
    return {"input": items, "store": False}


def _spoken(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


_RESULT = "21 °C, dry"
_SPELLINGS: dict[str, Callable[[Sequence[Step]], Json]] = {
    "chat_completions": _chat,
    "messages": _messages,
    "responses": _responses,
}
_LIMITS = {
    "chat_completions": "max_tokens",
    "messages": "max_tokens",
    "responses": "max_output_tokens",
}
_NAMED: Json = {"name": _TOOL, "description": _DESCRIPTION}
_TOOLS: dict[str, Json] = {
    "chat_completions": {"type": "function", "function": {**_NAMED, "parameters": _PARAMETERS}},
    "messages": {**_NAMED, "input_schema": _PARAMETERS},
    "responses": {"type": "function", **_NAMED, "parameters": _PARAMETERS},
}
