"""Evidence that a turn stands where it stood: its context, or its ids; be it cut short or added to."""

from collections.abc import Iterator, Sequence

import msgspec

from reasoning_fix.engine.history import Slot
from reasoning_fix.engine.matching.board import LONG_THOUGHT, Board
from reasoning_fix.engine.matching.ties import choose
from reasoning_fix.engine.matching.verdicts import (
    BY_CONTEXT,
    BY_ID,
    BY_THOUGHT,
    BY_WRITTEN_CALLS,
    Content,
    Verdict,
)
from reasoning_fix.engine.matching.weak import other_session, same_neighbour
from reasoning_fix.store import Record

# A client that stopped reading keeps at least this much of a whole answer; less could begin any other one.
_CUT_TEXT = 12


def by_place(board: Board, position: int) -> Verdict | None:
    run = board.run(position)
    if len(run) > 1 and all(board.verdicts[p] is None for p in run):
        place = board.fingerprints.place(board.contexts[position], board.joined(run))
        joined = choose(board, board.by_place.get(place, ()), position, True)
        if joined:
            _settle_pieces(board, run, joined)
            return board.verdicts[position]
    record = choose(board, board.by_place.get(board.places[position], ()), position, newest=True)
    return Verdict((record,), BY_CONTEXT) if record else None


def _settle_pieces(board: Board, run: range, record: Record) -> None:
    """A turn in pieces gets its reasoning once: on the piece with its calls, which every rule names."""
    anchor = next((p for p in run if board.slots[p].calls), run[0])
    for position in run:
        board.settle(position, Verdict((record,), BY_CONTEXT, part=position != anchor))


def by_call_ids(board: Board, position: int, slot: Slot) -> Verdict | None:
    if not slot.calls or not all(call_id for call_id, _ in slot.calls):
        return None
    found: list[Record] = []
    at = 0
    part = False
    while at < len(slot.calls):
        pair = slot.calls[at]
        candidates = [
            record
            for record in board.by_call.get(pair, ())
            if _overlap(record, slot.calls[at:]) and _supported(board, record, position, slot, found)
        ]
        record = choose(board, candidates, position, newest=False, reuse=True)
        if record is None:
            return None
        step = _overlap(record, slot.calls[at:])
        if record.key in board.used:
            part = True
            if not _is_piece(board, record, position):
                return None
        found.append(record)
        at += step
    return Verdict(tuple(found), BY_ID, part=part)


def _supported(board: Board, record: Record, position: int, slot: Slot, found: list[Record]) -> bool:
    """Ids that count up repeat in every conversation: they need the context or a neighbour too."""
    if not slot.counted_ids:
        return True
    if found:
        return record.parent == found[-1].key
    before = board.record(position - 1)
    return (
        record.context == board.contexts[position]
        or (before is not None and record.parent == before.key)
        or same_neighbour(board, record, slot)
    )


def _is_piece(board: Board, record: Record, position: int) -> bool:
    """Whether a used record may go on here: another piece of the same turn holds its reasoning."""
    holder = board.record(position - 1)
    return holder is not None and holder.key == record.key


def by_altered_turn(board: Board, position: int, slot: Slot) -> Verdict | None:
    """Under the very same context: a turn cut short, or one whose text a client added to."""
    context = board.contexts[position]
    if context not in board.asked:
        board.asked.add(context)
        board.add(board.lookup.related(contexts=(context,), turns=(), ids=()))
    candidates = [record for record in board.by_context.get(context, ()) if _is_altered(board, record, slot)]
    record = choose(board, candidates, position, newest=True)
    if record is not None:
        return Verdict((record,), BY_CONTEXT)
    written = [record for record in board.by_context.get(context, ()) if _is_written_out(board, record, slot)]
    record = choose(board, written, position, newest=True)
    return Verdict((record,), BY_WRITTEN_CALLS) if record else None


def _is_written_out(board: Board, record: Record, slot: Slot) -> bool:
    """Whether the calls of a turn stand in a text, with their ids: smolagents writes them out."""
    if slot.calls or not record.calls:
        return False
    opened = board.lookup.open(record)
    if opened is None or not opened.ids or not all(opened.ids):
        return False
    return opened.text in slot.text and all(call_id in slot.text for call_id in opened.ids)


def by_thought_in_text(board: Board, position: int, slot: Slot) -> Verdict | None:
    """The whole of a recorded thought stands in the text: it is that turn, whatever else a client changed.

    Looked for among the turns whose visible text and calls are what is left, and those of the same calls.
    """
    if len(slot.text) <= LONG_THOUGHT or not board.pool:
        return None
    near = [record for turn in board.said_by(slot) for record in board.by_turn.get(turn, ())]
    near += [record for pair in slot.calls for record in board.by_call.get(pair, ())]
    near += board.by_context.get(board.contexts[position], ())
    unique = {record.key: record for record in near if not other_session(board, record)}
    record = choose(board, [r for r in unique.values() if _holds_thought(board, r, slot)], position, False)
    return Verdict((record,), BY_THOUGHT) if record else None


def _holds_thought(board: Board, record: Record, slot: Slot) -> bool:
    opened = board.lookup.open(record) if record.thought else None
    if opened is None:
        return False
    thoughts = list(_thoughts(opened))
    return any(len(text) > LONG_THOUGHT for text in thoughts) and all(text in slot.text for text in thoughts)


def _is_altered(board: Board, record: Record, slot: Slot) -> bool:
    recorded = tuple(call for _, call in record.calls)
    sent = tuple(call for _, call in slot.calls)
    if sent and tuple(i for i, _ in record.calls) == tuple(i for i, _ in slot.calls):
        return True
    opened = board.lookup.open(record)
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


def _overlap(record: Record, calls: Sequence[tuple[bytes, bytes]]) -> int:
    """How many of these calls are this record's: all of its own first, or all if they are among its own."""
    if tuple(calls[: len(record.calls)]) == record.calls:
        return len(record.calls)
    mine = set(record.calls)
    return len(calls) if all(pair in mine for pair in calls) else 0


def _one_continues_other(recorded: str, sent: str) -> bool:
    return recorded.startswith(sent) or (bool(recorded) and sent.startswith(recorded))


def _holds_reasoning(text: str, opened: Content) -> bool:
    return any(thought in text for thought in _thoughts(opened))


def _thoughts(opened: Content) -> Iterator[str]:
    for value in opened.fields.values():
        yield from _strings(msgspec.json.decode(value))


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
