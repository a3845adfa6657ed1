"""The latest conversations, so that a request which goes on with one is worked out from there on only.

Strategy: clients send the whole history every time, and it grows at its end. Of each of the latest requests
the bytes of its history are kept, as they came and as they were sent on, with *points* in it up to which all
turns are settled (matching/): what stands there is known, and nothing that follows can change it. A request
whose history begins with the same bytes up to such a point begins there: one comparison of memory, and then
work for what is new only. Points lie before the last turns, since clients alter the newest messages
(`cache_control` moves on), and further apart before that, for edits.

Rules: the bytes that are sent, the report and what is recorded are the same with this memory as without it.
So all that a decision depends on besides the history is compared too (`Circumstances`); a record that comes
to a place remembered here, or with tool calls that were recognised by their ids, cuts what is remembered off
before it; and when another process changed the store, all is forgotten, which costs no more than having
remembered nothing. It holds what people said and thought, in this process's memory and nowhere else.
Bounded in conversations and bytes; the oldest goes first. It knows no wire format, no store and no clock.
"""

import re
import threading
from collections.abc import Mapping, Sequence

import msgspec

from reasoning_fix.engine.matching.verdicts import NOTHING_BEFORE, Last
from reasoning_fix.engine.policy import Policy
from reasoning_fix.engine.report import Report, Treated
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider, Table
from reasoning_fix.store import Record

# A request that leaves a remembered conversation among its last so many turns goes on with it; an earlier
# one is a branch, remembered beside it.
_BRANCHES_WITHIN = 8
_POINTS = 32
_NEAR_POINTS = 12
# About what is kept per turn besides its bytes.
_TURN_BYTES = 700
# So many bytes before a point are compared first: conversations differ somewhere.
_GLANCE = 64
_AFTER_ITEM = re.compile(rb"[ \t\r\n]*[,\]]")


class Circumstances(msgspec.Struct, frozen=True):
    """What decides how turns are treated, besides the history and what is on record."""

    scope: bytes
    table: Table
    provider: Provider
    endpoint: Endpoint
    family: str
    policy: Policy
    has_tools: bool
    treated: bool


class Known(msgspec.Struct, frozen=True, gc=False):
    """What became of a turn, and what its change took the place of (None: it was not changed)."""

    treated: Treated
    was: Mapping[str, bytes | None] | None


class Turned(msgspec.Struct, frozen=True, gc=False):
    """A settled turn: its record's key, its place, its calls where they told it, and what was done to it."""

    key: bytes
    place: bytes
    calls: tuple[tuple[bytes, bytes], ...]
    known: Known | None


class Point(msgspec.Struct, frozen=True):
    """A point in a history up to which all turns are settled, and what matters of what stands before it.

    So many `messages` as read and `turns`; so many bytes of the array as `received` and as `sent`, which
    were `changed` or not. `said` is what was said since the last turn (`weight`: by the last message),
    `systems` the texts of system messages, `odd` what is odd about messages, `report` what was done so far,
    `last` the last turn. Without any of it, it is the point at which a history begins.
    """

    messages: int = 0
    turns: int = 0
    received: int = 0
    sent: int = 0
    changed: bool = False
    said: tuple[bytes, ...] = ()
    weight: int = 0
    systems: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    report: Report = msgspec.field(default_factory=Report)
    last: Last = NOTHING_BEFORE


class Start(msgspec.Struct, frozen=True):
    """Where the pass over a request begins: at a point of a remembered conversation, or at its beginning.

    `moment` is what its records are looked up in: what comes of it may be remembered while that stays the
    same. `last` is the last turn before it, `turns` are the settled ones, and `sent` is what goes in place of
    what stands before it.
    """

    moment: object = None
    point: Point = Point()
    last: Last = NOTHING_BEFORE
    turns: Sequence[Turned] = ()
    sent: memoryview | bytes = b""
    conversation: "_Remembered | None" = None


class _Remembered:
    """One conversation: the array in `body` from `begin` on, and in `sent` from there as well."""

    def __init__(self, circumstances: Circumstances) -> None:
        self.circumstances = circumstances
        self.body = self.sent = b""
        self.begin = 0
        self.points: list[Point] = []
        self.first = 0, b""
        self.turns: list[Turned] = []
        # The number of the turn that a record went to, or that has a place or a call.
        self.keys: dict[bytes, int] = {}
        self.places: dict[bytes, int] = {}
        self.calls: dict[tuple[bytes, bytes], int] = {}

    def may_begin(self, body: bytes, begin: int) -> bool:
        """Whether the array body[begin:] has the same bytes before this conversation's first point."""
        at, before = self.first
        return body.startswith(before, begin + at)

    def note_first(self) -> None:
        """To be called when there are points, or other ones."""
        at = self.points[0].received
        glance = min(_GLANCE, at)
        self.first = at - glance, self.body[self.begin + at - glance : self.begin + at]

    @property
    def size(self) -> int:
        sent = 0 if self.sent is self.body else len(self.sent)
        return len(self.body) + sent + _TURN_BYTES * len(self.turns)

    def add(self, turns: Sequence[Turned]) -> None:
        for turn in turns:
            number = len(self.turns)
            self.turns.append(turn)
            self.keys[turn.key] = number
            self.places[turn.place] = number
            for call in turn.calls:
                self.calls.setdefault(call, number)

    def cut(self, turns: int) -> None:
        """Forget all but the first so many turns."""
        for turn in self.turns[turns:]:
            self.keys.pop(turn.key, None)
            self.places.pop(turn.place, None)
            for call in turn.calls:
                if self.calls.get(call, -1) >= turns:
                    del self.calls[call]
        del self.turns[turns:]
        self.points = [point for point in self.points if point.turns <= turns]

    def copy(self, turns: int) -> "_Remembered":
        """The first so many turns, as a conversation of its own."""
        other = _Remembered(self.circumstances)
        other.add(self.turns[:turns])
        other.points = [point for point in self.points if point.turns <= turns]
        return other

    def thin(self) -> None:
        """Keep the last points, and ever fewer of those before them."""
        if len(self.points) > _POINTS:
            self.points = self.points[:-_NEAR_POINTS:2] + self.points[-_NEAR_POINTS:]


