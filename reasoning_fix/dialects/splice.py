"""Change single members and items inside a JSON body and carry every other byte over as it came.

Strategy: msgspec hands out the raw bytes of each value in order of appearance, so positions follow by adding
up lengths; nothing is searched for, and nothing but the edited values is encoded. O(bytes of the body).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

_BEFORE_MEMBER = re.compile(rb'[ \t\r\n]*[,{][ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_BEFORE_ITEM = re.compile(rb"[ \t\r\n]*[,\[][ \t\r\n]*")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

_encode = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """Where a member lies in its object's bytes: its name's quote, its value's first byte, and its end."""

    start: int
    begin: int
    end: int


class SpliceError(ValueError):
    """The body repeats a member name, so that its members cannot be placed without doubt."""


def members(data: bytes) -> dict[str, Place]:
    """Where each member of a JSON object lies in `data`.

    Raises SpliceError for a repeated name, msgspec.DecodeError for no object.
    """
    found: dict[str, Place] = {}
    end = 0
    for name, raw in _decode_object(data).items():
        separator = _BEFORE_MEMBER.match(data, end)
        value = bytes(raw)
        if separator is None or not data.startswith(value, separator.end()):
            raise SpliceError("a member name comes twice")
        if separator[1] != name.encode() and json.loads(b'"%b"' % separator[1]) != name:
            raise SpliceError(f"a member name comes twice near {name!r}")
        begin, end = separator.end(), separator.end() + len(value)
        found[name] = Place(separator.start(1) - 1, begin, end)
    if not re.fullmatch(rb"[ \t\r\n]*\{?[ \t\r\n]*\}[ \t\r\n]*", data[end:]):
        raise SpliceError("a member name comes twice")
    return found


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
    return _laid_out(data, b"{", spans, kept, {len(spans): added})


def set_items(
    data: bytes, put: Mapping[int, Sequence[bytes]], replaced: Mapping[int, bytes | None] | None = None
) -> bytes:
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
) -> bytes:
    """The elements that are kept, between the separators that stood before them, and new ones put in."""
    inside = data.index(bracket) + 1
    pieces = [data[: spans[0][0] if spans else inside]]
    separator = b""
    for index, element in enumerate(kept):
        for new in put.get(index, ()):
            pieces += (separator, new)
            separator = b","
        if element is not None:
            own = data[spans[index - 1][1] : spans[index][0]] if index else b","
            pieces += (own if separator else b"", element)
            separator = b","
    for new in put.get(len(spans), ()):
        pieces += (separator, new)
        separator = b","
    pieces.append(data[spans[-1][1] if spans else inside :])
    return b"".join(pieces)


def items(data: bytes) -> list[bytes]:
    """The raw items of a JSON array. Raises msgspec.DecodeError where it is none."""
    return [bytes(raw) for raw in _decode_list(data)]


def _items(data: bytes) -> Iterator[tuple[int, int]]:
    end = 0
    for raw in _decode_list(data):
        separator = _BEFORE_ITEM.match(data, end)
        if separator is None:
            raise SpliceError("the array is not laid out as expected")
        begin, end = separator.end(), separator.end() + len(memoryview(raw))
        yield begin, end


def set_in_array(
    body: bytes,
    name: str,
    changes: Mapping[int, Mapping[str, bytes | None]],
    settings: Mapping[str, bytes | None],
) -> bytes:
    """The body with members set in some items (by index) of its array `name`, and others at its top."""
    if changes:
        _, begin, end = members(body)[name]
        array = body[begin:end]
        pieces, at = [body[:begin]], 0
        for index, (start, finish) in enumerate(_items(array)):
            if index in changes:
                pieces += (array[at:start], set_members(array[start:finish], changes[index]))
                at = finish
        body = b"".join((*pieces, array[at:], body[end:]))
    return set_members(body, settings) if settings else body
