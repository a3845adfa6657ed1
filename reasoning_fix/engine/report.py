"""What was done to one request: values for the log, the flow's notes and the counts."""

from collections import Counter

import msgspec

from reasoning_fix.engine.originals import Before
from reasoning_fix.providers.lessons import Lesson


class Treated(msgspec.Struct, frozen=True, gc=False):
    """What became of one turn of a history.

    `index` counts the turns and other messages as read; `status` is sent (the client brought its reasoning),
    restored, filled, moved (the client's own, to where this provider reads it), empty (on record as having
    had none), part (of a turn whose reasoning is at another piece), left out, odd (it could not be changed
    without doubt), or absent. `recorded` is in milliseconds since the epoch, 0 if it is not on record.
    """

    index: int
    status: str
    evidence: str = ""
    recorded: int = 0


class Report(msgspec.Struct):
    """What was done to one request. Counts are turns; `grown` is in bytes.

    `demanded` are the changed turns that the provider would have refused as they came; `client` says what the
    client did with reasoning that is known to have been there: kept, blanked or dropped it. `pieces` are
    further pieces of split turns that got a blank, `gave_way` turns whose own reasoning the provider cannot
    read. `switch` is the one by which the request turns thinking off itself, "" where it does not; `remarks`
    are what else a person should know. `asked` is when, in milliseconds since the epoch: what was recorded
    later was not known then. `lessons` are those that applied, `before` is what was changed, as it came.
    `odd` counts messages that could not be read as they are, by what is odd about them.
    """

    model: str = ""
    family: str = ""
    wanted: int = 0
    restored: int = 0
    evidence: Counter[str] = msgspec.field(default_factory=Counter)
    filled: int = 0
    moved: int = 0
    pieces: int = 0
    gave_way: int = 0
    stripped: int = 0
    left_out: int = 0
    grown: int = 0
    demanded: int = 0
    client: Counter[str] = msgspec.field(default_factory=Counter)
    thinking_off: bool = False
    switch: str = ""
    turned_off: bool = False
    turns: list[Treated] = []
    settings: tuple[str, ...] = ()
    asked: int = 0
    lessons: tuple[Lesson, ...] = ()
    remarks: tuple[str, ...] = ()
    before: Before | None = None
    odd: Counter[str] = msgspec.field(default_factory=Counter)

    def go_on(self, so_far: "Report") -> None:
        """Count on from what was counted of turns there, in place of what was counted here."""
        for name in _COUNTS:
            setattr(self, name, getattr(so_far, name))
        self.evidence, self.client = Counter(so_far.evidence), Counter(so_far.client)
        self.turns = []

    def copy(self) -> "Report":
        """What was counted of turns so far, and nothing else; it stays as it is when more is done."""
        other = Report()
        other.go_on(self)
        return other

    def text(self) -> str:
        """One line for a person: `restored 3 of 3 turns: 2 by context, 1 by tool-call id`."""
        parts = []
        if self.restored:
            ways = ", ".join(f"{count} by {way}" for way, count in self.evidence.most_common())
            parts.append(f"restored {self.restored} of {self.wanted} turns: {ways}")
        if self.filled:
            parts.append(f"filled {self.filled} of {self.wanted} turns that were not on record")
        if self.moved:
            parts.append(f"put the client's own reasoning where it is read in {_turns(self.moved)}")
        if self.pieces:
            parts.append(f"put a blank into {_pieces(self.pieces)} of split turns")
        if self.stripped:
            parts.append(f"took reasoning that is refused here out of {_turns(self.stripped)}")
        if self.left_out:
            parts.append(f"left out the reasoning of {_turns(self.left_out)}")
        if self.turned_off:
            parts.append("turned thinking off")
        if self.settings:
            parts.append(f"changed {', '.join(self.settings)}")
        odd = [f"{_messages(count)} {what}" for what, count in sorted(self.odd.items())]
        said = [*(parts or [f"restored 0 of {self.wanted} turns"]), *odd, *self.remarks]
        return "; ".join(said)


# What is counted of turns, by names of a report.
_COUNTS = (
    "wanted",
    "restored",
    "filled",
    "moved",
    "pieces",
    "gave_way",
    "stripped",
    "left_out",
    "demanded",
)


def _pieces(count: int) -> str:
    return "a further piece" if count == 1 else f"{count} further pieces"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages, each"


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"
