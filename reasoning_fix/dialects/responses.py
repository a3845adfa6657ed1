"""Responses API: reasoning items in the `input` of a request and in the `output` of an answer.

Source of the format: https://platform.openai.com/docs/api-reference/responses; what DeepSeek makes of it:
https://api-docs.deepseek.com/guides/responses_api. A turn is a run of items that a model said: reasoning,
messages, calls. The one reasoning field of this dialect is `items`: a layout (values.py) of the reasoning
items as the provider said them.
"""

from collections.abc import Mapping

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.splice import Written, set_items, with_history
from reasoning_fix.dialects.values import Unreadable, encoded, is_filled, opened, string
from reasoning_fix.dialects.wire import Answered, AnswerError, Change, KeptByServer, NotChatError, Request
from reasoning_fix.providers import Provider
from reasoning_fix.turns import Call, Other, Turn

Raw = msgspec.Raw
HISTORY = "input"
FIELD = "items"
# Members by which a client names a conversation that the server keeps.
_KEPT = ("previous_response_id", "conversation")
# What names an item or says how far it is, and no more: clients drop or change it.
_VOLATILE = ("id", "status", "created_by")
# Texts of a reasoning item: https://api-docs.deepseek.com/guides/responses_api (content), Kimi (summary).
_TEXTS = ("content", "summary")

_OTHERS = ("user", "system", "developer")


class _Kind(msgspec.Struct):
    type: str = ""
    role: str = ""


_decode_body = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_kinds = msgspec.json.Decoder(list[_Kind]).decode


# ---- Requests ----------------------------------------------------------------------------------------------


def read_request(body: bytes) -> Request:
    """A request body, read whole; raises NotChatError where it is none."""
    request = open_request(body)
    read_history(request)
    return request


def open_request(body: bytes) -> Request:
    """The members of a request body. Raises NotChatError, KeptByServer where the server has the history."""
    try:
        top = _decode_body(body)
        given = top[HISTORY]
    except KeyError:
        raise NotChatError("the body has no input") from None
    except Unreadable as error:
        raise NotChatError(f"the body is no JSON object ({type(error).__name__})") from None
    for name in _KEPT:
        if bytes(top.get(name, b"null")) not in (b"null", b'""'):
            raise KeptByServer(f"the server keeps this conversation itself ({name})")
    request = Request(body, top, string(top.get("model")) or "", is_filled(top.get("tools")), array=given)
    request.system = string(top.get("instructions")) or ""
    return request


def brought(request: Request) -> list[dict[str, bytes]] | None:
    """Where there are turns, reasoning items may be missing beside others that were kept."""
    try:
        kinds = _decode_kinds(request.array)
    except Unreadable:
        return None
    if all(kind.role in _OTHERS and kind.type in ("", "message") for kind in kinds):
        return []
    return None


def read_history(request: Request) -> None:
    """Read the items. Raises NotChatError, KeptByServer where the server has some of them."""
    given = request.array
    text = string(given)
    if text is not None:
        request.messages.append(Other("user", text))
        return
    if bytes(given)[:1] != b"[":
        raise NotChatError("input is neither a text nor an array")
    run: list[tuple[int, _Item]] = []
    for place, raw in enumerate(values.items(given)):
        if place < request.stands_in:
            continue
        item = _Item(raw)
        if item.kind == "item_reference":
            raise KeptByServer("the server keeps items of this conversation itself (item_reference)")
        if item.role == "assistant":
            run.append((place, item))
            continue
        _close(request, run)
        if item.role == "system":
            request.messages.append(None)
        else:
            request.messages.append(Other(item.role, *item.said()))
    _close(request, run)


def _close(request: Request, run: "list[tuple[int, _Item]]") -> None:
    """End a run of items that a model said: it is one turn."""
    if not run:
        return
    index = len(request.messages)
    parts = [item for _, item in run]
    request.messages.append(_turn(parts))
    request.spans[index] = tuple(position for position, _ in run)
    if any(item.thinks for item in parts):
        request.own[index] = {FIELD: _layout(parts)}
    run.clear()


def write_history(request: Request, changes: Mapping[int, Change]) -> Written:
    """The items with reasoning set in some turns. Raises SpliceError."""
    array = bytes(request.array)
    raws = values.items(array)
    put: dict[int, list[bytes]] = {}
    drop: dict[int, bytes | None] = {}
    for index, change in changes.items():
        span = request.spans[index]
        visible = [place for place in span if not _Item(raws[place]).thinks]
        drop |= {place: None for place in span if place not in visible}
        for at, new in values.places(change[FIELD] or b"[]", len(visible)).items():
            put.setdefault(visible[at] if at < len(visible) else span[-1] + 1, []).extend(new)
    return set_items(array, put, drop)


