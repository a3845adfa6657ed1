"""The book: counts that wait in memory, and the small file beside the store that they are added to.

Adding to a count takes a few microseconds. Every few seconds a thread adds what has gathered to the file, so
several proxies share it and a sudden end loses the last seconds only. What cannot be written waits. The file
keeps as many days as the store, and a bounded number of rows.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from reasoning_fix.proxy.stats.counts import OTHER, Line, day_of
from reasoning_fix.store import StoreError
from reasoning_fix.store.files import FAULTS, is_busy, is_damage, make_private, readable, set_aside

logger = logging.getLogger(__name__)

FILE = "counts.sqlite3"
MOST_ROWS = 50_000
MOST_LINES = 500
_FLUSH_SECONDS = 5.0
_BUSY_SECONDS = 2.0
_VERSION = 1
_DAY = 86400.0
_TYPES = (str, str, str, str, str, int)
_SCHEMA = """
CREATE TABLE counts (
    day TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, client TEXT NOT NULL, what TEXT NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (day, provider, model, client, what)
) STRICT, WITHOUT ROWID
"""

# Counts by line and name.
type Counts = dict[Line, Counter[str]]


class Book:
    """Counts of one installation; without a path they stay in memory. Nothing here raises."""

    def __init__(
        self,
        path: Path | None,
        *,
        keep_days: int = 30,
        clock: Callable[[], float] = time.time,
        flush_seconds: float = _FLUSH_SECONDS,
    ) -> None:
        self._path = path
        self._keep_days = keep_days
        self._clock = clock
        self._seconds = flush_seconds
        self._lock = threading.Lock()
        self._file_lock = threading.Lock()
        self._waiting: Counts = {}
        self._total: Counts = {}
        self._pruned = ""
        self._told = False
        self._stop = threading.Event()
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, line: Line, counts: Mapping[str, int]) -> None:
        """Add to the counts of a line. Beyond MOST_LINES that wait, new models and clients are "other"."""
        with self._lock:
            _add(self._waiting, _within(self._waiting, line), counts)
            _add(self._total, _within(self._total, line._replace(day="")), counts)
            if self._path is None:
                self._forget_old()
            elif self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._write_now_and_then, name="reasoning-fix counts")
                self._thread.daemon = True
                self._thread.start()
        self._added.set()

    def counts(self, days: int | None = None) -> Counts:
        """What was counted on the last `days` days (today is one of them; None: on all that are kept)."""
        found: Counts = {}
        if self._path is not None and self._path.exists():
            with self._file_lock:
                try:
                    found = read(self._path)
                except (*FAULTS, StoreError) as error:
                    logger.debug("The counts in %s cannot be read: %s", self._path, error)
                    self._set_aside_if_damaged(self._path, error)
        with self._lock:
            for line, counts in self._waiting.items():
                _add(found, line, counts)
        return since(found, days, self._clock())

    def total(self) -> Counts:
        """What was counted since the book was opened, by lines without a day. Nothing goes away of it."""
        with self._lock:
            return {line: Counter(counts) for line, counts in self._total.items()}

    def flush(self) -> None:
        """Write what waits; what the file does not take goes on waiting."""
        if self._path is None:
            return
        with self._file_lock:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
            fault = self._written(self._path, waiting) if waiting else None
            if fault is not None and self._set_aside_if_damaged(self._path, fault):
                fault = self._written(self._path, waiting)
            if fault is None:
                return
            self._say(fault)
            with self._lock:
                for line, counts in waiting.items():
                    _add(self._waiting, line, counts)
        self._added.set()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._stop.set()
        self._added.set()
        if self._thread is not None:
            self._thread.join(_BUSY_SECONDS * 2)
        self.flush()

    def _write_now_and_then(self) -> None:
        while not self._stop.is_set():
            self._added.wait()
            self._stop.wait(self._seconds)
            self._added.clear()
            self.flush()

    def _set_aside_if_damaged(self, path: Path, fault: Exception) -> bool:
        if not is_damage(fault):
            return False
        with contextlib.suppress(OSError):
            set_aside(path, "The file of counts")
        return True

    def _written(self, path: Path, counts: Counts) -> Exception | None:
        """Write these; the fault if that does not work."""
        try:
            make_private(path)
            with contextlib.closing(_connect(path)) as connection:
                self._add_to(connection, counts)
        except (*FAULTS, OSError, StoreError) as fault:
            return fault
        return None

    def _add_to(self, connection: sqlite3.Connection, counts: Counts) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if not _version(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        if self._pruned != (today := day_of(self._clock())):
            connection.execute("DELETE FROM counts WHERE day < ?", (self._oldest(),))
        if _is_full(connection, today):
            counts = _without_names(counts)
        connection.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*line, what, count) for line, some in counts.items() for what, count in some.items()],
        )
        connection.execute("COMMIT")
        self._pruned = today

    def _oldest(self) -> str:
        return day_of(self._clock() - self._keep_days * _DAY)

    def _forget_old(self) -> None:
        if self._pruned != (today := day_of(self._clock())):
            self._pruned, oldest = today, self._oldest()
            self._waiting = {line: counts for line, counts in self._waiting.items() if line.day >= oldest}

    def _say(self, reason: Exception) -> None:
        level = logging.DEBUG if self._told or is_busy(reason) else logging.WARNING
        self._told = self._told or level == logging.WARNING
        logger.log(level, "The counts in %s cannot be written now (%s); they wait.", self._path, reason)


def read(path: Path) -> Counts:
    """Everything in a file of counts. Raises sqlite3.Error, StoreError."""
    found: Counts = {}
    with contextlib.closing(_connect(path)) as connection:
        try:
            rows = connection.execute("SELECT * FROM counts").fetchall() if _version(connection) else []
        except UnicodeError:
            # Python's own sqlite3 stumbles over an error message with a damaged name in it.
            raise sqlite3.DatabaseError("the file of counts is damaged") from None
    for row in rows:
        if tuple(map(type, row)) == _TYPES:  # else it is damaged
            *line, what, count = row
            found.setdefault(Line(*line), Counter())[what] += count
    return found


def erase(path: Path) -> int:
    """Erase every count; the number of days that had some. Raises sqlite3.Error, StoreError."""
    with contextlib.closing(_connect(path)) as connection:
        if not _version(connection):
            return 0
        days = connection.execute("SELECT count(DISTINCT day) FROM counts").fetchone()[0]
        connection.execute("DELETE FROM counts")
        return int(days)


def since(counts: Counts, days: int | None, now: float) -> Counts:
    """The counts of the last `days` days."""
    oldest = "" if days is None else day_of(now - (days - 1) * _DAY)
    return {line: some for line, some in counts.items() if line.day >= oldest}


def _is_full(connection: sqlite3.Connection, today: str) -> bool:
    """Whether no new names fit in. Earlier days go first, the oldest before the others."""
    while connection.execute("SELECT count(*) FROM counts").fetchone()[0] > MOST_ROWS:
        oldest = connection.execute("SELECT min(day) FROM counts").fetchone()[0]
        if oldest >= today:
            return True
        connection.execute("DELETE FROM counts WHERE day = ?", (oldest,))
    return False


def _without_names(counts: Counts) -> Counts:
    found: Counts = {}
    for line, some in counts.items():
        _add(found, line._replace(model=OTHER, client=OTHER), some)
    return found


def _within(counts: Counts, line: Line) -> Line:
    """The line, or one without names where there are too many."""
    known = line in counts or len(counts) < MOST_LINES
    return line if known else line._replace(model=OTHER, client=OTHER)


def _add(counts: Counts, line: Line, more: Mapping[str, int]) -> None:
    some = counts.get(line)
    if some is None:
        some = counts[line] = Counter()
    for what, count in more.items():
        if count:
            some[what] += count


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    connection.text_factory = readable
    try:
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        if _version(connection) > _VERSION:
            raise StoreError(f"it was written by a newer version (format {_version(connection)})")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
