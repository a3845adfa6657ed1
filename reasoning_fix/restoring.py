"""Request bytes -> request bytes and a report of what was done.

The body is read once; where nothing is to be restored it is not touched at all, and where something is, only
the reasoning fields change. Reasoning that the client sends itself always wins. Turns that a client brings
complete and that are not on record in their context are learned from the request.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from reasoning_fix import fallback
from reasoning_fix.continuing import Continuation
from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.splice import SpliceError, set_members
from reasoning_fix.dialects.wire import Answered, Change, Request, parameter
from reasoning_fix.fallback import Settings, Wishes
from reasoning_fix.lessons import Lesson, Lessons
from reasoning_fix.matching import Contradiction, Conversation, Matching, Opened, Verdict, match
from reasoning_fix.provider_rows import Endpoint
from reasoning_fix.providers import Provider, Table
from reasoning_fix.recording import Exchange, Rest, make_record, nobody, now, thought_of
from reasoning_fix.remembering import Circumstances, Memory, Start
from reasoning_fix.store import Record, Store
from reasoning_fix.store.sealing import Scope, SealError
from reasoning_fix.turns import NONE, Fingerprints, History, Slot, Turn, read_history

_open = msgspec.msgpack.Decoder(Opened).decode


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request, where to, and by what headers the client names the conversation."""

    scope: Scope
    provider: Provider
    endpoint: Endpoint
    host: str
    session: str

    @property
    def issuer(self) -> str:
        """Who answers here: reasoning goes back only to the provider, and on the wire, that it came from."""
        return f"{self.provider.name}/{self.endpoint.dialect}"


class Treated(msgspec.Struct, frozen=True):
    """What became of one turn of a history.

    `index` counts the turns and other messages as read; `status` is sent (the client brought its reasoning),
    restored, filled, empty (on record as having had none), part (of a turn whose reasoning is at another
    piece), left out, or absent. `recorded` is in milliseconds since the epoch, 0 where it is not on record.
    """

    index: int
    status: str
    evidence: str = ""
    recorded: int = 0


class Report(msgspec.Struct):
    """What was done to one request. Counts are turns; `grown` is in bytes."""

    model: str = ""
    family: str = ""
    wanted: int = 0
    restored: int = 0
    evidence: Counter[str] = msgspec.field(default_factory=Counter)
    filled: int = 0
    stripped: int = 0
    left_out: int = 0
    learned: int = 0
    grown: int = 0
    thinking_off: bool = False
    turned_off: bool = False
    turns: list[Treated] = []
    settings: tuple[str, ...] = ()

    def copy(self) -> "Report":
        """What was done so far, but for the turns; it stays as it is when more is done."""
        counters = {
            name: Counter(value)
            for name in self.__struct_fields__
            if isinstance(value := getattr(self, name), Counter)
        }
        return msgspec.structs.replace(self, turns=[], **counters)

    def text(self) -> str:
        """One line for a person: `restored 3 of 3 turns: 2 by context, 1 by tool-call id`."""
        parts = []
        if self.restored:
            ways = ", ".join(f"{count} by {way}" for way, count in self.evidence.most_common())
            parts.append(f"restored {self.restored} of {self.wanted} turns: {ways}")
        if self.filled:
            parts.append(f"filled {self.filled} of {self.wanted} turns that were not on record")
        if self.stripped:
            parts.append(f"took reasoning that is refused here out of {_turns(self.stripped)}")
        if self.left_out:
            parts.append(f"left out the reasoning of {_turns(self.left_out)}")
        if self.turned_off:
            parts.append("turned thinking off")
        if self.settings:
            parts.append(f"changed {', '.join(self.settings)}")
        return "; ".join(parts) or f"restored 0 of {self.wanted} turns"


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"


class Restored(msgspec.Struct):
    """`body` is None where the request goes on as it came; `blank` are turns that still lack reasoning."""

    body: bytes | None
    report: Report
    exchange: Exchange


type Remembering = Memory[Report, Treated | None]
type Going = Continuation[Report, Treated | None]


