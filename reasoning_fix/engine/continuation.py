"""One request in the light of what is remembered: where it may begin, what is sent, what is remembered of it.

Between restoring.py, which decides, and prefix_cache.py, which keeps: this file knows how positions of turns
and items, bytes that came and bytes that are sent belong together.
"""

from collections.abc import Mapping
from typing import Protocol, Self

import msgspec

from reasoning_fix.dialects.splice import Written, item_ends, members
from reasoning_fix.dialects.wire import Change, Dialect, Request
from reasoning_fix.engine.history import History, Slot
from reasoning_fix.engine.matching.verdicts import BY_ID, Matching, Verdict
from reasoning_fix.engine.prefix_cache import Circumstances, Point, PrefixCache, Start, Turned

# An array that begins with an item in place of all that is remembered.
_STAND_IN = b"[{}"


class Copied(Protocol):
    def copy(self) -> Self: ...


class _Known(msgspec.Struct):
    """A point in what was read of a request: after so many turns, messages and items, with where they end."""

    turns: int
    messages: int
    items: int
    said: tuple[bytes, ...]
    weight: int
    ends: tuple[int, int]


class Continuation[Report: Copied, Treated]:
    """A request that may go on with a remembered conversation, and that is remembered itself.

    Raises SpliceError for a body that repeats member names.
    """

    def __init__(
        self,
        memory: PrefixCache[Report, Treated],
        version: object,
        circumstances: Circumstances,
        dialect: Dialect,
        request: Request,
    ) -> None:
        self._memory = memory
        self._moment = memory.moment(version)
        self._circumstances = circumstances
        self._dialect = dialect
        self._request = request
        _, self._begin, self._end = members(request.body, request.parameters)[dialect.HISTORY]
        self._snapshots: list[tuple[int, Report, bool]] = []
        self._turned: list[Turned[Treated]] = []
        self._wanted: set[int] = set()
        self._written: Written | None = None
        self.start: Start[Report, Treated] | None = None

    def begin(self) -> None:
        """Go on from what is remembered, if there is something: only the rest of the array is then read."""
        request = self._request
        self.start = self._memory.start(self._circumstances, request.body, self._begin, self._end)
        if self.start is not None:
            request.array = _STAND_IN + request.body[self._begin + self.start.point.received : self._end]
            request.stands_in = 1

    def expect(self, turns: int) -> None:
        """So many turns will be looked at: points lie near the end, and further apart before."""
        self._wanted = {turns - 1, turns - 3, *(turns - 2**n for n in range(1, turns.bit_length()))}

    def before(self, position: int, report: Report, changed: bool) -> None:
        """The turn at this position comes next; all before it are settled, or nothing is noted."""
        if position == len(self._turned) and position in self._wanted:
            self._snapshots.append((position, report.copy(), changed))

    def settled(self, position: int, slot: Slot, verdict: Verdict, place: bytes, treated: Treated) -> None:
        """The turn at this position is settled; one that is not is not told of."""
        if position == len(self._turned):
            calls = slot.calls if verdict.evidence == BY_ID else ()
            self._turned.append(Turned(verdict.records[0].key, place, calls, treated))

    def whole(self, changes: Mapping[int, Change]) -> bytes:
        """The body with all turns as they are sent. Raises SpliceError."""
        request = self._request
        if changes:
            self._written = self._dialect.write_history(request, changes)
        if self._written is None and (self.start is None or not self.start.point.changed):
            return request.body
        data = memoryview(bytes(request.array) if self._written is None else self._written.data)
        body = memoryview(request.body)
        if self.start is None:
            return b"".join((body[: self._begin], data, body[self._end :]))
        return b"".join((body[: self._begin], self.start.sent, data[len(_STAND_IN) :], body[self._end :]))

    def keep(self, history: History, matching: Matching, whole: bytes, report: Report, changed: bool) -> None:
        """Remember the request; `whole` is what `whole` gave, `report` what was done to all of it."""
        request = self._request
        came = item_ends(bytes(request.array))
        sent = came if self._written is None else self._written.ends
        points: list[Point[Report]] = []
        for position, so_far, changed_so_far in self._snapshots:
            slot = history.slots[position]
            at = self._dialect.position(request, slot.index) - 1
            # Turns that follow one another with nothing said in between may be pieces of one.
            if at >= 0 and slot.gap:
                ends = came[at], sent[at]
                known = _Known(position, slot.index, at + 1, slot.gap, slot.before_weight, ends)
                points.append(self._point(known, history, matching, so_far, changed_so_far))
        turns = len(history.slots)
        if came and len(self._turned) == turns and request.continued is None and history.tail:
            known = _Known(
                turns,
                len(request.messages),
                len(came),
                history.tail,
                history.tail_weight,
                (came[-1], sent[-1]),
            )
            points.append(self._point(known, history, matching, report.copy(), changed))
        self._memory.keep(
            self._moment,
            self.start,
            self._circumstances,
            request.body,
            whole,
            self._begin,
            self._turned,
            points,
        )

    def _point(
        self, known: _Known, history: History, matching: Matching, report: Report, changed: bool
    ) -> Point[Report]:
        request = self._request
        base = None if self.start is None else self.start.point
        texts = tuple(text for index, text in request.systems.items() if index < known.messages)
        odd = tuple(words for position, words in request.odd.items() if position < known.items)
        came, sent = known.ends
        point = Point(
            messages=known.messages,
            turns=known.turns,
            received=came,
            sent=sent,
            changed=changed,
            said=known.said,
            weight=known.weight,
            systems=texts,
            odd=odd,
            report=report,
        )
        if base is not None:
            point = msgspec.structs.replace(
                point,
                messages=base.messages + point.messages,
                turns=base.turns + point.turns,
                received=base.received + came - len(_STAND_IN),
                sent=base.sent + sent - len(_STAND_IN),
                changed=base.changed or changed,
                systems=base.systems + texts,
                odd=base.odd + odd,
                context=base.context,
                turn=base.turn,
                record=base.record,
                evidence=base.evidence,
            )
        if known.turns:
            verdict = matching.verdicts[known.turns - 1]
            assert verdict is not None
            point = msgspec.structs.replace(
                point,
                context=matching.contexts[known.turns - 1],
                turn=history.slots[known.turns - 1].turn,
                record=msgspec.structs.replace(verdict.records[0], sealed=b""),
                evidence=verdict.evidence,
            )
        return point
