"""What a store file holds, how long turns are kept in it, and how they are erased.

It works while proxies use the file, in small steps: a proxy waits up to 20 ms for the lock. This file knows
connections and paths; it knows nothing of records' contents or of threads.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from reasoning_fix.store import opening
from reasoning_fix.store.files import ENDINGS

_PAUSE_SECONDS = 0.002
_ERASED_AT_ONCE = 200
_VACUUMED_AT_ONCE = 500
_EMPTYING_SECONDS = 2.0
_DAY_MS = 86_400_000


class Retention(msgspec.Struct, frozen=True):
    """Turns are kept for `days` and within `megabytes`; the clock tells seconds since the epoch."""

    days: int
    megabytes: int
    clock: Callable[[], float]

    def prune(self, connection: sqlite3.Connection) -> int:
        """Erase turns that are too old, then the oldest beyond the size; the number erased."""
        erased = 0
        now = int(self.clock() * 1000)
        oldest = now - self.days * _DAY_MS
        # A turn from the future was put before the clock was set right: it is as old as those after it.
        misdated = (
            "created > ? AND row < (SELECT max(row) FROM turns WHERE created < ?)",
            (now + _DAY_MS, oldest),
        )
        for which, values in (misdated, ("created < ?", (oldest,))):
            while count := _erase_some(connection, which, values):
                erased += count
        while self._excess(connection) > 0 and (count := self.erase_oldest(connection)):
            erased += count
        if erased:
            _give_back(connection)
        return erased

    def erase_oldest(self, connection: sqlite3.Connection) -> int:
        """Erase the excess only: 200 large turns can be all there is. It is measured under the lock."""
        with opening.transaction(connection):
            excess = self._excess(connection)
            rows: list[tuple[int]] = []
            # In the order they were put, which no clock disturbs.
            for row, size in connection.execute(
                "SELECT row, length(sealed) FROM turns ORDER BY row LIMIT ?", (_ERASED_AT_ONCE,)
            ).fetchall():
                if excess <= 0:
                    break
                rows.append((row,))
                excess -= size
            connection.executemany("DELETE FROM turns WHERE row = ?", rows)
        return len(rows)

    def _excess(self, connection: sqlite3.Connection) -> int:
        """By how many bytes the file holds more than it may."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size) - self.megabytes * 1024 * 1024


class Measured(msgspec.Struct, frozen=True):
    """What a store holds: turns, the time of the oldest (milliseconds since the epoch), bytes on disk."""

    turns: int
    oldest: int
    bytes: int


def measure(path: Path) -> Measured:
    """What the store at `path` holds, also while it is in use. Raises StoreError, sqlite3.Error."""
    size = sum(_size(path.with_name(path.name + ending)) for ending in ENDINGS)
    if not path.exists():
        return Measured(0, 0, size)
    with closing(opening.connect(path, opening.PATIENT_MS)) as connection:
        turns, oldest = connection.execute("SELECT count(*), min(created) FROM turns").fetchone()
    return Measured(turns, oldest or 0, size)


def erase(path: Path, before: int | None = None) -> int:
    """Erase the turns recorded before this time (None: all), also while proxies use the store.

    Erased pages are overwritten; the log beside the file is emptied as soon as no proxy reads it. Raises
    StoreError, sqlite3.Error.
    """
    if not path.exists():
        return 0
    with closing(opening.connect(path, opening.PATIENT_MS)) as connection:
        which, values = ("TRUE", ()) if before is None else ("created < ?", (before,))
        erased = 0
        while count := _erase_some(connection, which, values):
            erased += count
            time.sleep(_PAUSE_SECONDS)
        _give_back(connection)
        deadline = time.monotonic() + _EMPTYING_SECONDS
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                break
            time.sleep(opening.BUSY_MS / 1000)
        return erased


def _erase_some(connection: sqlite3.Connection, which: str, values: tuple[int, ...]) -> int:
    with opening.transaction(connection):
        return connection.execute(
            f"DELETE FROM turns WHERE row IN (SELECT row FROM turns WHERE {which} LIMIT {_ERASED_AT_ONCE})",
            values,
        ).rowcount


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _give_back(connection: sqlite3.Connection) -> None:
    """Make the file shorter by its free pages."""
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        before = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA incremental_vacuum({_VACUUMED_AT_ONCE})").fetchall()
        if connection.execute("PRAGMA page_count").fetchone()[0] >= before:
            break
