"""Answers of Anthropic messages: streamed or whole, folded into one turn with its thinking blocks.

Source of the events: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.message_blocks import Block, layout_of, turn_of
from reasoning_fix.dialects.values import PER_FRAGMENT, Bound, Unreadable, opened
from reasoning_fix.dialects.wire import Answered, AnswerError

Raw = msgspec.Raw
FIELD = "blocks"


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    content: Raw = Raw(b"null")


class _Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    content_block: Raw = Raw(b"null")
    delta: _Delta | None = None
    message: _Message | None = None
    content: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode


class AnswerFolder:
    """Folds the events of one answer. `limit` bounds the bytes kept, about."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._bound = Bound(limit)
        self._parts: dict[int, Block] = {}
        self._begun = False
        self._handed_out = False

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one event or a whole answer. The turn is finished where its stop reason comes."""
        event = _read_event(payload)
        if event.type != "content_block_delta":
            self._bound.keep(len(payload))
        if event.type == "error" or bytes(event.error) != b"null":
            raise AnswerError("the answer carries an error")
        match event.type:
            case "message":
                self._take(event.content)
                return self._finished()
            case "message_start":
                self._take(Raw(b"null") if event.message is None else event.message.content)
            case "content_block_start":
                self._begun = True
                raw = bytes(event.content_block)
                self._parts[self._at(event, begins=True)] = Block(opened(raw), raw)
            case "content_block_delta" if event.delta is not None:
                self._add(self._at(event), event.delta)
            case "message_delta" if event.delta is not None and event.delta.stop_reason:
                return self._finished()
            case "message_stop" if self._begun:
                return self._finished()
        return []

    def seen(self) -> list[bytes]:
        """The content blocks as far as they came: for people to look at.

        The input of a call that came in deltas is its `partial_json`.
        """
        return [self._parts[index].written() for index in sorted(self._parts)]

    def end(self, complete: bool) -> list[Answered]:
        """The turn, where it was not handed out yet."""
        return self._finished(complete) if self._begun else []

    def _take(self, content: Raw) -> None:
        """Blocks that are there at once, whatever came of them before."""
        self._begun = True
        for index, raw in enumerate(values.items(content)):
            self._parts[index] = Block(opened(raw), raw)

    def _at(self, event: _Event, begins: bool = False) -> int:
        """Which block an event is about: without an index, the last one, or a new one."""
        if event.index is not None:
            return event.index
        return len(self._parts) if begins else max(len(self._parts) - 1, 0)

    def _add(self, index: int, delta: _Delta) -> None:
        part = self._parts.get(index)
        if part is None:
            kind = "thinking" if delta.thinking is not None else "text"
            raw = b'{"type":"%b"}' % kind.encode()
            part = self._parts[index] = Block(opened(raw), raw)
        for name in ("text", "thinking", "signature", "partial_json"):
            fragment: str | None = getattr(delta, name)
            if fragment is not None:
                self._bound.keep(len(fragment) + PER_FRAGMENT)
                part.add(name, fragment)

    def _finished(self, complete: bool = True) -> list[Answered]:
        if self._handed_out:
            return []
        self._handed_out = True
        parts = [self._parts[index] for index in sorted(self._parts)]
        thoughts = {FIELD: layout_of(parts)} if any(part.thinks for part in parts) else {}
        return [Answered(turn_of(parts), thoughts, complete)]


def _read_event(payload: bytes) -> _Event:
    try:
        return _decode_event(payload)
    except Unreadable:
        pass
    said = payload.strip()
    if not said:
        return _Event("other")
    if said == b"[DONE]":
        return _Event("message_stop")
    event = values.loose(payload)
    kind, index, delta = str(event.get("type")), event.get("index"), event.get("delta")
    kept = {
        name: part
        for name, part in (delta.items() if isinstance(delta, dict) else ())
        if name in _Delta.__struct_fields__ and isinstance(part, str)
    }
    if kept and kind in ("content_block_delta", "message_delta"):
        return _Event(kind, index if isinstance(index, int) else None, delta=_Delta(**kept))
    if kind in ("message", "content_block_start", "content_block_delta", "error") or event.get("error"):
        raise AnswerError("an event that cannot be read")
    return _Event("other")
