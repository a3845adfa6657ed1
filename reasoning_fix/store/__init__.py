"""What is kept of recorded turns, and the one protocol that keeps it.

A store holds keyed fingerprints and sealed content; it can read neither. Every call names the scope.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from reasoning_fix import ReasoningFixError

# One request looks at up to so many candidates, the newest first.
RELATED_LIMIT = 2000


class StoreError(ReasoningFixError):
    """The store or its secret cannot be used; the text says why and what to do."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recorded turn: fingerprints (16 bytes each, b"" = none) and sealed content.

    `key` is 16 random bytes; `parent` the key of the recorded turn before it, `thread` that of the first one
    of its conversation; `calls` pairs the fingerprint of each tool-call id with that of its call. Times are
    milliseconds since the epoch: when the request came, and when the turn was recorded.
    """

    key: bytes
    issuer: str
    model: str
    place: bytes
    context: bytes
    turn: bytes
    before: bytes
    thought: bytes
    system: bytes
    session: bytes
    parent: bytes
    thread: bytes
    calls: tuple[tuple[bytes, bytes], ...]
    complete: bool
    asked: int
    created: int
    sealed: bytes


class Store(Protocol):
    """Reads never raise: a store that cannot answer knows nothing. Records come oldest first."""

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        """Keep records; one with a known key replaces the old one."""

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        """The records at any of these places."""

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        """The newest RELATED_LIMIT records with any of these contexts, turns or tool-call ids."""

    def by_key(self, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        """The records with these keys."""

    def forget(self, before: int | None = None) -> int:
        """Erase the turns recorded before this time (milliseconds since the epoch; None: all of them).

        Returns how many. Raises sqlite3.Error if a file cannot be used.
        """

    def version(self) -> object:
        """A new value whenever records come or go other than by `put` on this object."""

    def close(self) -> None:
        """Release what is held; a closed store is not used again."""
