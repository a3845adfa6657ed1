"""What is to be done to one turn: the reasoning it gets, the placeholder in its stead, or nothing.

The rules of section "Restoring" of the provider table, applied to a turn and what it was recognised as. It
decides and counts; it neither matches nor writes.
"""

from collections import Counter
from collections.abc import Sequence

from reasoning_fix import fallback
from reasoning_fix.dialects.wire import Change, Dialect, Request
from reasoning_fix.fallback import Policy, Wishes
from reasoning_fix.looking_up import ScopedLookup
from reasoning_fix.matching.verdicts import Verdict
from reasoning_fix.providers import Provider, Table
from reasoning_fix.reporting import Report
from reasoning_fix.turns import Fingerprints, Slot, Turn


class Treatment:
    """Decides turn by turn for one request. `report` counts; `status` is what became of the latest turn.

    `lacking`: a turn that the provider would refuse for want of reasoning was met.
    """

    def __init__(
        self,
        request: Request,
        dialect: Dialect,
        provider: Provider,
        table: Table,
        policy: Policy,
        wishes: Wishes,
        lookup: ScopedLookup,
        marks: Fingerprints,
        *,
        only_demanded: bool,
    ) -> None:
        self.report = Report()
        self.status = "absent"
        self.lacking = False
        self._request = request
        self._dialect = dialect
        self._provider = provider
        self._table = table
        self._policy = policy
        self._wishes = wishes
        self._lookup = lookup
        self._marks = marks
        self._only_demanded = only_demanded
        self._fields = [name for name in dialect.fields(provider) if name not in policy.forbidden]

    def change(self, said: Slot, verdict: Verdict | None, context: bytes) -> Change:
        """The members to set in one turn, and those that must go; empty where it stays as it came."""
        self.status = "absent"
        change = self._change(said, verdict, context)
        if change and (change := self._fitted(said, change)):
            change |= self._said_nothing(said)
        self._account(said, bool(change))
        return change

    def once(self, slots: Sequence[Slot], verdicts: list[Verdict | None]) -> list[Verdict | None]:
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

    def stays(self, own: dict[str, bytes]) -> bool:
        """Whether a turn that came with these reasoning fields stays as it is, whatever is on record."""
        return self._holds_reasoning(own) and self._policy.forbidden.isdisjoint(own)

    def brought(self, said: Slot) -> dict[str, bytes]:
        """The reasoning that a client sent with a turn, in the one spelling that records use."""
        own = self._request.own.get(said.index, {})
        return {
            name: self._dialect.tidy(name, value) for name, value in own.items() if self._is_real(name, value)
        }

    def _fitted(self, said: Slot, change: Change) -> dict[str, bytes | None]:
        """The change in the form that this provider takes; what the client already sent so is none."""
        own = self._request.own.get(said.index, {})
        fitted = {
            name: None if value is None else self._dialect.fitted(self._provider, value)
            for name, value in change.items()
        }
        return {name: value for name, value in fitted.items() if value is None or own.get(name) != value}

    def _change(self, said: Slot, verdict: Verdict | None, context: bytes) -> dict[str, bytes | None]:
        """The reasoning fields to set in one turn, and those that must go."""
        own = self._request.own.get(said.index, {})
        change: dict[str, bytes | None] = {name: None for name in own if name in self._policy.forbidden}
        taken = [own[name] for name in change if self._is_real(name, own[name])]
        if change:
            self.report.stripped += 1
            own = {name: value for name, value in own.items() if name not in change}
        if self._brings_reasoning(said):
            self.status = "sent"
            return change | self._completed(own, verdict)
        if self._only_demanded and not self._demanded(said):
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
        if said.index not in self._request.null_content:
            return {}
        match self._provider.null_content:
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
        own = self._request.own.get(said.index, {})
        sent = [own[name] for name in self._fields if name in own]
        if self.status == "sent" or (sent and self._brings_reasoning(said)):
            self.report.client["kept"] += 1
            return
        if self.status in ("restored", "left out"):
            blanked = any(value != b"null" for value in sent)
            self.report.client["blanked" if blanked else "dropped"] += 1
        accepted = any(self._accepts(name, own[name]) for name in self._fields if name in own)
        if changed and self.status in ("restored", "filled", "empty") and not accepted:
            self.report.demanded += self._demanded(said)

    def _completed(self, own: dict[str, bytes], verdict: Verdict | None) -> dict[str, bytes | None]:
        """What a client left out of the reasoning that it kept."""
        recorded = self._recorded(verdict) if verdict is not None and not verdict.part else {}
        for name, value in recorded.items():
            whole = self._dialect.completed(name, own[name], value) if name in own else None
            if whole is not None and verdict is not None:
                self._count(verdict)
                return {name: whole}
        return {}

    def _recorded(self, verdict: Verdict) -> dict[str, bytes]:
        """What this provider said, in the fields that it reads; several turns' in order where merged."""
        merged: dict[str, bytes] = {}
        for record in verdict.records:
            opened = self._lookup.open(record) if record.thought else None
            for name, value in (opened.fields if opened else {}).items():
                merged[name] = self._dialect.join(name, merged[name], value) if name in merged else value
        names = [name for name in self._fields if name in merged]
        if self._provider.writes == "first":
            names = names[:1]
        return {name: merged[name] for name in names}

    def _tagged(self, said: Slot, verdict: Verdict) -> dict[str, bytes]:
        """The content as the provider said it, where a client stripped the `<think>` block from it."""
        opened = self._lookup.open(verdict.records[0]) if len(verdict.records) == 1 else None
        if opened is None or not opened.whole or "think>" in self._text(said) or said.text != opened.text:
            return {}
        return self._dialect.tagged(self._request, said.index, opened.whole)

    def _keeps_tags(self, said: Slot, verdict: Verdict) -> bool:
        """Whether the thought still stands in the content, where the provider said it (MiniMax M3: twice)."""
        if "think>" not in self._text(said):
            return False
        opened = self._lookup.open(verdict.records[0])
        if opened is None or not opened.whole:
            return False
        # A model may also just speak of such tags: then its thought, if only a blank one, is not among them.
        thoughts = [self._dialect.texts(name, value) or [] for name, value in opened.fields.items()]
        return all(text.strip() and text.strip() in opened.whole for texts in thoughts for text in texts)

    def _text(self, said: Slot) -> str:
        message = self._request.messages[said.index]
        return message.text if isinstance(message, Turn) else ""

    def _fill(self, said: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes]:
        if self._wishes.mode == fallback.NOTHING or not self._demanded(said):
            return {}
        name, value = self._placeholder(self._policy.placeholder, said, context)
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
        name, value = self._placeholder(self._policy.known_empty, said, context)
        sent = own.get(name)
        if value is None or not (self._policy.strict or sent in (None, b"null")):
            return {}
        return {} if sent == value else {name: value}

    def _placeholder(self, text: str | None, said: Slot, context: bytes) -> tuple[str, bytes | None]:
        """The field that a placeholder goes to, and its value there."""
        for name in self._fields:
            words = fallback.filled_in(text or "", self._marks.place(context, said.turn))
            value = self._dialect.stand_in(name, words)
            if value is not None:
                return name, None if text is None else value
        return "", None

    def _accepts(self, name: str, value: bytes) -> bool:
        return self._policy.accepts(self._dialect.texts(name, value))

    def _demanded(self, said: Slot) -> bool:
        return self._policy.demands(bool(said.calls), self._request.has_tools)

    def _brings_reasoning(self, said: Slot) -> bool:
        """Whether the client sends reasoning of this turn itself, in a field that this provider reads."""
        return self._holds_reasoning(self._request.own.get(said.index, {}))

    def _holds_reasoning(self, own: dict[str, bytes]) -> bool:
        return any(self._is_real(name, own[name]) for name in self._fields if name in own)

    def _is_real(self, name: str, value: bytes) -> bool:
        """Whether a client's value is reasoning rather than nothing, a blank or a placeholder."""
        texts = self._dialect.texts(name, value)
        return texts is None or any(not self._table.is_placeholder(text) for text in texts)
