"""Changes to an input that random bytes would hardly ever find: what hostile clients and providers send.

One generator decides everything, so the same seed makes the same input. JSON is changed as JSON, also in the
`data:` lines of an event stream; members are kept as pairs, since a name that comes twice is one of the
things to try.
"""

import json
import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

_TOKENS = (
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\r",
    b"\n\n",
    b"\r\n\r\n",
    b"data: ",
    b"data:\n\n",
    b"data: [DONE]\n\n",
    b": comment\n\n",
    b"event: error\n",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\u0000",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"[" * 2000,
    b'{"a":' * 2000,
    b"<think>",
    b"</think>",
    b"<system-reminder>",
    b'"cache_control"',
    b'"error":{}',
    b"null",
    b"{}",
    b"\\",
    b'"',
)
# Beside the names and words of the other input.
_NAMES = ("error", "prefix", "previous_response_id", "__proto__", "", "a" * 5000)
_TEXTS = (
    "",
    " ",
    "\n\t",
    "\0\x1b[31m",
    "[reasoning not on record 1f3a9c2b]",
    "<think>one</think>two",
    "</think>",
    "\ud83d",
    "\udc00\ud83d",
    "\ufeff",
    "e\u0301",
    "\u00e9",
    "a" * 70_000,
    "redacted_thinking",
    '{"a": 1e400, "a": 2}',
)
_WORD = re.compile(rb'"(\w{1,40})"')
_NUMBERS = (0, -1, 1, 2**31, -(2**63), 2**64, 10**400, 0.1, 1e308, float("nan"), float("inf"), -0.0)
_LINE = re.compile(rb"^data: ?(\{.*\})\r?$", re.MULTILINE)
_DEEPEST = 60


class Pairs(list[tuple[str, object]]):
    """A JSON object as its members in order; a name may come twice."""


class _Nested(NamedTuple):
    """A value so deep that it is written out rather than built."""

    depth: int
    bracket: str


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """One to four changes; `other` is a second input to take parts from."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change = random.choice(_CHANGES)
        data = change(data, other, random)
    return data


def _flip(data: bytes, other: bytes, random: Random) -> bytes:
    if not data:
        return bytes([random.randrange(256)])
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _put(data: bytes, other: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(_TOKENS) + data[at:]


def _cut(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:start] + data[end:]


def _truncate(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _repeat(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:end] + data[start:end] * random.choice((1, 2, 8)) + data[end:]


def _splice(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(other, random)
    at, until = _range(data, random)
    return data[:at] + other[start:end] + data[until:]


def _range(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 4, 64, 1024)))


def _lines(data: bytes, other: bytes, random: Random) -> bytes:
    """Whole lines left out, doubled or put in another order."""
    lines = data.split(b"\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            lines = lines[:at] + random.choice((other, data)).split(b"\n")[to:]
    return b"\n".join(lines)


def _as_json(data: bytes, other: bytes, random: Random) -> bytes:
    """A change to one value of a JSON text; of one event, where the input is a stream of them."""
    found = list(_LINE.finditer(data))
    if found:
        line = random.choice(found)
        changed = _json(line[1], other, random)
        # A changed event is still one line.
        return data[: line.start(1)] + changed.replace(b"\n", b" ") + data[line.end(1) :]
    start = data.find(b"{")
    return data if start < 0 else data[:start] + _json(data[start:], other, random)


def _json(data: bytes, other: bytes, random: Random) -> bytes:
    try:
        value = json.loads(data, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[list[object], int]] = []
    _find(value, places, 0)
    if not places:
        return data
    holder, at = random.choice(places)
    _change(holder, at, random, places, [word.decode() for word in _WORD.findall(other)])
    try:
        text = _written(value, random.choice((", ", ",", " ,\n\t")), bool(random.randrange(4)))
    except RecursionError:
        return data
    return text.encode("utf-8", "surrogatepass")


def _find(value: object, places: list[tuple[list[object], int]], depth: int) -> None:
    """Every member and item, as the list that holds it and the position there."""
    if not isinstance(value, list) or depth > _DEEPEST:
        return
    for at, item in enumerate(value):
        places.append((value, at))
        _find(item[1] if isinstance(value, Pairs) else item, places, depth + 1)


def _change(
    holder: list[object],
    at: int,
    random: Random,
    places: list[tuple[list[object], int]],
    words: list[str],
) -> None:
    item = holder[at]
    name, value = item if isinstance(holder, Pairs) and isinstance(item, tuple) else (None, item)
    what = random.randrange(7)
    if what == 0:
        del holder[at]
        return
    if what == 1:
        holder.insert(random.randint(0, len(holder)), item)
        return
    if what == 2 and name is not None:
        name = random.choice((*_NAMES, *words))
    elif what == 3:
        other, there = random.choice(places)
        taken = other[there] if there < len(other) else None
        taken = taken[1] if isinstance(taken, tuple) else taken
        # A value may not come to hold itself.
        value = None if isinstance(taken, list | _Nested) else taken
    elif what == 4:
        value = random.choice(([value], Pairs([(random.choice((*_NAMES, *words)), value)])))
    else:
        value = _odd(random, words)
    holder[at] = value if name is None else (name, value)


def _odd(random: Random, words: list[str]) -> object:
    match random.randrange(5):
        case 0:
            return random.choice((*_TEXTS, *words))
        case 1:
            return random.choice(_NUMBERS)
        case 2:
            return random.choice((None, True, False, [], Pairs()))
        case 3:
            return _Nested(random.choice((10, 500, 5000)), random.choice("[{"))
        case _:
            return [random.choice(_TEXTS) for _ in range(random.choice((1, 3, 200)))]


def _written(value: object, comma: str, escaped: bool) -> str:
    if isinstance(value, _Nested):
        if value.bracket == "[":
            return "[" * value.depth + "]" * value.depth
        return '{"a":' * value.depth + "1" + "}" * value.depth
    if isinstance(value, Pairs):
        members = (f"{_text(name, escaped)}:{_written(item, comma, escaped)}" for name, item in value)
        return "{" + comma.join(members) + "}"
    if isinstance(value, list):
        return "[" + comma.join(_written(item, comma, escaped) for item in value) + "]"
    return _text(value, escaped)


def _text(value: object, escaped: bool) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**400:
        return "1" + "0" * 400
    return json.dumps(value, ensure_ascii=escaped)


_CHANGES: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    _flip,
    _put,
    _cut,
    _truncate,
    _repeat,
    _splice,
    _lines,
    _as_json,
    _as_json,
    _as_json,
    _as_json,
)