class PrefixCache:
    """The latest conversations, at most so many and of so many bytes."""

    def __init__(self, conversations: int = 32, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._most = conversations
        self._max_bytes = max_bytes
        # The one that was used last is the last one.
        self._all: list[_Remembered] = []
        self._version: object = None
        self._recorded = 0
        # Requests may be restored in threads, answers are recorded on the event loop.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def size(self) -> int:
        """Bytes that are held, about."""
        return sum(one.size for one in self._all)

    def start(
        self, version: object, circumstances: Circumstances, body: bytes, begin: int, end: int
    ) -> Start:
        """The farthest point of a remembered conversation that the array body[begin:end] goes on from.

        `version` is the store's. If it is another than before, all is forgotten.
        """
        with self._lock:
            if version != self._version:
                self._version = version
                self._all.clear()
            moment = self._version, self._recorded
            best: tuple[_Remembered, Point] | None = None
            for one in reversed(self._all):
                # Where the first point does not fit, none after it does.
                if not one.may_begin(body, begin) or one.circumstances != circumstances:
                    continue
                for point in reversed(one.points):
                    if best is not None and point.received <= best[1].received:
                        break
                    if _goes_on(one, point, body, begin, end):
                        best = one, point
                        break
            if best is None:
                return Start(moment)
            self._all.remove(best[0])
            self._all.append(best[0])
            return _start(moment, *best)

    def keep(
        self,
        start: Start,
        circumstances: Circumstances,
        body: bytes,
        sent: bytes,
        begin: int,
        turns: Sequence[Turned],
        points: Sequence[Point],
    ) -> None:
        """Remember a request: its turns after `start` and the points among and behind them, in order.

        The array begins at `begin` both in the `body` that came and in the one that was `sent`. What was
        worked out at another moment than this one is not kept.
        """
        with self._lock:
            if not points or start.moment != (self._version, self._recorded):
                return
            if start.conversation is None:
                one = _Remembered(circumstances)
            else:
                one = start.conversation
                if one not in self._all:
                    return
                if len(one.turns) - start.point.turns <= _BRANCHES_WITHIN:
                    self._all.remove(one)
                    one.cut(start.point.turns)
                else:
                    one = one.copy(start.point.turns)
                one.points = [point for point in one.points if point.received <= start.point.received]
            one.add(turns)
            one.points += points
            one.thin()
            one.body, one.sent, one.begin = body, body if sent == body else sent, begin
            one.note_first()
            if one.size > self._max_bytes:
                return
            self._all.append(one)
            while len(self._all) > self._most or self.size > self._max_bytes:
                del self._all[0]

    def recorded(self, scope: bytes, records: Sequence[Record]) -> None:
        """Records came to the store: where one of them may be what a turn is, nothing is known any more."""
        with self._lock:
            self._recorded += 1
            for one in self._all:
                if one.circumstances.scope != scope:
                    continue
                for record in records:
                    found = [one.calls[call] for call in record.calls if call in one.calls]
                    if record.place in one.places:
                        found.append(one.places[record.place])
                    if found:
                        one.cut(min(found))
            self._all = [one for one in self._all if one.points]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._recorded += 1
            self._all.clear()


def _goes_on(one: _Remembered, point: Point, body: bytes, begin: int, end: int) -> bool:
    """Whether the array begins with what stands before the point; one pass over these bytes at most."""
    at = begin + point.received
    if at > end:
        return False
    known = memoryview(one.body)[one.begin : one.begin + point.received]
    glance = min(_GLANCE, len(known))
    return (
        body.startswith(known[len(known) - glance :], at - glance)
        and _AFTER_ITEM.match(body, at) is not None
        and body.startswith(known, begin)
    )


def _start(moment: object, one: _Remembered, point: Point) -> Start:
    last = NOTHING_BEFORE
    if point.last.record is not None:
        last = msgspec.structs.replace(point.last, turns=point.turns, numbers=one.keys)
    sent = memoryview(one.sent)[one.begin : one.begin + point.sent]
    return Start(moment, point, last, one.turns[: point.turns], sent, one)
