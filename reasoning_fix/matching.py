"""Which recorded turn is this message? Candidates in, verdict and evidence out.

The turns of one history are matched together, in order, and each recorded turn is used for one place only.
Evidence, strongest first: the same context before it and the same turn; the same tool-call ids on calls that
agree; the same turn with a neighbour that agrees; the same, distinctive turn that is on record once. Anything
weaker is no match: a placeholder does less harm than another turn's thoughts.

What is decided depends on the records that fit and on what came before, not on how or in which order they
were looked up: so a history can be matched in two goes (`Last`), as remembering.py does.

Contexts heal: where a client altered a turn (trimmed, split, reasoning moved into the text) that was
recognised all the same, the context of the turns after it goes on with the turn as recorded. Nothing here
does I/O of its own: `Lookup` is handed in. Lookups are batched: one for the places, a second one only
where a turn has no place on record, and one for each context that healed on the way. O(turns + candidates).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from reasoning_fix.store import Record
from reasoning_fix.turns import NONE, Fingerprints, History, Slot

# A turn together with the message before it must say this much (characters) before the pair is evidence:
# "ok" / "Done." is said in every conversation.
_NEIGHBOUR_WEIGHT = 16
# A turn alone must say this much before it is distinctive without any other evidence.
_DISTINCTIVE_TEXT = 40
_DISTINCTIVE_CALL = 24
# A client that stopped reading keeps at least this much of a whole answer; less could begin any other one.
_CUT_TEXT = 12

BY_CONTEXT = "context"
BY_ID = "tool-call id"
BY_NEIGHBOUR = "neighbouring turn"
BY_TURN = "distinctive turn"


class Opened(msgspec.Struct, frozen=True):
    """The sealed part of a record: its reasoning fields as JSON values, visible text and tool-call ids.

    `whole` is the text with its `<think>` block where the provider put one there, else empty.
    """

    fields: dict[str, bytes]
    text: str
    ids: tuple[str, ...]
    whole: str = ""


class Lookup(Protocol):
    def at(self, places: Collection[bytes]) -> list[Record]: ...

    def related(
        self, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]: ...

    def open(self, record: Record) -> Opened | None: ...


class Verdict(msgspec.Struct):
    """What a message was recognised as.

    `records` are more than one where a client merged turns; `part` marks a further piece of a turn whose
    reasoning goes to another piece.
    """

    records: tuple[Record, ...]
    evidence: str
    part: bool = False


class Conversation(msgspec.Struct, frozen=True):
    """Evidence from outside the history, fingerprints each: system prompt, conversation header."""

    system: bytes = NONE
    session: bytes = NONE


class Matching(msgspec.Struct):
    """A verdict per slot (None: no match), and where an answer to this request will stand.

    `contexts` and `places` are those of the slots; `tied` are slots for which several records with different
    reasonings were candidates.
    """

    verdicts: list[Verdict | None]
    contexts: list[bytes]
    places: list[bytes]
    tied: set[int]
    context_after: bytes
    parent: bytes
    thread: bytes

    def is_settled(self, position: int, slots: Sequence[Slot], verdict: Verdict) -> bool:
        """Whether nothing that follows in a history can change this verdict, nor it anything but the context
        and the last turn of what follows: one whole turn as it was recorded, without a rival, and no piece.
        """
        if verdict.part or len(verdict.records) != 1 or position in self.tied:
            return False
        slot, record = slots[position], verdict.records[0]
        if record.turn != slot.turn or not all(one.gap for one in slots[position : position + 2]):
            return False
        if verdict.evidence == BY_ID:
            return True
        return verdict.evidence == BY_CONTEXT and record.place == self.places[position]


class Observer(Protocol):
    """Looks on while a history is matched, for people who ask why; None in everyday use."""

    def tied(self, position: int, records: Sequence[Record], by: str, chosen: Record | None) -> None:
        """Several records fitted one slot; `by` is what settled it, or why nothing could."""

    def matched(
        self,
        history: History,
        marks: Fingerprints,
        lookup: Lookup,
        conversation: Conversation,
        matching: Matching,
    ) -> None:
        """The history is matched; `lookup` still answers."""


class Last(msgspec.Struct, frozen=True):
    """The last turn of a history's first part, which was matched before and is settled throughout.

    `record` needs its key and thread only; `evidence` is what it was recognised by, `used` says whether the
    first part has used a record.
    """

    context: bytes
    turn: bytes
    record: Record
    evidence: str
    used: Callable[[bytes], bool]


class Contradiction(Exception):
    """What follows could claim a record that the first part of the history has used: match it as one."""


def match(
    history: History,
    marks: Fingerprints,
    lookup: Lookup,
    conversation: Conversation,
    last: Last | None = None,
    observer: Observer | None = None,
) -> Matching:
    """Match every turn of a history, or of what follows after `last`.

    Raises Contradiction where it could come out otherwise than for the whole history.
    """
    matching = _Matcher(history, marks, lookup, conversation, last, observer).run()
    if observer is not None:
        observer.matched(history, marks, lookup, conversation, matching)
    return matching


class _Matcher:
    """With `last` given, it is the first slot; it is settled, and only its neighbours look at it."""

    def __init__(
        self,
        history: History,
        marks: Fingerprints,
        lookup: Lookup,
        conversation: Conversation,
        last: Last | None,
        observer: Observer | None,
    ) -> None:
        self.observer = observer
        self.history = history
        self.last = last
        self.slots = history.slots if last is None else [_stand_in(last), *history.slots]
        self.marks = marks
        self.lookup = lookup
        self.conversation = conversation
        self.verdicts: list[Verdict | None] = [None] * len(self.slots)
        self.contexts: list[bytes] = [NONE] * len(self.slots)
        # Contexts and places as the client sent the history; they hold until a turn heals.
        self.sent_contexts: list[bytes] = []
        self.sent_places: list[bytes] = []
        self.tied: set[int] = set()
        self.asked: set[bytes] = set()
        self.used: set[bytes] = set()
        self.pool: dict[bytes, Record] = {}
        self.by_place: dict[bytes, list[Record]] = defaultdict(list)
        self.by_context: dict[bytes, list[Record]] = defaultdict(list)
        self.by_turn: dict[bytes, list[Record]] = defaultdict(list)
        self.by_call: dict[tuple[bytes, bytes], list[Record]] = defaultdict(list)

    def run(self) -> Matching:
        first = 0
        if self.last is not None:
            first = 1
            self.contexts[0] = self.last.context
            # A turn that is recognised by its ids only is open while the others are recognised by place.
            if self.last.evidence == BY_CONTEXT:
                self._settle_last(self.last)
        if len(self.slots) > first:
            self._add(self.lookup.at(self._places()))
            self._walk()
            if None in self.verdicts[first:]:
                self._widen()
        if self.last is not None:
            self._settle_last(self.last)
        after = self._context_after()
        last = self._record(len(self.slots) - 1)
        parent = last.key if last else NONE
        return Matching(
            self.verdicts[first:],
            self.contexts[first:],
            [self._place(position) for position in range(first, len(self.slots))],
            {position - first for position in self.tied},
            after,
            parent,
            last.thread if last else NONE,
        )

    def _settle_last(self, last: Last) -> None:
        self.verdicts[0] = Verdict((last.record,), last.evidence)

    # Candidates.

    def _places(self) -> list[bytes]:
        """The places of all turns by the contexts as the client sent them, pieces of a turn joined too."""
        joined = []
        context = previous = NONE
        for position, slot in enumerate(self.slots):
            if self.last is not None and position == 0:
                context = self.last.context
            else:
                context = self.marks.context(context, previous, slot.gap)
            self.sent_contexts.append(context)
            self.sent_places.append(self.marks.place(context, slot.turn))
            if len(run := self._run(position)) > 1:
                joined.append(self.marks.place(context, self._joined(run)))
            previous = slot.turn
        return self.sent_places[0 if self.last is None else 1 :] + joined

    def _place(self, position: int) -> bytes:
        """The place of a slot in its context as it is known now."""
        context = self.contexts[position]
        if context == self.sent_contexts[position]:
            return self.sent_places[position]
        return self.marks.place(context, self.slots[position].turn)

    def _run(self, position: int) -> range:
        """The assistant messages that follow one another without anything said in between."""
        if position and not self.slots[position].gap:
            return range(0)
        end = position + 1
        while end < len(self.slots) and not self.slots[end].gap:
            end += 1
        return range(position, end)

    def _joined(self, run: range) -> bytes:
        text = "".join(self.slots[position].text for position in run).strip()
        return self.marks.turn(text, tuple(c for position in run for _, c in self.slots[position].calls))

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.key in self.pool:
                continue
            if self.last is not None and self.last.used(record.key):
                raise Contradiction
            self.pool[record.key] = record
            self.by_place[record.place].append(record)
            self.by_context[record.context].append(record)
            self.by_turn[record.turn].append(record)
            for pair in record.calls:
                self.by_call[pair].append(record)

    def _widen(self) -> None:
        """Look for the turns without a place on record by their other evidence."""
        if self.last is not None:
            self._settle_last(self.last)
        open_slots = [(p, slot) for p, slot in enumerate(self.slots) if self.verdicts[p] is None]
        self.asked = {self.contexts[position] for position, _ in open_slots}
        self._add(
            self.lookup.related(
                contexts=self.asked,
                turns={slot.turn for _, slot in open_slots},
                ids={call_id for _, slot in open_slots for call_id, _ in slot.calls if call_id},
            )
        )
        self._walk(wide=True)
        if self._match_neighbours() | self._match_distinctive():
            self._walk(wide=True)

    # One pass over the history, by context and by id.

    def _walk(self, wide: bool = False) -> None:
        for position, slot in enumerate(self.slots):
            if self.last is not None and position == 0:
                continue
            self._settle_context(position)
            if self.verdicts[position] is not None:
                continue
            verdict = (
                self._by_place(position)
                or (wide and self._by_call_ids(position, slot))
                or (wide and self._by_altered_turn(position, slot))
            )
            if verdict:
                self._settle(position, verdict)

    def _settle(self, position: int, verdict: Verdict) -> None:
        self.verdicts[position] = verdict
        self.used.update(record.key for record in verdict.records)

    def _settle_context(self, position: int) -> None:
        slot = self.slots[position]
        if position == 0:
            self.contexts[0] = self.sent_contexts[0]
            return
        verdict = self.verdicts[position - 1]
        if not slot.gap and verdict is not None and self._shares(position, verdict):
            self.contexts[position] = self.contexts[position - 1]
            return
        before, turn = self.contexts[position - 1], self._turn_of(position - 1)
        if before == self.sent_contexts[position - 1] and turn == self.slots[position - 1].turn:
            self.contexts[position] = self.sent_contexts[position]
        else:
            self.contexts[position] = self.marks.context(before, turn, slot.gap)

    def _shares(self, position: int, before: Verdict) -> bool:
        mine = self.verdicts[position]
        return mine is not None and mine.records == before.records

    def _turn_of(self, position: int) -> bytes:
        verdict = self.verdicts[position]
        return verdict.records[-1].turn if verdict else self.slots[position].turn

    def _context_after(self) -> bytes:
        if not self.slots:
            return self.marks.context(NONE, NONE, self.history.tail)
        last = len(self.slots) - 1
        return self.marks.context(self.contexts[last], self._turn_of(last), self.history.tail)

    def _record(self, position: int) -> Record | None:
        if 0 <= position < len(self.slots) and (verdict := self.verdicts[position]):
            return verdict.records[-1]
        return None

    def _by_place(self, position: int) -> Verdict | None:
        run = self._run(position)
        if len(run) > 1 and all(self.verdicts[p] is None for p in run):
            place = self.marks.place(self.contexts[position], self._joined(run))
            joined = self._choose(self.by_place.get(place, ()), position, True)
            if joined:
                self._settle_pieces(run, joined)
                return self.verdicts[position]
        record = self._choose(self.by_place.get(self._place(position), ()), position, newest=True)
        return Verdict((record,), BY_CONTEXT) if record else None

    def _settle_pieces(self, run: range, record: Record) -> None:
        """A turn in pieces gets its reasoning once: on the piece with its calls, which every rule names."""
        anchor = next((p for p in run if self.slots[p].calls), run[0])
        for position in run:
            self._settle(position, Verdict((record,), BY_CONTEXT, part=position != anchor))

    def _by_call_ids(self, position: int, slot: Slot) -> Verdict | None:
        if not slot.calls or not all(call_id for call_id, _ in slot.calls):
            return None
        found: list[Record] = []
        at = 0
        part = False
        while at < len(slot.calls):
            pair = slot.calls[at]
            candidates = [
                record
                for record in self.by_call.get(pair, ())
                if _overlap(record, slot.calls[at:]) and self._supported(record, position, slot, found)
            ]
            record = self._choose(candidates, position, newest=False, reuse=True)
            if record is None:
                return None
            step = _overlap(record, slot.calls[at:])
            if record.key in self.used:
                part = True
                if not self._is_piece(record, position):
                    return None
            found.append(record)
            at += step
        return Verdict(tuple(found), BY_ID, part=part)

    def _supported(self, record: Record, position: int, slot: Slot, found: list[Record]) -> bool:
        """Ids that count up repeat in every conversation: they need the context or a neighbour too."""
        if not slot.counted_ids:
            return True
        if found:
            return record.parent == found[-1].key
        before = self._record(position - 1)
        return (
            record.context == self.contexts[position]
            or (before is not None and record.parent == before.key)
            or self._same_neighbour(record, slot)
        )

    def _is_piece(self, record: Record, position: int) -> bool:
        """Whether a used record may go on here: another piece of the same turn holds its reasoning."""
        holder = self._record(position - 1)
        return holder is not None and holder.key == record.key

    def _by_altered_turn(self, position: int, slot: Slot) -> Verdict | None:
        """Under the very same context: a turn cut short, or one whose text a client added to."""
        context = self.contexts[position]
        if context not in self.asked:
            self.asked.add(context)
            self._add(self.lookup.related(contexts=(context,), turns=(), ids=()))
        candidates = [record for record in self.by_context.get(context, ()) if self._is_altered(record, slot)]
        record = self._choose(candidates, position, newest=True)
        return Verdict((record,), BY_CONTEXT) if record else None

    def _is_altered(self, record: Record, slot: Slot) -> bool:
        recorded = tuple(call for _, call in record.calls)
        sent = tuple(call for _, call in slot.calls)
        if sent and tuple(i for i, _ in record.calls) == tuple(i for i, _ in slot.calls):
            return True
        opened = self.lookup.open(record)
        if opened is None:
            return False
        if not record.complete:
            return recorded[: len(sent)] == sent and _one_continues_other(opened.text, slot.text)
        if recorded != sent:
            return False
        if sent or _holds_reasoning(slot.text, opened):
            return opened.text in slot.text or opened.text.startswith(slot.text)
        shorter = min(len(slot.text), len(opened.text))
        return shorter >= _CUT_TEXT and _one_continues_other(opened.text, slot.text)

    # Weaker evidence, for what is left.

    def _match_neighbours(self) -> bool:
        """Same turn, and the recorded turn before or after it agrees, or the message just before it."""
        candidates = [
            [r for r in self.by_turn.get(slot.turn, ()) if r.key not in self.used and not self._vetoed(r)]
            if self.verdicts[position] is None
            else []
            for position, slot in enumerate(self.slots)
        ]
        backward = self._chain(candidates, range(len(self.slots)), -1)
        forward = self._chain(candidates, range(len(self.slots) - 1, -1, -1), 1)
        found = False
        for position, slot in enumerate(self.slots):
            records = [r for r in candidates[position] if r.key not in self.used]
            if not records:
                continue
            length = {
                r.key: backward[position].get(r.key, 0) + forward[position].get(r.key, 0) for r in records
            }
            longest = max(length.values())
            if longest:
                best = [r for r in records if length[r.key] == longest]
            else:
                best = [r for r in records if self._same_neighbour(r, slot)]
            record = self._choose(best, position, newest=False)
            if record:
                self._settle(position, Verdict((record,), BY_NEIGHBOUR))
                found = True
        return found

    def _chain(
        self, candidates: list[list[Record]], order: Sequence[int], step: int
    ) -> list[dict[bytes, int]]:
        """How many turns in a row, in one direction, agree with each candidate by who was whose parent."""
        lengths: list[dict[bytes, int]] = [{} for _ in self.slots]
        for position in order:
            if not 0 <= (neighbour := position + step) < len(self.slots):
                continue
            settled = self._record(neighbour)
            near = [settled] if settled else candidates[neighbour]
            bonus = len(self.slots) if settled else 1
            # How far it goes on from a neighbour, by the key that links it.
            reach: dict[bytes, int] = {}
            for other in near:
                link = other.key if step < 0 else other.parent
                if link:
                    reach[link] = max(reach.get(link, 0), bonus + lengths[neighbour].get(other.key, 0))
            for record in candidates[position]:
                length = reach.get(record.parent if step < 0 else record.key)
                if length is not None:
                    lengths[position][record.key] = length
        return lengths

    def _same_neighbour(self, record: Record, slot: Slot) -> bool:
        return (
            bool(slot.before)
            and record.before == slot.before
            and slot.weight + slot.before_weight >= _NEIGHBOUR_WEIGHT
        )

    def _match_distinctive(self) -> bool:
        found = False
        for position, slot in enumerate(self.slots):
            if self.verdicts[position] is not None or not _is_distinctive(slot):
                continue
            all_records = [r for r in self.by_turn.get(slot.turn, ()) if not self._vetoed(r)]
            if not all_records or len({r.thought for r in all_records}) > 1:
                continue
            unused = [r for r in all_records if r.key not in self.used]
            if unused and not self._other_ids(newest := max(unused, key=_age), slot):
                self._settle(position, Verdict((newest,), BY_TURN))
                found = True
        return found

    def _vetoed(self, record: Record) -> bool:
        """Weak evidence does not reach from one conversation, by its own header, into another."""
        mine = self.conversation.session
        return bool(mine and record.session and record.session != mine)

    def _other_ids(self, record: Record, slot: Slot) -> bool:
        """Ids of the same make that differ: the same call, made in another turn."""
        if slot.counted_ids or not slot.ids:
            return False
        opened = self.lookup.open(record)
        if opened is None or len(opened.ids) != len(slot.ids):
            return False
        return any(
            theirs != mine and _make(theirs) == _make(mine)
            for theirs, mine in zip(opened.ids, slot.ids, strict=True)
        )

    # Ties.

    def _choose(
        self, records: Iterable[Record], position: int, newest: bool, reuse: bool = False
    ) -> Record | None:
        """The one record that is meant, or None where different reasonings remain.

        `newest` allows the last of several answers to the very same context: an answer generated again.
        """
        left = [r for r in records if reuse or r.key not in self.used]
        if len(left) < 2:
            return left[0] if left else None
        if len({r.thought for r in left}) > 1:
            self.tied.add(position)
        chosen, by = self._settled(left, position, newest)
        if self.observer is not None:
            self.observer.tied(position, left, by, chosen)
        return chosen

    def _settled(self, left: list[Record], position: int, newest: bool) -> tuple[Record | None, str]:
        """The record that wins a tie, and what it won by."""
        slot = self.slots[position]
        before = self._record(position - 1)
        ids = tuple(call_id for call_id, _ in slot.calls)
        preferences: list[tuple[str, Callable[[Record], bool]]] = [
            ("tool-call ids", lambda r: bool(ids) and tuple(i for i, _ in r.calls) == ids),
            ("the turn before", lambda r: before is not None and r.parent == before.key),
            ("the turn after", lambda r: r.key in self._parents_of_next(position)),
            (
                "conversation header",
                lambda r: bool(self.conversation.session) and r.session == self.conversation.session,
            ),
            (
                "system prompt",
                lambda r: bool(self.conversation.system) and r.system == self.conversation.system,
            ),
        ]
        by = "one and the same reasoning"
        for name, prefers in preferences:
            if len({r.thought for r in left}) == 1:
                break
            preferred = [r for r in left if prefers(r)] or left
            if len(preferred) < len(left):
                left, by = preferred, name
        latest = max(left, key=_age)
        rest = [r for r in left if r.thought != latest.thought]
        if not rest:
            return latest, by
        # Generated again means asked again after the other answer had come. Answers that were under way at
        # the same time (parallel conversations, n > 1) cannot be told apart.
        if newest and all(latest.asked >= r.created for r in rest):
            return latest, "the newest, generated again"
        if newest:
            return None, "not settled: different reasonings that were under way at the same time"
        return None, "not settled: different reasonings"

    def _parents_of_next(self, position: int) -> set[bytes]:
        if position + 1 >= len(self.slots):
            return set()
        if settled := self._record(position + 1):
            return {settled.parent}
        following = self.slots[position + 1]
        context = self.marks.context(self.contexts[position], self.slots[position].turn, following.gap)
        found = self.by_place.get(self.marks.place(context, following.turn), ())
        return {record.parent for record in found if record.parent}


def _age(record: Record) -> tuple[int, bytes]:
    """Newer is greater; processes on one store may record in the same millisecond."""
    return record.created, record.key


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


def _overlap(record: Record, calls: Sequence[tuple[bytes, bytes]]) -> int:
    """How many of these calls are this record's: all of its own first, or all if they are among its own."""
    if tuple(calls[: len(record.calls)]) == record.calls:
        return len(record.calls)
    mine = set(record.calls)
    return len(calls) if all(pair in mine for pair in calls) else 0


def _one_continues_other(recorded: str, sent: str) -> bool:
    return recorded.startswith(sent) or (bool(recorded) and sent.startswith(recorded))


def _holds_reasoning(text: str, opened: Opened) -> bool:
    return any(
        thought in text
        for value in opened.fields.values()
        for thought in _strings(msgspec.json.decode(value))
    )


def _strings(value: object) -> Iterator[str]:
    """The texts in a reasoning value, however it wraps them. Names and signatures are in no visible text."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, dict):
        for name in ("thinking", "text", "summary", "content"):
            yield from _strings(value.get(name))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _is_distinctive(slot: Slot) -> bool:
    if slot.calls:
        return slot.weight >= _DISTINCTIVE_CALL
    return slot.weight >= _DISTINCTIVE_TEXT


def _make(call_id: str) -> tuple[int, str]:
    head, separator, _ = call_id.rpartition("_")
    return len(call_id), head + separator
