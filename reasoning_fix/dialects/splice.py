"""Change single members and items inside a JSON body and carry every other byte over as it came.

Strategy: msgspec hands out the raw bytes of each value in order of appearance, so positions follow by adding
up lengths; nothing is searched for, and nothing but the edited values is encoded. O(bytes of the body). What
no strict decoder takes is placed by its twin (twins.py), where every position is the same.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.dialects.twins import mended, readable

_BEFORE_MEMBER = re.compile(rb'[ \t\r\n]*[,{][ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_BEFORE_ITEM = re.compile(rb"[ \t\r\n]*[,\[][ \t\r\n]*")
_SEPARATORS, _SPACE = b"[,", 0x20
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

_encode = msgspec.json.Encoder().encode
# So many bytes of a value are compared at either end.
_SEEN = 64


class Place(NamedTuple):
    """Where a member lies in its object's bytes: its name's quote, its value's first byte, and its end."""

    start: int
    begin: int
    end: int


class SpliceError(ReasoningFixError, ValueError):
    """The body repeats a member name, so that its members cannot be placed without doubt."""


class LeftError(SpliceError):
    """Some items cannot be changed without doubt; all others can. `items` are their positions."""

    def __init__(self, items: Mapping[int, SpliceError]) -> None:
        super().__init__(str(next(iter(items.values()))))
        self.items = frozenset(items)


def raw_members(data: bytes) -> dict[str, msgspec.Raw]:
    """The raw members of a JSON object, each as it came. Raises msgspec.DecodeError, SpliceError."""
    try:
        return _decode_object(data)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        places = members(data)
        return {name: msgspec.Raw(data[place.begin : place.end]) for name, place in places.items()}


def members(data: bytes, opened: Mapping[str, msgspec.Raw] | None = None) -> dict[str, Place]:
    """Where each member of a JSON object lies in `data`; `opened` are its members where they are known.

    Raises SpliceError for a name that is repeated, msgspec.DecodeError for no object.
    """
    found: dict[str, Place] = {}
    end = 0
    if opened is not None:
        known = opened
    else:
        data, known = readable(_decode_object, data)
    for name, raw in known.items():
        separator = _BEFORE_MEMBER.match(data, end)
        value = memoryview(raw)
        if separator is None or not _lies_at(data, separator.end(), value):
            raise SpliceError("a member name comes twice")
        if separator[1] != name.encode() and json.loads(b'"%b"' % mended(separator[1])) != name:
            raise SpliceError(f"a member name comes twice near {name!r}")
        begin, end = separator.end(), separator.end() + len(value)
        found[name] = Place(separator.start(1) - 1, begin, end)
    if not re.fullmatch(rb"[ \t\r\n]*\{?[ \t\r\n]*\}[ \t\r\n]*", data[end:]):
        raise SpliceError("a member name comes twice")
    return found


def _lies_at(data: bytes, begin: int, value: memoryview) -> bool:
    """Whether a value begins and ends there as it should: enough, since nothing may be left over behind."""
    end = begin + len(value)
    head, tail = bytes(value[:_SEEN]), bytes(value[-_SEEN:])
    return data.startswith(head, begin) and data.startswith(tail, end - len(tail))


def add_members(data: bytes, values: Mapping[str, bytes]) -> bytes:
    """The JSON object with these members after its last one. It has others, and none of these names."""
    end = data.rindex(b"}")
    last = len(data[:end].rstrip(b" \t\r\n"))
    added = b"".join(b",%b:%b" % (_encode(name), value) for name, value in values.items())
    return b"%b%b%b" % (data[:last], added, data[last:])


def set_members(data: bytes, values: Mapping[str, bytes | None]) -> bytes:
    """The JSON object with these members set (replaced in place, else appended), or left out where None."""
    places = members(data)
    spans = [(place.start, place.end) for place in places.values()]
    kept: list[bytes | None] = []
    for name, (start, begin, end) in places.items():
        value = values.get(name, data[begin:end])
        kept.append(None if value is None else data[start:begin] + value)
    added = [
        b"%b:%b" % (_encode(name), value)
        for name, value in values.items()
        if name not in places and value is not None
    ]
    return _laid_out(data, b"{", spans, kept, {len(spans): added}).data


class Written(NamedTuple):
    """A JSON array that was changed, and where each item that it had before ends: now, and as it `came`."""

    data: bytes
    ends: list[int]
    came: list[int]


