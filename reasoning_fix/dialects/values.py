"""JSON values that several dialects handle alike: texts with split characters, opaque parts, layouts.

A *layout* says where reasoning stood among what a turn made visible: a JSON array of reasoning blocks, and
whole numbers for as many visible blocks between them. `[{"type":"thinking",...}, 2]` is a thought before two
visible blocks. The layout of two merged turns is one after the other.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from reasoning_fix.dialects import splice
from reasoning_fix.dialects.twins import loosely, oddity, readable
from reasoning_fix.dialects.wire import AnswerError, NotChatError, Request

# About what Python takes for a fragment of a text besides the text, in bytes.
PER_FRAGMENT = 64

Raw = msgspec.Raw
Unreadable = (msgspec.MsgspecError, UnicodeError, RecursionError)

_encode = msgspec.json.Encoder().encode
_decode_str = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def string(raw: bytes | Raw | None) -> str | None:
    """The text of a JSON string; None if it is not one."""
    if raw is None:
        return None
    try:
        return _decode_str(raw)
    except Unreadable:
        return None


def said(raw: bytes | Raw | None) -> str | None:
    """The text of a JSON string; None if it is not one. Raises UnicodeError if it is not UTF-8."""
    if raw is None:
        return None
    try:
        return _decode_str(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None


def mended_string(raw: bytes | Raw | None) -> str | None:
    """The text of a JSON string, with U+FFFD for half a character; None if it is not one."""
    if raw is None:
        return None
    try:
        return _decode_str(raw)
    except Unreadable:
        pass
    try:
        return loosely(_decode_str, raw)
    except Unreadable:
        return None


def open_body(body: bytes, history: str) -> Request:
    """The members of a request body, whose messages `history` names. Raises NotChatError."""
    try:
        top = splice.raw_members(body)
        array = top[history]
    except KeyError:
        raise NotChatError(f"the body has no {history}") from None
    except (*Unreadable, splice.SpliceError) as error:
        raise NotChatError(f"the body is not a JSON object ({type(error).__name__})") from None
    tools = bytes(top.get("tools", b""))
    has_tools = tools[:1] == b"[" and bool(tools[1:-1].strip())
    return Request(body, top, mended_string(top.get("model")) or "", has_tools, array=array)


def joined(text: str, errors: str = "replace") -> str:
    """Text with surrogate pairs joined that came in two fragments.

    Half a character becomes U+FFFD, as it does when a client encodes the text for its next request.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", errors)


def spelled(start: str, added: str) -> str:
    """A text that began with `start` and went on in fragments, which some relays begin over."""
    if added.startswith(start):
        return added
    return start if start.startswith(added) else start + added


def encoded(text: str) -> bytes:
    """A text as a JSON string. Raises AnswerError for half a character."""
    try:
        return _encode(text)
    except (UnicodeError, msgspec.MsgspecError):
        pass
    try:
        return _encode(joined(text, "strict"))
    except (UnicodeError, msgspec.MsgspecError):
        # A lone surrogate cannot be sent back: no provider could parse the request.
        raise AnswerError("the reasoning holds half a character") from None


