"""Anthropic messages: thinking and redacted_thinking blocks in the content of assistant messages.

Source of the format: https://docs.anthropic.com/en/api/messages and
https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking. The one reasoning field of this
dialect is `blocks`: a layout (values.py) of the thinking blocks as the provider said them, with signatures.
"""

import re
from collections.abc import Mapping

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.splice import Written, members, set_items, set_members, with_history
from reasoning_fix.dialects.values import Unreadable, encoded, is_filled, opaque, opened, string
from reasoning_fix.dialects.wire import Answered, AnswerError, Change, NotChatError, Request
from reasoning_fix.providers import Provider
from reasoning_fix.turns import Call, Other, Turn

Raw = msgspec.Raw
HISTORY = "messages"
FIELD = "blocks"
_THINKING = ("thinking", "redacted_thinking")
# Claude Code puts notes of its own, which change from request to request, into text blocks like this one.
_REMINDER = re.compile(r"\s*(<system-reminder>(?:(?!</system-reminder>).)*</system-reminder>\s*)+", re.DOTALL)


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: Raw = Raw(b"null")


_decode_body = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_messages = msgspec.json.Decoder(list[_Message]).decode


# ---- Requests ----------------------------------------------------------------------------------------------


def read_request(body: bytes) -> Request:
    """A request body, read whole; raises NotChatError where it is none."""
    request = open_request(body)
    read_history(request)
    return request


def open_request(body: bytes) -> Request:
    """The members of a request body; raises NotChatError where it is none."""
    try:
        top = _decode_body(body)
        array = top[HISTORY]
    except KeyError:
        raise NotChatError("the body has no messages") from None
    except Unreadable as error:
        raise NotChatError(f"the body is no messages request ({type(error).__name__})") from None
    request = Request(body, top, string(top.get("model")) or "", is_filled(top.get("tools")), array=array)
    request.system = _system(top.get("system"))
    return request


def brought(request: Request) -> list[dict[str, bytes]] | None:
    """Where there are turns, thinking blocks may be missing beside others that were kept."""
    try:
        messages = _decode_messages(request.array)
    except Unreadable:
        return None
    return None if any(message.role == "assistant" for message in messages) else []


def read_history(request: Request) -> None:
    """Read the messages; raises NotChatError where they are no array."""
    try:
        messages = _decode_list(request.array)
    except Unreadable as error:
        raise NotChatError(f"the body is no messages request ({type(error).__name__})") from None
    for place, raw in enumerate(messages):
        if place < request.stands_in:
            continue
        try:
            message = _decode_message(raw)
        except Unreadable:
            message = _Message("?", raw)
        index = len(request.messages)
        if message.role == "assistant":
            turn, own = _read_turn(message.content)
            request.messages.append(turn)
            request.spans[index] = (place,)
            if own:
                request.own[index] = {FIELD: own}
        elif message.role == "system":
            request.messages.append(None)
        else:
            request.messages += _read_others(message)
    if request.messages and isinstance(request.messages[-1], Turn):
        # The model is asked to go on with it.
        request.continued = len(request.messages) - 1


def _system(raw: Raw | None) -> str:
    if raw is None:
        return ""
    text = string(raw)
    return (
        "\n".join(string(opened(part).get("text")) or "" for part in values.items(raw))
        if text is None
        else text
    )


def _read_turn(content: Raw) -> tuple[Turn, bytes]:
    text = string(content)
    if text is not None:
        return Turn(text), b""
    parts = [_Block(opened(raw), raw) for raw in values.items(content)]
    return _turn(parts), _layout(parts) if any(part.thinks for part in parts) else b""


def _read_others(message: _Message) -> list[Other | None]:
    """A user message as what it holds: tool results one by one, and what was said around them."""
    text = string(message.content)
    if text is not None:
        return [None if _REMINDER.fullmatch(text) else Other(message.role, text)]
    if bytes(message.content)[:1] != b"[":
        return [Other(message.role, "", bytes(message.content))]
    others: list[Other | None] = []
    said: list[str] = []
    attached: list[bytes] = []

    def close() -> None:
        if said or attached:
            others.append(Other(message.role, "".join(said), b"".join(attached)))
            said.clear()
            attached.clear()

    for raw in values.items(message.content):
        part = opened(raw)
        kind = string(part.get("type"))
        if kind == "tool_result":
            close()
            others.append(Other("tool", *_result(part.get("content"))))
        elif kind == "text":
            text = string(part.get("text")) or ""
            if not _REMINDER.fullmatch(text):
                said.append(text)
        else:
            attached.append(opaque(raw))
    close()
    return others or [None]