def write_request(
    request: Request, changes: Mapping[int, Change], settings: Mapping[str, bytes | None]
) -> bytes:
    """The body with reasoning set in some turns and members at its top. Raises SpliceError."""
    return with_history(request.body, request.parameters, HISTORY, settings, write_history(request, changes))


def position(request: Request, index: int) -> int:
    """A turn is a run of items."""
    return request.spans[index][0]


def tagged(request: Request, index: int, whole: str) -> dict[str, bytes]:
    """Reasoning has blocks and items of its own here; text is left as it came."""
    return {}


# ---- Reasoning values --------------------------------------------------------------------------------------


def fields(provider: Provider) -> tuple[str, ...]:
    """Reasoning items are the only reasoning of this dialect."""
    return (FIELD,)


def stand_in(field: str, text: str) -> bytes | None:
    """A reasoning item with plain text, which is what DeepSeek checks; nobody issued it, so it has no id."""
    part = b'{"type":"reasoning_text","text":%b}' % encoded(text)
    return b'[{"type":"reasoning","summary":[],"content":[%b]}]' % part


def texts(field: str, value: bytes) -> list[str] | None:
    """The thoughts in the items; None where one is encrypted."""
    found: list[str] = []
    for raw in values.blocks(value):
        item = opened(raw)
        if string(item.get("encrypted_content")):
            return None
        found += _texts(item)
    return found


def completed(field: str, sent: bytes, recorded: bytes) -> bytes | None:
    """The recorded items, where a client dropped some of them, or their texts, and kept the others."""
    mine = [opened(raw) for raw in values.blocks(sent)]
    theirs = [opened(raw) for raw in values.blocks(recorded)]
    if list(map(_said, mine)) == list(map(_said, theirs)):
        return None
    at = 0
    for item in mine:
        if not (_texts(item) or _sealed(item) or _id(item)):
            continue
        while at < len(theirs) and not _is_same(item, theirs[at]):
            at += 1
        if at == len(theirs):
            return None
        at += 1
    return recorded


def _said(item: Mapping[str, Raw]) -> tuple[list[str], str]:
    return _texts(item), _sealed(item)


def _is_same(sent: dict[str, Raw], recorded: dict[str, Raw]) -> bool:
    mine, theirs = _texts(sent), _texts(recorded)
    if _sealed(sent) not in ("", _sealed(recorded)):
        return False
    if mine:
        return all(text in theirs for text in mine)
    return bool(_sealed(sent)) or (_id(sent) != "" and _id(sent) == _id(recorded))


def _id(item: Mapping[str, Raw]) -> str:
    return string(item.get("id")) or ""


def _sealed(item: Mapping[str, Raw]) -> str:
    return string(item.get("encrypted_content")) or ""


def _texts(item: Mapping[str, Raw], names: tuple[str, ...] = _TEXTS) -> list[str]:
    found = [
        string(opened(part).get("text")) or "" for name in names for part in values.items(item.get(name))
    ]
    return [text for text in found if text]


def join(field: str, first: bytes, second: bytes) -> bytes:
    """The items of two merged turns, in order."""
    return values.join_layouts(first, second)


def tidy(field: str, value: bytes) -> bytes:
    """Items are kept as they came."""
    return value


# ---- Items -------------------------------------------------------------------------------------------------


