r"""The twin of JSON that a strict decoder refuses: as long as it, byte for byte, and readable.

Clients send what is not text: JavaScript's `slice` cuts an emoji in two and `JSON.stringify` writes the half
(`\ud83d`), programs in C pass bytes on that are not UTF-8. Many providers take that, so it must not end a
conversation here. Strategy: what cannot be read is written over in a copy of the same length. Half a
character becomes U+FFFD, which is what it is in records and what other clients make of it; a byte that is no
UTF-8 becomes `?`; a value nested deeper than decoders go becomes a string. So every position holds in both:
the twin is read, and what is sent on is cut from the original and stays as it came.

Nothing here runs for a body that is as it should be. Each step is one pass, in C but for what is nested too
deep. What else JSON forbids (control characters, NaN) providers refuse too, and it is not mended.
"""

import re
from collections.abc import Callable

import msgspec

type Json = bytes | msgspec.Raw

# Words for people, behind "the message".
HALVED = "holds half a character"
TOO_DEEP = "is nested too deep"
UNLIKE_SCHEMA = "is not as the schema says"
LEFT = "cannot be changed without doubt"

# A pair is passed over whole. It begins with what the search can run ahead to: ten times as fast.
_SURROGATE = re.compile(
    rb"\\u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|([dD][89a-fA-F][0-9a-fA-F]{2}))"
)
# Half a character as UTF-8 would write it, as Python stands in for its bytes.
_WRITTEN_HALF = re.compile("\udced[\udca0-\udcbf][\udc80-\udcbf]")
_NO_UTF8 = re.compile("[\udc80-\udcff]+")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]+|[\]}]+', re.DOTALL)
# No message is nested as deep as this, and every decoder goes further.
_DEEPEST = 200
_AS_TEXT = bytes.maketrans(bytes(range(32)) + b'"\\', b" " * 32 + b"'/")


def readable[T](decode: Callable[[Json], T], data: bytes) -> tuple[bytes, T]:
    """The data, or its twin where it cannot be decoded as it is, and what it says.

    Raises what the decoder raises where the value is of another type, or is not JSON however it is read.
    """
    try:
        return data, decode(data)
    except msgspec.ValidationError:
        raise
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    view = mended(data)
    try:
        return view, decode(view)
    except RecursionError:
        view = shallow(view)
        return view, decode(view)


def loosely[T](decode: Callable[[Json], T], data: Json) -> T:
    """What the data says, or else its twin. Raises as `readable` does."""
    return readable(decode, bytes(data))[1]


def oddity(view: bytes, data: bytes) -> str:
    """What is odd about data that has this twin."""
    return HALVED if mended(data) == view else TOO_DEEP


def mended(data: bytes) -> bytes:
    """The same with U+FFFD for every half of a character, and `?` for every byte that is not UTF-8."""
    if halves := _halves(data):
        copy = bytearray(data)
        for at in halves:
            copy[at : at + 4] = b"fffd"
        data = bytes(copy)
    try:
        data.decode()
        return data
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
        return _NO_UTF8.sub(_marks, _WRITTEN_HALF.sub("\ufffd", text)).encode()


def _halves(data: bytes) -> list[int]:
    """Where the digits of escapes stand that are half a character each."""
    found: list[int] = []
    at = 0
    while (match := _SURROGATE.search(data, at)) is not None:
        start = match.start()
        before = start
        while before and data[before - 1] == 0x5C:
            before -= 1
        if (start - before) % 2:
            at = start + 1  # a backslash that is itself escaped begins no escape
            continue
        if match[1]:
            found.append(match.start(1))
        at = match.end()
    return found


def _marks(match: re.Match[str]) -> str:
    return "?" * len(match[0])


def shallow(data: bytes) -> bytes:
    """The same with a string for every value that is nested too deep."""
    copy = bytearray(data)
    depth = 0
    begin = -1
    for token in _TOKEN.finditer(data):
        start, end = token.span()
        size = end - start
        match data[start]:
            case 0x5B | 0x7B:
                if depth <= _DEEPEST < depth + size:
                    begin = start + _DEEPEST - depth
                depth += size
            case 0x5D | 0x7D:
                if depth > _DEEPEST >= depth - size:
                    finish = start + depth - _DEEPEST
                    inside = data[begin + 1 : finish - 1].translate(_AS_TEXT)
                    copy[begin:finish] = b'"%b"' % inside
                depth -= size
    return bytes(copy)
