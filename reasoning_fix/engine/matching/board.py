"""A history laid out: its turns in their contexts, what each was recognised as so far, and the candidates.

It knows where turns stand and which records there are for them, not which of these are meant.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from reasoning_fix.engine.history import NONE, Fingerprints, History, Slot
from reasoning_fix.engine.matching.verdicts import (
    BY_CONTEXT,
    Contradiction,
    Conversation,
    Last,
    Lookup,
    Matching,
    Observer,
    Verdict,
)
from reasoning_fix.store import Record

# A recorded thought must be longer than this (characters) to be evidence where it stands in a text.
LONG_THOUGHT = 40
# Longer texts are not searched for one, nor more than so many of their last lines taken for the visible rest.
_LONGEST_WITH_THOUGHT = 64 * 1024
_RESTS = 12


class Board:
    """The first slot stands for what was matched before: its last turn, which only its neighbours look at."""

    def __init__(
        self,
        history: History,
        fingerprints: Fingerprints,
        lookup: Lookup,
        conversation: Conversation,
        last: Last,
        observer: Observer | None,
    ) -> None:
        self.observer = observer
        self.history = history
        self.last = last
        self.slots = [_stand_in(last), *history.slots]
        self.fingerprints = fingerprints
        self.lookup = lookup
        self.conversation = conversation
        self.verdicts: list[Verdict | None] = [None] * len(self.slots)
        # Contexts and places as they are known now.
        self.contexts: list[bytes] = [NONE] * len(self.slots)
        self.places: list[bytes] = [NONE] * len(self.slots)
        self.contexts[0] = last.context
        # Contexts and places as the client sent the history; they hold until a turn heals.
        self.sent_contexts: list[bytes] = [last.context]
        self.sent_places: list[bytes] = [NONE]
        self.tied: set[int] = set()
        self.asked: set[bytes] = set()
        # Fingerprints of ids with their punctuation, as older records have them, and what they are today.
        self.older_ids: dict[bytes, bytes] = {}
        self.used: set[bytes] = set()
        self.pool: dict[bytes, Record] = {}
        self.by_place: dict[bytes, list[Record]] = defaultdict(list)
        self.by_context: dict[bytes, list[Record]] = defaultdict(list)
        self.by_turn: dict[bytes, list[Record]] = defaultdict(list)
        self.by_call: dict[tuple[bytes, bytes], list[Record]] = defaultdict(list)

        # A turn that is recognised by its ids only is open while the others are recognised by place.
        if last.evidence == BY_CONTEXT:
            self.settle_last()

    def settle_last(self) -> None:
        if self.last.record is not None:
            self.verdicts[0] = Verdict((self.last.record,), self.last.evidence)

    def look_up(self) -> None:
        """Find the records at the places of all turns, by the contexts as the client sent them, and of turns
        that are joined from their pieces.
        """
        joined = []
        context, previous = self.last.context, self.last.turn
        for position, slot in enumerate(self.history.slots, start=1):
            context = self.fingerprints.context(context, previous, slot.gap)
            self.sent_contexts.append(context)
            self.sent_places.append(self.fingerprints.place(context, slot.turn))
            if len(run := self.run(position)) > 1:
                joined.append(self.fingerprints.place(context, self.joined(run)))
            previous = slot.turn
        self.add(self.lookup.at(self.sent_places[1:] + joined))

    def run(self, position: int) -> range:
        """The assistant messages that follow one another without anything said in between."""
        if position > 1 and not self.slots[position].gap:
            return range(0)
        end = position + 1
        while end < len(self.slots) and not self.slots[end].gap:
            end += 1
        return range(position, end)

    def joined(self, run: range) -> bytes:
        text = "".join(self.slots[position].text for position in run).strip()
        return self.fingerprints.turn(
            text, tuple(c for position in run for _, c in self.slots[position].calls)
        )

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.key in self.pool:
                continue
            if self.older_ids and any(call_id in self.older_ids for call_id, _ in record.calls):
                record = self._as_today(record)
            if self.last.numbers.get(record.key, self.last.turns) < self.last.turns:
                raise Contradiction
            self.pool[record.key] = record
            self.by_place[record.place].append(record)
            self.by_context[record.context].append(record)
            self.by_turn[record.turn].append(record)
            for pair in record.calls:
                self.by_call[pair].append(record)

    def look_for(self, ids: Iterable[str]) -> set[bytes]:
        """The fingerprints by which calls with these ids are looked up, in records of any age."""
        found = set()
        for call_id in ids:
            today, older = self.fingerprints.id(call_id), self.fingerprints.spelled_id(call_id)
            found |= {today, older}
            if older != today:
                self.older_ids[older] = today
        return found

    def _as_today(self, record: Record) -> Record:
        calls = tuple((self.older_ids.get(call_id, call_id), call) for call_id, call in record.calls)
        return msgspec.structs.replace(record, calls=calls)

    def said_by(self, slot: Slot) -> list[bytes]:
        """The fingerprints that a slot's turn may have: as it came, and without a thought before its text."""
        calls = tuple(call for _, call in slot.calls)
        return [slot.turn, *(self.fingerprints.turn(rest, calls) for rest in _rests(slot.text))]

    def settle(self, position: int, verdict: Verdict) -> None:
        self.verdicts[position] = verdict
        self.used.update(record.key for record in verdict.records)

    def settle_context(self, position: int) -> None:
        """The context and place of a turn, by what those before it were recognised as."""
        slot = self.slots[position]
        verdict = self.verdicts[position - 1]
        before, turn = self.contexts[position - 1], self.turn_of(position - 1)
        if not slot.gap and verdict is not None and self._shares(position, verdict):
            context = before
        elif before == self.sent_contexts[position - 1] and turn == self.slots[position - 1].turn:
            context = self.sent_contexts[position]
        else:
            context = self.fingerprints.context(before, turn, slot.gap)
        self.contexts[position] = context
        is_as_sent = context == self.sent_contexts[position]
        self.places[position] = (
            self.sent_places[position] if is_as_sent else self.fingerprints.place(context, slot.turn)
        )

    def _shares(self, position: int, before: Verdict) -> bool:
        mine = self.verdicts[position]
        return mine is not None and mine.records == before.records

    def turn_of(self, position: int) -> bytes:
        verdict = self.verdicts[position]
        return verdict.records[-1].turn if verdict else self.slots[position].turn

    def matching(self) -> Matching:
        """What the turns were recognised as."""
        self.settle_last()
        end = len(self.slots) - 1
        latest = self.record(end)
        return Matching(
            self.verdicts[1:],
            self.contexts[1:],
            self.places[1:],
            {position - 1 for position in self.tied},
            self.fingerprints.context(self.contexts[end], self.turn_of(end), self.history.tail),
            latest.key if latest else NONE,
            latest.thread if latest else NONE,
        )

    def record(self, position: int) -> Record | None:
        if 0 <= position < len(self.slots) and (verdict := self.verdicts[position]):
            return verdict.records[-1]
        return None


def _rests(text: str) -> list[str]:
    """What may be left of a text without a thought that a client put before it: its last lines, or none."""
    if not LONG_THOUGHT < len(text) <= _LONGEST_WITH_THOUGHT:
        return []
    rests, end = [""], len(text)
    while len(rests) < _RESTS and (end := text.rfind("\n", 0, end)) > 0:
        if (rest := text[end:].strip()) and rest != rests[-1]:
            rests.append(rest)
    return rests


def _stand_in(last: Last) -> Slot:
    return Slot(
        index=-1,
        turn=last.turn,
        text="",
        calls=(),
        ids=(),
        gap=(),
        before=NONE,
        before_weight=0,
        weight=0,
        counted_ids=False,
    )
