"""Take back what was put into a request: the body as the client sent it, from the body as it went out.

Only what was changed is kept for that, which is next to nothing: clients that lose reasoning send none. A
body that is undone says what the client's said, spelled the same but where a member of it was rewritten.
"""

from collections.abc import Mapping

import msgspec

from reasoning_fix.dialects import DIALECTS, values
from reasoning_fix.dialects.splice import SpliceError, members, set_items, set_members
from reasoning_fix.dialects.wire import Change, NotChatError, Request
from reasoning_fix.turns import Turn


class Before(msgspec.Struct, frozen=True):
    """The changed members of some turns, and of the body's top, as they came; None: it was not there."""

    turns: dict[int, dict[str, bytes | None]] = {}
    settings: dict[str, bytes | None] = {}


def before(request: Request, changes: Mapping[int, Change], settings: Mapping[str, bytes | None]) -> Before:
    """What these changes take the place of. O(changes)."""
    nothing: dict[str, bytes] = {}
    turns: dict[int, dict[str, bytes | None]] = {}
    for index, change in changes.items():
        own = request.own.get(index, nothing)
        was = turns[index] = {name: own.get(name) for name in change}
        if "content" in was:
            was["content"] = _content(request, index)
    top = request.parameters
    return Before(turns, {name: bytes(top[name]) if name in top else None for name in settings})


def _content(request: Request, index: int) -> bytes:
    if index in request.null_content:
        return b"null"
    message = request.messages[index]
    said = message.text if isinstance(message, Turn) else ""
    return request.in_parts.get(index) or msgspec.json.encode(said)


def undone(body: bytes, dialect: str, was: Before) -> bytes | None:
    """The body before these changes; None where it no longer is the body that they were made to."""
    speaks = DIALECTS.get(dialect)
    if speaks is None:
        return None
    try:
        request = speaks.read_request(body)
        if not all(
            0 <= i < len(request.messages) and isinstance(request.messages[i], Turn) for i in was.turns
        ):
            return None
        written = speaks.write_request(request, was.turns, was.settings)
        return _emptied(written, was) if dialect == "messages" else written
    except (NotChatError, SpliceError, msgspec.MsgspecError, KeyError, UnicodeError):
        return None


def _emptied(body: bytes, was: Before) -> bytes:
    """Messages that held nothing but what was put in: their dialect leaves no content without a block."""
    request = DIALECTS["messages"].read_request(body)
    left = [i for i, fields in was.turns.items() if i in request.own and not any(fields.values())]
    if not left:
        return body
    place = members(body)["messages"]
    array = body[place.begin : place.end]
    raws = values.items(array)
    emptied = {at: set_members(raws[at], {"content": b'""'}) for i in left for at in request.spans[i]}
    return b"".join((body[: place.begin], set_items(array, {}, dict(emptied)), body[place.end :]))
