"""Request bytes -> request bytes and a report of what was done.

The body is read once; where nothing is to be restored it is not touched at all, and where something is, only
the reasoning fields change. Reasoning that the client sends itself always wins. Turns that a client brings
complete and that are not on record in their context are learned from the request, once it is answered.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from reasoning_fix import fallback
from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.wire import Answered, Request, parameter
from reasoning_fix.fallback import Settings, Wishes
from reasoning_fix.lessons import Lesson, Lessons
from reasoning_fix.matching import Conversation, Matching, Observer, Opened, Verdict, match
from reasoning_fix.provider_rows import Endpoint
from reasoning_fix.providers import Provider, Table
from reasoning_fix.recording import Exchange, make_record, now, thought_of
from reasoning_fix.store import Record, Store
from reasoning_fix.store.sealing import Scope, SealError
from reasoning_fix.turns import NONE, Fingerprints, Slot, Turn, read_history
from reasoning_fix.undoing import Before, before

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
    """What was done to one request. Counts are turns; `grown` is in bytes.

    `demanded` are the changed turns that the provider would have refused as they came; `client` says what the
    client did with reasoning that is known to have been there: kept, blanked or dropped it.
    `asked` is when, in milliseconds since the epoch: what was recorded later was not known then. `lessons`
    are those that applied, `before` is what was changed, as the client sent it.
    """

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
    demanded: int = 0
    client: Counter[str] = msgspec.field(default_factory=Counter)
    thinking_off: bool = False
    turned_off: bool = False
    turns: list[Treated] = []
    settings: tuple[str, ...] = ()
    asked: int = 0
    lessons: tuple[Lesson, ...] = ()
    before: Before | None = None

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
    observer: Observer | None = None,
) -> Restored:
    """Restore what is on record, fill by rule what is demanded and is not.

    `taught` are lessons to try that are not learned yet; `only_demanded` restores no more than the provider
    demands; `observer` looks on for people who ask why. Raises NotChatError for a body that is no chat
    request, SpliceError for one that repeats member names.
    """
    request = DIALECTS[caller.endpoint.dialect].read_request(body)
    return _Restoration(request, caller, table, store, wishes, lessons, taught, only_demanded, observer).run()


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
        observer: Observer | None,
    ) -> None:
        self.observer = observer
        self.request = request
        self.caller = caller
        self.table = table
        self.store = store
        self.wishes = wishes
        self.only_demanded = only_demanded
        self.dialect = DIALECTS[caller.endpoint.dialect]
        self.marks = Fingerprints(caller.scope.fingerprint_key)
        self.lookup = _ScopedLookup(store, caller, request.model)
        rule = caller.provider.rule(request.model, caller.endpoint.dialect)
        family = rule.name or request.model
        known = (*lessons.about(caller.host, caller.endpoint.dialect, family), *taught)
        self.report = Report(model=request.model, family=family, lessons=known)
        self.policy = fallback.policy(table, caller.endpoint, rule, wishes, known)
        fields = self.dialect.fields(caller.provider)
        self.fields = [name for name in fields if name not in self.policy.forbidden]
        self.lacking = False
        self.status = "absent"
        self.conversation = Conversation(
            self.marks.of("system", request.system) if request.system else NONE,
            self.marks.of("session", caller.session) if caller.session else NONE,
        )

    def run(self) -> Restored:
        request, report = self.request, self.report
        messages = request.messages if request.continued is None else request.messages[: request.continued]
        history = read_history(messages, self.marks)
        matching = match(history, self.marks, self.lookup, self.conversation, self.observer)
        exchange = self._exchange(matching, history.tail_before)
        report.asked = exchange.asked
        settings, turn_off = self._settings()
        changes: dict[int, dict[str, bytes | None]] = {}
        report.thinking_off = turn_off or fallback.is_off(self.table, self.policy, request.parameters)
        if not report.thinking_off and not self.policy.rule.forbidden:
            verdicts = self._once(history.slots, matching.verdicts)
            for said, verdict, context in zip(history.slots, verdicts, matching.contexts, strict=True):
                self.status = "absent"
                if change := self._change(said, verdict, context):
                    changes[said.index] = change | self._said_nothing(said)
                self._account(said, bool(change))
                record = verdict.records[0] if verdict is not None else None
                treated = Treated(
                    said.index,
                    self.status,
                    verdict.evidence if verdict is not None else "",
                    record.created if record is not None else 0,
                )
                report.turns.append(treated)
            self._learn(history.slots, matching, exchange)
            if self.lacking and self.wishes.mode == fallback.DISABLE and self.policy.off is not None:
                turn_off = True
        if turn_off and self.policy.off is not None:
            # Nothing is demanded then, and what is not demanded stays as the client sent it.
            self.report = report = Report(
                model=report.model,
                family=report.family,
                thinking_off=True,
                asked=report.asked,
                lessons=report.lessons,
            )
            changes = {}
            off = fallback.turned_off(self.policy.off, request.parameters)
            self.report.turned_off = bool(off)
            settings |= off
        elif settings:
            self.report.settings = tuple(settings)
        if not changes and not settings:
            return Restored(None, self.report, exchange)
        written = self.dialect.write_request(request, changes, settings)
        self.report.grown = len(written) - len(request.body)
        self.report.before = before(request, changes, settings)
        return Restored(written if written != request.body else None, self.report, exchange)

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

    def _exchange(self, matching: Matching, before: bytes) -> Exchange:
        continued = self.request.continued
        last = self.request.messages[continued] if continued is not None else None
        return Exchange(
            store=self.store,
            scope=self.caller.scope,
            marks=self.marks,
            table=self.table,
            dialect=self.dialect,
            host=self.caller.host,
            issuer=self.caller.issuer,
            model=self.request.model,
            conversation=self.conversation,
            context=matching.context_after,
            before=before,
            parent=matching.parent,
            thread=matching.thread,
            asked=now(),
            lead=last.text if isinstance(last, Turn) else "",
            snapshots=self.caller.provider.snapshots(self.caller.host),
        )

    def _change(self, said: Slot, verdict: Verdict | None, context: bytes) -> dict[str, bytes | None]:
        """The reasoning fields to set in one turn, and those that must go."""
        own = self.request.own.get(said.index, {})
        change: dict[str, bytes | None] = {name: None for name in own if name in self.policy.forbidden}
        taken = [own[name] for name in change if self._is_real(name, own[name])]
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
        if verdict is None and taken:
            # What the client itself brought is refused here: words of ours are no better.
            self.status = "empty"
            return change | self._known_empty(said, own, context)
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

    def _account(self, said: Slot, changed: bool) -> None:
        """What the client did with the reasoning of a turn, and whether the turn would have been refused."""
        own = self.request.own.get(said.index, {})
        sent = [own[name] for name in self.fields if name in own]
        if self.status == "sent" or (sent and self._brings_reasoning(said)):
            self.report.client["kept"] += 1
            return
        if self.status in ("restored", "left out"):
            blanked = any(value != b"null" for value in sent)
            self.report.client["blanked" if blanked else "dropped"] += 1
        accepted = any(self._accepts(name, own[name]) for name in self.fields if name in own)
        if changed and self.status in ("restored", "filled", "empty") and not accepted:
            self.report.demanded += self._demanded(said)

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
        if opened is None or not opened.whole:
            return False
        # A model may also just speak of such tags: then its thought is not among them.
        thoughts = [self.dialect.texts(name, value) or [] for name, value in opened.fields.items()]
        return all(text.strip() in opened.whole for texts in thoughts for text in texts)

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

    def _learn(self, slots: list[Slot], matching: Matching, exchange: Exchange) -> None:
        """Note what the client itself brought, where nothing is on record for that turn."""
        learned = exchange.brought
        parent = thread = NONE
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
            self.report.learned = len(learned)
            if slots[-1].index in self.request.own and parent:
                exchange.parent, exchange.thread = parent, thread
