"""Chat completions requests: what a body says, and how reasoning is written into it.

Source of the format: https://platform.openai.com/docs/api-reference/chat/create; the reasoning fields are the
providers' own (providers.toml). Every message is opened on its own, so that one odd message does not hide the
others: it then counts as an opaque message and is carried over as it came.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.chat_answers import AnswerFolder
from reasoning_fix.dialects.splice import (
    SpliceError,
    Written,
    items,
    members,
    set_in_items,
    set_items,
    set_members,
)
from reasoning_fix.dialects.turns import Call, Other, Turn
from reasoning_fix.dialects.twins import HALVED, UNLIKE_SCHEMA, loosely, mended
from reasoning_fix.dialects.values import open_body, readable_items
from reasoning_fix.dialects.wire import Change, NotChatError, Request
from reasoning_fix.providers.table import Provider

NAME: Final = "chat_completions"
# Whether a provider looks for reasoning message by message.
PER_MESSAGE: Final = True
HISTORY: Final = "messages"
_SYSTEM_ROLES = ("system", "developer")
# OpenClaw ends each request with a note of its own, which stands in no later one:
# https://github.com/openclaw/openclaw
_NOTE_BEGINS = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
_NOTE_ENDS = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"

Raw = msgspec.Raw
_EMPTY = Raw(b"")


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: Raw = _EMPTY
    tool_calls: Raw = _EMPTY
    function_call: Raw = _EMPTY
    reasoning_content: Raw = _EMPTY
    reasoning: Raw = _EMPTY
    reasoning_details: Raw = _EMPTY
    prefix: Raw = _EMPTY
    partial: Raw = _EMPTY


class _Part(msgspec.Struct, gc=False):
    text: str
    type: str = "text"


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Raw = _EMPTY


class _ToolCall(msgspec.Struct, gc=False):
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)
    custom: Raw = _EMPTY


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_str = msgspec.json.Decoder(str).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_calls = msgspec.json.Decoder(list[_ToolCall]).decode
_decode_call = msgspec.json.Decoder(_ToolCall).decode
_decode_function = msgspec.json.Decoder(_Function).decode
_Unlike = (msgspec.MsgspecError, RecursionError)
_Unreadable = (*_Unlike, UnicodeError)
# What says in place of calls that there are none.
_NO_CALLS = (b"", b"null", b"{}", b'""', b"false", b"0")


def open_request(body: bytes) -> Request:
    """The members of a request body; raises NotChatError if it is not one."""
    return open_body(body, HISTORY)


def brought(request: Request) -> list[dict[str, bytes]] | None:
    """A chat client keeps a reasoning field as it was or drops it. Raises NotChatError."""
    request.opened = messages = _open_messages(request)
    if messages and _is_true(messages[-1].prefix, messages[-1].partial):
        return None
    return [_own_fields(message) for message in messages if message.role == "assistant"]


def read_history(request: Request) -> None:
    """Read the messages; raises NotChatError where they are no array."""
    opened = request.opened
    messages: list[_Message] = opened if isinstance(opened, list) else _open_messages(request)
    for index, message in enumerate(messages[request.stands_in :]):
        try:
            _read_message(request, index, message)
        except UnicodeError:
            message = _without_halves(request, index)
            _read_message(request, index, message)
    _note_what_came(request)
    request.system = "\n".join(request.systems.values())
    last = len(request.messages) - 1
    if last >= 0 and isinstance(request.messages[last], Turn) and (_is_true(message.prefix, message.partial)):
        request.continued = last


def _read_message(request: Request, index: int, message: _Message) -> None:
    """Raises UnicodeError, with nothing done, where a text is not UTF-8."""
    role = message.role
    if role == "assistant":
        own = _own_fields(message)
        for value in own.values():
            if not value.isascii():
                value.decode()
        request.messages.append(_read_turn(message))
        if own:
            request.own[index] = own
        content = bytes(message.content)
        if content in (b"", b"null"):
            request.null_content.add(index)
        elif content[:1] == b"[":
            request.in_parts[index] = content
    elif role in _SYSTEM_ROLES:
        text = _text(message.content)[0]
        request.messages.append(None)
        request.systems[index] = text
    else:
        text, attachments = _text(message.content)
        is_note = text.startswith(_NOTE_BEGINS) and text.rstrip().endswith(_NOTE_ENDS) and not attachments
        request.messages.append(None if is_note else Other(role or "?", text, attachments))


def _without_halves(request: Request, index: int) -> _Message:
    """The twin of a message with a text that is not UTF-8."""
    position = request.stands_in + index
    request.odd[position] = HALVED
    view = mended(items(bytes(request.array))[position])
    try:
        return _decode_message(view)
    except _Unlike:
        return _Message(content=Raw(view))


def _note_what_came(request: Request) -> None:
    """Of turns that were read by their twins, the members that may be written, as they came."""
    raws: list[bytes] = []
    for position in request.odd:
        index = position - request.stands_in
        if not isinstance(request.messages[index], Turn):
            continue
        raws = raws or items(bytes(request.array))
        try:
            places = members(raws[position])
        except SpliceError:
            continue
        names = {"content", *request.own.get(index, ())} & places.keys()
        came = {name: raws[position][places[name].begin : places[name].end] for name in names}
        request.as_came[index] = came
        if index in request.in_parts and "content" in came:
            request.in_parts[index] = came["content"]


def write_history(request: Request, changes: Mapping[int, Change]) -> Written:
    """The messages with members set in some of them. Raises SpliceError."""
    first = request.stands_in
    present = {first + index: (*request.own.get(index, ()), "content") for index in changes}
    return set_in_items(
        bytes(request.array), {first + index: change for index, change in changes.items()}, present
    )


def joints(request: Request, indices: Sequence[int]) -> list[int]:
    """Every turn is a message of its own."""
    return []


def position(request: Request, index: int) -> int:
    """Every message is a turn or another message of its own."""
    return request.stands_in + index


def tagged(request: Request, index: int, whole: str) -> dict[str, bytes]:
    """The content with its `<think>` block: as a text, or in the text part that a client made of it."""
    parts = request.in_parts.get(index)
    if parts is None:
        return {"content": msgspec.json.encode(whole)}
    said = {at: text for at, raw in enumerate(items(parts)) if (text := _part_text(raw)) is not None}
    if not said:
        return {}
    first = min(said)
    # Where a client made several parts of one text, the block goes before the first one.
    text = whole if len(said) == 1 else whole.removesuffix("".join(said.values())) + said[first]
    if len(said) > 1 and text == whole + said[first]:
        return {}
    part = set_members(items(parts)[first], {"text": msgspec.json.encode(text)})
    return {"content": set_items(parts, {}, {first: part}).data}


def _part_text(raw: bytes) -> str | None:
    try:
        return loosely(_decode_part, raw).text
    except _Unreadable:
        return None


def may_end(events: bytes) -> bool:
    """Whether a finish reason is not null, or [DONE] comes; letters spelled by number are in doubt."""
    reasons = events.count(b"finish_reason")
    nulls = events.count(b'finish_reason":null') if reasons else 0
    if nulls != reasons:
        nulls += events.count(b'finish_reason": null')
    return nulls != reasons or b"[DONE]" in events or b"\\u00" in events


def folder(snapshots: bool) -> AnswerFolder:
    """A reader for one answer."""
    return AnswerFolder(snapshots)


def fields(provider: Provider) -> tuple[str, ...]:
    """The members of an assistant message that this provider reads."""
    return provider.reads


def stand_in(field: str, text: str) -> bytes | None:
    """A placeholder as the value of a field; `reasoning_details` cannot carry one."""
    return None if field == "reasoning_details" else msgspec.json.encode(text)


def fitted(provider: Provider, value: bytes) -> bytes:
    """There is one form only on this wire."""
    return value


def texts(field: str, value: bytes) -> list[str] | None:
    """The text of a field; None if it holds something else than text."""
    if field == "reasoning_details":
        return None if value[:1] == b"[" and value[1:-1].strip() else []
    if value[:1] != b'"':
        return []
    try:
        return [_decode_str(value)]
    except _Unreadable:
        return None


def readable(field: str, value: bytes) -> list[str]:
    """The text of a field, or the texts of the details in it."""
    if field != "reasoning_details":
        return texts(field, value) or []
    return [text for item in values.items(value) if (text := _detail_text(item))]


def words(field: str, value: bytes) -> str:
    """A text stands in one place only here."""
    return "\n".join(readable(field, value))


def _detail_text(item: bytes) -> str:
    members = values.opened(item)
    return _string(members.get("text", _EMPTY)) or _string(members.get("summary", _EMPTY)) or ""


def completed(field: str, sent: bytes, recorded: bytes) -> bytes | None:
    """A chat client sends a field or drops it, but for white space at the ends of its text."""
    if sent[:1] != b'"' or recorded[:1] != b'"':
        return None
    mine, theirs = _string(Raw(sent)), _string(Raw(recorded))
    if mine is None or theirs is None or mine == theirs or mine.strip() != theirs.strip():
        return None
    return recorded


def without(field: str, value: bytes, parts: Collection[str]) -> bytes | None:
    """Only details have parts."""
    if field != "reasoning_details":
        return value
    kept = [left for item in values.items(value) if (left := values.stripped(item, parts, _says_something))]
    return b"[%b]" % b",".join(kept) if kept else None


def _says_something(detail: dict[str, Raw]) -> bool:
    return not detail.keys().isdisjoint(("text", "summary", "encrypted", "data"))


def join(field: str, first: bytes, second: bytes) -> bytes:
    """Two reasonings in order, with nothing added."""
    if first[:1] == b'"' and second[:1] == b'"':
        return first[:-1] + second[1:]
    if first[:1] == b"[" and second[:1] == b"[":
        inner = [part for part in (first[1:-1].strip(), second[1:-1].strip()) if part]
        return b"[%b]" % b",".join(inner)
    return second


def tidy(field: str, value: bytes) -> bytes:
    """A JSON text in the one spelling that records use; other values as they are."""
    try:
        return msgspec.json.encode(_decode_str(value)) if value[:1] == b'"' else value
    except _Unreadable:
        return b"null"


def _open_messages(request: Request) -> list[_Message]:
    try:
        return _decode_messages(request.array)
    except _Unreadable:
        pass
    try:
        raws = readable_items(request.array, request.odd)
    except (*_Unreadable, SpliceError) as error:
        raise NotChatError(f"messages is not an array ({type(error).__name__})") from None
    messages = []
    for position, raw in enumerate(raws):
        try:
            messages.append(_decode_message(raw))
        except _Unreadable:
            message, odd = _opened_by_twin(raw)
            request.odd[position] = odd
            messages.append(message)
    return messages


def _opened_by_twin(raw: bytes | Raw) -> tuple[_Message, str]:
    """A message that cannot be opened as it is, and what is odd about it."""
    try:
        return _decode_message(mended(bytes(raw))), HALVED
    except _Unlike:
        return _Message(content=Raw(raw)), UNLIKE_SCHEMA


def _read_turn(message: _Message) -> Turn:
    text, attachments = _text(message.content)
    if attachments:
        text += attachments.decode("utf-8", "replace")
    return Turn(text, _read_calls(message))


def _read_calls(message: _Message) -> tuple[Call, ...]:
    if message.function_call is _EMPTY and message.tool_calls is _EMPTY:
        return ()
    if bytes(message.function_call)[:1] == b"{":
        try:
            legacy = _decode_function(message.function_call)
            return (Call("", legacy.name or "", _arguments(legacy.arguments)),)
        except _Unlike:
            return (Call("", "", _bytes_as_text(message.function_call)),)
    if bytes(message.tool_calls)[:1] != b"[":
        given = bytes(message.tool_calls)
        return () if given in _NO_CALLS else (Call("", "", _bytes_as_text(message.tool_calls)),)
    try:
        return tuple(map(_call, _decode_calls(message.tool_calls)))
    except _Unlike:
        return tuple(map(_odd_call, _decode_items(message.tool_calls)))


def _call(call: _ToolCall) -> Call:
    return Call(
        call.id or "",
        call.function.name or "",
        _arguments(call.function.arguments) or _bytes_as_text(call.custom),
    )


def _odd_call(raw: Raw) -> Call:
    try:
        return _call(_decode_call(raw))
    except _Unlike:
        return Call("", "", _bytes_as_text(raw))


def _arguments(raw: Raw) -> str:
    text = _string(raw)
    return _bytes_as_text(raw) if text is None else text


def _text(content: Raw) -> tuple[str, bytes]:
    """Text of a content value, and the bytes of whatever in it is not text."""
    raw = bytes(content)
    if raw in (b"", b"null"):
        return "", b""
    if raw[:1] == b'"':
        text = _string(content)
        return ("", raw) if text is None else (text, b"")
    if raw[:1] != b"[":
        return "", raw
    texts: list[str] = []
    attachments: list[bytes] = []
    for part in _decode_items(content):
        try:
            texts.append(_decode_part(part).text)
        except _Unlike:
            if (text := _string(part)) is not None:
                texts.append(text)
            else:
                attachments.append(bytes(part))
    return "".join(texts), b"".join(attachments)


def _own_fields(message: _Message) -> dict[str, bytes]:
    own: dict[str, bytes] = {}
    if message.reasoning_content is not _EMPTY:
        own["reasoning_content"] = bytes(message.reasoning_content)
    if message.reasoning is not _EMPTY:
        own["reasoning"] = bytes(message.reasoning)
    if message.reasoning_details is not _EMPTY:
        own["reasoning_details"] = bytes(message.reasoning_details)
    return own


def _string(raw: Raw) -> str | None:
    """The text of a JSON string; None if it is not one. Raises UnicodeError if it is not UTF-8."""
    try:
        return _decode_str(raw)
    except _Unlike:
        return None


def _bytes_as_text(raw: Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")


def _is_true(*raws: Raw) -> bool:
    return any(bytes(raw) == b"true" for raw in raws)
