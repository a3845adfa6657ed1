"""Which of several records is meant: more evidence settles it, or nothing does."""

from collections.abc import Callable, Iterable

from reasoning_fix.engine.matching.board import Board
from reasoning_fix.store import Record


def choose(
    board: Board, records: Iterable[Record], position: int, newest: bool, reuse: bool = False
) -> Record | None:
    """The one record that is meant, or None where different reasonings remain.

    `newest` allows the last of several answers to the very same context: an answer generated again.
    """
    left = [r for r in records if reuse or r.key not in board.used]
    if len(left) < 2:
        return left[0] if left else None
    if len({r.thought for r in left}) > 1:
        board.tied.add(position)
    chosen, by = _settled(board, left, position, newest)
    if board.observer is not None:
        board.observer.tied(position - 1, left, by, chosen)
    return chosen


def _settled(board: Board, left: list[Record], position: int, newest: bool) -> tuple[Record | None, str]:
    """The record that wins a tie, and what it won by."""
    slot = board.slots[position]
    before = board.record(position - 1)
    ids = tuple(call_id for call_id, _ in slot.calls)
    preferences: list[tuple[str, Callable[[Record], bool]]] = [
        ("tool-call ids", lambda r: bool(ids) and tuple(i for i, _ in r.calls) == ids),
        ("the turn before", lambda r: before is not None and r.parent == before.key),
        ("the turn after", lambda r: r.key in _parents_of_next(board, position)),
        (
            "conversation header",
            lambda r: bool(board.conversation.session) and r.session == board.conversation.session,
        ),
        (
            "system prompt",
            lambda r: bool(board.conversation.system) and r.system == board.conversation.system,
        ),
    ]
    by = "one and the same reasoning"
    for name, prefers in preferences:
        if len({r.thought for r in left}) == 1:
            break
        preferred = [r for r in left if prefers(r)] or left
        if len(preferred) < len(left):
            left, by = preferred, name
    latest = max(left, key=age)
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


def _parents_of_next(board: Board, position: int) -> set[bytes]:
    if position + 1 >= len(board.slots):
        return set()
    if settled := board.record(position + 1):
        return {settled.parent}
    following = board.slots[position + 1]
    context = board.fingerprints.context(board.contexts[position], board.slots[position].turn, following.gap)
    found = board.by_place.get(board.fingerprints.place(context, following.turn), ())
    return {record.parent for record in found if record.parent}


def age(record: Record) -> tuple[int, bytes]:
    """Newer is greater; processes on one store may record in the same millisecond."""
    return record.created, record.key
