"""Records that wait in memory until the file can be written.

A store in memory that two threads share: the one that puts and reads, and the one that delivers. Knows
nothing of files.
"""

import threading
from collections.abc import Callable, Sequence

from reasoning_fix.store import Record
from reasoning_fix.store.memory import MemoryStore


class Waiting:
    """Bounded in bytes, as every store in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records = MemoryStore()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, scope: bytes, records: Sequence[Record]) -> bool:
        """Whether they are the first that wait."""
        with self._lock:
            first = not len(self._records)
            self._records.put(scope, records)
        return first

    def ask(self, question: Callable[[MemoryStore], list[Record]]) -> list[Record]:
        """Free where nothing waits, as nearly always."""
        if not len(self._records):
            return []
        with self._lock:
            return question(self._records)

    def first(self, count: int) -> list[tuple[bytes, Record]]:
        """The oldest with their scopes; they stay until they are `delivered`."""
        with self._lock:
            return self._records.take()[:count]

    def delivered(self, records: Sequence[tuple[bytes, Record]]) -> None:
        """Drop these, but not what has replaced one of them since."""
        with self._lock:
            for scope, record in records:
                self._records.drop_unchanged(scope, record)

    def supersede(self, scope: bytes, records: Sequence[Record]) -> None:
        """Drop what has the keys of these: else it would be delivered over them."""
        if len(self._records):
            with self._lock:
                for record in records:
                    self._records.drop(scope, record.key)

    def forget(self, before: int | None) -> int:
        with self._lock:
            return self._records.forget(before)
