"""The latest chat requests of this process, for people who look on: names and counts, never a text.

Bounded, and in memory only. An entry is seen again, under a new `seen` number, whenever it changes: whoever
asks for what came after the last number they saw gets each change once.
"""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from reasoning_fix.proxy.stats.counts import Line

MOST = 500


class Entry(msgspec.Struct, kw_only=True):
    """One chat request.

    `time` is when it came, in seconds since the epoch; `turns` wanted reasoning, of which some were
    `restored`, `filled`, or `moved` from another field. `delay` is what it waited for us, in seconds.
    `status` is its answer's, 0 until that has come or if it was cut; `refused` is what a refusal meant, and
    `is_repaired` says that it was answered when it was sent again. `prompt` are the tokens of its prompt,
    `cached` those of them that the provider had in its cache.
    """

    number: int
    seen: int
    time: float
    provider: str
    model: str
    client: str
    turns: int = 0
    restored: int = 0
    filled: int = 0
    moved: int = 0
    thinking_off: bool = False
    delay: float = 0.0
    is_done: bool = False
    status: int = 0
    refused: str = ""
    is_repaired: bool = False
    prompt: int = 0
    cached: int = 0


class Page(msgspec.Struct, frozen=True):
    """What is new after a number: the `entries`, oldest first, and the number to ask with `next` time."""

    pid: int
    next: int
    entries: Sequence[Entry]


class Recent:
    """The latest MOST requests. `changes` counts those that came and those of which more became known."""

    def __init__(self) -> None:
        self.changes = 0
        self._numbers = itertools.count(1)
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def add(self, line: Line, time: float) -> Entry:
        """A request came. Who learns more of it counts that as a change, and numbers the entry by it."""
        self.changes += 1
        entry = Entry(
            number=next(self._numbers),
            seen=self.changes,
            time=time,
            provider=line.provider,
            model=line.model,
            client=line.client,
        )
        self._entries[entry.number] = entry
        if len(self._entries) > MOST:
            self._entries.popitem(last=False)
        return entry

    def after(self, seen: int = 0) -> list[Entry]:
        """The entries that came or changed after this number, oldest first."""
        return [entry for entry in self._entries.values() if entry.seen > seen]

    def page(self, pid: int, seen: int = 0) -> Page:
        """The same for programs. A number that is not from this process starts anew."""
        return Page(pid, self.changes, self.after(seen if seen <= self.changes else 0))


# One per process: it outlives a reload of the script, as streams on their way do.
recent = Recent()