def _result(content: Raw | None) -> tuple[str, bytes]:
    """Text of a tool result, and the bytes of whatever in it is no text."""
    if content is None:
        return "", b""
    if (text := string(content)) is not None:
        return text, b""
    said: list[str] = []
    attached: list[bytes] = []
    for raw in values.items(content):
        part = string(opened(raw).get("text"))
        if part is None:
            attached.append(opaque(raw))
        else:
            said.append(part)
    return "".join(said), b"".join(attached)


def write_history(request: Request, changes: Mapping[int, Change]) -> Written:
    """The messages with thinking blocks set in some of them. Raises SpliceError."""
    array = bytes(request.array)
    raws = values.items(array)
    replaced: dict[int, bytes | None] = {}
    for index, change in changes.items():
        (at,) = request.spans[index]
        replaced[at] = _with_blocks(raws[at], change[FIELD])
    return set_items(array, {}, replaced)


def write_request(
    request: Request, changes: Mapping[int, Change], settings: Mapping[str, bytes | None]
) -> bytes:
    """The body with reasoning set in some turns and members at its top. Raises SpliceError."""
    return with_history(request.body, request.parameters, HISTORY, settings, write_history(request, changes))


def position(request: Request, index: int) -> int:
    """A turn is one message; others are one or several to a message."""
    return request.spans[index][0]


def _with_blocks(message: bytes, value: bytes | None) -> bytes:
    """An assistant message whose thinking blocks are those of a layout, or none at all."""
    place = members(message).get("content")
    content = b"null" if place is None else message[place.begin : place.end]
    wanted = value or b"[]"
    if content[:1] == b"[":
        raws = values.items(content)
        drop = {index: None for index, raw in enumerate(raws) if _thinks(raw)}
        visible = [index for index in range(len(raws)) if index not in drop]
        if not visible and not values.blocks(wanted):
            return message
        put = {
            visible[at] if at < len(visible) else len(raws): new
            for at, new in values.places(wanted, len(visible)).items()
        }
        written = set_items(content, put, drop).data
    else:
        text = string(content) or ""
        parts = [b'{"type":"text","text":%b}' % content] if text.strip() else []
        if not values.blocks(wanted) or content[:1] not in (b'"', b"n"):
            return message
        new = values.places(wanted, len(parts))
        written = b"[%b]" % b",".join([*new.get(0, ()), *parts, *(new.get(1, ()) if parts else ())])
    if place is None:
        return set_members(message, {"content": written})
    return b"".join((message[: place.begin], written, message[place.end :]))


def _thinks(raw: bytes) -> bool:
    return string(opened(raw).get("type")) in _THINKING


def tagged(request: Request, index: int, whole: str) -> dict[str, bytes]:
    """Reasoning has blocks and items of its own here; text is left as it came."""
    return {}


# ---- Reasoning values --------------------------------------------------------------------------------------


def fields(provider: Provider) -> tuple[str, ...]:
    """Thinking blocks are the only reasoning of this dialect."""
    return (FIELD,)


def stand_in(field: str, text: str) -> bytes | None:
    """A thinking block without a signature."""
    return b'[{"type":"thinking","thinking":%b}]' % encoded(text)


def texts(field: str, value: bytes) -> list[str] | None:
    """The thoughts in the blocks; None where one is redacted or has nothing but its signature."""
    found: list[str] = []
    for raw in values.blocks(value):
        block = opened(raw)
        text = string(block.get("thinking"))
        if text is None or (not text.strip() and string(block.get("signature"))):
            return None
        found.append(text)
    return found


def completed(field: str, sent: bytes, recorded: bytes) -> bytes | None:
    """The recorded blocks, where a client dropped some of them, or their signatures, and kept the others."""
    mine = [opened(raw) for raw in values.blocks(sent)]
    theirs = [opened(raw) for raw in values.blocks(recorded)]
    if list(map(_said, mine)) == list(map(_said, theirs)):
        return None
    at = 0
    for block in filter(_says_something, mine):
        while at < len(theirs) and not _is_same(block, theirs[at]):
            at += 1
        if at == len(theirs):
            return None
        at += 1
    return recorded


def _said(block: dict[str, Raw]) -> tuple[str, ...]:
    return tuple(_text(block, name) for name in ("type", "thinking", "signature", "data"))


def _says_something(block: dict[str, Raw]) -> bool:
    return bool("".join(_said(block)[1:]).strip())