class _ScopedLookup:
    """The records of one scope that this provider issued: another one's are as good as not recorded.

    So are those of other families on a host that serves many, since its models are different companies'.
    """

    def __init__(self, store: Store, caller: Caller, model: str) -> None:
        self._store = store
        self._scope = caller.scope
        self._issuer = caller.issuer
        self._provider = caller.provider
        self._family = caller.provider.family(model)
        self._families: dict[str, bool] = {model: True}
        self._opened: dict[bytes, Opened | None] = {}

    def at(self, places: Collection[bytes]) -> list[Record]:
        return self._mine(self._store.at(self._scope.id, places))

    def related(
        self, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        return self._mine(self._store.related(self._scope.id, contexts=contexts, turns=turns, ids=ids))

    def open(self, record: Record) -> Opened | None:
        if record.key not in self._opened:
            try:
                self._opened[record.key] = _open(self._scope.open(record.sealed, record.key))
            except (SealError, msgspec.MsgspecError):
                self._opened[record.key] = None
        return self._opened[record.key]

    def _mine(self, records: list[Record]) -> list[Record]:
        return [r for r in records if r.issuer == self._issuer and self._is_kin(r.model)]

    def _is_kin(self, model: str) -> bool:
        known = self._families.get(model)
        if known is None:
            known = self._families[model] = self._provider.family(model) == self._family
        return known


def restore(
    body: bytes,
    caller: Caller,
    table: Table,
    store: Store,
    wishes: Wishes,
    lessons: Lessons,
    *,
    taught: Sequence[Lesson] = (),
    only_demanded: bool = False,
    memory: Remembering | None = None,
    defers: bool = False,
) -> Restored:
    """Restore what is on record, fill by rule what is demanded and is not.

    `taught` are lessons to try that are not learned yet; `only_demanded` restores no more than the provider
    demands. With a `memory`, later requests of the same conversation cost little. Where it `defers`, a
    request in which nothing can be missing comes back at once, and what is left to do is its exchange's
    `rest`. Raises NotChatError for a body that is no chat request, SpliceError for one that repeats member
    names.
    """

    def restoration() -> _Restoration:
        request = DIALECTS[caller.endpoint.dialect].open_request(body)
        return _Restoration(
            request, caller, table, store, wishes, lessons, taught, only_demanded, memory, defers
        )

    try:
        return restoration().run()
    except Contradiction:
        return restoration().run(whole=True)


def _continued(report: Report, start: Start[Report, Treated | None]) -> Report:
    """The report of what was done up to the point where a request begins, as this request's own."""
    so_far = start.point.report.copy()
    so_far.model, so_far.family, so_far.thinking_off = report.model, report.family, report.thinking_off
    so_far.turns = [treated for treated in start.treated if treated is not None]
    return so_far


class _Restoration:
    def __init__(
        self,
        request: Request,
        caller: Caller,
        table: Table,
        store: Store,
        wishes: Wishes,
        lessons: Lessons,
        taught: Sequence[Lesson],
        only_demanded: bool,
        memory: Remembering | None,
        defers: bool,
    ) -> None:
        self.request = request
        self.caller = caller
        self.table = table
        self.store = store
        self.wishes = wishes
        self.only_demanded = only_demanded
        self.memory = memory
        self.defers = defers
        self.remembers = not taught and not only_demanded
        self.dialect = DIALECTS[caller.endpoint.dialect]
        self.marks = Fingerprints(caller.scope.fingerprint_key)
        self.lookup = _ScopedLookup(store, caller, request.model)
        rule = caller.provider.rule(request.model, caller.endpoint.dialect)
        self.report = Report(model=request.model, family=rule.name or request.model)
        known = [*lessons.about(caller.host, caller.endpoint.dialect, self.report.family), *taught]
        self.policy = fallback.policy(table, caller.endpoint, rule, wishes, known)
        fields = self.dialect.fields(caller.provider)
        self.fields = [name for name in fields if name not in self.policy.forbidden]
        self.lacking = False
        self.status = "absent"
        self.conversation = Conversation()
        self.learned: list[Record] = []

    def run(self, whole: bool = False) -> Restored:
        """`whole`: nothing that is remembered is used. Raises Contradiction, with nothing done yet."""
        request = self.request
        settings, turn_off = self._settings()
        is_off = turn_off or fallback.is_off(self.table, self.policy, request.parameters)
        treats = not is_off and not self.policy.rule.forbidden
        self.report.thinking_off = is_off
        exchange = self._exchange()
        going = self._continuation(treats)
        if going is not None and not whole:
            going.begin()
        written = request.body
        if self.defers and (going is None or going.start is None) and self._is_left(treats, turn_off):
            exchange.rest = Rest(lambda: self._work(treats, going, exchange))
        else:
            done, lacking = self._work(treats, going, exchange, turn_off)
            written = request.body if done is None else done
            turn_off = turn_off or lacking
        if turn_off and self.policy.off is not None:
            # Nothing is demanded then, and what is not demanded stays as the client sent it.
            self.report = Report(model=self.report.model, family=self.report.family, thinking_off=True)
            off = fallback.turned_off(self.policy.off, request.parameters)
            self.report.turned_off = bool(off)
            settings |= off
        elif settings:
            self.report.settings = tuple(settings)
        if settings:
            written = set_members(written, settings)
        if written is request.body:
            return Restored(None, self.report, exchange)
        self.report.grown = len(written) - len(request.body)
        return Restored(written if written != request.body else None, self.report, exchange)

    def _is_left(self, treats: bool, turn_off: bool) -> bool:
        """Whether all turns are sure to stay as the client sent them, whatever is on record."""
        if turn_off or not treats:
            return not turn_off
        sent = self.dialect.brought(self.request)
        return sent is not None and all(
            any(self._is_real(name, own[name]) for name in self.fields if name in own)
            and self.policy.forbidden.isdisjoint(own)
            for own in sent
        )

    def _work(
        self, treats: bool, going: Going | None, exchange: Exchange, turn_off: bool = False
    ) -> tuple[bytes | None, bool]:
        """Match and treat the turns, find the place of the answer, learn and remember.

        Returns the body with what was changed in turns (None: nothing is to be changed), and whether thinking
        is to be turned off instead.
        """
        try:
            start = None if going is None else going.start
            if start is not None:
                self.report = _continued(self.report, start)
            history = self._read(start)
            last = None if start is None else start.last
            matching = match(history, self.marks, self.lookup, self.conversation, last)
            self._place(exchange, matching, history)
            changes = self._changes(treats, going, history, matching)
            if treats:
                self._learn(history.slots, matching, exchange, None if last is None else last.record)
            if turn_off or (
                self.lacking and self.wishes.mode == fallback.DISABLE and self.policy.off is not None
            ):
                return None, True
            if going is not None:
                written = going.whole(changes)
                going.keep(history, matching, written, self.report, bool(changes))
                return written, False
            return self.dialect.write_request(self.request, changes, {}) if changes else None, False
        finally:
            # Last of all: they are on record at places that this very request found open.
            if self.learned and self.memory is not None:
                self.memory.recorded(self.caller.scope.id, self.learned)

    def _changes(
        self, treats: bool, going: Going | None, history: History, matching: Matching
    ) -> dict[int, Change]:
        """What is to be changed in each turn."""
        changes: dict[int, Change] = {}
        slots = history.slots
        verdicts = self._once(slots, matching.verdicts) if treats else matching.verdicts
        read_before = 0 if going is None or going.start is None else going.start.point.messages
        if going is not None:
            going.expect(len(slots))
        for position, (said, verdict) in enumerate(zip(slots, verdicts, strict=True)):
            if going is not None:
                going.before(position, self.report, bool(changes))
            treated = None
            if treats:
                self.status = "absent"
                if change := self._change(said, verdict, matching.contexts[position]):
                    changes[said.index] = change | self._said_nothing(said)
                treated = Treated(
                    read_before + said.index,
                    self.status,
                    verdict.evidence if verdict is not None else "",
                    verdict.records[0].created if verdict is not None else 0,
                )
                self.report.turns.append(treated)
            if going is not None and verdict and matching.is_settled(position, slots, verdict):
                going.settled(position, said, verdict, matching.places[position], treated)
        return changes

    def _continuation(self, treats: bool) -> Going | None:
        """This request in the light of what is remembered; None where nothing of it can be."""
        if self.memory is None or not self.remembers or bytes(memoryview(self.request.array)[:1]) != b"[":
            return None
        circumstances = Circumstances(
            scope=self.caller.scope.id,
            table=self.table,
            provider=self.caller.provider,
            endpoint=self.caller.endpoint,
            family=self.caller.provider.family(self.request.model),
            policy=self.policy,
            has_tools=self.request.has_tools,
            treated=treats,
        )
        try:
            return Continuation(self.memory, self.store.version(), circumstances, self.dialect, self.request)
        except SpliceError:
            return None

    def _read(self, start: Start[Report, Treated | None] | None) -> History:
        """What the request says after the point where it begins."""
        request = self.request
        self.dialect.read_history(request)
        if start is not None and start.point.systems:
            request.system = "\n".join((*start.point.systems, *request.systems.values()))
        self.conversation = Conversation(
            self.marks.of("system", request.system) if request.system else NONE,
            self.marks.of("session", self.caller.session) if self.caller.session else NONE,
        )
        messages = request.messages if request.continued is None else request.messages[: request.continued]
        if start is None:
            return read_history(messages, self.marks)
        return read_history(messages, self.marks, start.point.said, start.point.weight)

    def _once(self, slots: list[Slot], verdicts: list[Verdict | None]) -> list[Verdict | None]:
        """The verdicts; where a client split a turn and left the reasoning in a piece, all are parts."""
        pieces = Counter(record.key for verdict in verdicts if verdict for record in verdict.records)
        if max(pieces.values(), default=1) == 1:
            return verdicts
        brought = {
            record.key
            for said, verdict in zip(slots, verdicts, strict=True)
            if verdict and self._brings_reasoning(said)
            for record in verdict.records
            if pieces[record.key] > 1
        }
        return [
            Verdict(verdict.records, verdict.evidence, part=True)
            if verdict and any(record.key in brought for record in verdict.records)
            else verdict
            for verdict in verdicts
        ]

    def _settings(self) -> tuple[Settings, bool]:
        """Members to set at the top of the body, and whether thinking is to be turned off."""
        policy, parameters = self.policy, self.request.parameters
        if fallback.is_to_be_off(self.wishes, self.request.model) and policy.off is not None:
            return {}, True
        if fallback.is_off(self.table, policy, parameters):
            return {}, False
        settings = fallback.conflicts(policy, parameters)
        split = self.caller.endpoint.split
        if self.wishes.split and split and parameter(parameters, (split,)) is None:
            settings[split] = b"true"
        turn_off = policy.must_turn_off
        if policy.refuses_forced_tools and fallback.forces_a_tool(parameters):
            if policy.off is not None:
                turn_off = True
            else:
                settings["tool_choice"] = None
        return settings, turn_off and policy.off is not None

    def _exchange(self) -> Exchange:
        return Exchange(
            store=self.store,
            scope=self.caller.scope,
            marks=self.marks,
            table=self.table,
            dialect=self.dialect,
            host=self.caller.host,
            issuer=self.caller.issuer,
            model=self.request.model,
            asked=now(),
            snapshots=self.caller.provider.snapshots(self.caller.host),
            told=nobody if self.memory is None else self.memory.recorded,
        )

    def _place(self, exchange: Exchange, matching: Matching, history: History) -> None:
        """Where the answer will stand."""
        continued = self.request.continued
        last = self.request.messages[continued] if continued is not None else None
        exchange.conversation = self.conversation
        exchange.context = matching.context_after
        exchange.before = history.tail_before
        exchange.parent, exchange.thread = matching.parent, matching.thread
        exchange.lead = last.text if isinstance(last, Turn) else ""

    def _change(self, said: Slot, verdict: Verdict | None, context: bytes) -> dict[str, bytes | None]:
        """The reasoning fields to set in one turn, and those that must go."""
        own = self.request.own.get(said.index, {})
        change: dict[str, bytes | None] = {name: None for name in own if name in self.policy.forbidden}
        if change:
            self.report.stripped += 1
            own = {name: value for name, value in own.items() if name not in change}
        if self._brings_reasoning(said):
            self.status = "sent"
            return change | self._completed(own, verdict)
        if self.only_demanded and not self._demanded(said):
            if verdict is not None:
                self.status = "left out"
                self.report.left_out += 1
            return change
        if verdict is None:
            self.report.wanted += 1
            return change | self._fill(said, own, context)
        if verdict.part:
            self.status = "part"
            return change | self._fill(said, own, context)
        fields = self._recorded(verdict) | self._tagged(said, verdict)
        if not fields:
            self.status = "empty"
            return change | self._known_empty(said, own, context)
        if self._keeps_tags(said, verdict):
            self.status = "sent"
            return change
        self._count(verdict)
        return change | {name: value for name, value in fields.items() if own.get(name) != value}

    def _said_nothing(self, said: Slot) -> dict[str, bytes | None]:
        """An empty text for no content, in a turn that is changed anyway, where no content is refused."""
        if said.index not in self.request.null_content:
            return {}
        match self.caller.provider.null_content:
            case "never":
                return {"content": b'""'}
            case "with_calls" if not said.calls:
                return {"content": b'""'}
            case _:
                return {}

    def _count(self, verdict: Verdict) -> None:
        self.status = "restored"
        self.report.wanted += 1
        self.report.restored += 1
        self.report.evidence[verdict.evidence] += 1

    def _completed(self, own: dict[str, bytes], verdict: Verdict | None) -> dict[str, bytes | None]:
        """What a client left out of the reasoning that it kept."""
        recorded = self._recorded(verdict) if verdict is not None and not verdict.part else {}
        for name, value in recorded.items():
            whole = self.dialect.completed(name, own[name], value) if name in own else None
            if whole is not None and verdict is not None:
                self._count(verdict)
                return {name: whole}
        return {}

    def _recorded(self, verdict: Verdict) -> dict[str, bytes]:
        """What this provider said, in the fields that it reads; several turns' in order where merged."""
        merged: dict[str, bytes] = {}
        for record in verdict.records:
            opened = self.lookup.open(record) if record.thought else None
            for name, value in (opened.fields if opened else {}).items():
                merged[name] = self.dialect.join(name, merged[name], value) if name in merged else value
        names = [name for name in self.fields if name in merged]
        if self.caller.provider.writes == "first":
            names = names[:1]
        return {name: merged[name] for name in names}

    def _tagged(self, said: Slot, verdict: Verdict) -> dict[str, bytes]:
        """The content as the provider said it, where a client stripped the `<think>` block from it."""
        opened = self.lookup.open(verdict.records[0]) if len(verdict.records) == 1 else None
        if opened is None or not opened.whole or "think>" in self._text(said) or said.text != opened.text:
            return {}
        return self.dialect.tagged(self.request, said.index, opened.whole)

    def _keeps_tags(self, said: Slot, verdict: Verdict) -> bool:
        """Whether the thought still stands in the content, where the provider said it (MiniMax M3: twice)."""
        if "think>" not in self._text(said):
            return False
        opened = self.lookup.open(verdict.records[0])
        return opened is not None and bool(opened.whole)

    def _text(self, said: Slot) -> str:
        message = self.request.messages[said.index]
        return message.text if isinstance(message, Turn) else ""

    def _fill(self, said: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes]:
        if self.wishes.mode == fallback.NOTHING or not self._demanded(said):
            return {}
        name, value = self._placeholder(self.policy.placeholder, said, context)
        if name not in own or not self._accepts(name, own[name]):
            self.lacking = True
        else:
            return {}
        # The client's own words, in a field that this provider does not read.
        moved = next((own[other] for other in own if self._is_real(other, own[other])), None)
        if moved is not None and moved[:1] == b'"' and value is not None and value[:1] == b'"':
            value = moved
        if value is None or own.get(name) == value:
            return {}
        self.status = "filled"
        self.report.filled += 1
        return {name: value}

    def _known_empty(self, said: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes]:
        if not self._demanded(said):
            return {}
        name, value = self._placeholder(self.policy.known_empty, said, context)
        sent = own.get(name)
        if value is None or not (self.policy.strict or sent in (None, b"null")):
            return {}
        return {} if sent == value else {name: value}

    def _placeholder(self, text: str | None, said: Slot, context: bytes) -> tuple[str, bytes | None]:
        """The field that a placeholder goes to, and its value there."""
        for name in self.fields:
            words = fallback.filled_in(text or "", self.marks.place(context, said.turn))
            value = self.dialect.stand_in(name, words)
            if value is not None:
                return name, None if text is None else value
        return "", None

    def _accepts(self, name: str, value: bytes) -> bool:
        return self.policy.accepts(self.dialect.texts(name, value))

    def _demanded(self, said: Slot) -> bool:
        return self.policy.demands(bool(said.calls), self.request.has_tools)

    def _brings_reasoning(self, said: Slot) -> bool:
        """Whether the client sends reasoning of this turn itself, in a field that this provider reads."""
        own = self.request.own.get(said.index, {})
        return any(self._is_real(name, own[name]) for name in self.fields if name in own)

    def _is_real(self, name: str, value: bytes) -> bool:
        """Whether a client's value is reasoning rather than nothing, a blank or a placeholder."""
        texts = self.dialect.texts(name, value)
        return texts is None or any(not self.table.is_placeholder(text) for text in texts)

    def _learn(self, slots: list[Slot], matching: Matching, exchange: Exchange, last: Record | None) -> None:
        """Record what the client itself brought, where nothing is on record for that turn.

        `last` is the recorded turn before these.
        """
        learned = self.learned
        parent, thread = (NONE, NONE) if last is None else (last.key, last.thread)
        for position, (said, verdict) in enumerate(zip(slots, matching.verdicts, strict=True)):
            if verdict is not None:
                parent, thread = verdict.records[-1].key, verdict.records[-1].thread
                continue
            own = self.request.own.get(said.index, {})
            fields = {n: self.dialect.tidy(n, value) for n, value in own.items() if self._is_real(n, value)}
            if not thought_of(self.marks, fields):
                parent = NONE
                continue
            answer = Answered(Turn(), fields, complete=True)
            record = make_record(exchange, said, matching.contexts[position], parent, thread, answer)
            learned.append(record)
            parent, thread = record.key, record.thread
        if learned:
            self.store.put(self.caller.scope.id, learned)
            self.report.learned = len(learned)
            if slots[-1].index in self.request.own and parent:
                exchange.parent, exchange.thread = parent, thread
