"""What matching takes and gives: opened records, a verdict per turn, and what may be built on it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from reasoning_fix.engine.history import NONE, Fingerprints, History, Slot
from reasoning_fix.store import Record

BY_CONTEXT = "context"
BY_ID = "tool-call id"
BY_THOUGHT = "the thought in its text"
BY_WRITTEN_CALLS = "calls written out as text"
BY_NEIGHBOUR = "neighbouring turn"
BY_TURN = "distinctive turn"


class Content(msgspec.Struct, frozen=True, gc=False):
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

    def open(self, record: Record) -> Content | None: ...


class Verdict(msgspec.Struct, gc=False):
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


class Matched(msgspec.Struct, frozen=True):
    """A history that was matched, and by what; `lookup` still answers."""

    history: History
    fingerprints: Fingerprints
    lookup: Lookup
    conversation: Conversation
    matching: Matching


class Observer(Protocol):
    """Looks on while a history is matched, for people who ask why; None in everyday use."""

    def tied(self, position: int, records: Sequence[Record], by: str, chosen: Record | None) -> None:
        """Several records fitted one slot; `by` is what settled it, or why nothing could."""

    def matched(self, matched: Matched) -> None:
        """The history is matched."""


class Last(msgspec.Struct, frozen=True):
    """The last turn of a history's first part, which was matched before and is settled throughout.

    `record` needs its key and thread only, and is None where there is no turn in the first part; `evidence`
    is what it was recognised by. There are so many `turns` in the first part; `numbers` has the number of the
    turn that a record went to, by the record's key, for these and maybe for more.
    """

    context: bytes = NONE
    turn: bytes = NONE
    record: Record | None = None
    evidence: str = ""
    turns: int = 0
    numbers: Mapping[bytes, int] = {}


# The first part of a history that is matched as a whole.
NOTHING_BEFORE = Last()


class Contradiction(Exception):
    """What follows could claim a record that the first part of the history has used: match it as one."""
