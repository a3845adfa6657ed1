"""A transcript before it is written: facts at its top, then one entry per message. Values only."""

from collections.abc import Callable, Sequence

import msgspec

from reasoning_fix.inspection.parts import Part


class Entry(msgspec.Struct):
    """One message. `read` gives its parts when they are needed; `added`: its reasoning was put in by us.

    `status` is a word for the counts where the entry itself is left out.
    """

    title: str
    read: Callable[[], Sequence[Part]]
    note: str = ""
    added: bool = False
    status: str = ""


class Transcript(msgspec.Struct):
    """What is to be written: a title, facts (name and value), a notice on how to read it, entries."""

    title: str
    facts: list[tuple[str, str]] = []
    notice: str = ""
    entries: list[Entry] = []
