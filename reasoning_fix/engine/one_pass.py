"""One pass over the turns of a request: they are read, matched, decided, written, learned and remembered.

A pass can be resumed. A request that goes on with a remembered conversation (prefix_cache.py) begins with the
state that the pass over the request before had at a point of it, and reads what comes after that point only;
every other request begins with the empty state. Both take the same way, and come to the same bytes.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping

import msgspec

from reasoning_fix.dialects.splice import SpliceError, Written, item_ends, members
from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.twins import LEFT
from reasoning_fix.dialects.wire import Answered, Change, Request
from reasoning_fix.engine import policy as policies
from reasoning_fix.engine.candidates import ScopedLookup
from reasoning_fix.engine.decisions import Treatment
from reasoning_fix.engine.history import NONE, History, Slot, read_history
from reasoning_fix.engine.matching import match
from reasoning_fix.engine.matching.verdicts import BY_ID, Conversation, Last, Matching, Observer, Verdict
from reasoning_fix.engine.originals import was
from reasoning_fix.engine.policy import Policy
from reasoning_fix.engine.prefix_cache import (
    Circumstances,
    Known,
    Point,
    PrefixCache,
    Start,
    Turned,
)
from reasoning_fix.engine.recording import Recorder, is_text, make_record, thought_of
from reasoning_fix.engine.report import Report, Treated

# An array that begins with an item in place of all that stands before the point where a pass is resumed.
_STAND_IN = b"[{}"


class Pass:
    """The pass over one request.

    `treats`: turns may be changed; else they are only looked at, to know where the answer will stand.
    `is_resumed`: it goes on with a remembered one, and turns before it may have been changed already. After
    it, `before` has what was changed, as it came, `cuts` where turns begin in the history as it is sent with
    nothing said before them, and `lacks` says that thinking is to be turned off, since a
    turn would be refused for want of reasoning and that is what the person wants then.
    """

    def __init__(
        self,
        request: Request,
        recorder: Recorder,
        policy: Policy,
        family: str,
        report: Report,
        observer: Observer | None,
    ) -> None:
        caller, knowledge = recorder.caller, recorder.knowledge
        self.treats = True
        self.is_resumed = False
        self.lacks = False
        self.before: dict[int, Mapping[str, bytes | None]] = {}
        self.cuts: tuple[int, ...] = ()
        self._request = request
        self._recorder = recorder
        self._policy = policy
        self._family = family
        self._report = report
        self._observer = observer
        self._dialect = caller.dialect
        self._fingerprints = caller.fingerprints
        self._lookup = ScopedLookup(knowledge.store, caller, request.model, family)
        self._treatment = Treatment(request, caller, knowledge, policy, self._lookup, report)
        self._conversation = Conversation()
        self._start = Start()
        self._stand_in = b""
        # Where the history lies in the body, once that is known.
        self._array: tuple[int, int] | None = None
        # What is remembered of it, if anything is.
        self._cache: PrefixCache | None = None
        self._circumstances: Circumstances | None = None
        self._turned: list[Turned] = []
        self._points: list[tuple[int, Point]] = []

    def remember(self, cache: PrefixCache, goes_on: bool) -> None:
        """Remember this pass, and begin where a remembered one ends if it `goes_on` with one."""
        request = self._request
        if bytes(memoryview(request.array)[:1]) != b"[":
            return
        try:
            self._array = begin, end = self._find_array()
        except SpliceError:
            return
        self._cache = cache
        version = self._recorder.knowledge.store.version()
        self._circumstances = self._found_circumstances()
        start = cache.start(version, self._circumstances, request.body, begin, end)
        self.is_resumed = goes_on and start.conversation is not None
        if not self.is_resumed:
            self._start = Start(start.moment)
            return
        self._start = start
        self._stand_in = _STAND_IN
        request.array = _STAND_IN + request.body[begin + start.point.received : end]
        request.stands_in = 1
        self._report.go_on(start.point.report)
        known = [turn.known for turn in start.turns if turn.known is not None]
        self._report.turns = [turn.treated for turn in known]
        self.before = {turn.treated.index: turn.was for turn in known if turn.was is not None}

    def changes_nothing(self) -> bool:
        """Whether all turns are sure to stay as the client sent them, whatever is on record."""
        if not self.treats:
            return True
        sent = self._dialect.brought(self._request)
        return sent is not None and all(self._treatment.stays(own) for own in sent)

    def run(self, left: frozenset[int] = frozenset()) -> bytes:
        """The body with what was changed in turns. The messages that are `left` stay as they came.

        Raises NotChatError; Contradiction and LeftError with nothing done yet.
        """
        history, matching = self._recognised(left)
        self._note_place(history, matching)
        changes = self._changes(history, matching, left)
        if self.treats:
            self._learn(history.slots, matching)
        is_off_instead = self._recorder.knowledge.preferences.mode == policies.DISABLE
        self.lacks = self._treatment.lacking and is_off_instead and self._policy.off is not None
        if self.lacks:
            return self._request.body
        written = self._dialect.write_history(self._request, changes) if changes else None
        body = self._whole(written)
        if written is not None and self._request.cuts:
            self.cuts = self._cuts_as_sent(written)
        if self._cache is not None:
            self._keep(history, matching, written, body)
        return body

    def _find_array(self) -> tuple[int, int]:
        """Where the history lies in the body. Raises SpliceError."""
        request = self._request
        place = members(request.body, request.parameters)[self._dialect.HISTORY]
        return place.begin, place.end

    def _found_circumstances(self) -> Circumstances:
        caller = self._recorder.caller
        return Circumstances(
            scope=caller.scope.id,
            table=self._recorder.knowledge.table,
            provider=caller.provider,
            endpoint=caller.endpoint,
            family=self._family,
            policy=self._policy,
            has_tools=self._request.has_tools,
            treated=self.treats,
        )

    def _recognised(self, left: frozenset[int]) -> tuple[History, Matching]:
        """The history and its turns; with turns parted that stand side by side in what was read as one,
        where more of them are recognised so.
        """
        history, matching = self._matched(left)
        uncertain = [
            slot.index
            for slot, verdict in zip(history.slots, matching.verdicts, strict=True)
            if verdict is None or verdict.records[0].turn != slot.turn
        ]
        cuts = frozenset(self._dialect.joints(self._request, uncertain)) if uncertain else None
        if not cuts:
            return history, matching
        self._request.cuts = cuts
        parted, found = self._matched(left)
        known = [verdict.records[-1].key if verdict else None for verdict in found.verdicts]
        begins = [self._dialect.position(self._request, slot.index) for slot in parted.slots]
        # What is not recognised by itself belongs to what follows.
        self._request.cuts = frozenset(
            begin
            for position, begin in enumerate(begins)
            if begin in cuts and known[position - 1] is not None and known[position] != known[position - 1]
        )
        parted, found = self._matched(left)
        if len(_keys(found)) > len(_keys(matching)):
            return parted, found
        self._request.cuts = frozenset()
        return self._matched(left)

    def _matched(self, left: frozenset[int]) -> tuple[History, Matching]:
        history = self._read(left)
        last, lookup = self._start.last, self._lookup
        return history, match(history, self._fingerprints, lookup, self._conversation, last, self._observer)

    def _read(self, left: frozenset[int]) -> History:
        """What the request says after the point where the pass begins; once more, if it was read before."""
        request, point = self._request, self._start.point
        request.messages, request.own, request.spans = [], {}, {}
        self._dialect.read_history(request)
        if left:
            request.odd |= dict.fromkeys(left, LEFT)
        self._report.odd = Counter((*point.odd, *request.odd.values()))
        if point.systems:
            request.system = "\n".join((*point.systems, *request.systems.values()))
        session = self._recorder.caller.session
        if request.system or session:
            self._conversation = Conversation(
                self._fingerprints.of("system", request.system) if request.system else NONE,
                self._fingerprints.of("session", session) if session else NONE,
            )
        messages = request.messages if request.continued is None else request.messages[: request.continued]
        return read_history(messages, self._fingerprints, point.said, point.weight)

    def _note_place(self, history: History, matching: Matching) -> None:
        """Note where the answer will stand."""
        recorder, continued = self._recorder, self._request.continued
        last = self._request.messages[continued] if continued is not None else None
        recorder.conversation = self._conversation
        recorder.context = matching.context_after
        recorder.before = history.tail[-1] if history.tail else NONE
        recorder.parent, recorder.thread = matching.parent, matching.thread
        recorder.lead = last.text if isinstance(last, Turn) else ""

    def _changes(self, history: History, matching: Matching, left: frozenset[int]) -> dict[int, Change]:
        """What is to be changed in each turn."""
        changes: dict[int, Change] = {}
        slots, verdicts, turns = history.slots, matching.verdicts, len(history.slots)
        if self.treats:
            verdicts = self._treatment.once(slots, verdicts)
        wanted: set[int] = set()
        if self._cache is not None:
            # Points lie near the end, and further apart before.
            wanted = {turns - 1, turns - 3, *(turns - 2**n for n in range(1, turns.bit_length()))}
        for position, (slot, verdict) in enumerate(zip(slots, verdicts, strict=True)):
            is_settled = position == len(self._turned)
            # Turns that follow one another with nothing said in between may be pieces of one.
            if is_settled and position in wanted and slot.gap:
                at = self._dialect.position(self._request, slot.index) - 1
                said = slot.gap, slot.before_weight
                self._note_point(at, slot.index, *said, position, history, matching, bool(changes))
            known = None
            if self.treats:
                known = self._treat(slot, verdict, matching.contexts[position], changes, left)
            if is_settled and verdict and matching.is_settled(position, slots, verdict):
                calls = slot.calls if verdict.evidence == BY_ID else ()
                self._turned.append(Turned(verdict.records[0].key, matching.places[position], calls, known))
        return changes

    def _treat(
        self,
        slot: Slot,
        verdict: Verdict | None,
        context: bytes,
        changes: dict[int, Change],
        left: frozenset[int],
    ) -> Known:
        """Decide about one turn, and say what became of it."""
        change: Change = {}
        status = "odd"
        if not left or self._dialect.position(self._request, slot.index) not in left:
            change = self._treatment.change(slot, verdict, context)
            status = self._treatment.status
        treated = Treated(
            self._start.point.messages + slot.index,
            status,
            verdict.evidence if verdict is not None else "",
            verdict.records[0].created if verdict is not None else 0,
        )
        known = Known(treated, was(self._request, slot.index, change) if change else None)
        self._report.turns.append(treated)
        if change:
            changes[slot.index] = change
            self.before[treated.index] = known.was or {}
        return known

    def _learn(self, slots: list[Slot], matching: Matching) -> None:
        """Record what the client itself brought, where nothing is on record for that turn."""
        recorder, last = self._recorder, self._start.last.record
        parent, thread = (NONE, NONE) if last is None else (last.key, last.thread)
        for slot, verdict, context in zip(slots, matching.verdicts, matching.contexts, strict=True):
            if verdict is not None:
                parent, thread = verdict.records[-1].key, verdict.records[-1].thread
                continue
            # With half a character gone it would not be what the provider said.
            whole = self._request.own_is_whole(slot.index)
            fields = self._treatment.brought(slot) if whole else {}
            if not all(map(is_text, fields.values())):
                fields = {}
            if not thought_of(self._fingerprints, fields):
                parent = NONE
                continue
            answer = Answered(Turn(), fields, complete=True)
            record = make_record(recorder, slot, context, parent, thread, answer)
            recorder.brought.append(record)
            parent, thread = record.key, record.thread
        if recorder.brought and slots[-1].index in self._request.own and parent:
            recorder.parent, recorder.thread = parent, thread

    def _whole(self, written: Written | None) -> bytes:
        """The body with all turns as they are sent. Raises SpliceError."""
        request, start = self._request, self._start
        if written is None and not start.point.changed:
            return request.body
        begin, end = self._array or self._find_array()
        array = memoryview(bytes(request.array) if written is None else written.data)
        body = memoryview(request.body)
        return b"".join((body[:begin], start.sent, array[len(self._stand_in) :], body[end:]))

    def _cuts_as_sent(self, written: Written) -> tuple[int, ...]:
        shift = len(self._start.sent) - len(self._stand_in)
        ends = item_ends(b"".join((self._start.sent, written.data[len(self._stand_in) :])))
        # By the end of the item before each: what was put in stands behind it.
        return tuple(bisect_right(ends, written.ends[at - 1] + shift) for at in sorted(self._request.cuts))

    def _keep(self, history: History, matching: Matching, written: Written | None, body: bytes) -> None:
        """Remember the pass up to the points of it that were noted, and up to its end."""
        assert self._cache is not None and self._array is not None and self._circumstances is not None
        request, base, shift = self._request, self._start.point, len(self._stand_in)
        came = item_ends(bytes(request.array)) if written is None else written.came
        sent = came if written is None else written.ends
        turns = len(history.slots)
        if len(self._turned) == turns and request.continued is None and history.tail:
            said = history.tail, history.tail_weight
            changed = written is not None
            self._note_point(len(came) - 1, len(request.messages), *said, turns, history, matching, changed)
        points = [
            msgspec.structs.replace(
                point,
                received=base.received + came[at] - shift,
                sent=base.sent + sent[at] - shift,
            )
            for at, point in self._points
        ]
        begin, circumstances = self._array[0], self._circumstances
        self._cache.keep(self._start, circumstances, request.body, body, begin, self._turned, points)

    def _note_point(
        self,
        at: int,
        messages: int,
        said: tuple[bytes, ...],
        weight: int,
        turns: int,
        history: History,
        matching: Matching,
        changed: bool,
    ) -> None:
        """Note the point behind the item of the array `at`, so many messages and turns: all are settled.

        Where it lies in bytes is known when all is written.
        """
        if at < 0:
            return
        request, base = self._request, self._start.point
        last = base.last
        if turns:
            verdict = matching.verdicts[turns - 1]
            assert verdict is not None
            record = msgspec.structs.replace(verdict.records[0], sealed=b"")
            turn = history.slots[turns - 1].turn
            last = Last(matching.contexts[turns - 1], turn, record, verdict.evidence)
        point = Point(
            messages=base.messages + messages,
            turns=base.turns + turns,
            changed=base.changed or changed,
            said=said,
            weight=weight,
            systems=base.systems + tuple(text for i, text in request.systems.items() if i < messages),
            odd=base.odd + tuple(words for i, words in request.odd.items() if i <= at),
            report=self._report.copy(),
            last=last,
        )
        self._points.append((at, point))


def _keys(matching: Matching) -> set[bytes]:
    return {record.key for verdict in matching.verdicts if verdict for record in verdict.records}
