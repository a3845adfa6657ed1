"""Request bytes -> request bytes and a report of what was done.

The body is read once; where nothing is to be restored it is not touched at all, and where something is, only
the reasoning fields change. Reasoning that the client sends itself always wins. Turns that a client brings
complete and that are not on record in their context are learned from the request.
"""

from collections import Counter
from collections.abc import Collection

import msgspec

from reasoning_fix import fallback
from reasoning_fix.dialects import chat_completions
from reasoning_fix.dialects.chat_answers import Answered
from reasoning_fix.dialects.chat_completions import ChatRequest
from reasoning_fix.matching import Conversation, Matching, Opened, Verdict, match
from reasoning_fix.providers import Provider, Rule, Table
from reasoning_fix.recording import Exchange, make_record, now, thought_of
from reasoning_fix.store import Record, Store
from reasoning_fix.store.sealing import Scope, SealError
from reasoning_fix.turns import NONE, Fingerprints, Slot, Turn, read_history

_open = msgspec.msgpack.Decoder(Opened).decode


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request, where to, and by what headers the client names the conversation."""

    scope: Scope
    provider: Provider
    host: str
    session: str


class Report(msgspec.Struct):
    """What was done to one request. Counts are turns; `grown` is in bytes."""

    model: str = ""
    wanted: int = 0
    restored: int = 0
    evidence: Counter[str] = msgspec.field(default_factory=Counter)
    filled: int = 0
    learned: int = 0
    grown: int = 0
    thinking_off: bool = False

    def text(self) -> str:
        """One line for a person: `restored 3 of 3 turns: 2 by context, 1 by tool-call id`."""
        parts = []
        if self.restored or not self.filled:
            ways = ", ".join(f"{count} by {way}" for way, count in self.evidence.most_common())
            parts.append(f"restored {self.restored} of {self.wanted} turns" + (f": {ways}" if ways else ""))
        if self.filled:
            parts.append(f"filled {self.filled} of {self.wanted} turns that were not on record")
        return "; ".join(parts)


class Restored(msgspec.Struct):
    """`body` is None where the request goes on as it came."""

    body: bytes | None
    report: Report
    exchange: Exchange


class _ScopedLookup:
    """The records of one scope that this provider issued: another one's are as good as not recorded."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._scope = caller.scope
        self._issuer = caller.provider.name

    def at(self, places: Collection[bytes]) -> list[Record]:
        return self._mine(self._store.at(self._scope.id, places))

    def related(
        self, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        return self._mine(self._store.related(self._scope.id, contexts=contexts, turns=turns, ids=ids))

    def open(self, record: Record) -> Opened | None:
        try:
            return _open(self._scope.open(record.sealed, record.key))
        except (SealError, msgspec.MsgspecError):
            return None

    def _mine(self, records: list[Record]) -> list[Record]:
        return [record for record in records if record.issuer == self._issuer]


def restore(body: bytes, caller: Caller, table: Table, store: Store, mode: str) -> Restored:
    """Restore what is on record, fill by rule what is demanded and is not.

    Raises NotChatError for a body that is no chat request, SpliceError for one that repeats member names.
    """
    request = chat_completions.read_request(body)
    return _Restoration(request, caller, table, store, mode).run(body)


class _Restoration:
    def __init__(self, request: ChatRequest, caller: Caller, table: Table, store: Store, mode: str) -> None:
        self.request = request
        self.caller = caller
        self.table = table
        self.store = store
        self.mode = mode
        self.marks = Fingerprints(caller.scope.fingerprint_key)
        self.lookup = _ScopedLookup(store, caller)
        self.rule: Rule = caller.provider.rule(request.model)
        self.report = Report(model=request.model)
        self.conversation = Conversation(
            self.marks.of("system", request.system) if request.system else NONE,
            self.marks.of("session", caller.session) if caller.session else NONE,
        )

    def run(self, body: bytes) -> Restored:
        request = self.request
        messages = request.messages if request.continued is None else request.messages[: request.continued]
        history = read_history(messages, self.marks)
        matching = match(history, self.marks, self.lookup, self.conversation)
        exchange = self._exchange(matching, history.tail_before)
        self.report.thinking_off = any(
            chat_completions.parameter(request.parameters, switch.path) == switch.value
            for switch in self.table.off_switches
        )
        changes: dict[int, dict[str, bytes]] = {}
        if not self.report.thinking_off and not self.rule.forbidden:
            for said, verdict in zip(history.slots, matching.verdicts, strict=True):
                if change := self._change(said, verdict):
                    changes[said.index] = change
            self._learn(history.slots, matching, exchange)
        if not changes:
            return Restored(None, self.report, exchange)
        written = chat_completions.write_request(body, changes)
        self.report.grown = len(written) - len(body)
        return Restored(written, self.report, exchange)

    def _exchange(self, matching: Matching, before: bytes) -> Exchange:
        continued = self.request.continued
        last = self.request.messages[continued] if continued is not None else None
        return Exchange(
            store=self.store,
            scope=self.caller.scope,
            marks=self.marks,
            table=self.table,
            host=self.caller.host,
            issuer=self.caller.provider.name,
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

    def _change(self, said: Slot, verdict: Verdict | None) -> dict[str, bytes]:
        """The reasoning fields to set in one message."""
        own = self.request.own.get(said.index, {})
        if any(self._is_real(name, own[name]) for name in self.caller.provider.reads if name in own):
            return {}
        if verdict is None:
            self.report.wanted += 1
            return self._fill(said, own)
        if verdict.part:
            return self._fill(said, own)
        fields = self._recorded(verdict) | self._tagged(said, verdict)
        if not fields:
            return self._known_empty(said, own)
        if "content" not in fields and self._keeps_tags(said, verdict):
            return {}
        self.report.wanted += 1
        self.report.restored += 1
        self.report.evidence[verdict.evidence] += 1
        return {name: value for name, value in fields.items() if own.get(name) != value}

    def _recorded(self, verdict: Verdict) -> dict[str, bytes]:
        """What this provider said, in the fields that it reads; several turns' in order where merged."""
        merged: dict[str, bytes] = {}
        for record in verdict.records:
            opened = self.lookup.open(record) if record.thought else None
            for name, value in (opened.fields if opened else {}).items():
                merged[name] = _join(merged[name], value) if name in merged else value
        names = [name for name in self.caller.provider.reads if name in merged]
        if self.caller.provider.writes == "first":
            names = names[:1]
        return {name: merged[name] for name in names}

    def _tagged(self, said: Slot, verdict: Verdict) -> dict[str, bytes]:
        """The content as the provider said it, where a client stripped the `<think>` block from it."""
        opened = self.lookup.open(verdict.records[0]) if len(verdict.records) == 1 else None
        if opened is None or not opened.whole or said.index in self.request.in_parts:
            return {}
        if "think>" in self._text(said) or said.text != opened.text:
            return {}
        return {"content": msgspec.json.encode(opened.whole)}

    def _keeps_tags(self, said: Slot, verdict: Verdict) -> bool:
        """Whether the thought still stands in the content, where the provider said it (MiniMax M3: twice)."""
        opened = self.lookup.open(verdict.records[0])
        return opened is not None and bool(opened.whole) and "think>" in self._text(said)

    def _text(self, said: Slot) -> str:
        message = self.request.messages[said.index]
        return message.text if isinstance(message, Turn) else ""

    def _fill(self, said: Slot, own: dict[str, bytes]) -> dict[str, bytes]:
        if self.mode != fallback.AUTO or not self._demanded(said):
            return {}
        name = self.caller.provider.placeholder_field
        value = fallback.stand_in(self.rule, own.get(name)) if name else None
        if name is None or value is None:
            return {}
        # The client's own words, in a field that this provider does not read.
        moved = next((own[other] for other in own if self._is_real(other, own[other])), None)
        if moved is not None and moved[:1] == b'"':
            value = moved
        self.report.filled += 1
        return {name: value}

    def _known_empty(self, said: Slot, own: dict[str, bytes]) -> dict[str, bytes]:
        name = self.caller.provider.placeholder_field
        if name is None or not self._demanded(said):
            return {}
        value = fallback.known_empty(self.rule, own.get(name))
        return {} if value is None else {name: value}

    def _demanded(self, said: Slot) -> bool:
        return fallback.demands(self.rule, bool(said.calls), self.request.has_tools)

    def _is_real(self, name: str, value: bytes) -> bool:
        """Whether a client's value is reasoning rather than nothing, a blank or a placeholder."""
        if name == "reasoning_details":
            return value[:1] == b"[" and bool(value[1:-1].strip())
        if value[:1] != b'"':
            return False
        try:
            return not self.table.is_placeholder(msgspec.json.decode(value, type=str))
        except (msgspec.MsgspecError, UnicodeError):
            return True

    def _learn(self, slots: list[Slot], matching: Matching, exchange: Exchange) -> None:
        """Record what the client itself brought, where nothing is on record for that turn."""
        learned: list[Record] = []
        parent = thread = NONE
        for position, (said, verdict) in enumerate(zip(slots, matching.verdicts, strict=True)):
            if verdict is not None:
                parent, thread = verdict.records[-1].key, verdict.records[-1].thread
                continue
            own = self.request.own.get(said.index, {})
            fields = {name: _tidy(value) for name, value in own.items() if self._is_real(name, value)}
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


def _join(first: bytes, second: bytes) -> bytes:
    """Two reasonings of merged turns, in order, with nothing added."""
    if first[:1] == b'"' and second[:1] == b'"':
        return first[:-1] + second[1:]
    if first[:1] == b"[" and second[:1] == b"[":
        inner = [part for part in (first[1:-1].strip(), second[1:-1].strip()) if part]
        return b"[%b]" % b",".join(inner)
    return second


def _tidy(value: bytes) -> bytes:
    """A JSON text in the one spelling that records use; other values as they are."""
    try:
        return msgspec.json.encode(msgspec.json.decode(value, type=str)) if value[:1] == b'"' else value
    except (msgspec.MsgspecError, UnicodeError):
        return b"null"
