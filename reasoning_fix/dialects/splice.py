"""Change single members of objects inside a JSON body and carry every other byte over as it came.

Strategy: msgspec hands out the raw bytes of each value in order of appearance, so positions follow by adding
up lengths; nothing is searched for, and nothing but the edited values is encoded. O(bytes of the body).
"""

import json
import re
from collections.abc import Mapping

import msgspec

_BEFORE_MEMBER = re.compile(rb'[ \t\r\n]*[,{][ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_BEFORE_ITEM = re.compile(rb"[ \t\r\n]*[,\[][ \t\r\n]*")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class SpliceError(ValueError):
    """The body repeats a member name, so that its members cannot be placed without doubt."""


def members(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each member of a JSON object begins and ends in `data`.

    Raises SpliceError for a repeated name, msgspec.DecodeError for no object.
    """
    found: dict[str, tuple[int, int]] = {}
    end = 0
    for name, raw in _decode_object(data).items():
        separator = _BEFORE_MEMBER.match(data, end)
        value = bytes(raw)
        if separator is None or not data.startswith(value, separator.end()):
            raise SpliceError("a member name comes twice")
        if json.loads(b'"%b"' % separator[1]) != name:
            raise SpliceError(f"a member name comes twice near {name!r}")
        begin, end = separator.end(), separator.end() + len(value)
        found[name] = (begin, end)
    if not re.fullmatch(rb"[ \t\r\n]*\{?[ \t\r\n]*\}[ \t\r\n]*", data[end:]):
        raise SpliceError("a member name comes twice")
    return found


def set_members(data: bytes, values: Mapping[str, bytes]) -> bytes:
    """The JSON object with these members set (replaced in place, else appended) to these JSON values."""
    places = members(data)
    edits = [(*places[name], value) for name, value in values.items() if name in places]
    added = [b"%b:%b" % (msgspec.json.encode(name), v) for name, v in values.items() if name not in places]
    if added:
        last = max((end for _, end in places.values()), default=data.index(b"{") + 1)
        edits.append((last, last, (b"," if places else b"") + b",".join(added)))
    return _apply(data, edits)


def set_in_messages(body: bytes, changes: Mapping[int, Mapping[str, bytes]], name: str = "messages") -> bytes:
    """The body with members set in some items (by index) of its array `name`."""
    begin, finish = members(body)[name]
    edits: list[tuple[int, int, bytes]] = []
    end = begin
    for index, raw in enumerate(_decode_list(body[begin:finish])):
        separator = _BEFORE_ITEM.match(body, end)
        length = len(memoryview(raw))
        if separator is None:
            raise SpliceError("the array is not laid out as expected")
        start, end = separator.end(), separator.end() + length
        if index in changes:
            item = bytes(raw)
            if body[start:end] != item:
                raise SpliceError("the array is not laid out as expected")
            edits.append((start, end, set_members(item, changes[index])))
    return _apply(body, edits)


def _apply(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for begin, end, value in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (data[at:begin], value)
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)
