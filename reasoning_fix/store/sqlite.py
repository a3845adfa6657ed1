"""The default store: one SQLite file (WAL), shared by any number of proxies.

A put is one transaction on the caller's thread (about 100 microseconds, without a sync to disk: it survives
the end of the process, however sudden). What is slow (checkpoints, erasing old turns) happens on a thread
with a connection of its own (`upkeep`). While the file cannot be written (locked, full disk, gone), records
wait in memory, where reads see them, and are delivered later. `link` decides what a fault means for the
connection.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from reasoning_fix.store import RELATED_LIMIT, Record, Store, StoreError, retention, rows
from reasoning_fix.store.files import FAULTS, advice
from reasoning_fix.store.link import Link
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.opening import transaction
from reasoning_fix.store.retention import Retention
from reasoning_fix.store.upkeep import Upkeep

logger = logging.getLogger(__name__)


def open_store(path: Path, *, keep_days: int = 30, keep_megabytes: int = 512) -> Store:
    """The store at `path`; one in memory where none can be kept there, with a warning that says why."""
    try:
        return SqliteStore(path, keep_days=keep_days, keep_megabytes=keep_megabytes)
    except (*FAULTS, OSError, StoreError) as error:
        logger.warning(
            "The store %s cannot be used (%s): turns are kept only while the proxy runs. %s",
            path,
            error,
            advice(error),
        )
        return MemoryStore()


class SqliteStore:
    """Keeps turns for `keep_days` and within `keep_megabytes`. Raises StoreError, OSError, sqlite3.Error."""

    def __init__(
        self,
        path: Path,
        *,
        keep_days: int = 30,
        keep_megabytes: int = 512,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._waiting = MemoryStore()
        self._retention = Retention(keep_days, keep_megabytes, clock)
        self._link = Link(path)
        self._upkeep = Upkeep(self._link, self._waiting, self._retention)

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        if len(self._waiting):
            # What has the same keys would be delivered over these.
            for record in records:
                self._waiting.drop(scope, record.key)
        try:
            with self._link.lock:
                connection = self._link.catch_up()
                with transaction(connection):
                    rows.write(connection, [(scope, record) for record in records])
                self._upkeep.count(records)
                self._link.wait_again()
                if len(self._waiting):
                    # What could not be delivered can be now.
                    self._link.wake.set()
                if self._link.stopped:
                    # A stream that outlives the script or its options: only it has this turn.
                    self._link.disconnect()
        except rows.UNFIT as error:
            self._link.warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
        except FAULTS as error:
            if self._link.stopped:
                self._link.warn_once(
                    "The store %s was closed and cannot take a turn (%s); it is lost.", error
                )
                return
            self._link.cannot(error)
            is_first = not len(self._waiting)
            self._waiting.put(scope, records)
            if is_first:
                self._link.wake.set()

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        waiting = self._waiting.at(scope, places)
        return rows.merged(self._read("place", scope, places), waiting)

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        waiting = self._waiting.related(scope, contexts=contexts, turns=turns, ids=ids)
        read = self._read("context", scope, contexts) + self._read("turn", scope, turns)
        read += self._read("id", scope, ids)
        return rows.merged(read, waiting)[-RELATED_LIMIT:]

    def by_key(self, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        waiting = self._waiting.by_key(scope, keys)
        return rows.merged(self._read("key", scope, keys), waiting)

    def forget(self, before: int | None = None) -> int:
        """Also what still waits in memory. Raises StoreError, OSError, sqlite3.Error."""
        return self._waiting.forget(before) + retention.erase(self._path, before)

    def version(self) -> object:
        """What other connections committed, this store's own maintenance among them (4 microseconds)."""
        try:
            with self._link.lock:
                return self._link.version()
        except FAULTS:
            return object()

    def is_sound(self) -> bool:
        """Whether the file at the path can be read and written now (about 20 microseconds)."""
        return self._link.is_sound()

    def close(self) -> None:
        """What still waits in memory is delivered if the file can be used within two seconds."""
        self._upkeep.stop()
        with self._link.lock:
            self._link.disconnect()

    def newest(self) -> int:
        """When the newest turn was recorded (milliseconds since the epoch); 0 if there is none."""
        try:
            with self._link.lock:
                connection = self._link.catch_up()
                return int(connection.execute("SELECT max(created) FROM turns").fetchone()[0] or 0)
        except FAULTS as error:
            self._link.cannot(error)
            return 0

    def _read(self, kind: rows.Kind, scope: bytes, keys: Collection[bytes]) -> list[rows.Found]:
        try:
            with self._link.lock:
                return rows.read(self._link.catch_up(), kind, scope, keys)
        except FAULTS as error:
            self._link.cannot(error)
            return []
