"""Which recorded turn is this message? Candidates in, verdict and evidence out.

The turns of one history are matched together, in order, and each recorded turn is used for one place only.
Evidence, strongest first: the same context before it and the same turn; the same tool-call ids on calls that
agree; the same turn with a neighbour that agrees; the same, distinctive turn that is on record once. Anything
weaker is no match: a placeholder does less harm than another turn's thoughts.

What is decided depends on the records that fit and on what came before, not on how or in which order they
were looked up: so a history can be matched in two goes (`Last`), as prefix_cache.py does.

Contexts heal: where a client altered a turn (trimmed, split, reasoning moved into the text) that was
recognised all the same, the context of the turns after it goes on with the turn as recorded. Nothing here
does I/O of its own: `Lookup` is handed in. Lookups are batched: one for the places, a second one only
where a turn has no place on record, and one for each context that healed on the way. O(turns + candidates).

board.py holds the state of a match; strong.py, weak.py and ties.py are the kinds of evidence.
"""

from reasoning_fix.engine.history import Fingerprints, History
from reasoning_fix.engine.matching.board import Board
from reasoning_fix.engine.matching.strong import by_altered_turn, by_call_ids, by_place, by_thought_in_text
from reasoning_fix.engine.matching.verdicts import (
    NOTHING_BEFORE,
    Conversation,
    Last,
    Lookup,
    Matched,
    Matching,
    Observer,
)
from reasoning_fix.engine.matching.weak import match_distinctive, match_neighbours


def match(
    history: History,
    fingerprints: Fingerprints,
    lookup: Lookup,
    conversation: Conversation,
    last: Last = NOTHING_BEFORE,
    observer: Observer | None = None,
) -> Matching:
    """Match every turn of a history, or of what follows after `last`.

    Raises Contradiction where it could come out otherwise than for the whole history.
    """
    board = Board(history, fingerprints, lookup, conversation, last, observer)
    if history.slots:
        board.look_up()
        _walk(board)
        if None in board.verdicts[1:]:
            _widen(board)
    matching = board.matching()
    if observer is not None:
        observer.matched(Matched(history, fingerprints, lookup, conversation, matching))
    return matching


def _widen(board: Board) -> None:
    """Look for the turns without a place on record by their other evidence."""
    board.settle_last()
    turns = enumerate(board.history.slots, start=1)
    open_slots = [(position, slot) for position, slot in turns if board.verdicts[position] is None]
    board.asked = {board.contexts[position] for position, _ in open_slots}
    board.add(
        board.lookup.related(
            contexts=board.asked,
            turns={turn for _, slot in open_slots for turn in board.said_by(slot)},
            ids=board.look_for(call_id for _, slot in open_slots for call_id in slot.ids if call_id),
        )
    )
    _walk(board, wide=True)
    found = match_neighbours(board)
    if match_distinctive(board):
        # What is known now may be the neighbour of another turn.
        match_neighbours(board)
        found = True
    if found:
        _walk(board, wide=True)


def _walk(board: Board, wide: bool = False) -> None:
    """One pass over the history, by context and by id."""
    for position, slot in enumerate(board.history.slots, start=1):
        board.settle_context(position)
        if board.verdicts[position] is not None:
            continue
        verdict = (
            by_place(board, position)
            or (wide and by_call_ids(board, position, slot))
            or (wide and by_altered_turn(board, position, slot))
            or (wide and by_thought_in_text(board, position, slot))
        )
        if verdict:
            board.settle(position, verdict)
