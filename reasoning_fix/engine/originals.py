"""Take back what was put into a request: the body as the client sent it, from the body as it went out.

Only what was changed is kept for that, which is next to nothing: clients that lose reasoning send none. A
body that is undone says what the client's said, spelled the same but where a member of it was rewritten.
"""

from collections.abc import Mapping

import msgspec

from reasoning_fix.dialects import DIALECTS, values
from reasoning_fix.dialects.splice import SpliceError, members, set_items, set_members
from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.wire import Change, NotChatError, Request, read_request, write_request


class Before(msgspec.Struct, frozen=True):
    """The changed members of some turns, and of the body's top, as they came; None: it was not there.

    `cuts` are positions in the history as it was sent at which a turn begins with nothing said before it.
    """

    turns: dict[int, dict[str, bytes | None]] = {}
    settings: dict[str, bytes | None] = {}
    cuts: tuple[int, ...] = ()


def was(request: Request, index: int, change: Change) -> dict[str, bytes | None]:
    """The members of one turn that a change takes the place of, as they came."""
    own = request.own.get(index, {}) | request.as_came.get(index, {})
    found: dict[str, bytes | None] = {name: own.get(name) for name in change}
    if "content" in found:
        found["content"] = _content(request, index)
    return found


def was_at_top(request: Request, settings: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """The members at the body's top that these take the place of, as they came."""
    top = request.parameters
    return {name: bytes(top[name]) if name in top else None for name in settings}


def _content(request: Request, index: int) -> bytes:
    if (came := request.as_came.get(index, {}).get("content")) is not None:
        return came
    if index in request.null_content:
        return b"null"
    message = request.messages[index]
    said = message.text if isinstance(message, Turn) else ""
    return request.in_parts.get(index) or msgspec.json.encode(said)


def undone(body: bytes, dialect: str, before: Before) -> bytes | None:
    """The body before these changes; None if it no longer is the body that they were made to."""
    speaks = DIALECTS.get(dialect)
    if speaks is None:
        return None
    try:
        request = speaks.open_request(body)
        request.cuts = frozenset(before.cuts)
        speaks.read_history(request)
        if not all(
            0 <= i < len(request.messages) and isinstance(request.messages[i], Turn) for i in before.turns
        ):
            return None
        written = write_request(speaks, request, before.turns, before.settings)
        return _emptied(written, before) if dialect == "messages" else written
    except (NotChatError, SpliceError, msgspec.MsgspecError, KeyError, UnicodeError):
        return None


def _emptied(body: bytes, before: Before) -> bytes:
    """Messages that held nothing but what was put in: their dialect leaves no content without a block."""
    request = read_request(DIALECTS["messages"], body)
    left = [i for i, fields in before.turns.items() if i in request.own and not any(fields.values())]
    if not left:
        return body
    place = members(body)["messages"]
    array = body[place.begin : place.end]
    raws = values.items(array)
    emptied = {at: set_members(raws[at], {"content": b'""'}) for i in left for at in request.spans[i]}
    return b"".join((body[: place.begin], set_items(array, {}, dict(emptied)).data, body[place.end :]))