def item_ends(data: bytes) -> list[int]:
    """Where each item of a JSON array ends."""
    return [end for _, end in _items(data)]


def set_items(
    data: bytes, put: Mapping[int, Sequence[bytes]], replaced: Mapping[int, bytes | None] | None = None
) -> Written:
    """The JSON array with items put in before some positions (its length: at the end) and others replaced.

    An item replaced by None is left out.
    """
    spans = list(_items(data))
    changed = replaced or {}
    kept = [changed.get(index, data[begin:end]) for index, (begin, end) in enumerate(spans)]
    return _laid_out(data, b"[", spans, kept, put)


def _laid_out(
    data: bytes,
    bracket: bytes,
    spans: Sequence[tuple[int, int]],
    kept: Sequence[bytes | None],
    put: Mapping[int, Sequence[bytes]],
) -> Written:
    """The elements that are kept, between the separators that stood before them, and new ones put in."""
    inside = data.index(bracket) + 1
    pieces = [data[: spans[0][0] if spans else inside]]
    counts: list[int] = []
    separator = b""
    for index, element in enumerate(kept):
        for new in put.get(index, ()):
            pieces += (separator, new)
            separator = b","
        if element is not None:
            own = data[spans[index - 1][1] : spans[index][0]] if index else b","
            pieces += (own if separator else b"", element)
            separator = b","
        counts.append(len(pieces))
    for new in put.get(len(spans), ()):
        pieces += (separator, new)
        separator = b","
    pieces.append(data[spans[-1][1] if spans else inside :])
    reached = [0, *accumulate(map(len, pieces))]
    ends = [reached[count] for count in counts]
    return Written(b"".join(pieces), ends, [end for _, end in spans])


def items(data: bytes) -> list[bytes]:
    """The raw items of a JSON array, each as it came. Raises msgspec.DecodeError if it is not one."""
    try:
        return [bytes(raw) for raw in _decode_list(data)]
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return [data[begin:end] for begin, end in _items(data)]


def _items(data: bytes) -> Iterator[tuple[int, int]]:
    end = 0
    try:
        raws = _decode_list(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        data, raws = readable(_decode_list, data)
    for raw in raws:
        # As clients print it, with a blank or none; a third of the time of what follows.
        if data[end] in _SEPARATORS and data[end + 1] > _SPACE:
            begin = end + 1
        elif data[end] in _SEPARATORS and data[end + 1] == _SPACE < data[end + 2]:
            begin = end + 2
        elif (separator := _BEFORE_ITEM.match(data, end)) is not None:
            begin = separator.end()
        else:
            raise SpliceError("the array is not laid out as expected")
        end = begin + len(memoryview(raw))
        yield begin, end


def set_in_items(
    data: bytes,
    changes: Mapping[int, Mapping[str, bytes | None]],
    present: Mapping[int, Collection[str]] | None = None,
) -> Written:
    """The JSON array with members set in some of its items (by index).

    `present` are the members that an item has, of those that change: where they are known and new ones are
    only added, an item need not be opened. Raises LeftError for items that repeat a member name.
    """
    left: dict[int, SpliceError] = {}
    pieces: list[bytes] = []
    ends: list[int] = []
    came: list[int] = []
    at = grown = 0
    for index, (start, finish) in enumerate(_items(data)):
        change = changes.get(index)
        if change is not None:
            item = data[start:finish]
            new = {name: value for name, value in change.items() if value is not None}
            known = None if present is None else present.get(index)
            if known is not None and len(new) == len(change) and new.keys().isdisjoint(known):
                item = add_members(item, new)
            else:
                try:
                    item = set_members(item, change)
                except SpliceError as error:
                    left[index] = error
            pieces += (data[at:start], item)
            at = finish
            grown += len(item) - (finish - start)
        ends.append(finish + grown)
        came.append(finish)
    if left:
        raise LeftError(left)
    return Written(b"".join((*pieces, data[at:])), ends, came)


def with_history(
    body: bytes,
    opened: Mapping[str, msgspec.Raw],
    name: str,
    settings: Mapping[str, bytes | None],
    written: Written,
) -> bytes:
    """The body with this array under a name, and members set at its top. `opened` are its members."""
    _, begin, end = members(body, opened)[name]
    body = b"".join((body[:begin], written.data, body[end:]))
    return set_members(body, settings) if settings else body
