"""Why each turn of a request was or was not restored: what is on record, what speaks for it, who won.

The request is restored once more while somebody looks on, so an explanation cannot disagree with what is
done; what it says about candidates is told afterwards, from the same records. It knows no flow and prints
nothing.
"""

from collections.abc import Collection, Sequence

import msgspec

from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.wire import NotChatError, read_request
from reasoning_fix.engine import policy
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.history import NONE, Slot
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.matching.verdicts import Matched
from reasoning_fix.engine.report import Report, Treated
from reasoning_fix.engine.restoring import Restored, restore
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.store import Record, Store

LINE_LENGTH = 60
# Of many candidates the ones with the most evidence are told.
_TOLD = 5
# The status of turns that nobody looked at, in requests that are not touched.
UNTOUCHED = "untouched"
_DEMANDS = {
    "never": "demands reasoning on no turn",
    "tool_calls": "demands reasoning on turns with tool calls",
    "with_tools": "demands reasoning on every turn of a request with tools",
    "always": "demands reasoning on every turn",
}


class Candidate(msgspec.Struct, frozen=True):
    """One recorded turn that might be meant: which evidence it has and which it lacks."""

    has: tuple[str, ...]
    lacks: tuple[str, ...]
    thought: bool
    chosen: bool = False


class Tie(msgspec.Struct, frozen=True):
    """Several records fitted; `by` settled it, or says why nothing could."""

    among: int
    by: str
    settled: bool


class Explained(msgspec.Struct):
    """What became of one turn, and why. `on_record` counts what is on record of it, by evidence."""

    index: int
    status: str
    evidence: str
    line: str
    why: str
    on_record: dict[str, int]
    candidates: list[Candidate]
    ties: list[Tie]


class Explanation(msgspec.Struct):
    """One request: `done` in one line, `untouched` why nothing was changed ("" where something was).

    `odd` says which messages could not be read as they are, and why, by their position in the body.
    """

    host: str
    provider: str
    dialect: str
    model: str
    done: str
    untouched: str
    turns: list[Explained] = []
    odd: list[str] = []

    def lines(self, texts: bool = True) -> list[str]:
        """For a person; without `texts` nothing of the conversation is in it."""
        told = [f"{self.host} {self.model} ({self.provider}, {self.dialect}): {self.done}"]
        if self.untouched:
            told.append(f"  nothing was changed: {self.untouched}")
        for turn in self.turns:
            told += _lines(turn, texts)
        return told + [f"  note: {what}" for what in self.odd]

    def without_texts(self) -> "Explanation":
        turns = [msgspec.structs.replace(turn, line="") for turn in self.turns]
        return msgspec.structs.replace(self, turns=turns)


def _lines(turn: Explained, texts: bool) -> list[str]:
    way = f" by {turn.evidence}" if turn.status == "restored" else ""
    told = [f"  message {turn.index}: {turn.status}{way}" + (f"  {turn.line!r}" if texts else "")]
    told.append(f"    {turn.why}")
    counts = ", ".join(f"{count} by {way}" for way, count in turn.on_record.items() if count)
    told.append(f"    on record: {counts or 'nothing like it'}")
    for candidate in turn.candidates:
        mark = "->" if candidate.chosen else " -"
        has = ", ".join(candidate.has) or "nothing"
        thought = "" if candidate.thought else " (had no reasoning)"
        lacks = f"; lacks {', '.join(candidate.lacks)}" if candidate.lacks else ""
        told.append(f"    {mark} has {has}{lacks}{thought}")
    told += [f"    tie of {tie.among}: {tie.by}" for tie in turn.ties]
    return told


