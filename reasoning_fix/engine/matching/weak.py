"""Evidence without a context: neighbours that agree, or a turn that is like no other.

Neighbours must be known themselves, or say enough together: "Done." follows "I look." in many conversations.
"""

from collections.abc import Sequence

import msgspec

from reasoning_fix.engine.history import Slot, bare
from reasoning_fix.engine.matching.board import Board
from reasoning_fix.engine.matching.ties import age, choose
from reasoning_fix.engine.matching.verdicts import BY_NEIGHBOUR, BY_TURN, Verdict
from reasoning_fix.store import Record

# A turn together with the message before it must say this much (characters) before the pair is evidence:
# "ok" / "Done." is said in every conversation.
_NEIGHBOUR_WEIGHT = 28
# A turn alone must say this much before it is distinctive without any other evidence.
_DISTINCTIVE_TEXT = 40
_DISTINCTIVE_CALL = 24


def match_neighbours(board: Board) -> bool:
    """Same turn, and the recorded turn before or after it agrees, or the message just before it.

    A record whose calls have other ids of the same make is the same call made elsewhere, unless a recorded
    neighbour is known to be its own.
    """
    candidates: list[list[Record]] = [[] for _ in board.slots]
    elsewhere: list[list[Record]] = [[] for _ in board.slots]
    for position, slot in enumerate(board.slots):
        if board.verdicts[position] is None:
            for record in board.by_turn.get(slot.turn, ()):
                if record.key not in board.used and not other_session(board, record):
                    made = elsewhere if _other_ids(board, record, slot) else candidates
                    made[position].append(record)
    backward = _chains(board, candidates, range(len(board.slots)), -1)
    forward = _chains(board, candidates, range(len(board.slots) - 1, -1, -1), 1)
    found = False
    for position, slot in enumerate(board.slots):
        own = [r for r in elsewhere[position] if _is_neighbour_of_known(board, r, position)]
        records = [r for r in (*candidates[position], *own) if r.key not in board.used]
        if not records:
            continue
        ends = backward[position], forward[position]
        length = {r.key: _length(*ends, r, slot, known=len(board.slots)) for r in records}
        length |= {r.key: len(board.slots) for r in own}
        longest = max(length.values())
        if longest:
            best = [r for r in records if length[r.key] == longest]
        else:
            best = [r for r in records if same_neighbour(board, r, slot)]
        chosen = choose(board, best, position, newest=False)
        if chosen:
            board.settle(position, Verdict((chosen,), BY_NEIGHBOUR))
            found = True
    return found


class _Chain(msgspec.Struct, frozen=True, gc=False):
    """Turns in a row that agree with records in a row.

    `length` is how many they are, more than there are turns where a turn at its end is known; `said` is what
    they say, each turn once: by turn, how many characters, as far as that is needed to be distinctive.
    """

    length: int = 0
    said: frozenset[tuple[bytes, int]] = frozenset()


def _chains(
    board: Board, candidates: list[list[Record]], order: Sequence[int], step: int
) -> list[dict[bytes, _Chain]]:
    """The chain in one direction that goes on from each candidate, by who was whose parent."""
    chains: list[dict[bytes, _Chain]] = [{} for _ in board.slots]
    for position in order:
        if not 0 <= (neighbour := position + step) < len(board.slots):
            continue
        settled = board.record(neighbour)
        near = [settled] if settled else candidates[neighbour]
        bonus = len(board.slots) if settled else 1
        # How far it goes on from a neighbour, by the key that links it.
        reach: dict[bytes, _Chain] = {}
        for other in near:
            link = other.key if step < 0 else other.parent
            known = chains[neighbour].get(other.key, _Chain())
            if link and bonus + known.length > reach.get(link, _Chain()).length:
                reach[link] = _Chain(bonus + known.length, _with(known.said, board.slots[neighbour]))
        for record in candidates[position]:
            chain = reach.get(record.parent if step < 0 else record.key)
            if chain is not None:
                chains[position][record.key] = chain
    return chains


def _with(said: frozenset[tuple[bytes, int]], slot: Slot) -> frozenset[tuple[bytes, int]]:
    return said if _weight(said) >= _DISTINCTIVE_TEXT else said | {(slot.turn, slot.weight)}


def _weight(said: frozenset[tuple[bytes, int]]) -> int:
    return sum(weight for _, weight in said)


def _length(
    backward: dict[bytes, _Chain], forward: dict[bytes, _Chain], record: Record, slot: Slot, known: int
) -> int:
    """How many turns in a row agree with a record, in both directions.

    0 if no turn at an end is known, and all of them together say what is said in many conversations.
    """
    before, after = backward.get(record.key, _Chain()), forward.get(record.key, _Chain())
    length = before.length + after.length
    is_distinctive = _weight(_with(before.said | after.said, slot)) >= _DISTINCTIVE_TEXT
    return length if is_distinctive or length >= known else 0


def same_neighbour(board: Board, record: Record, slot: Slot) -> bool:
    return (
        bool(slot.before)
        and record.before == slot.before
        and slot.weight + slot.before_weight >= _NEIGHBOUR_WEIGHT
    )


def match_distinctive(board: Board) -> bool:
    found = False
    for position, slot in enumerate(board.slots):
        if board.verdicts[position] is not None or not _is_distinctive(slot):
            continue
        all_records = [r for r in board.by_turn.get(slot.turn, ()) if not other_session(board, r)]
        if not all_records or len({r.thought for r in all_records}) > 1:
            continue
        unused = [r for r in all_records if r.key not in board.used]
        if unused and not _other_ids(board, newest := max(unused, key=age), slot):
            board.settle(position, Verdict((newest,), BY_TURN))
            found = True
    return found


def _is_neighbour_of_known(board: Board, record: Record, position: int) -> bool:
    """Whether the recorded turn before or after it is recognised, by identity and not by what it says."""
    before, after = board.record(position - 1), board.record(position + 1)
    return (before is not None and record.parent == before.key) or (
        after is not None and after.parent == record.key
    )


def other_session(board: Board, record: Record) -> bool:
    """Weak evidence does not reach from one conversation, by its own header, into another."""
    mine = board.conversation.session
    return bool(mine and record.session and record.session != mine)


def _other_ids(board: Board, record: Record, slot: Slot) -> bool:
    """Ids of the same make that differ: the same call, made in another turn."""
    if slot.counted_ids or not slot.ids:
        return False
    opened = board.lookup.open(record)
    if opened is None or len(opened.ids) != len(slot.ids):
        return False
    return any(
        bare(theirs) != bare(mine) and _make(theirs) == _make(mine)
        for theirs, mine in zip(opened.ids, slot.ids, strict=True)
    )


def _is_distinctive(slot: Slot) -> bool:
    if slot.calls:
        return slot.weight >= _DISTINCTIVE_CALL
    return slot.weight >= _DISTINCTIVE_TEXT


def _make(call_id: str) -> tuple[int, str]:
    head, separator, _ = call_id.rpartition("_")
    return len(call_id), head + separator