def _is_same(sent: dict[str, Raw], recorded: dict[str, Raw]) -> bool:
    """Whether a block is the recorded one, be it without its text or without its signature."""
    kind, thought, signature, data = _said(sent)
    if (kind, data) != (_text(recorded, "type"), _text(recorded, "data")):
        return False
    if signature and not thought.strip():
        return signature == _text(recorded, "signature")
    return thought == _text(recorded, "thinking") and signature in ("", _text(recorded, "signature"))


def _text(block: Mapping[str, Raw], name: str) -> str:
    return string(block.get(name)) or ""


def join(field: str, first: bytes, second: bytes) -> bytes:
    """The blocks of two merged turns, in order."""
    return values.join_layouts(first, second)


def tidy(field: str, value: bytes) -> bytes:
    """Blocks are kept as they came."""
    return value


# ---- Answers -----------------------------------------------------------------------------------------------


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    content_block: Raw = Raw(b"null")
    delta: _Delta | None = None
    content: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode


class _Block:
    """One content block: its members as they came, and what deltas added to its texts."""

    def __init__(self, start: dict[str, Raw], raw: bytes) -> None:
        self.members = start
        self.raw = raw
        self.kind = string(start.get("type")) or ""
        self.added: dict[str, list[str]] = {}

    @property
    def thinks(self) -> bool:
        return self.kind in _THINKING

    def add(self, name: str, fragment: str) -> None:
        self.added.setdefault(name, []).append(fragment)

    def text(self, name: str) -> str:
        return (string(self.members.get(name)) or "") + "".join(self.added.get(name, ()))

    def arguments(self) -> str:
        written = values.joined("".join(self.added.get("partial_json", ())))
        if written.strip():
            return written
        return bytes(self.members.get("input", b"")).decode("utf-8", "replace")

    def written(self) -> bytes:
        if not self.added:
            return self.raw
        texts = {name: Raw(encoded(self.text(name))) for name in self.added}
        return values.closed(self.members | texts)


def _turn(parts: list[_Block]) -> Turn:
    """What blocks make visible."""
    said: list[str] = []
    calls: list[Call] = []
    for part in parts:
        if part.kind == "text":
            said.append(part.text("text"))
        elif part.kind in ("tool_use", "server_tool_use"):
            calls.append(Call(part.text("id"), part.text("name"), part.arguments()))
        elif not part.thinks:
            said.append(values.constant(part.raw))
    return Turn(values.joined("".join(said)), tuple(calls))


def _layout(parts: list[_Block]) -> bytes:
    return values.layout([part.written() if part.thinks else None for part in parts])


def may_end(events: bytes) -> bool:
    """Whether there is more than deltas of blocks: message_delta, message_stop, or [DONE] of some relays."""
    return b"message" in events or b"[DONE]" in events or b"\\u00" in events


def folder(snapshots: bool) -> "AnswerFolder":
    """A reader for one answer."""
    return AnswerFolder()


class AnswerFolder:
    """Folds the events of one answer. `limit` bounds the bytes kept, about."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._parts: dict[int, _Block] = {}
        self._begun = False
        self._handed_out = False

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one event or a whole answer. The turn is finished where its stop reason comes."""
        event = _read_event(payload)
        if event.type != "content_block_delta":
            self._grow(len(payload))
        if event.type == "error" or bytes(event.error) != b"null":
            raise AnswerError("the answer carries an error")
        match event.type:
            case "message":
                for index, raw in enumerate(values.items(event.content)):
                    self._parts[index] = _Block(opened(raw), raw)
                self._begun = True
                return self._finished()
            case "message_start":
                self._begun = True
            case "content_block_start":
                self._begun = True
                raw = bytes(event.content_block)
                self._parts[self._at(event, begins=True)] = _Block(opened(raw), raw)
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

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise AnswerError(f"a turn is longer than {self._limit} bytes")

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
            part = self._parts[index] = _Block(opened(raw), raw)
        for name in ("text", "thinking", "signature", "partial_json"):
            fragment: str | None = getattr(delta, name)
            if fragment is not None:
                self._grow(len(fragment) + values.PER_FRAGMENT)
                part.add(name, fragment)

    def _finished(self, complete: bool = True) -> list[Answered]:
        if self._handed_out:
            return []
        self._handed_out = True
        parts = [self._parts[index] for index in sorted(self._parts)]
        thoughts = {FIELD: _layout(parts)} if any(part.thinks for part in parts) else {}
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
