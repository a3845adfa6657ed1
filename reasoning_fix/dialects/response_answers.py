"""Answers of the Responses API: streamed or whole, folded into one turn with its reasoning items.

Source of the events: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.response_items import Item, layout_of, turn_of
from reasoning_fix.dialects.values import PER_FRAGMENT, Bound, Unreadable
from reasoning_fix.dialects.wire import Answered, AnswerError

Raw = msgspec.Raw
FIELD = "items"


class _Response(msgspec.Struct):
    output: Raw = Raw(b"null")
    status: str | None = None
    error: Raw = Raw(b"null")


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    item: Raw = Raw(b"null")
    delta: str | None = None
    text: str | None = None
    response: _Response | None = None
    object: str | None = None
    output: Raw = Raw(b"null")
    status: str | None = None
    error: Raw = Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode
# Event -> what its delta adds to.
_DELTAS = {
    "response.reasoning_text.delta": "content",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning.delta": "content",
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}


# Events that say again what came in deltas, or say it alone.
_WHOLE_TEXTS = {"response.reasoning_text.done": "content", "response.reasoning_summary_text.done": "summary"}


class AnswerFolder:
    """Folds the events of one answer. `limit` bounds the bytes kept, about."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._bound = Bound(limit)
        self._parts: dict[int, Item] = {}
        # Where an item stands whose index another one has already: https://github.com/decolua/9router/issues/2611
        self._moved: dict[int, int] = {}
        self._begun = False
        self._handed_out = False

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one event or a whole answer. The turn is finished where the response is completed."""
        event = _read_event(payload)
        if event.type not in _DELTAS:
            self._bound.keep(len(payload))
        match event.type:
            case "response.output_item.added":
                self._put(self._begin(event), Item(bytes(event.item)), False)
            case "response.output_item.done":
                item = Item(bytes(event.item))
                last = self._parts.get(len(self._parts) - 1)
                begins = last is None or (last.done and not last.is_again(item))
                self._put(self._at(event, begins=begins), item, True)
            case "response.completed" | "response.incomplete" if event.response is not None:
                self._take(event.response.output)
                return self._finished()
            case "response.failed" | "error" | "response.error":
                raise AnswerError("the answer carries an error")
            case "" if bytes(event.output)[:1] == b"[" or bytes(event.error) != b"null":
                if event.status in ("failed", "cancelled") or bytes(event.error) != b"null":
                    raise AnswerError("the answer carries an error")
                if event.status not in ("queued", "in_progress"):
                    self._take(event.output)
                    return self._finished()
            case kind if kind in _WHOLE_TEXTS and event.text:
                there, name = self._parts.get(self._at(event)), _WHOLE_TEXTS[kind]
                if there is not None and there.lacks(name) and name not in there.added:
                    self._add(self._at(event), name, event.text)
            case kind if kind in _DELTAS and event.delta is not None:
                self._add(self._at(event), _DELTAS[kind], event.delta)
        return []

    def seen(self) -> list[bytes]:
        """The items as far as they came: for people to look at."""
        return [self._parts[index].so_far() for index in sorted(self._parts)]

    def end(self, complete: bool) -> list[Answered]:
        """The turn, where it was not handed out yet: a response that was never completed is cut short."""
        return self._finished(complete=False) if self._begun else []

    def _at(self, event: _Event, begins: bool = False) -> int:
        """Which item an event is about: without an index, the last one, or a new one."""
        if event.output_index is not None:
            return self._moved.get(event.output_index, event.output_index)
        return len(self._parts) if begins else max(len(self._parts) - 1, 0)

    def _begin(self, event: _Event) -> int:
        """Where a new item goes: one that is there and done has its place."""
        at = self._at(event, begins=True)
        there = self._parts.get(at)
        if there is None or not there.done or event.output_index is None:
            return at
        if there.is_again(Item(bytes(event.item))):
            return at
        self._moved[event.output_index] = len(self._parts)
        return len(self._parts)

    def _put(self, index: int, item: Item, done: bool) -> None:
        self._begun = True
        before = self._parts.get(index)
        if before is not None:
            # What came in deltas only stays.
            item.added = {name: texts for name, texts in before.added.items() if item.lacks(name)}
        item.done = done
        self._parts[index] = item

    def _add(self, index: int, name: str, fragment: str) -> None:
        item = self._parts.get(index)
        if item is not None and not item.done:
            self._bound.keep(len(fragment) + PER_FRAGMENT)
            item.added.setdefault(name, []).append(fragment)

    def _take(self, output: Raw) -> None:
        """The items of a completed response, where they did not come one by one before.

        Some relays leave items out of it: then what came one by one is all there is.
        """
        self._begun = True
        given = [Item(raw) for raw in values.items(output)]
        if any(at >= len(given) or given[at].kind != item.kind for at, item in self._parts.items()):
            return
        for at, item in enumerate(given):
            known = self._parts.get(at)
            if known is None or not known.done:
                self._put(at, item, True)

    def _finished(self, complete: bool = True) -> list[Answered]:
        if self._handed_out:
            return []
        self._handed_out = True
        parts = [self._parts[index] for index in sorted(self._parts)]
        thoughts = {FIELD: layout_of(parts)} if any(item.thinks for item in parts) else {}
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
        return _Event("done")
    event = values.loose(payload)
    index, delta, kind = event.get("output_index"), event.get("delta"), str(event.get("type"))
    if kind in _DELTAS and isinstance(delta, str):
        return _Event(kind, index if isinstance(index, int) else None, delta=delta)
    if kind in ("response.output_item.added", "response.output_item.done", "response.completed", "None"):
        raise AnswerError("an event that cannot be read")
    return _Event("other")