class Earlier:
    """A store as it was at a time (milliseconds since the epoch), to be looked at only."""

    def __init__(self, store: Store, time: int) -> None:
        self._store = store
        self._time = time

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        """Nothing is kept: looking on must not change what is on record."""

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        return self._then(self._store.at(scope, places))

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        return self._then(self._store.related(scope, contexts=contexts, turns=turns, ids=ids))

    def by_key(self, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        return self._then(self._store.by_key(scope, keys))

    def forget(self, before: int | None = None) -> int:
        """Nothing is erased."""
        return 0

    def version(self) -> object:
        return self._store.version()

    def close(self) -> None:
        """The store stays open: it is somebody else's."""

    def _then(self, records: list[Record]) -> list[Record]:
        return [record for record in records if record.created < self._time]


class _Watcher:
    """Keeps what the matcher says while it works."""

    def __init__(self) -> None:
        self.ties: dict[int, list[Tie]] = {}
        self.seen: Matched | None = None

    def tied(self, position: int, records: Sequence[Record], by: str, chosen: Record | None) -> None:
        tie = Tie(len(records), by, chosen is not None)
        known = self.ties.setdefault(position, [])
        if tie not in known:
            known.append(tie)

    def matched(self, matched: Matched) -> None:
        self.seen = matched


def explain(
    body: bytes,
    caller: Caller,
    knowledge: Knowledge,
    *,
    taught: Sequence[Lesson] = (),
) -> tuple[Explanation, Restored | None]:
    """Restore a request and say why each turn was treated as it was; None if it cannot be restored."""
    told = Explanation(caller.host, caller.provider.name, caller.endpoint.dialect, "", "", "")
    watcher = _Watcher()
    try:
        restored = restore(body, caller, knowledge, taught=taught, observer=watcher)
    except (NotChatError, SpliceError) as reason:
        told.done, told.untouched = "not touched", str(reason)
        return told, None
    report = restored.report
    told.model, told.done = report.model, _done(report, restored)
    assert watcher.seen is not None
    treated = {turn.index: turn for turn in report.turns}
    explainer = _Explainer(watcher, watcher.seen, restored)
    told.turns = [
        explainer.turn(position, treated.get(slot.index, Treated(slot.index, UNTOUCHED)))
        for position, slot in enumerate(watcher.seen.history.slots)
    ]
    told.odd = explainer.odd()
    if restored.body is None:
        told.untouched = explainer.untouched(told.turns)
    return told, restored


def _done(report: Report, restored: Restored) -> str:
    if restored.body is not None or report.turns:
        counts: dict[str, int] = {}
        for turn in report.turns:
            counts[turn.status] = counts.get(turn.status, 0) + 1
        others = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "restored")
        return "; ".join(filter(None, (report.text() if restored.body is not None else "", others)))
    return "not touched"


