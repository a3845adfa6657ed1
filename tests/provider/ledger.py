"""Every turn the simulator issued, found again by call id or by text, and compared with what came back."""

from collections.abc import Iterable

from tests.provider.turns import Issued, Piece, Sent, Verdict, visible


class Ledger:
    def __init__(self) -> None:
        self.turns: list[Issued] = []

    def find(self, host: str, conversation: str, sent: Sent) -> list[Issued]:
        """The turns this may be: those of the same conversation, then of the same place, if there are any."""
        found = self._alike(host, conversation, sent)
        return [turn for turn in found if turn.position == sent.index] or found

    def _alike(self, host: str, conversation: str, sent: Sent) -> list[Issued]:
        ids = set(sent.calls)
        texts = {visible(text) for text in sent.texts}
        here = [turn for turn in self.turns if turn.host == host]
        if ids:
            found = [turn for turn in here if ids & {call.id for call in turn.calls}]
        else:
            found = [turn for turn in here if not turn.calls and visible(turn.text) in texts]
            # A turn whose stream was broken off comes back as its beginning.
            begun = tuple(text for text in texts if text)
            found = found or [turn for turn in here if visible(turn.text).startswith(begun)]
        return [turn for turn in found if turn.conversation == conversation] or found

    def had_none(self, host: str, conversation: str, sent: Sent) -> bool:
        """Whether this turn was issued without any thought, so that there is nothing to bring back."""
        found = self.find(host, conversation, sent)
        return bool(found) and all(not turn.reasoning and not turn.pieces for turn in found)

    def issued_seal(self, host: str, piece: Piece) -> bool:
        return any(piece.seal == one.seal for turn in self.turns if turn.host == host for one in turn.pieces)

    def judge(self, host: str, conversation: str, sent: Sent) -> Verdict:
        found = self.find(host, conversation, sent)
        if not found:
            return "unknown"
        # Several turns in one message carry the thoughts of all of them, in order.
        joined = [piece for turn in self._alike(host, conversation, sent) for piece in turn.pieces]
        if any(_carries(sent, turn) for turn in found) or (joined and _match(sent.pieces, joined)):
            return "exact"
        if sent.reasoning is None:
            return "missing"
        more = any(piece.seal or piece.kind == "detail" for piece in sent.pieces)
        return "wrong" if more or sent.reasoning.strip() else "blank"


def _carries(sent: Sent, turn: Issued) -> bool:
    if turn.pieces and (sent.pieces or not all(piece.plain for piece in turn.pieces)):
        return _match(sent.pieces, turn.pieces)
    return sent.reasoning == turn.reasoning or (not sent.reasoning and not turn.reasoning)


def _match(sent: Iterable[Piece], issued: Iterable[Piece]) -> bool:
    """Alike one by one; a seal the client may leave out (None) need not be there."""
    sent, issued = list(sent), list(issued)
    return len(sent) == len(issued) and all(
        (one.kind, one.text, one.before) == (other.kind, other.text, other.before)
        and one.seal in (other.seal, None)
        for one, other in zip(sent, issued, strict=True)
    )
