"""Anthropic messages: thinking and redacted_thinking blocks in the content of assistant messages.

Source of the format: https://docs.anthropic.com/en/api/messages and
https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking. The one reasoning field of this
dialect is `blocks`: a layout (values.py) of the thinking blocks as the provider said them, with signatures.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.message_answers import FIELD, AnswerFolder
from reasoning_fix.dialects.message_blocks import THINKING, Block, layout_of, turn_of
from reasoning_fix.dialects.splice import (
    LeftError,
    SpliceError,
    Written,
    items,
    members,
    raw_members,
    set_items,
    set_members,
)
from reasoning_fix.dialects.turns import Other, Turn
from reasoning_fix.dialects.twins import HALVED, UNLIKE_SCHEMA, mended
from reasoning_fix.dialects.values import (
    Unreadable,
    encoded,
    mended_string,
    opaque,
    open_body,
    opened,
    readable_items,
    said,
    string,
)
from reasoning_fix.dialects.wire import Change, NotChatError, Request
from reasoning_fix.providers.table import Provider

Raw = msgspec.Raw
NAME: Final = "messages"
# Whether a provider looks for reasoning message by message.
PER_MESSAGE: Final = True
HISTORY: Final = "messages"
# Claude Code puts notes of its own, which change from request to request, into text blocks like this one.
_REMINDER = re.compile(r"\s*(<system-reminder>(?:(?!</system-reminder>).)*</system-reminder>\s*)+", re.DOTALL)


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: Raw = Raw(b"null")


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_messages = msgspec.json.Decoder(list[_Message]).decode


# ---- Requests ----------------------------------------------------------------------------------------------


def open_request(body: bytes) -> Request:
    """The members of a request body; raises NotChatError if it is not one."""
    request = open_body(body, HISTORY)
    request.system = _system(request.parameters.get("system"))
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
        messages = readable_items(request.array, request.odd)
    except (*Unreadable, SpliceError) as error:
        raise NotChatError(f"messages is not an array ({type(error).__name__})") from None
    for place, raw in enumerate(messages):
        if place < request.stands_in:
            continue
        try:
            _read_message(request, place, raw)
        except UnicodeError:
            request.odd[place] = HALVED
            _read_message(request, place, mended(raw))
    if request.odd:
        _note_what_came(request)
    if request.messages and isinstance(request.messages[-1], Turn):
        # The model is asked to go on with it.
        request.continued = len(request.messages) - 1


def _read_message(request: Request, place: int, raw: bytes) -> None:
    """Raises UnicodeError, with nothing done, where a text is not UTF-8."""
    try:
        message = _decode_message(raw)
    except (msgspec.MsgspecError, RecursionError):
        request.odd[place] = UNLIKE_SCHEMA
        message = _Message("?", Raw(raw))
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


def _note_what_came(request: Request) -> None:
    """Of turns that were read by their twins, the thinking blocks as they came."""
    raws = items(bytes(request.array))
    for index, (place,) in request.spans.items():
        if place in request.odd and index in request.own:
            blocks = values.items(_as_it_came(raws[place]).get("content"))
            request.as_came[index] = {FIELD: layout_of([Block(opened(raw), raw) for raw in blocks])}


def _as_it_came(message: bytes) -> dict[str, Raw]:
    """The members of a message, which may hold half a character; none where one comes twice."""
    try:
        return raw_members(message)
    except (*Unreadable, SpliceError):
        return {}


def _system(raw: Raw | None) -> str:
    if raw is None:
        return ""
    text = mended_string(raw)
    return (
        "\n".join(mended_string(opened(part).get("text")) or "" for part in values.items(raw))
        if text is None
        else text
    )


def _read_turn(content: Raw) -> tuple[Turn, bytes]:
    text = said(content)
    if text is not None:
        return Turn(text), b""
    if bytes(content)[:1] not in (b"[", b"n"):
        # Neither a text nor blocks: all that it says is that it stays the same.
        return Turn(bytes(content).decode("utf-8", "replace")), b""
    parts = [Block(opened(raw), raw, said) for raw in values.items(content)]
    turn = turn_of(parts)
    thoughts = [part.text("thinking") for part in parts if part.thinks]  # raises where one is not UTF-8
    return turn, layout_of(parts) if thoughts else b""


def _read_others(message: _Message) -> list[Other | None]:
    """A user message as what it holds: tool results one by one, and what was said around them."""
    text = said(message.content)
    if text is not None:
        return [None if _REMINDER.fullmatch(text) else Other(message.role, text)]
    if bytes(message.content)[:1] != b"[":
        return [Other(message.role, "", bytes(message.content))]
    others: list[Other | None] = []
    texts: list[str] = []
    attached: list[bytes] = []

    def close() -> None:
        if texts or attached:
            others.append(Other(message.role, "".join(texts), b"".join(attached)))
            texts.clear()
            attached.clear()

    for raw in values.items(message.content):
        part = opened(raw)
        kind = string(part.get("type"))
        if kind == "tool_result":
            close()
            others.append(Other("tool", *_result(part.get("content"))))
        elif kind == "text":
            text = said(part.get("text")) or ""
            if not _REMINDER.fullmatch(text):
                texts.append(text)
        else:
            attached.append(opaque(raw))
    close()
    return others or [None]


def _result(content: Raw | None) -> tuple[str, bytes]:
    """Text of a tool result, and the bytes of whatever in it is not text."""
    if content is None:
        return "", b""
    if (text := said(content)) is not None:
        return text, b""
    if bytes(content)[:1] not in (b"[", b"n"):
        return "", bytes(content)
    texts: list[str] = []
    attached: list[bytes] = []
    for raw in values.items(content):
        part = said(opened(raw).get("text"))
        if part is None:
            attached.append(opaque(raw))
        else:
            texts.append(part)
    return "".join(texts), b"".join(attached)


def write_history(request: Request, changes: Mapping[int, Change]) -> Written:
    """The messages with thinking blocks set in some of them. Raises LeftError."""
    array = bytes(request.array)
    raws = items(array)
    replaced: dict[int, bytes | None] = {}
    left: dict[int, SpliceError] = {}
    for index, change in changes.items():
        (at,) = request.spans[index]
        try:
            replaced[at] = _with_blocks(raws[at], change[FIELD])
        except SpliceError as error:
            left[at] = error
    if left:
        raise LeftError(left)
    return set_items(array, {}, replaced)


def joints(request: Request, indices: Sequence[int]) -> list[int]:
    """Every turn is a message of its own."""
    return []


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
        text = mended_string(content) or ""
        parts = [b'{"type":"text","text":%b}' % content] if text.strip() else []
        if not values.blocks(wanted):
            return message
        if content[:1] not in (b'"', b"n"):
            raise SpliceError("the content is neither a text nor an array")
        new = values.places(wanted, len(parts))
        written = b"[%b]" % b",".join([*new.get(0, ()), *parts, *(new.get(1, ()) if parts else ())])
    if place is None:
        return set_members(message, {"content": written})
    return b"".join((message[: place.begin], written, message[place.end :]))


def _thinks(raw: bytes) -> bool:
    return string(opened(raw).get("type")) in THINKING


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


def fitted(provider: Provider, value: bytes) -> bytes:
    """There is one form only on this wire."""
    return value


def texts(field: str, value: bytes) -> list[str] | None:
    """The thoughts in the blocks; None if one is redacted or has nothing but its signature."""
    found: list[str] = []
    for raw in values.blocks(value):
        block = opened(raw)
        text = string(block.get("thinking"))
        if text is None or (not text.strip() and string(block.get("signature"))):
            return None
        found.append(text)
    return found


def readable(field: str, value: bytes) -> list[str]:
    """The thoughts in the blocks that have any in plain text."""
    return [text for raw in values.blocks(value) if (text := _text(opened(raw), "thinking")).strip()]


def words(field: str, value: bytes) -> str:
    """A thought stands in one place only here."""
    return "\n".join(readable(field, value))


def without(field: str, value: bytes, parts: Collection[str]) -> bytes | None:
    """The layout without these parts of its blocks."""
    return values.stripped_layout(value, parts, _says_something)


def completed(field: str, sent: bytes, recorded: bytes) -> bytes | None:
    """The recorded blocks, where a client dropped some of them, or their signatures, and kept the others."""
    return values.completed(sent, recorded, _said, _says_something, _is_same)


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
    same = thought.strip() == _text(recorded, "thinking").strip()
    return same and signature in ("", _text(recorded, "signature"))


def _text(block: Mapping[str, Raw], name: str) -> str:
    return string(block.get(name)) or ""


def join(field: str, first: bytes, second: bytes) -> bytes:
    """The blocks of two merged turns, in order."""
    return values.join_layouts(first, second)


def tidy(field: str, value: bytes) -> bytes:
    """Blocks are kept as they came."""
    return value


# ---- Answers -----------------------------------------------------------------------------------------------


def may_end(events: bytes) -> bool:
    """Whether there is more than deltas of blocks: message_delta, message_stop, or [DONE] of some relays."""
    return b"message" in events or b"[DONE]" in events or b"\\u00" in events


def folder(snapshots: bool) -> "AnswerFolder":
    """A reader for one answer."""
    return AnswerFolder()
