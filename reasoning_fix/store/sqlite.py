"""The default store: one SQLite file (WAL), shared by any number of proxies.

A put is one transaction on the caller's thread (about 100 microseconds, no sync to disk: it survives the end
of the process, however sudden). Everything slow (checkpoints, erasing old turns) happens on a thread of its
own with its own connection. While another process holds the lock, records wait in memory, where reads see
them.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from reasoning_fix.store import RELATED_LIMIT, Record, Store, StoreError
from reasoning_fix.store.files import ENDINGS, is_damage, make_private, set_aside
from reasoning_fix.store.memory import MemoryStore

logger = logging.getLogger(__name__)

_VERSION = 1
_NO_CALL = 0x80
_BUSY_MS = 20
_MAINTENANCE_SECONDS = 60.0
_OPENING_SECONDS = 2.0
_RETRY_SECONDS = 0.2
_PAUSE_SECONDS = 0.002
_WAITING_AT_MOST = 10_000
_DELIVERED_AT_ONCE = 200
_VACUUMED_AT_ONCE = 500
_PRUNED_AT_ONCE = 200
_KEYS_AT_ONCE = 500
_PATIENT_MS = 5000
_EMPTYING_SECONDS = 2.0
_SET_ASIDE_SECONDS = 60.0
# What SQLite cannot hold, however often it is tried.
_UNFIT = (OverflowError, UnicodeError, sqlite3.IntegrityError)
_SCHEMA = """
CREATE TABLE turns (
    row INTEGER PRIMARY KEY, scope BLOB NOT NULL, key BLOB NOT NULL UNIQUE, issuer TEXT NOT NULL,
    model TEXT NOT NULL, place BLOB NOT NULL, context BLOB NOT NULL, turn BLOB NOT NULL, before BLOB NOT NULL,
    thought BLOB NOT NULL, system BLOB NOT NULL, session BLOB NOT NULL, parent BLOB NOT NULL,
    thread BLOB NOT NULL, calls BLOB NOT NULL, complete INTEGER NOT NULL, asked INTEGER NOT NULL,
    created INTEGER NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE INDEX turns_place ON turns (scope, place);
CREATE INDEX turns_context ON turns (scope, context);
CREATE INDEX turns_turn ON turns (scope, turn);
CREATE INDEX turns_created ON turns (created);
CREATE TABLE call_ids (
    scope BLOB NOT NULL, id BLOB NOT NULL, row INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
    PRIMARY KEY (scope, id, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_ids_row ON call_ids (row);
"""
_COLUMNS = (
    "key, issuer, model, place, context, turn, before, thought, system, session, parent, thread, calls, "
    "complete, asked, created, sealed"
)

type _Row = tuple[
    bytes,
    str,
    str,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    bytes,
    int,
    int,
    int,
    bytes,
]

type _Found = tuple[int, Record]


def open_store(path: Path, *, keep_days: int = 30, keep_megabytes: int = 512) -> Store:
    """The store at `path`; one in memory where none can be kept there, with a warning that says why."""
    try:
        return SqliteStore(path, keep_days=keep_days, keep_megabytes=keep_megabytes)
    except (sqlite3.Error, OSError, StoreError) as error:
        logger.warning(
            "The store %s cannot be used (%s): turns are kept only while the proxy runs.", path, error
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
        self._keep_ms = keep_days * 86_400_000
        self._keep_bytes = keep_megabytes * 1024 * 1024
        self._clock = clock
        self._lock = threading.RLock()
        self._waiting = MemoryStore()
        self._waiting_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._set_aside_at = -_SET_ASIDE_SECONDS
        self._outdated = False
        self._told: set[str] = set()
        make_private(path)
        self._file = _identity(path)
        try:
            self._connection = _connect_patiently(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._begin_anew()
        self._thread = threading.Thread(target=self._maintain, name="reasoning-fix store", daemon=True)
        self._thread.start()

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        if len(self._waiting):
            # Else an older record of the same key would be delivered over this one.
            with self._waiting_lock:
                for record in records:
                    self._waiting.drop(scope, record.key)
        try:
            with self._lock:
                self._catch_up()
                _insert(self._connection, [(scope, record) for record in records])
        except _UNFIT as error:
            self._warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
        except sqlite3.Error as error:
            self._mend(error)
            self._warn_once("The store %s did not take a turn (%s); it waits in memory.", error)
            with self._waiting_lock:
                self._waiting.put(scope, records)
            self._wake.set()

    def put_later(self, scope: bytes, records: Sequence[Record]) -> None:
        """Let the maintenance thread put them; reads see them at once. Beyond 10,000 they are lost."""
        with self._waiting_lock:
            room = max(0, _WAITING_AT_MOST - len(self._waiting))
            self._waiting.put(scope, records[:room])
        if len(records) > room:
            self._warn_once("The store %s is behind (%s); turns are lost.", f"{_WAITING_AT_MOST} waiting")
        self._wake.set()

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        waiting = self._among_waiting(lambda store: store.at(scope, places))
        return _merged(self._read("place", scope, places), waiting)

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        waiting = self._among_waiting(
            lambda store: store.related(scope, contexts=contexts, turns=turns, ids=ids)
        )
        read = self._read("context", scope, contexts) + self._read("turn", scope, turns)
        read += self._read("id", scope, ids)
        return _merged(read, waiting)[-RELATED_LIMIT:]

    def by_key(self, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        waiting = self._among_waiting(lambda store: store.by_key(scope, keys))
        return _merged(self._read("key", scope, keys), waiting)

    def forget(self, before: int | None = None) -> int:
        """Also what still waits in memory. Raises StoreError, OSError, sqlite3.Error."""
        with self._waiting_lock:
            waited = self._waiting.forget(before)
        return waited + erase(self._path, before)

    def version(self) -> object:
        """What other connections committed, this store's own maintenance among them (4 microseconds)."""
        try:
            with self._lock:
                self._catch_up()
                seen = self._connection.execute("PRAGMA data_version").fetchone()[0]
                return self._file, id(self._connection), seen
        except sqlite3.Error:
            return object()

    def is_sound(self) -> bool:
        """Whether the file at the path can be read and written now (about 20 microseconds)."""
        try:
            with self._lock:
                self._catch_up()
                self._connection.execute("SELECT row FROM turns LIMIT 1").fetchall()
        except sqlite3.Error:
            return False
        return self._file == _identity(self._path) and os.access(self._path, os.W_OK)

    def close(self) -> None:
        """What still waits in memory is delivered if the file can be had within two seconds."""
        self._stopped = True
        self._wake.set()
        self._thread.join(2)
        with self._lock:
            self._connection.close()

    def prune(self, connection: sqlite3.Connection | None = None) -> int:
        """Erase turns that are too old, then the oldest beyond the size; the number erased."""
        connection = connection or self._connection
        erased = 0
        oldest = int(self._clock() * 1000) - self._keep_ms
        while count := connection.execute(
            "DELETE FROM turns WHERE row IN "
            "(SELECT row FROM turns WHERE created < ? ORDER BY created LIMIT ?)",
            (oldest, _PRUNED_AT_ONCE),
        ).rowcount:
            erased += count
        while _used(connection) > self._keep_bytes and (count := self._erase_oldest(connection)):
            erased += count
        if erased:
            _give_back(connection)
        return erased

    def _erase_oldest(self, connection: sqlite3.Connection) -> int:
        """No more than the excess takes: 200 large turns can be all there is. Measured under the lock, for
        several proxies may be at it.
        """
        connection.execute("BEGIN IMMEDIATE")
        try:
            excess = _used(connection) - self._keep_bytes
            rows: list[tuple[int]] = []
            for row, size in connection.execute(
                "SELECT row, length(sealed) FROM turns ORDER BY created, row LIMIT ?", (_PRUNED_AT_ONCE,)
            ).fetchall():
                if excess <= 0:
                    break
                rows.append((row,))
                excess -= size
            connection.executemany("DELETE FROM turns WHERE row = ?", rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return len(rows)

    def _among_waiting(self, ask: Callable[[MemoryStore], list[Record]]) -> list[Record]:
        if not len(self._waiting):
            return []
        with self._waiting_lock:
            return ask(self._waiting)

    def _read(self, kind: str, scope: bytes, keys: Collection[bytes]) -> list[_Found]:
        """For each 500 keys at most the newest RELATED_LIMIT records."""
        table = "turns" if kind != "id" else "call_ids JOIN turns USING (row)"
        column = f"turns.{kind}" if kind != "id" else "call_ids.id"
        owner = "turns.scope" if kind != "id" else "call_ids.scope"
        columns = ", ".join(f"turns.{name.strip()}" for name in _COLUMNS.split(","))
        wanted = list(keys)
        found: list[_Found] = []
        try:
            with self._lock:
                self._catch_up()
                for start in range(0, len(wanted), _KEYS_AT_ONCE):
                    some = wanted[start : start + _KEYS_AT_ONCE]
                    marks = ",".join("?" * len(some))
                    # The newest are found by their row numbers: contents are not carried through a sort.
                    rows = self._connection.execute(
                        f"SELECT turns.row, {columns} FROM turns WHERE row IN ("
                        f"SELECT turns.row FROM {table} WHERE {owner} = ? AND {column} IN ({marks}) "
                        f"ORDER BY turns.created DESC, turns.row DESC LIMIT {RELATED_LIMIT})",
                        (scope, *some),
                    ).fetchall()
                    found += [(row[0], _record(row[1:])) for row in rows]
        except sqlite3.Error as error:
            self._mend(error)
            return []
        return found

    def _warn_once(self, text: str, reason: object) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning(text, self._path, reason)

    def _catch_up(self) -> None:
        """Follow the path to the file that is there now, when another process has set ours aside."""
        if self._outdated:
            self._outdated = False
            self._connection.close()
            file = _identity(self._path)
            self._connection = _connect(self._path)
            self._file = file

    def _mend(self, error: sqlite3.Error) -> None:
        """A file found damaged while running is set aside, at most once a minute.

        Where no new one can be begun the connection stays closed: turns wait in memory, and the maintenance
        thread tries again.
        """
        if not is_damage(error):
            return
        with self._lock:
            if time.monotonic() - self._set_aside_at < _SET_ASIDE_SECONDS:
                return
            self._set_aside_at = time.monotonic()
            self._connection.close()
            try:
                self._begin_anew()
            except (sqlite3.Error, OSError, StoreError) as fault:
                self._file = None
                logger.warning("The store %s cannot be made anew (%s).", self._path, fault)

    def _begin_anew(self) -> None:
        # The file at the path may be a sound one by now: another process found the damage first.
        if self._file == _identity(self._path):
            set_aside(self._path, "The store")
        make_private(self._path)
        self._file = _identity(self._path)
        self._connection = _connect(self._path)

    def _maintain(self) -> None:
        due = time.monotonic()
        while True:
            stopped = self._stopped
            try:
                make_private(self._path)
                connection = _connect(self._path, busy_ms=500)
                try:
                    if self._file != _identity(self._path):
                        self._outdated = True
                    self._deliver(connection)
                    if not stopped and time.monotonic() >= due:
                        self.prune(connection)
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                        due = time.monotonic() + _MAINTENANCE_SECONDS
                finally:
                    connection.close()
            except (sqlite3.Error, OSError, StoreError) as error:
                logger.debug("Store maintenance will be tried again: %s", error)
                if isinstance(error, sqlite3.Error) and not stopped:
                    self._mend(error)
                # What puts are waiting for is tried again soon, the rest at the next turn.
                due = max(due, time.monotonic() + _MAINTENANCE_SECONDS / 10)
            if stopped:
                return
            if len(self._waiting):
                time.sleep(_RETRY_SECONDS)
            elif not self._stopped:
                self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()

    def _deliver(self, connection: sqlite3.Connection) -> None:
        """Move what waited in memory into the file; it is dropped only once it can be read there."""
        while len(self._waiting):
            # Taken under the file's lock: a put of the same key comes before the taking or after the end.
            connection.execute("BEGIN IMMEDIATE")
            try:
                with self._waiting_lock:
                    waiting = self._waiting.take()[:_DELIVERED_AT_ONCE]
                _write(connection, waiting)
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not isinstance(error, _UNFIT):
                    raise
                self._warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
            with self._waiting_lock:
                for scope, record in waiting:
                    self._waiting.drop_unchanged(scope, record)
            time.sleep(_PAUSE_SECONDS)


class Measured(msgspec.Struct, frozen=True):
    """What a store holds: turns, the time of the oldest (milliseconds since the epoch), bytes on disk."""

    turns: int
    oldest: int
    bytes: int


def measure(path: Path) -> Measured:
    """What the store at `path` holds, whoever uses it. Raises StoreError, sqlite3.Error."""
    size = sum(_size(path.with_name(path.name + ending)) for ending in ENDINGS)
    if not path.exists():
        return Measured(0, 0, size)
    connection = _connect(path, _PATIENT_MS)
    try:
        turns, oldest = connection.execute("SELECT count(*), min(created) FROM turns").fetchone()
        return Measured(turns, oldest or 0, size)
    finally:
        connection.close()


def erase(path: Path, before: int | None = None) -> int:
    """Erase the turns recorded before this time (None: all), also while proxies use the store.

    Erased pages are overwritten, and the log beside the file is emptied where no proxy is reading just then
    (else at its next checkpoint). Raises StoreError, sqlite3.Error.
    """
    if not path.exists():
        return 0
    connection = _connect(path, _PATIENT_MS)
    try:
        which = "" if before is None else "WHERE created < ?"
        values = () if before is None else (before,)
        erased = 0
        while count := connection.execute(
            f"DELETE FROM turns WHERE row IN (SELECT row FROM turns {which} LIMIT {_PRUNED_AT_ONCE})", values
        ).rowcount:
            erased += count
            time.sleep(_PAUSE_SECONDS)
        _give_back(connection)
        deadline = time.monotonic() + _EMPTYING_SECONDS
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                break
            time.sleep(_BUSY_MS / 1000)
        return erased
    finally:
        connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _give_back(connection: sqlite3.Connection) -> None:
    """Make the file shorter by its free pages, in small steps: a proxy waits 20 ms for the lock."""
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        before = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA incremental_vacuum({_VACUUMED_AT_ONCE})").fetchall()
        if connection.execute("PRAGMA page_count").fetchone()[0] >= before:
            break


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path, busy_ms: int = _BUSY_MS) -> sqlite3.Connection:
    """SQLite gives the files beside the database its own permissions."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_ms / 1000)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_patiently(path: Path) -> sqlite3.Connection:
    """Two proxies may make the file at once: the change to WAL fails at once, whatever the busy timeout."""
    deadline = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            return _connect(path)
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
            )
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_MS / 1000)


def _prepare(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreError(f"it was written by a newer version (format {version}, known are up to {_VERSION})")
    if version == 0:
        # For a file without tables only: it writes to the file, which other connections would notice.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if version < _VERSION:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, records: Sequence[tuple[bytes, Record]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        _write(connection, records)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write(connection: sqlite3.Connection, records: Sequence[tuple[bytes, Record]]) -> None:
    for scope, record in records:
        connection.execute("DELETE FROM turns WHERE key = ?", (record.key,))
        row = connection.execute(
            f"INSERT INTO turns (scope, {_COLUMNS}) VALUES ({','.join('?' * 18)})", (scope, *_row(record))
        ).lastrowid
        connection.executemany(
            "INSERT OR IGNORE INTO call_ids VALUES (?, ?, ?)",
            [(scope, call_id, row) for call_id, _ in record.calls if call_id],
        )


def _row(record: Record) -> _Row:
    # Either fingerprint may be empty: the id's length goes first, with a mark where there is no call's.
    calls = b"".join(
        bytes((len(call_id) | (0 if call else _NO_CALL),)) + call_id + call for call_id, call in record.calls
    )
    return (
        *(record.key, record.issuer, record.model, record.place, record.context, record.turn),
        *(record.before, record.thought, record.system, record.session, record.parent, record.thread),
        *(calls, int(record.complete), record.asked, record.created, record.sealed),
    )


def _record(row: _Row) -> Record:
    key, issuer, model, place, context, turn, before, thought, system, session = row[:10]
    parent, thread, packed, complete, asked, created, sealed = row[10:]
    calls = []
    at = 0
    while at < len(packed):
        middle = at + 1 + (packed[at] & ~_NO_CALL)
        end = middle + (0 if packed[at] & _NO_CALL else 16)
        calls.append((packed[at + 1 : middle], packed[middle:end]))
        at = end
    return Record(
        key=key,
        issuer=issuer,
        model=model,
        place=place,
        context=context,
        turn=turn,
        before=before,
        thought=thought,
        system=system,
        session=session,
        parent=parent,
        thread=thread,
        calls=tuple(calls),
        complete=bool(complete),
        asked=asked,
        created=created,
        sealed=sealed,
    )


def _merged(read: list[_Found], waiting: list[Record]) -> list[Record]:
    """Oldest first; of one millisecond in the order they were put."""
    found = {record.key: record for _, record in sorted(read, key=lambda pair: (pair[1].created, pair[0]))}
    for record in waiting:
        found.pop(record.key, None)
        found[record.key] = record
    return sorted(found.values(), key=lambda record: record.created)
