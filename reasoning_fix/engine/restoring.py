"""Request bytes -> request bytes and a report of what was done.

The body is read once; where nothing is to be restored it is not touched at all, and where something is, only
the reasoning fields change. Reasoning that the client sends itself always wins. Turns that a client brings
complete and that are not on record in their context are learned from the request, once it is answered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from reasoning_fix.dialects.splice import LeftError, SpliceError, set_members
from reasoning_fix.dialects.turns import Other, Turn
from reasoning_fix.dialects.twins import LEFT
from reasoning_fix.dialects.wire import Answered, Change, Request, parameter
from reasoning_fix.engine import policy as policies
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.candidates import ScopedLookup
from reasoning_fix.engine.continuation import Continuation
from reasoning_fix.engine.decisions import Treatment
from reasoning_fix.engine.history import NONE, Fingerprints, History, Slot, read_history
from reasoning_fix.engine.knowledge import Knowledge, Known
from reasoning_fix.engine.matching import match
from reasoning_fix.engine.matching.verdicts import Contradiction, Conversation, Last, Matching, Observer
from reasoning_fix.engine.originals import Before, was, was_at_top
from reasoning_fix.engine.policy import Settings
from reasoning_fix.engine.prefix_cache import Circumstances, Start
from reasoning_fix.engine.recording import Recorder, Rest, is_text, make_record, now, thought_of
from reasoning_fix.engine.report import Report, Treated
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.providers.rows import OffSwitch
from reasoning_fix.providers.table import NEUTRAL
from reasoning_fix.store import Record


class Restored(msgspec.Struct):
    """A request that was `received`, and its `body` as it is to be sent; None: as it came."""

    caller: Caller
    knowledge: Knowledge
    received: bytes
    body: bytes | None
    report: Report
    recorder: Recorder

    @property
    def sent(self) -> bytes:
        return self.received if self.body is None else self.body


type Going = Continuation[Report, Known | None]


def restore(
    body: bytes,
    caller: Caller,
    knowledge: Knowledge,
    *,
    taught: Sequence[Lesson] = (),
    observer: Observer | None = None,
    defers: bool = False,
) -> Restored:
    """Restore what is on record, fill by rule what is demanded and is not.

    `taught` are lessons to try that are not learned yet; `observer` looks on for people who ask why. If it
    `defers`, a request in which nothing can be missing comes back at once, and what is left to do is its
    recorder's `rest`. Raises NotChatError if the body is not a chat request, SpliceError if it repeats member
    names.
    """

    def restoration() -> _Restoration:
        request = caller.dialect.open_request(body)
        return _Restoration(request, caller, knowledge, taught, observer, defers)

    try:
        return restoration().run()
    except (Contradiction, LeftError):
        pass
    left: frozenset[int] = frozenset()
    while True:
        try:
            return restoration().run(whole=True, left=left)
        except LeftError as odd:
            if odd.items <= left:
                raise
            left |= odd.items


def _recognised(matching: Matching) -> set[bytes]:
    return {record.key for verdict in matching.verdicts if verdict for record in verdict.records}


def conversation_of(body: bytes, caller: Caller) -> str:
    """A name for a conversation that says nothing to others: a keyed fingerprint of how it begins."""
    request = caller.dialect.read_request(body)
    first = next((message for message in request.messages if isinstance(message, Other)), None)
    fingerprints = Fingerprints(caller.scope.fingerprint_key)
    return fingerprints.of("conversation", fingerprints.other(first) if first is not None else NONE).hex()


class _Restoration:
    def __init__(
        self,
        request: Request,
        caller: Caller,
        knowledge: Knowledge,
        taught: Sequence[Lesson],
        observer: Observer | None,
        defers: bool,
    ) -> None:
        self.request = request
        self.caller = caller
        self.knowledge = knowledge
        self.observer = observer
        self.defers = defers
        # What is only tried out, or looked into, is not remembered.
        self.remembers = not taught and observer is None
        self.dialect = caller.dialect
        self.fingerprints = Fingerprints(caller.scope.fingerprint_key)
        self.lookup = ScopedLookup(knowledge.store, caller, request.model)
        rule = caller.provider.rule_at(caller.endpoint, request.model)
        # What is learned is about one model, unless the table says that it is one of a family.
        is_known = caller.provider.rule(request.model, caller.endpoint.dialect) is not NEUTRAL
        family = (rule.name if is_known else "") or request.model
        known = (*self._known(family), *taught)
        self.policy = policies.policy(knowledge.table, caller.endpoint, rule, knowledge.preferences, known)
        self.treatment = Treatment(request, caller, knowledge, self.policy, self.lookup, self.fingerprints)
        self.switch: OffSwitch | None = None
        self.conversation = Conversation()
        self.before: dict[int, Mapping[str, bytes | None]] = {}
        self.left: frozenset[int] = frozenset()
        self.report = Report(model=request.model, family=family, asked=now(), lessons=known)

    def run(self, whole: bool = False, left: frozenset[int] = frozenset()) -> Restored:
        """`whole`: nothing that is remembered is used. `left`: messages that stay as they came, by position.

        Raises Contradiction, and LeftError for messages that are to be left, with nothing done yet.
        """
        self.left = left
        request = self.request
        self.switch = policies.off_by(self.policy, request.parameters)
        settings, turn_off = self._settings()
        is_off = turn_off or self.switch is not None
        treats = not is_off and not self.policy.is_refused
        self.report.thinking_off = is_off
        self.report.switch = self.switch.name if self.switch is not None else ""
        if policies.ignored(self.knowledge.table, self.report.lessons, request.parameters):
            self.report.remarks += ("thinking is on: its last answer carried reasoning",)
        recorder = self._recorder()
        going = self._continuation(treats)
        if going is not None and not whole:
            going.begin()
        written = request.body
        if self.defers and (going is None or going.start is None) and self._is_left(treats, turn_off):
            recorder.rest = Rest(lambda: self._work(treats, going, recorder))
        else:
            done, lacking = self._work(treats, going, recorder, turn_off)
            written = request.body if done is None else done
            turn_off = turn_off or lacking
        if turn_off and self.policy.off is not None:
            # Nothing is demanded then, and what is not demanded stays as the client sent it.
            self.report = self._fresh()
            self.report.thinking_off = True
            self.before = {}
            off = policies.turned_off(self.policy.off, request.parameters)
            self.report.turned_off = bool(off)
            recorder.off = self.policy.off.name
            settings |= off
        elif settings:
            self.report.settings = tuple(settings)
        if settings:
            written = set_members(written, settings)
        if settings or self.before:
            self.report.before = Before(
                {i: dict(x) for i, x in self.before.items()}, was_at_top(request, settings)
            )
        self.report.grown = len(written) - len(request.body)
        body = written if written != request.body else None
        return Restored(self.caller, self.knowledge, request.body, body, self.report, recorder)

    def _fresh(self, so_far: Report | None = None) -> Report:
        """A report of this request, in which nothing is done yet, or what was done so far."""
        report = Report() if so_far is None else so_far.copy()
        mine = self.report
        report.model, report.family, report.thinking_off = mine.model, mine.family, mine.thinking_off
        report.asked, report.lessons, report.switch = mine.asked, mine.lessons, mine.switch
        report.remarks, report.odd = mine.remarks, mine.odd
        return report

    def _known(self, family: str) -> list[Lesson]:
        """The lessons that hold for this request."""
        caller, model = self.caller, self.request.model
        known = self.knowledge.lessons.about(caller.host, caller.endpoint.dialect, family, model)
        known = [lesson for lesson in known if lesson.means != "tried"]
        if any(lesson.conversation for lesson in known):
            mark = conversation_of(self.request.body, caller)
            known = [lesson for lesson in known if lesson.conversation in ("", mark)]
        return known

    def _is_left(self, treats: bool, turn_off: bool) -> bool:
        """Whether all turns are sure to stay as the client sent them, whatever is on record."""
        if turn_off or not treats:
            return not turn_off
        sent = self.dialect.brought(self.request)
        return sent is not None and all(self.treatment.stays(own) for own in sent)

    def _work(
        self, treats: bool, going: Going | None, recorder: Recorder, turn_off: bool = False
    ) -> tuple[bytes | None, bool]:
        """Match and treat the turns, find the place of the answer, learn and remember.

        Returns the body with what was changed in turns (None: nothing is to be changed), and whether thinking
        is to be turned off instead.
        """
        start = None if going is None else going.start
        if start is not None:
            self._go_on(start)
        last = None if start is None else start.last
        history, matching = self._matched(start, last)
        if cuts := self._cuts(history, matching):
            history, matching = self._parted(start, last, cuts, history, matching)
        self._place(recorder, matching, history)
        changes = self._changes(treats, going, history, matching)
        if treats:
            self._learn(history.slots, matching, recorder, None if last is None else last.record)
        lacks = self.treatment.lacking and self.knowledge.preferences.mode == policies.DISABLE
        if turn_off or (lacks and self.policy.off is not None):
            return None, True
        if going is not None:
            written = going.whole(changes)
            going.keep(history, matching, written, self.report, bool(changes))
            return written, False
        if not changes:
            return None, False
        return self.dialect.write_request(self.request, changes, {}), False

    def _matched(
        self, start: Start[Report, Known | None] | None, last: Last | None
    ) -> tuple[History, Matching]:
        history = self._read(start)
        return history, match(history, self.fingerprints, self.lookup, self.conversation, last, self.observer)

    def _cuts(self, history: History, matching: Matching) -> frozenset[int]:
        """Where turns may begin that stand side by side in what was read as one, and is none on record."""
        uncertain = [
            slot.index
            for slot, verdict in zip(history.slots, matching.verdicts, strict=True)
            if verdict is None or verdict.records[0].turn != slot.turn
        ]
        return frozenset(self.dialect.joints(self.request, uncertain))

    def _parted(
        self,
        start: Start[Report, Known | None] | None,
        last: Last | None,
        cuts: frozenset[int],
        history: History,
        matching: Matching,
    ) -> tuple[History, Matching]:
        """The history with turns parted that stand side by side, where more of them are recognised so."""
        self.request.cuts = cuts
        parted, found = self._matched(start, last)
        known = [verdict.records[-1].key if verdict else None for verdict in found.verdicts]
        begins = [self.dialect.position(self.request, slot.index) for slot in parted.slots]
        # What is not recognised by itself belongs to what follows.
        self.request.cuts = frozenset(
            begin
            for position, begin in enumerate(begins)
            if begin in cuts and known[position - 1] is not None and known[position] != known[position - 1]
        )
        parted, found = self._matched(start, last)
        if len(_recognised(found)) <= len(_recognised(matching)):
            self.request.cuts = frozenset()
            return self._matched(start, last)
        return parted, found

    def _go_on(self, start: Start[Report, Known | None]) -> None:
        """Take over what was done up to the point where this request begins."""
        self.report = self._fresh(start.point.report)
        self.report.odd = Counter(start.point.odd)
        known = [turn for turn in start.treated if turn is not None]
        self.report.turns = [turn.treated for turn in known]
        self.before = {turn.treated.index: turn.was for turn in known if turn.was is not None}

    def _changes(
        self, treats: bool, going: Going | None, history: History, matching: Matching
    ) -> dict[int, Change]:
        """What is to be changed in each turn."""
        changes: dict[int, Change] = {}
        slots = history.slots
        treatment = self.treatment
        treatment.report = self.report
        verdicts = treatment.once(slots, matching.verdicts) if treats else matching.verdicts
        read_before = 0 if going is None or going.start is None else going.start.point.messages
        if going is not None:
            going.expect(len(slots))
        for position, (said, verdict) in enumerate(zip(slots, verdicts, strict=True)):
            if going is not None:
                going.before(position, self.report, bool(changes))
            known = None
            if treats:
                change: Change = {}
                is_left = bool(self.left) and self.dialect.position(self.request, said.index) in self.left
                if not is_left:
                    change = treatment.change(said, verdict, matching.contexts[position])
                known = Known(
                    Treated(
                        read_before + said.index,
                        "odd" if is_left else treatment.status,
                        verdict.evidence if verdict is not None else "",
                        verdict.records[0].created if verdict is not None else 0,
                    ),
                    was(self.request, said.index, change) if change else None,
                )
                self.report.turns.append(known.treated)
                if change:
                    changes[said.index] = change
                    self.before[known.treated.index] = known.was or {}
            if going is not None and verdict and matching.is_settled(position, slots, verdict):
                going.settled(position, said, verdict, matching.places[position], known)
        return changes

    def _continuation(self, treats: bool) -> Going | None:
        """This request in the light of what is remembered; None if nothing of it can be."""
        cache = self.knowledge.prefix_cache
        if cache is None or not self.remembers or bytes(memoryview(self.request.array)[:1]) != b"[":
            return None
        circumstances = Circumstances(
            scope=self.caller.scope.id,
            table=self.knowledge.table,
            provider=self.caller.provider,
            endpoint=self.caller.endpoint,
            family=self.caller.provider.family(self.request.model),
            policy=self.policy,
            has_tools=self.request.has_tools,
            treated=treats,
        )
        try:
            return Continuation(
                cache, self.knowledge.store.version(), circumstances, self.dialect, self.request
            )
        except SpliceError:
            return None

    def _read(self, start: Start[Report, Known | None] | None) -> History:
        """What the request says after the point where it begins; once more, where it was read before."""
        request = self.request
        request.messages, request.own, request.spans = [], {}, {}
        self.dialect.read_history(request)
        request.odd |= dict.fromkeys(self.left, LEFT)
        self.report.odd = Counter(
            request.odd.values() if start is None else (*start.point.odd, *request.odd.values())
        )
        if start is not None and start.point.systems:
            request.system = "\n".join((*start.point.systems, *request.systems.values()))
        self.conversation = Conversation(
            self.fingerprints.of("system", request.system) if request.system else NONE,
            self.fingerprints.of("session", self.caller.session) if self.caller.session else NONE,
        )
        messages = request.messages if request.continued is None else request.messages[: request.continued]
        if start is None:
            return read_history(messages, self.fingerprints)
        return read_history(messages, self.fingerprints, start.point.said, start.point.weight)

    def _settings(self) -> tuple[Settings, bool]:
        """Members to set at the top of the body, and whether thinking is to be turned off."""
        policy, parameters = self.policy, self.request.parameters
        if policies.is_to_be_off(self.knowledge.preferences, self.request.model) and policy.off is not None:
            return {}, True
        if self.switch is not None:
            return {}, False
        settings = policies.conflicts(policy, parameters)
        split = self.caller.endpoint.split
        if self.knowledge.preferences.split and split and parameter(parameters, (split,)) is None:
            settings[split] = b"true"
        turn_off = policy.must_turn_off
        if policy.refuses_forced_tools and policies.forces_a_tool(parameters):
            if policy.off is not None:
                turn_off = True
            else:
                settings["tool_choice"] = None
        return settings, turn_off and policy.off is not None

    def _recorder(self) -> Recorder:
        return Recorder(
            self.caller,
            self.knowledge,
            self.dialect,
            self.fingerprints,
            self.request.model,
            self.report.asked,
            self.report.switch,
            self.caller.provider.snapshots(self.caller.host),
        )

    def _place(self, recorder: Recorder, matching: Matching, history: History) -> None:
        """Where the answer will stand."""
        continued = self.request.continued
        last = self.request.messages[continued] if continued is not None else None
        recorder.conversation = self.conversation
        recorder.context = matching.context_after
        recorder.before = history.tail_before
        recorder.parent, recorder.thread = matching.parent, matching.thread
        recorder.lead = last.text if isinstance(last, Turn) else ""

    def _learn(self, slots: list[Slot], matching: Matching, recorder: Recorder, last: Record | None) -> None:
        """Record what the client itself brought, where nothing is on record for that turn.

        `last` is the recorded turn before these.
        """
        parent, thread = (NONE, NONE) if last is None else (last.key, last.thread)
        for position, (said, verdict) in enumerate(zip(slots, matching.verdicts, strict=True)):
            if verdict is not None:
                parent, thread = verdict.records[-1].key, verdict.records[-1].thread
                continue
            # With half a character gone it would not be what the provider said.
            whole = self.request.own_is_whole(said.index)
            fields = self.treatment.brought(said) if whole else {}
            if not all(map(is_text, fields.values())):
                fields = {}
            if not thought_of(self.fingerprints, fields):
                parent = NONE
                continue
            answer = Answered(Turn(), fields, complete=True)
            record = make_record(recorder, said, matching.contexts[position], parent, thread, answer)
            recorder.brought.append(record)
            parent, thread = record.key, record.thread
        if recorder.brought and slots[-1].index in self.request.own and parent:
            recorder.parent, recorder.thread = parent, thread
