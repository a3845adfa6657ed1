"""A transcript before it is written: facts at its top, then one entry per message. Values only."""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from reasoning_fix.proxy.inspection.parts import Part


class Entry(msgspec.Struct):
    """One message. `read` gives its parts when they are needed; `added`: its reasoning was put in by us.

    Without `read` it stands for `count` messages that are left out; `statuses` say what became of how many
    turns.
    """

    title: str = ""
    read: Callable[[], Iterable[Part]] | None = None
    note: str = ""
    added: bool = False
    count: int = 1
    statuses: Counter[str] = msgspec.field(default_factory=Counter)


class Transcript(msgspec.Struct):
    """What is to be written: a title, facts (name and value), a notice on how to read it, entries."""

    title: str
    facts: list[tuple[str, str]] = []
    notice: str = ""
    entries: list[Entry] = []
