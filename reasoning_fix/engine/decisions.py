"""What is to be done to one turn: the reasoning it gets, the placeholder in its stead, or nothing.

The rules of section "Restoring" of the provider table, applied to a turn and what it was recognised as. It
decides and counts; it neither matches nor writes.
"""

from collections import Counter
from collections.abc import Sequence

from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.wire import Change, Request
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.candidates import ScopedLookup
from reasoning_fix.engine.history import Slot
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.matching.verdicts import Content, Verdict
from reasoning_fix.engine.policy import NOTHING, Policy, filled_in
from reasoning_fix.engine.recording import thought_of
from reasoning_fix.engine.report import Report


class Treatment:
    """Decides turn by turn for one request. `report` counts; `status` is what became of the latest turn.

    `lacking`: a turn that the provider would refuse for want of reasoning was met.
    """

    def __init__(
        self,
        request: Request,
        caller: Caller,
        knowledge: Knowledge,
        policy: Policy,
        lookup: ScopedLookup,
        report: Report,
    ) -> None:
        self.report = report
        self.status = "absent"
        self.lacking = False
        self._request = request
        self._dialect = dialect = caller.dialect
        self._provider = caller.provider
        self._table = knowledge.table
        self._policy = policy
        self._preferences = knowledge.preferences
        self._lookup = lookup
        self._fingerprints = caller.fingerprints
        self._fields = [name for name in dialect.fields(caller.provider) if name not in policy.forbidden]
        # Members that the items of a field must not have, whoever sends them.
        self._refused: dict[str, set[str]] = {}
        for field, dot, member in (name.partition(".") for name in policy.forbidden):
            if dot:
                self._refused.setdefault(field, set()).add(member)
        # Messages whose thought goes to another piece of the same turn, by index.
        self._given_away: set[int] = set()
        # By index, the thought that a message gets from the piece before it.
        self._handed_over: dict[int, dict[str, bytes]] = {}

    def change(self, slot: Slot, verdict: Verdict | None, context: bytes) -> Change:
        """The members to set in one turn, and those that must go; empty if it stays as it came."""
        self.status = "absent"
        change = self._change(slot, verdict, context)
        if change and (change := self._fitted(slot, change)):
            change |= self._said_nothing(slot)
        self._account(slot, bool(change))
        return change

    def once(self, slots: Sequence[Slot], verdicts: list[Verdict | None]) -> list[Verdict | None]:
        """The verdicts; where a client split a turn and left the reasoning in a piece, all are parts.

        But where tool calls stand in another piece, which must carry the reasoning, it goes there.
        """
        self._hand_over(slots, verdicts)
        pieces = Counter(record.key for verdict in verdicts if verdict for record in verdict.records)
        if max(pieces.values(), default=1) == 1:
            return verdicts
        holders = {
            record.key: position
            for position, (slot, verdict) in enumerate(zip(slots, verdicts, strict=True))
            if verdict and self._brings_reasoning(slot)
            for record in verdict.records
            if pieces[record.key] > 1
        }
        found = list(verdicts)
        for position, (slot, verdict) in enumerate(zip(slots, verdicts, strict=True)):
            held = [holders[r.key] for r in verdict.records if r.key in holders] if verdict else []
            if verdict is None or not held:
                continue
            if verdict.part or not self._goes_to(slot, slots[held[0]], verdict):
                found[position] = Verdict(verdict.records, verdict.evidence, part=True)
            else:
                self._given_away.add(slots[held[0]].index)
        return found

    def _hand_over(self, slots: Sequence[Slot], verdicts: list[Verdict | None]) -> None:
        """The same for turns that nobody recorded: a text with the thought, and right behind it the calls."""
        for holder, slot, *known in zip(slots, slots[1:], verdicts, verdicts[1:], strict=False):
            if slot.gap or holder.calls or not slot.calls or any(known) or not self._dialect.PER_MESSAGE:
                continue
            own = self._request.own.get(holder.index, {})
            texts = {name: own[name] for name in self._fields if name in own and own[name][:1] == b'"'}
            if (
                texts
                and self._holds_reasoning(texts)
                and self._demanded(slot)
                and not self._brings_reasoning(slot)
            ):
                self._handed_over[slot.index] = texts
                self._given_away.add(holder.index)

    def stays(self, own: dict[str, bytes]) -> bool:
        """Whether a turn that came with these reasoning fields stays as it is, whatever is on record."""
        if not self._policy.forbidden.isdisjoint(own) or not self._refused.keys().isdisjoint(own):
            return False
        # Where thoughts have white space at their ends, a client may have trimmed this one.
        return not self._policy.padded and self._holds_reasoning(own)

    def brought(self, slot: Slot) -> dict[str, bytes]:
        """The reasoning that a client sent with a turn, in the one spelling that records use."""
        own = {} if slot.index in self._given_away else self._request.own.get(slot.index, {})
        is_real = self._is_readable if self._policy.strict else self._is_real
        return {name: self._dialect.tidy(name, value) for name, value in own.items() if is_real(name, value)}

    def _fitted(self, slot: Slot, change: Change) -> dict[str, bytes | None]:
        """The change in the form that this provider takes; what the client already sent so is none."""
        own = self._request.own.get(slot.index, {})
        fitted = {
            name: None if value is None else self._dialect.fitted(self._provider, value)
            for name, value in change.items()
        }
        return {name: value for name, value in fitted.items() if value is None or own.get(name) != value}

    def _change(self, slot: Slot, verdict: Verdict | None, context: bytes) -> dict[str, bytes | None]:
        """The reasoning fields to set in one turn, and those that must go."""
        came = self._request.own.get(slot.index, {})
        change, own = self._without_refused(came)
        taken = [
            came[name] for name, left in change.items() if left is None and self._is_real(name, came[name])
        ]
        self.report.stripped += bool(change)
        if slot.index in self._given_away:
            return change | self._give_away(slot, own, context)
        if slot.index in self._handed_over:
            self.status = "moved"
            self.report.moved += 1
            return change | self._handed_over[slot.index]
        if self._holds_reasoning(own):
            self.status = "sent"
            return change | self._completed(own, verdict)
        if self._policy.only_demanded and not self._demanded(slot):
            if verdict is not None:
                self._leave_out()
            return change
        if verdict is None and taken:
            # What the client itself brought is refused here: words of ours are no better.
            self.status = "empty"
            return change | self._known_empty(slot, own, context)
        if verdict is None:
            self.report.wanted += 1
            return change | self._fill(slot, own, context)
        if verdict.part:
            blank = self._fill(slot, own, context)
            self.status = "part"
            self.report.pieces += bool(blank)
            self.report.filled -= bool(blank)
            return change | blank
        if self._policy.puts_nothing_back and any(record.thought for record in verdict.records):
            self._leave_out()
            return change | self._fill(slot, own, context)
        said = self._said(verdict)
        fields = self._wanted(slot, self._recorded(said) | self._tagged(slot, said))
        if not fields:
            self.status = "empty"
            return change | self._known_empty(slot, own, context)
        if self._policy.strict and not any(self._is_readable(name, value) for name, value in fields.items()):
            # What a client once brought from elsewhere.
            self.report.wanted += 1
            return change | self._fill(slot, own, context)
        if self._keeps_tags(slot, verdict) or all(own.get(name) == value for name, value in fields.items()):
            self.status = "sent"
            return change
        self._count(verdict)
        self.report.gave_way += any(self._is_text_or_sealed(name, value) for name, value in own.items())
        return change | {name: value for name, value in fields.items() if own.get(name) != value}

    def _without_refused(self, came: dict[str, bytes]) -> tuple[dict[str, bytes | None], dict[str, bytes]]:
        """What is to be taken out of a client's own reasoning since it is refused here, and what is left."""
        if not came:
            return {}, came
        change: dict[str, bytes | None] = {name: None for name in came if name in self._policy.forbidden}
        for name in came.keys() & self._refused.keys() - change.keys():
            left = self._dialect.without(name, came[name], self._refused[name])
            if left != came[name]:
                change[name] = left
        if not change:
            return {}, came
        own = {name: change.get(name, value) for name, value in came.items()}
        return change, {name: value for name, value in own.items() if value is not None}

    def _goes_to(self, slot: Slot, holder: Slot, verdict: Verdict) -> bool:
        """Whether the thought that a client left in one piece belongs to this one, which has the calls."""
        if not slot.calls or holder.calls or not self._dialect.PER_MESSAGE or not self._demanded(slot):
            return False
        recorded = self._recorded(self._said(verdict))
        own = self._request.own.get(holder.index, {})
        return any(
            self._dialect.words(name, own[name]).strip() == self._dialect.words(name, value).strip()
            for name, value in recorded.items()
            if name in own
        )

    def _give_away(self, slot: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes | None]:
        """The thought stands in another piece now: a blank where one is looked for, else nothing."""
        self.status = "part"
        name, value = self._placeholder(self._policy.placeholder, slot, context)
        gone: dict[str, bytes | None] = {other: None for other in own if other in self._fields}
        if value is not None and (self._demanded(slot) or not slot.text):
            self.report.pieces += 1
            gone[name] = value
        return gone

    def _leave_out(self) -> None:
        self.status = "left out"
        self.report.left_out += 1

    def _wanted(self, slot: Slot, fields: dict[str, bytes]) -> dict[str, bytes]:
        """What of a recorded thought is worth writing: an empty one only where a field is demanded."""
        if not fields or self._demanded(slot):
            return fields
        return {name: value for name, value in fields.items() if not self._is_nothing(name, value)}

    def _is_nothing(self, name: str, value: bytes) -> bool:
        texts = self._dialect.texts(name, value)
        return texts is not None and name in self._fields and not any(texts)

    def _said_nothing(self, slot: Slot) -> dict[str, bytes | None]:
        """An empty text for no content, in a turn that is changed anyway, where no content is refused."""
        if slot.index not in self._request.null_content:
            return {}
        match self._provider.null_content:
            case "never":
                return {"content": b'""'}
            case "with_calls" if not slot.calls:
                return {"content": b'""'}
            case _:
                return {}

    def _count(self, verdict: Verdict) -> None:
        self.status = "restored"
        self.report.wanted += 1
        self.report.restored += 1
        self.report.evidence[verdict.evidence] += 1

    def _account(self, slot: Slot, changed: bool) -> None:
        """What the client did with the reasoning of a turn, and whether the turn would have been refused."""
        own = self._request.own.get(slot.index, {})
        sent = [own[name] for name in self._fields if name in own]
        if self.status == "sent" or (sent and self._brings_reasoning(slot)):
            self.report.client["kept"] += 1
            return
        if self.status in ("restored", "left out"):
            blanked = any(value != b"null" for value in sent)
            self.report.client["blanked" if blanked else "dropped"] += 1
        accepted = any(self._accepts(name, own[name]) for name in self._fields if name in own)
        if changed and self.status in ("restored", "filled", "empty") and not accepted:
            self.report.demanded += self._demanded(slot)

    def _completed(self, own: dict[str, bytes], verdict: Verdict | None) -> dict[str, bytes | None]:
        """What a client left out of the reasoning that it kept, or trimmed."""
        if verdict is None or verdict.part or self._is_as_recorded(own, verdict):
            return {}
        for name, value in self._recorded(self._said(verdict)).items():
            whole = self._dialect.completed(name, own[name], value) if name in own else None
            if whole is not None:
                self._count(verdict)
                return {name: whole}
        return {}

    def _is_as_recorded(self, own: dict[str, bytes], verdict: Verdict) -> bool:
        """Whether the one thought that a client sent is the recorded one, by its fingerprint: no record need
        be opened for that."""
        if len(own) != 1 or len(verdict.records) != 1:
            return False
        return thought_of(self._fingerprints, self._tidied(own)) == verdict.records[0].thought

    def _tidied(self, own: dict[str, bytes]) -> dict[str, bytes]:
        return {name: self._dialect.tidy(name, value) for name, value in own.items()}

    def _said(self, verdict: Verdict) -> list[Content | None]:
        """What is on record of a turn, of each one if a client merged several; None: it had no thought."""
        return [self._lookup.open(record) if record.thought else None for record in verdict.records]

    def _recorded(self, said: Sequence[Content | None]) -> dict[str, bytes]:
        """What this provider said, in the fields that it reads; several turns' in order where merged."""
        merged: dict[str, bytes] = {}
        for opened in said:
            for name, value in (opened.fields if opened else {}).items():
                merged[name] = self._dialect.join(name, merged[name], value) if name in merged else value
        names = [name for name in self._fields if name in merged]
        if self._provider.writes == "first":
            names = names[:1]
        fit = {name: self._fit_to_send(name, merged[name]) for name in names}
        return {name: value for name, value in fit.items() if value is not None}

    def _fit_to_send(self, name: str, value: bytes) -> bytes | None:
        """A recorded value without the parts that are refused when they come back; None: nothing is left."""
        parts = self._policy.without | self._refused.get(name, set())
        if name == "reasoning_details":
            parts |= set(self._provider.details_without)
        return self._dialect.without(name, value, parts) if parts else value

    def _tagged(self, slot: Slot, said: Sequence[Content | None]) -> dict[str, bytes]:
        """The content as the provider said it, where a client stripped the `<think>` block from it."""
        opened = said[0] if len(said) == 1 else None
        if opened is None or not opened.whole or "think>" in self._text(slot) or slot.text != opened.text:
            return {}
        return self._dialect.tagged(self._request, slot.index, opened.whole)

    def _keeps_tags(self, slot: Slot, verdict: Verdict) -> bool:
        """Whether the thought still stands in the content, where the provider said it (MiniMax M3: twice)."""
        if "think>" not in self._text(slot):
            return False
        opened = self._lookup.open(verdict.records[0])
        if opened is None or not opened.whole:
            return False
        # A model may also just speak of such tags: then its thought, if only a blank one, is not among them.
        thoughts = [self._dialect.texts(name, value) or [] for name, value in opened.fields.items()]
        return all(text.strip() and text.strip() in opened.whole for texts in thoughts for text in texts)

    def _text(self, slot: Slot) -> str:
        message = self._request.messages[slot.index]
        return message.text if isinstance(message, Turn) else ""

    def _fill(self, slot: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes]:
        if self._preferences.mode == NOTHING or not self._demanded(slot):
            return {}
        if self._policy.puts_nothing_back and not self._policy.strict:
            return {}
        name, value = self._placeholder(self._policy.placeholder, slot, context)
        if name in own and self._accepts(name, own[name]):
            return {}
        self.lacking = True
        # The client's own words, where or in a form that this provider does not read.
        words = self._own_words(own)
        if words and value is not None:
            value = self._dialect.stand_in(name, words)
        if value is None or own.get(name) == value:
            return {}
        if words:
            self.status = "moved"
            self.report.moved += 1
            return {name: value}
        self.status = "filled"
        self.report.filled += 1
        self.report.gave_way += any(self._is_text_or_sealed(*one) for one in own.items())
        return {name: value}

    def _own_words(self, own: dict[str, bytes]) -> str:
        for name, value in own.items():
            words = self._dialect.words(name, value)
            if not self._table.is_placeholder(words):
                return words
        return ""

    def _known_empty(self, slot: Slot, own: dict[str, bytes], context: bytes) -> dict[str, bytes]:
        if not self._demanded(slot):
            return {}
        name, value = self._placeholder(self._policy.known_empty, slot, context)
        sent = own.get(name)
        if value is None or not (self._policy.strict or sent in (None, b"null")):
            return {}
        return {} if sent == value else {name: value}

    def _placeholder(self, text: str | None, slot: Slot, context: bytes) -> tuple[str, bytes | None]:
        """The field that a placeholder goes to, and its value there."""
        for name in self._fields:
            words = filled_in(text or "", self._fingerprints.place(context, slot.turn))
            value = self._dialect.stand_in(name, words)
            if value is not None:
                return name, None if text is None else value
        return "", None

    def _accepts(self, name: str, value: bytes) -> bool:
        return self._policy.accepts(self._dialect.texts(name, value))

    def _demanded(self, slot: Slot) -> bool:
        return self._policy.demands(bool(slot.calls), self._request.has_tools)

    def _brings_reasoning(self, slot: Slot) -> bool:
        """Whether the client sends reasoning of this turn itself, in a field that this provider reads."""
        return self._holds_reasoning(self._request.own.get(slot.index, {}))

    def _holds_reasoning(self, own: dict[str, bytes]) -> bool:
        is_real = self._is_readable if self._policy.strict else self._is_real
        return any(is_real(name, own[name]) for name in self._fields if name in own)

    def _is_real(self, name: str, value: bytes) -> bool:
        """Whether a client's value is reasoning rather than nothing, a blank or a placeholder."""
        texts = self._dialect.texts(name, value)
        return texts is None or any(not self._table.is_placeholder(text) for text in texts)

    def _is_readable(self, name: str, value: bytes) -> bool:
        """The same, of a provider that said that reasoning is missing: what is sealed is none to it."""
        return any(not self._table.is_placeholder(text) for text in self._dialect.readable(name, value))

    def _is_text_or_sealed(self, name: str, value: bytes) -> bool:
        """Whether a value that gives way is more than a blank."""
        return name in self._fields and self._is_real(name, value)
