"""A history as it is compared: its turns as slots, and the fingerprints of all that was said.

What was said is compared in a form that survives what clients do to it. Outer white space, `<think>` blocks,
the spelling of arguments (key order, spaces, number formats) and tool-call ids do not count; ids are evidence
of their own. A fingerprint is a keyed hash (BLAKE2b, 16 bytes) under the scope's key, so it says nothing to
anyone without the credential. This file knows no wire format, no store and no clock.
"""

import json
import math
import re
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from reasoning_fix.dialects.turns import Call, Other, Turn
from reasoning_fix.dialects.twins import mended

FINGERPRINT_BYTES = 16
NONE = b""

_THINK = re.compile(r"<(mm:)?think>.*?(?:</(?:mm:)?think>|\Z)", re.DOTALL)
_UNOPENED = re.compile(r"\A.*?</(?:mm:)?think>", re.DOTALL)
# Some clients take the punctuation out of tool-call ids (OpenClaw: `call_00_Ab` -> `call00Ab`).
_PUNCTUATION = str.maketrans("", "", r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""")
# Spellings that JavaScript clients change when they parse and print arguments again: 1.0 -> 1, integers
# beyond 2^53. Only such arguments take the slow way through `_settle_numbers`. One head for all of them makes
# the search seven times as fast (2,000 characters: 70 us -> 9 us).
_UNSTABLE_NUMBER = re.compile(r"[0-9](?:\.[0-9]|[eE][-+]?[0-9]|[0-9]{15})")
_sorted = msgspec.json.Encoder(order="sorted").encode

type Json = dict[str, Json] | list[Json] | str | int | float | bool | None
_pack = msgspec.msgpack.Encoder().encode


class Slot(msgspec.Struct, gc=False):
    """One assistant message of a history, ready to be matched.

    `gap` are the fingerprints of the messages between the previous turn and this one; `calls` pairs the
    fingerprint of each id with that of its call.
    """

    index: int
    turn: bytes
    text: str
    calls: tuple[tuple[bytes, bytes], ...]
    ids: tuple[str, ...]
    gap: tuple[bytes, ...]
    before: bytes
    before_weight: int
    weight: int
    counted_ids: bool


class Fingerprints:
    """Keyed hashes of one scope. Every method is injective in its arguments: what varies has its length.

    The keyed state is made once and copied, which costs a third of a new one (0.6 microseconds a hash).
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._empty = blake2b(key=key, digest_size=FINGERPRINT_BYTES)

    def of(self, *parts: object) -> bytes:
        """Any values that msgpack can hold."""
        return self._hash(b"v" + _pack([_bytes(part) for part in parts]))

    def id(self, call_id: str) -> bytes:
        """Of an id as every client leaves it: without its punctuation."""
        return self.spelled_id(bare(call_id))

    def spelled_id(self, call_id: str) -> bytes:
        """Of an id as it is spelled, which is what older records hold."""
        return self._hash(b"i" + _utf8(call_id))

    def call(self, call: Call) -> bytes:
        name = _utf8(call.name)
        return self._hash(b"f%d:%b%b" % (len(name), name, canonical_arguments(call.arguments)))

    def turn(self, text: str, calls: Iterable[bytes]) -> bytes:
        """`text` is visible text, `calls` the fingerprints of the calls in order."""
        said = _utf8(text)
        return self._hash(b"t%d:%b%b" % (len(said), said, b"".join(calls)))

    def other(self, message: Other) -> bytes:
        said = _utf8(message.text.strip())
        state = self._empty.copy()
        state.update(b"o%d:%d:%b" % (len(said), len(message.attachments), _utf8(message.role)))
        state.update(said)
        if message.attachments:
            state.update(message.attachments)
        return state.digest()

    def context(self, previous: bytes, turn: bytes, gap: tuple[bytes, ...]) -> bytes:
        """The history up to a turn: that up to the turn before it, that turn, and what was said since."""
        return self._hash(b"c%d:%d:%b%b%b" % (len(previous), len(turn), previous, turn, b"".join(gap)))

    def place(self, context: bytes, turn: bytes) -> bytes:
        return self._hash(b"p%d:%b%b" % (len(context), context, turn))

    def _hash(self, data: bytes) -> bytes:
        state = self._empty.copy()
        state.update(data)
        return state.digest()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bytes(part: object) -> object:
    return _utf8(part) if isinstance(part, str) else part


class History(msgspec.Struct):
    """The messages of a request as slots, and what was said after the last of them."""

    slots: list[Slot]
    tail: tuple[bytes, ...]
    tail_weight: int


def read_history(
    messages: list[Turn | Other | None],
    fingerprints: Fingerprints,
    said: tuple[bytes, ...] = (),
    said_weight: int = 0,
) -> History:
    """Fold messages into slots; None (system messages) is left out. O(total text).

    `said` is what was said after the last turn before these messages, and how much the last of it says.
    """
    slots: list[Slot] = []
    gap = list(said)
    weight = said_weight
    for index, message in enumerate(messages):
        if message is None:
            continue
        if isinstance(message, Other):
            gap.append(fingerprints.other(message))
            weight = len(message.text.strip())
            continue
        slots.append(slot(message, index, tuple(gap), weight, fingerprints))
        gap, weight = [], 0
    return History(slots, tuple(gap), weight)


def slot(
    turn: Turn, index: int, gap: tuple[bytes, ...], before_weight: int, fingerprints: Fingerprints
) -> Slot:
    text = visible(turn.text)
    weight, counted = len(text), False
    ids, calls, pairs = [], [], []
    for call in turn.calls:
        said = fingerprints.call(call)
        ids.append(call.id)
        calls.append(said)
        pairs.append((fingerprints.id(call.id) if call.id else NONE, said))
        weight += len(call.arguments)
        counted = counted or counts_up(call)
    return Slot(
        index=index,
        turn=fingerprints.turn(text, calls),
        text=text,
        calls=tuple(pairs),
        ids=tuple(ids),
        gap=gap,
        before=gap[-1] if gap else NONE,
        before_weight=before_weight,
        weight=weight,
        counted_ids=counted,
    )


def visible(text: str) -> str:
    """The text without its reasoning and outer white space."""
    if "think>" in text:
        text = _THINK.sub("", text) if "<think>" in text or "<mm:think>" in text else _UNOPENED.sub("", text)
    return text.strip()


def canonical_arguments(arguments: str) -> bytes:
    """Arguments as sorted, compact JSON; the trimmed text where they do not parse. Blank means `{}`."""
    trimmed = arguments.strip()
    if not trimmed or trimmed == "null":
        return b"{}"
    try:
        if _UNSTABLE_NUMBER.search(trimmed):
            return _sorted(_settle_numbers(json.loads(trimmed)))
        return _sorted(msgspec.json.decode(trimmed))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _loosely_canonical(trimmed.encode("utf-8", "surrogatepass"))


def _loosely_canonical(arguments: bytes) -> bytes:
    """Arguments that no strict decoder takes: a client may send half a character in them as U+FFFD."""
    try:
        return _sorted(_settle_numbers(json.loads(mended(arguments).decode())))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return arguments


def _settle_numbers(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _settle_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_settle_numbers(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that JSON cannot say")
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value


def bare(call_id: str) -> str:
    """A tool-call id without its punctuation: what is left of it in every client."""
    # Nearly all ids have underscores at most: a tenth of the time of `translate`.
    plain = call_id.replace("_", "")
    return plain if plain.isalnum() else call_id.translate(_PUNCTUATION) or call_id


def counts_up(call: Call) -> bool:
    """Whether an id is a counter (`functions.read:0`, `get_weather_0`, `call_3`): it repeats everywhere.

    Also one without its punctuation (`functionsread0`). Source:
    https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/docs/tool_call_guidance.md
    """
    if not call.id:
        return True
    plain = bare(call.id)
    if not plain.rstrip("\n")[-1:].isdecimal():
        return False
    if re.fullmatch(r"[A-Za-z]{0,8}[_:.-]?\d{1,6}", call.id):
        return True
    if not call.name:
        return False
    if call.name in call.id and re.search(r"[_:.-]\d{1,6}$", call.id):
        return True
    return re.fullmatch(rf"(functions)?{re.escape(bare(call.name))}\d{{1,6}}", plain) is not None
