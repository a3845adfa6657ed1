"""Responses API: reasoning items in the `input` of a request and in the `output` of an answer.

Source of the format: https://platform.openai.com/docs/api-reference/responses; what DeepSeek makes of it:
https://api-docs.deepseek.com/guides/responses_api. A turn is a run of items that a model said: reasoning,
messages, calls. The one reasoning field of this dialect is `items`: a layout (values.py) of the reasoning
items as the provider said them.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.response_answers import FIELD, AnswerFolder
from reasoning_fix.dialects.response_items import Item, layout_of, thoughts, turn_of
from reasoning_fix.dialects.splice import SpliceError, Written, items, set_items
from reasoning_fix.dialects.turns import Other
from reasoning_fix.dialects.twins import HALVED, UNLIKE_SCHEMA, mended
from reasoning_fix.dialects.values import (
    Unreadable,
    encoded,
    mended_string,
    open_body,
    opened,
    readable_items,
    said,
    string,
)
from reasoning_fix.dialects.wire import Change, KeptByServer, NotChatError, Request
from reasoning_fix.providers.rows import Summary
from reasoning_fix.providers.table import Provider

Raw = msgspec.Raw
NAME: Final = "responses"
# Whether a provider looks for reasoning message by message.
PER_MESSAGE: Final = False
HISTORY: Final = "input"
# Members by which a client names a conversation that the server keeps.
_KEPT = ("previous_response_id", "conversation")
_OTHERS = ("user", "system", "developer")


class _Kind(msgspec.Struct):
    type: str = ""
    role: str = ""


_decode_kinds = msgspec.json.Decoder(list[_Kind]).decode


# ---- Requests ----------------------------------------------------------------------------------------------


def open_request(body: bytes) -> Request:
    """The members of a request body. Raises NotChatError, KeptByServer where the server has the history."""
    request = open_body(body, HISTORY)
    for name in _KEPT:
        if bytes(request.parameters.get(name, b"null")) not in (b"null", b'""'):
            raise KeptByServer(f"the server keeps this conversation itself ({name})")
    request.system = mended_string(request.parameters.get("instructions")) or ""
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
    if bytes(memoryview(given)[:1]) != b"[":
        if (text := mended_string(given)) is None:
            raise NotChatError("input is neither a text nor an array")
        request.messages.append(Other("user", text))
        return
    try:
        raws = readable_items(given, request.odd)
    except (*Unreadable, SpliceError) as error:
        raise NotChatError(f"input is not an array ({type(error).__name__})") from None
    run: list[tuple[int, Item]] = []
    for place, raw in enumerate(raws):
        if place < request.stands_in:
            continue
        item = Item(raw, said)
        if item.kind == "item_reference":
            raise KeptByServer("the server keeps items of this conversation itself (item_reference)")
        if item.role == "assistant":
            if place in request.cuts:
                _close(request, run)
            run.append((place, item))
            continue
        _close(request, run)
        if item.role == "system":
            request.messages.append(None)
        else:
            request.messages.append(_read_other(request, place, item))
    _close(request, run)
    if request.odd:
        _note_what_came(request)


def _read_other(request: Request, place: int, item: Item) -> Other:
    if not item.members:
        request.odd[place] = UNLIKE_SCHEMA
    try:
        return Other(item.role, *item.said())
    except UnicodeError:
        request.odd[place] = HALVED
        return Other(item.role, *Item(mended(item.raw)).said())


def _note_what_came(request: Request) -> None:
    """Of turns that were read by their twins, the reasoning items as they came."""
    raws = items(bytes(request.array))
    for index, span in request.spans.items():
        if index in request.own and not request.odd.keys().isdisjoint(span):
            request.as_came[index] = {FIELD: layout_of([Item(raws[place]) for place in span])}


def _close(request: Request, run: "list[tuple[int, Item]]") -> None:
    """End a run of items that a model said: it is one turn."""
    if not run:
        return
    index = len(request.messages)
    parts = [item for _, item in run]
    try:
        turn = turn_of(parts)
    except UnicodeError:
        views = [mended(item.raw) for item in parts]
        odd = (place for (place, item), view in zip(run, views, strict=True) if view != item.raw)
        request.odd |= dict.fromkeys(odd, HALVED)
        parts = [Item(view) for view in views]
        turn = turn_of(parts)
    request.messages.append(turn)
    request.spans[index] = tuple(position for position, _ in run)
    if any(item.thinks for item in parts):
        request.own[index] = {FIELD: layout_of(parts)}
    run.clear()


def write_history(request: Request, changes: Mapping[int, Change]) -> Written:
    """The items with reasoning set in some turns. Raises SpliceError."""
    array = bytes(request.array)
    raws = items(array)
    put: dict[int, list[bytes]] = {}
    drop: dict[int, bytes | None] = {}
    for index, change in changes.items():
        span = request.spans[index]
        visible = [place for place in span if not Item(raws[place]).thinks]
        drop |= {place: None for place in span if place not in visible}
        for at, new in values.places(change[FIELD] or b"[]", len(visible)).items():
            put.setdefault(visible[at] if at < len(visible) else span[-1] + 1, []).extend(new)
    return set_items(array, put, drop)


def joints(request: Request, indices: Sequence[int]) -> list[int]:
    """Between messages, and between a message and calls: with the reasoning that stands before either."""
    spans = [span for index in indices if len(span := request.spans[index]) > 1]
    raws = values.items(request.array) if spans else []
    return [place for span in spans for place in _joints(raws, span)]


def _joints(raws: Sequence[bytes], span: Sequence[int]) -> list[int]:
    found: list[int] = []
    begin, last = None, ""
    for place in span:
        item = Item(raws[place])
        if item.thinks:
            begin = place if begin is None else begin
            continue
        kind = "message" if item.kind == "message" else "call"
        if last and (last, kind) != ("call", "call"):
            found.append(place if begin is None else begin)
        begin, last = None, kind
    return found


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


def fitted(provider: Provider, value: bytes) -> bytes:
    """Items with the `summary` that the provider demands, or without the one that it would read as well."""
    if provider.summary == "as_received":
        return value
    return values.mapped(value, partial(_summarized, provider.summary))


def _summarized(summary: Summary, raw: bytes) -> bytes:
    item = opened(raw)
    if summary == "always" and "summary" not in item:
        return values.closed({**item, "summary": b"[]"})
    # A thought that stands nowhere else stays.
    if summary == "never" and "summary" in item and (thoughts(item, ("content",)) or not thoughts(item)):
        return values.closed({name: member for name, member in item.items() if name != "summary"})
    return raw


def texts(field: str, value: bytes) -> list[str] | None:
    """The thoughts in the items; None if one is encrypted."""
    found: list[str] = []
    for raw in values.blocks(value):
        item = opened(raw)
        if string(item.get("encrypted_content")):
            return None
        found += thoughts(item)
    return found


def readable(field: str, value: bytes) -> list[str]:
    """The thoughts in parts of the type that DeepSeek looks for: a summary does not count."""
    parts = (part for raw in values.blocks(value) for part in values.items(opened(raw).get("content")))
    return [text for part in map(opened, parts) if _type(part) == "reasoning_text" and (text := _text(part))]


def words(field: str, value: bytes) -> str:
    """The contents of the items in any form, be it a plain text; summaries where there are none."""
    found = [opened(raw) for raw in values.blocks(value)]
    for name in ("content", "summary"):
        said = [string(item.get(name)) or "\n".join(thoughts(item, (name,))) for item in found]
        if any(text.strip() for text in said):
            return "\n".join(text for text in said if text)
    return ""


def without(field: str, value: bytes, parts: Collection[str]) -> bytes | None:
    """The layout without these parts of its items."""
    return values.stripped_layout(value, parts, lambda item: bool(thoughts(item) or _sealed(item)))


def completed(field: str, sent: bytes, recorded: bytes) -> bytes | None:
    """The recorded items, where a client dropped some of them, or their texts, and kept the others."""
    return values.completed(sent, recorded, _said, _says_something, _is_same)


def _said(item: Mapping[str, Raw]) -> tuple[list[tuple[str, str, str]], str]:
    forms = [
        (name, _type(part), _text(part))
        for name in ("content", "summary")
        for part in map(opened, values.items(item.get(name)))
    ]
    return [form for form in forms if form[2]], _sealed(item)


def _says_something(item: Mapping[str, Raw]) -> bool:
    return bool(_texts(item) or _sealed(item) or _id(item))


def _texts(item: Mapping[str, Raw]) -> list[str]:
    """The thoughts without white space at their ends, be they a plain text in place of parts."""
    plain = string(item.get("content"))
    return [text.strip() for text in (thoughts(item) if plain is None else [plain]) if text.strip()]


def _is_same(sent: dict[str, Raw], recorded: dict[str, Raw]) -> bool:
    mine, theirs = _texts(sent), _texts(recorded)
    if _sealed(sent) not in ("", _sealed(recorded)):
        return False
    if mine:
        return all(text in theirs for text in mine)
    return bool(_sealed(sent)) or (_id(sent) != "" and _id(sent) == _id(recorded))


def _type(part: Mapping[str, Raw]) -> str:
    return string(part.get("type")) or ""


def _text(part: Mapping[str, Raw]) -> str:
    return string(part.get("text")) or ""


def _id(item: Mapping[str, Raw]) -> str:
    return string(item.get("id")) or ""


def _sealed(item: Mapping[str, Raw]) -> str:
    return string(item.get("encrypted_content")) or ""


def join(field: str, first: bytes, second: bytes) -> bytes:
    """The items of two merged turns, in order."""
    return values.join_layouts(first, second)


def tidy(field: str, value: bytes) -> bytes:
    """Items are kept as they came."""
    return value


# ---- Answers -----------------------------------------------------------------------------------------------


def may_end(events: bytes) -> bool:
    """Whether there is a response that is completed or incomplete, or a whole one in place of events."""
    return b"complete" in events or b'"output"' in events or b"\\u00" in events


def folder(snapshots: bool) -> "AnswerFolder":
    """A reader for one answer."""
    return AnswerFolder()
