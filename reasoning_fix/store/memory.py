"""A store in memory: for tests, for what waits until a file can be written, and where none can be."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from reasoning_fix.store import RELATED_LIMIT, Record


class MemoryStore:
    """Keeps the newest records within `max_bytes` of sealed content (plus about 400 bytes each).

    Threads may share it. Reads are nearly free where it is empty.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        # Each with the number of its put: records made in the same millisecond stay in their order.
        self._records: OrderedDict[tuple[bytes, bytes], tuple[int, Record]] = OrderedDict()
        self._puts = 0
        self._lost = 0
        self._index: dict[tuple[bytes, str, bytes], set[bytes]] = defaultdict(set)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        with self._lock:
            for record in records:
                self._drop(scope, record.key)
                self._puts += 1
                self._records[scope, record.key] = self._puts, record
                self._size += _size(record)
                for entry in _entries(scope, record):
                    self._index[entry].add(record.key)
            while self._size > self._max_bytes and self._records:
                self._lost += 1
                self._drop(*next(iter(self._records)))

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        return self._found(scope, (("place", place) for place in places))

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        by = (("context", contexts), ("turn", turns), ("id", ids))
        keys = chain.from_iterable(((kind, key) for key in keys) for kind, keys in by)
        return self._found(scope, keys)[-RELATED_LIMIT:]

    def by_key(self, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        return self._found(scope, (("key", key) for key in keys))

    def take(self) -> list[tuple[bytes, Record]]:
        """All records with their scopes, oldest first; they stay until they are dropped."""
        with self._lock:
            return [(scope, record) for (scope, _), (_, record) in self._records.items()]

    def drop(self, scope: bytes, key: bytes) -> None:
        with self._lock:
            self._lost += 1
            self._drop(scope, key)

    def drop_unchanged(self, scope: bytes, record: Record) -> None:
        """Drop this record, but not one that has replaced it since."""
        with self._lock:
            if self._records.get((scope, record.key), (0, None))[1] is record:
                self._drop(scope, record.key)

    def forget(self, before: int | None = None) -> int:
        with self._lock:
            records = self._records.items()
            gone = [place for place, (_, record) in records if before is None or record.created < before]
            for place in gone:
                self._drop(*place)
            self._lost += bool(gone)
        return len(gone)

    def version(self) -> object:
        return self._lost

    def close(self) -> None:
        with self._lock:
            self._lost += 1
            self._records.clear()
            self._index.clear()
            self._size = 0

    def _found(self, scope: bytes, keys: Iterable[tuple[str, bytes]]) -> list[Record]:
        if not self._records:
            return []
        with self._lock:
            entries = (self._index.get((scope, kind, value), ()) for kind, value in keys)
            found = [self._records[scope, key] for key in set(chain.from_iterable(entries))]
        return [record for _, record in sorted(found, key=lambda put: (put[1].created, put[0]))]

    def _drop(self, scope: bytes, key: bytes) -> None:
        _, record = self._records.pop((scope, key), (0, None))
        if record is None:
            return
        self._size -= _size(record)
        for entry in _entries(scope, record):
            self._index[entry].discard(key)
            if not self._index[entry]:
                del self._index[entry]


def _entries(scope: bytes, record: Record) -> set[tuple[bytes, str, bytes]]:
    own = {(scope, kind, getattr(record, kind)) for kind in ("key", "place", "context", "turn")}
    return own | {(scope, "id", call_id) for call_id, _ in record.calls if call_id}


def _size(record: Record) -> int:
    return len(record.sealed) + 400 + 40 * len(record.calls)