class _Item:
    """One item of an input or an output, and what deltas added to it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.members = opened(raw)
        self.kind = string(self.members.get("type")) or _kind(self.members)
        self.thinks = self.kind == "reasoning"
        self.added: dict[str, list[str]] = {}
        self.done = False

    @property
    def role(self) -> str:
        if self.kind == "message":
            role = string(self.members.get("role")) or "assistant"
            return "system" if role == "developer" else role
        if self.thinks or self.kind.endswith("_call"):
            return "assistant"
        return "tool" if self.kind.endswith("_output") else self.kind or "?"

    def said(self) -> tuple[str, bytes]:
        """Text of a message or a tool result, and the bytes of whatever in it is no text."""
        content = self.members.get("output" if self.kind.endswith("_output") else "content")
        if content is None:
            return "", b"" if self.kind == "message" else self._constant()
        if (text := string(content)) is not None:
            return text, b""
        texts: list[str] = []
        attached: list[bytes] = []
        for raw in values.items(content):
            part = opened(raw)
            text = string(part.get("text"))
            text = string(part.get("refusal")) if text is None else text
            if text is None:
                made = self.role == "assistant"
                attached.append(values.constant(raw).encode() if made else values.opaque(raw))
            else:
                texts.append(text)
        return "".join(texts), b"".join(attached)

    def call(self) -> Call:
        """The call that this item is; of a kind that is not known, all that is constant in it."""
        call_id = self._text("call_id")
        for name in ("arguments", "input"):
            if name in self.members or name in self.added:
                return Call(call_id, self._text("name"), self._text(name))
        return Call(call_id, self.kind, self._constant().decode("utf-8", "replace"))

    def message(self) -> str:
        text, attached = self.said()
        return text + "".join(self.added.get("text", ())) + attached.decode("utf-8", "replace")

    def lacks(self, name: str) -> bool:
        """Whether what deltas call by this name is not in the item itself."""
        if name == "text":
            return not self.said()[0]
        if name in _TEXTS:
            return not _texts(self.members, (name,))
        return not self._text(name)

    def written(self) -> bytes:
        """A reasoning item as it came; one that was cut short, with the text that came so far."""
        parts: dict[str, bytes | Raw] = {}
        for name, kind in (("content", "reasoning_text"), ("summary", "summary_text")):
            if name in self.added:
                text = encoded("".join(self.added[name]))
                parts[name] = b'[{"type":"%b","text":%b}]' % (kind.encode(), text)
        return values.closed({**self.members, **parts}) if parts else self.raw

    def so_far(self) -> bytes:
        """Any item with all that deltas added to it."""
        if self.thinks or not self.added:
            return self.written()
        if self.kind == "message":
            return values.closed({**self.members, "content": encoded(self.message())})
        texts: dict[str, bytes | Raw] = dict(self.members)
        texts |= {name: encoded(self._text(name)) for name in ("arguments", "input") if name in self.added}
        return values.closed(texts)

    def _text(self, name: str) -> str:
        return values.joined((string(self.members.get(name)) or "") + "".join(self.added.get(name, ())))

    def _constant(self) -> bytes:
        return values.closed({name: v for name, v in self.members.items() if name not in _VOLATILE})


def _kind(members: Mapping[str, Raw]) -> str:
    """What an item without a type is: a message, or the name of one that the server keeps."""
    if "role" in members:
        return "message"
    return "item_reference" if members.keys() == {"id"} else ""


def _turn(parts: list[_Item]) -> Turn:
    """What items make visible."""
    text = "".join(item.message() for item in parts if item.kind == "message")
    calls = tuple(item.call() for item in parts if item.kind != "message" and not item.thinks)
    return Turn(values.joined(text), calls)


def _layout(parts: list[_Item]) -> bytes:
    return values.layout([item.written() if item.thinks else None for item in parts])


# ---- Answers -----------------------------------------------------------------------------------------------


class _Response(msgspec.Struct):
    output: Raw = Raw(b"null")
    status: str | None = None
    error: Raw = Raw(b"null")


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    item: Raw = Raw(b"null")
    delta: str | None = None
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


def may_end(events: bytes) -> bool:
    """Whether there is a response that is completed or incomplete, or a whole one in place of events."""
    return b"complete" in events or b'"output"' in events or b"\\u00" in events


def folder(snapshots: bool) -> "AnswerFolder":
    """A reader for one answer."""
    return AnswerFolder()


class AnswerFolder:
    """Folds the events of one answer. `limit` bounds the bytes kept, about."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._parts: dict[int, _Item] = {}
        self._begun = False
        self._handed_out = False

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one event or a whole answer. The turn is finished where the response is completed."""
        event = _read_event(payload)
        if event.type not in _DELTAS:
            self._grow(len(payload))
        match event.type:
            case "response.output_item.added":
                self._put(self._at(event, begins=True), _Item(bytes(event.item)), False)
            case "response.output_item.done":
                last = self._parts.get(len(self._parts) - 1)
                at = self._at(event, begins=last is None or last.done)
                self._put(at, _Item(bytes(event.item)), True)
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
            case kind if kind in _DELTAS and event.delta is not None:
                self._add(self._at(event), _DELTAS[kind], event.delta)
        return []

    def seen(self) -> list[bytes]:
        """The items as far as they came: for people to look at."""
        return [self._parts[index].so_far() for index in sorted(self._parts)]

    def end(self, complete: bool) -> list[Answered]:
        """The turn, where it was not handed out yet: a response that was never completed is cut short."""
        return self._finished(complete=False) if self._begun else []

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise AnswerError(f"a turn is longer than {self._limit} bytes")

    def _at(self, event: _Event, begins: bool = False) -> int:
        """Which item an event is about: without an index, the last one, or a new one."""
        if event.output_index is not None:
            return event.output_index
        return len(self._parts) if begins else max(len(self._parts) - 1, 0)

    def _put(self, index: int, item: _Item, done: bool) -> None:
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
            self._grow(len(fragment) + values.PER_FRAGMENT)
            item.added.setdefault(name, []).append(fragment)

    def _take(self, output: Raw) -> None:
        """The items of a completed response, where they did not come one by one before.

        Some relays leave items out of it: then what came one by one is all there is.
        """
        self._begun = True
        given = [_Item(raw) for raw in values.items(output)]
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
        thoughts = {FIELD: _layout(parts)} if any(item.thinks for item in parts) else {}
        return [Answered(_turn(parts), thoughts, complete)]


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