def opened(raw: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object; none if it is not one."""
    try:
        return _decode_members(raw)
    except msgspec.ValidationError:
        return {}
    except Unreadable:
        pass
    try:
        return loosely(_decode_members, raw)
    except Unreadable:
        return {}


def closed(members: Mapping[str, bytes | Raw]) -> bytes:
    """A JSON object of these members, each value as it came."""
    return b"{%b}" % b",".join(b"%b:%b" % (_encode(name), bytes(value)) for name, value in members.items())


def opaque(raw: bytes | Raw) -> bytes:
    """A part that is not text, without the marks that clients move about (`cache_control`)."""
    if b'"cache_control"' not in bytes(raw):
        return bytes(raw)
    members = opened(raw)
    members.pop("cache_control", None)
    return closed(members)


def constant(raw: bytes | Raw) -> str:
    """A part that is not text, in one spelling: a client may have parsed and printed what a provider said."""
    written = opaque(raw)
    try:
        return msgspec.json.encode(msgspec.json.decode(written), order="sorted").decode()
    except Unreadable:
        return written.decode("utf-8", "replace")


def items(raw: bytes | Raw | None) -> list[bytes]:
    """The raw items of a JSON array, each as it came; none if it is not one."""
    try:
        return [bytes(item) for item in _decode_list(raw or b"[]")]
    except msgspec.ValidationError:
        return []
    except Unreadable:
        pass
    try:
        return splice.items(bytes(raw or b"[]"))
    except (*Unreadable, splice.SpliceError):
        return []


def readable_items(array: bytes | Raw, odd: dict[int, str]) -> list[bytes]:
    """The raw items of a JSON array, or the twins of those that are odd (by position), which is told.

    Raises msgspec.DecodeError if it is not one.
    """
    try:
        return [bytes(item) for item in _decode_list(array)]
    except msgspec.ValidationError:
        raise
    except Unreadable:
        pass
    found: list[bytes] = []
    for position, item in enumerate(splice.items(bytes(array))):
        view, _ = readable(_decode_raw, item)
        if view != item:
            odd[position] = oddity(view, item)
        found.append(view)
    return found


def layout(parts: Sequence[bytes | None]) -> bytes:
    """A layout of reasoning blocks; each None is one visible block."""
    written: list[bytes] = []
    between = 0
    for part in parts:
        if part is None:
            between += 1
            continue
        if between:
            written.append(b"%d" % between)
            between = 0
        written.append(part)
    if between:
        written.append(b"%d" % between)
    return b"[%b]" % b",".join(written)


def blocks(value: bytes) -> list[bytes]:
    """The reasoning blocks of a layout, in order."""
    return [item for item in items(value) if item[:1] == b"{"]


def mapped(value: bytes, how: Callable[[bytes], bytes]) -> bytes:
    """A layout with every reasoning block in it put through `how`."""
    return b"[%b]" % b",".join(how(item) if item[:1] == b"{" else item for item in items(value))


def places(value: bytes, visible: int) -> dict[int, list[bytes]]:
    """Which blocks of a layout go before which visible block (by position).

    Where a client did not keep as many visible blocks as there were, all go first.
    """
    found: dict[int, list[bytes]] = {}
    at = 0
    for item in items(value):
        if item[:1] == b"{":
            found.setdefault(at, []).append(item)
        else:
            at += int(item)
    return found if at == visible else {0: blocks(value)}


def join_layouts(first: bytes, second: bytes) -> bytes:
    """The layout of two merged turns."""
    inner = [part for part in (first[1:-1].strip(), second[1:-1].strip()) if part]
    return b"[%b]" % b",".join(inner)


def loose(payload: bytes) -> dict[str, object]:
    """An event that the strict decoder refuses (half a character in a fragment). Raises AnswerError."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"an event that cannot be read ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise AnswerError("an event that is not an object")
    return value


def completed(
    sent: bytes,
    recorded: bytes,
    said: Callable[[dict[str, Raw]], object],
    says_something: Callable[[dict[str, Raw]], bool],
    is_same: Callable[[dict[str, Raw], dict[str, Raw]], bool],
) -> bytes | None:
    """The recorded layout, where a client dropped some of its blocks, or a part of them, and kept the others.

    None if it dropped nothing, or sent what is not in it, or in another order. `is_same` says of a block
    that was sent and a recorded one whether they are the same, be it without some of its parts.
    """
    mine, theirs = ([opened(raw) for raw in blocks(layout)] for layout in (sent, recorded))
    if list(map(said, mine)) == list(map(said, theirs)):
        return None
    left = iter(theirs)
    if all(any(is_same(block, other) for other in left) for block in filter(says_something, mine)):
        return recorded
    return None


SEALED = ("encrypted_content", "encrypted", "data")
# The members that a part of a reasoning item or block stands in, whatever the wire calls it.
PARTS: Mapping[str, tuple[str, ...]] = {"signature": ("signature",), "item_id": ("id",), "sealed": SEALED}


def stripped(
    item: bytes, parts: Collection[str], says_something: Callable[[dict[str, Raw]], bool]
) -> bytes | None:
    """A reasoning item or block without some parts, every other member as it came.

    None if it then says nothing any more; an item that has none of these parts stays as it is.
    """
    members = opened(item)
    names = {name for part in parts for name in PARTS.get(part, (part,))}
    if names.isdisjoint(members):
        return item
    if not members.keys().isdisjoint(names.intersection(SEALED)):
        # Without its seal, what the id names is another item.
        names |= {"id"}
    left = {name: value for name, value in members.items() if name not in names}
    return closed(left) if says_something(left) else None


def stripped_layout(
    value: bytes, parts: Collection[str], says_something: Callable[[dict[str, Raw]], bool]
) -> bytes | None:
    """A layout whose blocks are `stripped`; None where none is left."""
    kept = list(_stripped_items(value, parts, says_something))
    return b"[%b]" % b",".join(kept) if any(item[:1] == b"{" for item in kept) else None


def _stripped_items(
    value: bytes, parts: Collection[str], says_something: Callable[[dict[str, Raw]], bool]
) -> Iterator[bytes]:
    for item in items(value):
        left = stripped(item, parts, says_something) if item[:1] == b"{" else item
        if left is not None:
            yield left


class Bound:
    """How much of an answer may be kept, in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = 0

    def keep(self, size: int) -> None:
        """So much more is kept. Raises AnswerError where that is too much."""
        self._kept += size
        if self._kept > self._limit:
            raise AnswerError(f"a turn is longer than {self._limit} bytes")