class _Explainer:
    def __init__(self, watcher: _Watcher, seen: Matched, restored: Restored) -> None:
        caller, knowledge, report = restored.caller, restored.knowledge, restored.report
        self.watcher = watcher
        self.seen = seen
        self.caller = caller
        self.preferences = knowledge.preferences
        self.report = report
        self.store = knowledge.store
        self.slots = seen.history.slots
        self.dialect = caller.dialect
        self.request = read_request(self.dialect, restored.received)
        self.messages = self.request.messages
        self.rule = caller.provider.rule_at(caller.endpoint, report.model)
        self.policy = policy.policy(
            knowledge.table, caller.endpoint, self.rule, knowledge.preferences, report.lessons
        )
        # Messages that have the thought of their turn.
        self.holders = {turn.index for turn in report.turns if turn.status in ("restored", "sent")}
        self.records = [
            verdict.records[-1] if verdict is not None else None for verdict in seen.matching.verdicts
        ]

    def turn(self, position: int, treated: Treated) -> Explained:
        slot = self.slots[position]
        found, foreign = self._on_record(position, slot)
        verdict = self.seen.matching.verdicts[position]
        chosen = {record.key for record in verdict.records} if verdict is not None else set()
        candidates = [self._candidate(record, position, slot, record.key in chosen) for record in found]
        candidates.sort(key=lambda one: (not one.chosen, -len(one.has)))
        ties = self.watcher.ties.get(position, [])
        return Explained(
            index=slot.index,
            status=treated.status,
            evidence=verdict.evidence if verdict is not None else "",
            line=self._line(slot),
            why=self._why(treated.status, bool(slot.calls), position, candidates, ties, foreign),
            on_record=self._counts(found, position, slot),
            candidates=candidates[:_TOLD],
            ties=ties,
        )

    def untouched(self, turns: list[Explained]) -> str:
        """Why the request went on as it came."""
        if self.policy.is_refused:
            return f"the rule {self.rule.name!r} forbids reasoning in requests"
        if self.report.thinking_off:
            return self._off()
        if not turns:
            return "the model has said nothing in it yet"
        statuses = {turn.status for turn in turns}
        if statuses == {"sent"}:
            return "the client sends the reasoning of every turn itself"
        if self.preferences.mode == policy.NOTHING and "absent" in statuses:
            return "nothing to restore is on record, and the option reasoning_fallback is none"
        return "nothing is missing that is on record or demanded"

    def odd(self) -> list[str]:
        """What is odd about messages."""
        history = self.dialect.HISTORY
        return [f"{history}[{position}] {what}" for position, what in sorted(self.request.odd.items())]

    # What is on record.

    def _on_record(self, position: int, slot: Slot) -> tuple[list[Record], int]:
        """All that resembles this turn, and how many of it another provider or family of models said."""
        contexts = {self.seen.matching.contexts[position]}
        ids = {call_id for call_id, _ in slot.calls if call_id}
        found = self.seen.lookup.related(contexts=contexts, turns={slot.turn}, ids=ids)
        everything = self.store.related(self.caller.scope.id, contexts=contexts, turns={slot.turn}, ids=ids)
        return found, len(everything) - len(found)

    def _counts(self, found: list[Record], position: int, slot: Slot) -> dict[str, int]:
        context = self.seen.matching.contexts[position]
        place = self.seen.fingerprints.place(context, slot.turn)
        ids = {call_id for call_id, _ in slot.calls if call_id}
        return {
            "place": sum(r.place == place for r in found),
            "context": sum(r.context == context for r in found),
            "tool-call id": sum(any(i in ids for i, _ in r.calls) for r in found),
            "same turn": sum(r.turn == slot.turn for r in found),
            "neighbour": sum(r.turn == slot.turn and self._has_neighbour(r, position, slot) for r in found),
        }

    def _has_neighbour(self, record: Record, position: int, slot: Slot) -> bool:
        return (
            self._follows(record, position)
            or self._leads(record, position)
            or (bool(slot.before) and record.before == slot.before)
        )

    def _follows(self, record: Record, position: int) -> bool:
        before = self.records[position - 1] if position else None
        return before is not None and record.parent == before.key

    def _leads(self, record: Record, position: int) -> bool:
        after = self.records[position + 1] if position + 1 < len(self.slots) else None
        return after is not None and after.parent == record.key

    def _candidate(self, record: Record, position: int, slot: Slot, chosen: bool) -> Candidate:
        ids = {call_id for call_id, _ in slot.calls if call_id}
        conversation = self.seen.conversation
        asked: list[tuple[str, bool]] = [
            ("same context", record.context == self.seen.matching.contexts[position]),
            ("same turn", record.turn == slot.turn),
        ]
        if ids:
            asked.append(("same tool-call id", any(i in ids for i, _ in record.calls)))
            asked.append(("calls that agree", any(pair in slot.calls for pair in record.calls)))
        if position:
            asked.append(("the turn before", self._follows(record, position)))
        if position + 1 < len(self.slots):
            asked.append(("the turn after", self._leads(record, position)))
        if slot.before:
            asked.append(("the message before", record.before == slot.before))
        if conversation.session:
            asked.append(("the conversation header", record.session == conversation.session))
        if conversation.system:
            asked.append(("the system prompt", record.system == conversation.system))
        has = [name for name, holds in asked if holds]
        if not record.complete:
            has.append("an answer that was cut short")
        lacks = [name for name, holds in asked if not holds]
        if not chosen and any(record.key == r.key for r in self.records if r is not None):
            lacks.append("being free (it is another turn of this request)")
        return Candidate(tuple(has), tuple(lacks), record.thought != NONE, chosen)

    # Words.

    def _line(self, slot: Slot) -> str:
        said = slot.text.partition("\n")[0]
        # Of turns that stand side by side the body alone does not tell which call is whose.
        message = self.messages[slot.index] if slot.index < len(self.messages) else None
        told = message.calls if isinstance(message, Turn) else ()
        is_it = tuple(call.id for call in told) == slot.ids
        calls = ", ".join(call.name for call in told) if is_it else ", ".join(slot.ids)
        line = " ".join(filter(None, (said, f"[calls {calls}]" if calls else "")))
        return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"

    def _why(
        self,
        status: str,
        has_calls: bool,
        position: int,
        candidates: list[Candidate],
        ties: list[Tie],
        foreign: int,
    ) -> str:
        match status:
            case "restored":
                return "it is on record, and the client sent none of its reasoning, or not all"
            case "sent":
                return "the client sends its reasoning itself"
            case "empty":
                record = self.records[position]
                if record is not None and record.thought:
                    return "it is on record, but in no field that this provider takes"
                return "it is on record as having had no reasoning"
            case "part":
                return self._piece(position)
            case "moved":
                return "the client sends its reasoning where, or in a form that, this provider does not read"
            case "odd":
                return "it repeats a member name or has an unknown content, so it is left as it came"
            case "left out":
                if self.policy.puts_nothing_back:
                    return "it is on record, but what was put back here was refused"
                return "it is on record, but the request is too long with what is not demanded"
            case "filled":
                return (
                    f"{self._why_not(position, candidates, ties, foreign)}; {self._demand()}, so it is filled"
                )
            case "absent":
                return f"{self._why_not(position, candidates, ties, foreign)}; {self._left(has_calls)}"
        if self.policy.is_refused:
            return f"the rule {self.rule.name!r} forbids reasoning in requests"
        return self._off()

    def _off(self) -> str:
        by = f" (switch {self.report.switch!r})" if self.report.switch else ""
        return f"thinking is off in this request{by}"

    def _piece(self, position: int) -> str:
        """Where the thought of a piece of a split turn stands."""
        mine = self.seen.matching.verdicts[position]
        keys = {record.key for record in mine.records} if mine is not None else set()
        holders = [
            slot.index
            for slot, verdict in zip(self.slots, self.seen.matching.verdicts, strict=True)
            if verdict and not keys.isdisjoint(r.key for r in verdict.records) and slot.index in self.holders
        ]
        where = f"message {holders[0]}" if holders else "another piece"
        return f"it is a piece of a split turn, whose reasoning stands in {where}"

    def _why_not(self, position: int, candidates: list[Candidate], ties: list[Tie], foreign: int) -> str:
        if verdict := self.seen.matching.verdicts[position]:
            if verdict.part:
                return self._piece(position)
            return "it is on record, but in no field that this provider takes"
        if not candidates:
            if foreign:
                return "only another provider, or another family of models, said it"
            return "nothing like it is on record"
        if any(not tie.settled for tie in ties):
            return "several turns on record fit it alike, and what they thought differs"
        return "what is on record has too little evidence"

    def _demand(self) -> str:
        taught = " (a refusal taught that)" if self.policy.strict else ""
        return f"the rule {self.rule.name!r} {_DEMANDS[self.policy.required]}{taught}"

    def _left(self, has_calls: bool) -> str:
        tools = self.policy.required == "with_tools"
        if self.preferences.mode == policy.NOTHING:
            return "the option reasoning_fallback is none, so it is left"
        if self.policy.placeholder is None and (tools or self.policy.demands(has_calls, True)):
            return f"{self._demand()}, but what stands in for it is not known"
        return f"{self._demand()}, so it is left as it came"
