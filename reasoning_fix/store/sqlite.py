"""The default store: one SQLite file (WAL), shared by any number of proxies.

A put is one transaction on the caller's thread (about 100 microseconds, no sync to disk: it survives the end
of the process, however sudden). Everything slow (checkpoints, erasing old turns) happens on a thread of its
own with its own connection. While the file cannot be written (another process holds the lock, the disk is
full, the file is gone), records wait in memory, where reads see them, and are delivered when it can be again.

The file is not ours alone: every use of it makes sure that it is still the file at the path, and of a format
that this program knows.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from reasoning_fix.store import RELATED_LIMIT, Record, Store, StoreError
from reasoning_fix.store.files import (
    ENDINGS,
    FAULTS,
    advice,
    is_busy,
    is_damage,
    make_private,
    readable,
    set_aside,
)
from reasoning_fix.store.memory import MemoryStore

logger = logging.getLogger(__name__)

_VERSION = 1
_NO_CALL = 0x80
_BUSY_MS = 20
_MAINTENANCE_SECONDS = 60.0
_OPENING_SECONDS = 0.5
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
_SAID_AGAIN_SECONDS = 600.0
_DAY_MS = 86_400_000
# What SQLite cannot hold, however often it is tried.
_UNFIT = (OverflowError, UnicodeEncodeError, sqlite3.IntegrityError)
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

_TYPES = (bytes, str, str, *[bytes] * 10, int, int, int, bytes)


class NewerFormat(StoreError, sqlite3.DatabaseError):
    """A newer version of this program has made the file, or changed it while we used it."""


class _Gone(sqlite3.OperationalError):
    """There is no file at the path any more; the maintenance thread makes another."""


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
        self._keep_ms = keep_days * 86_400_000
        self._keep_bytes = keep_megabytes * 1024 * 1024
        self._clock = clock
        self._lock = threading.RLock()
        self._waiting = MemoryStore()
        self._waiting_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._set_aside_at = -_SET_ASIDE_SECONDS
        self._told: dict[str, float] = {}
        self._in_trouble = False
        # Does not wait for a lock: others had it for longer than we may wait.
        self._hurried = False
        make_private(path)
        self._file = _identity(path)
        # Closed, it stands for none.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.close()
        self._connected = False
        try:
            self._connection = _connect_patiently(path)
            self._connected = True
        except NewerFormat:
            raise
        except FAULTS as error:
            if is_damage(error):
                self._begin_anew()
            else:
                self._cannot(error, waited=True)
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
                with _transaction(self._connection):
                    _write(self._connection, [(scope, record) for record in records])
                if self._hurried:
                    self._wait_at_most(_BUSY_MS)
                if self._stopped:
                    # A stream that outlived the script or its options: nobody else has its turn.
                    self._disconnect()
        except _UNFIT as error:
            self._warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
        except FAULTS as error:
            self._cannot(error)
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
        except FAULTS:
            return object()

    def is_sound(self) -> bool:
        """Whether the file at the path can be read and written now (about 20 microseconds)."""
        try:
            with self._lock:
                self._catch_up()
                self._connection.execute("SELECT row FROM turns LIMIT 1").fetchall()
        except FAULTS:
            return False
        return self._file == _identity(self._path) and os.access(self._path, os.W_OK)

    def close(self) -> None:
        """What still waits in memory is delivered if the file can be had within two seconds."""
        self._stopped = True
        self._wake.set()
        self._thread.join(2)
        with self._lock:
            self._disconnect()

    def newest(self) -> int:
        """When the newest turn was recorded (milliseconds since the epoch); 0 where there is none."""
        try:
            with self._lock:
                self._catch_up()
                return int(self._connection.execute("SELECT max(created) FROM turns").fetchone()[0] or 0)
        except FAULTS as error:
            self._cannot(error)
            return 0

    def prune(self, connection: sqlite3.Connection | None = None) -> int:
        """Erase turns that are too old, then the oldest beyond the size; the number erased."""
        connection = connection or self._connection
        erased = 0
        now = int(self._clock() * 1000)
        oldest = now - self._keep_ms
        # A turn from the future was put before the clock was set right: it is as old as those after it.
        misdated = (
            "created > ? AND row < (SELECT max(row) FROM turns WHERE created < ?)",
            (now + _DAY_MS, oldest),
        )
        for which, values in (misdated, ("created < ?", (oldest,))):
            while count := self._erase(connection, which, values):
                erased += count
        while _used(connection) > self._keep_bytes and (count := self._erase_oldest(connection)):
            erased += count
        if erased:
            _give_back(connection)
        return erased

    def _erase(self, connection: sqlite3.Connection, which: str, values: tuple[int, ...]) -> int:
        with _transaction(connection):
            return connection.execute(
                "DELETE FROM turns WHERE row IN "
                f"(SELECT row FROM turns WHERE {which} LIMIT {_PRUNED_AT_ONCE})",
                values,
            ).rowcount

    def _erase_oldest(self, connection: sqlite3.Connection) -> int:
        """No more than the excess takes: 200 large turns can be all there is. Measured under the lock, for
        several proxies may be at it.
        """
        with _transaction(connection):
            excess = _used(connection) - self._keep_bytes
            rows: list[tuple[int]] = []
            # In the order they were put, which no clock disturbs.
            for row, size in connection.execute(
                "SELECT row, length(sealed) FROM turns ORDER BY row LIMIT ?", (_PRUNED_AT_ONCE,)
            ).fetchall():
                if excess <= 0:
                    break
                rows.append((row,))
                excess -= size
            connection.executemany("DELETE FROM turns WHERE row = ?", rows)
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
                    found += [(row[0], record) for row in rows if (record := _record(row[1:])) is not None]
        except FAULTS as error:
            self._cannot(error)
            return []
        # A damaged index leads to other turns, and SQLite does not compare them with what was asked for.
        asked = set(wanted)
        return [(row, record) for row, record in found if not asked.isdisjoint(_keys(kind, record))]

    def _warn_once(self, text: str, reason: object) -> None:
        """Say it, but not again for ten minutes."""
        now = time.monotonic()
        if now - self._told.get(text, -_SAID_AGAIN_SECONDS) >= _SAID_AGAIN_SECONDS:
            self._told[text] = now
            logger.warning(text, self._path, reason)

    def _cannot(self, error: Exception, waited: bool = False) -> None:
        """The file could not be used for once: say why and what to do, and do not wait for it again.

        Proxies that share a file lock it for moments: that is worth a line only after one has waited for it.
        """
        if is_damage(error):
            self._mend(error)
            return
        if self._stopped:
            self._warn_once("The store %s was closed and cannot take a last turn (%s); it is lost.", error)
            return
        if isinstance(error, _Gone):
            return
        if not self._in_trouble and (waited or not is_busy(error)):
            self._in_trouble = True
            what = f"The store %s cannot be used now (%s). {advice(error)}"
            self._warn_once(f"{what} Until then turns are kept in memory.", error)
        with self._lock:
            if isinstance(error, NewerFormat):
                self._disconnect()
            elif self._connected and is_busy(error):
                self._wait_at_most(0)

    def _wait_at_most(self, milliseconds: int) -> None:
        """For a lock of another process: every stream stands still meanwhile."""
        self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}").fetchall()
        self._hurried = milliseconds == 0

    def _disconnect(self) -> None:
        self._connection.close()
        self._connected = False

    def _catch_up(self) -> None:
        """Follow the path to the file that is there now (about 10 microseconds where it is ours).

        Another process may have set ours aside, or a person deleted it. Raises sqlite3.Error where there is
        none: the maintenance thread makes it.
        """
        found = _identity(self._path)
        if self._connected and found == self._file:
            _check_format(self._connection)
            return
        self._disconnect()
        if found is None:
            self._note_gone()
            self._wake.set()
            raise _Gone("there is no such file")
        self._file = found
        self._connection = _connect(self._path, busy_ms=0)
        self._connected = self._hurried = True

    def _note_gone(self) -> None:
        with self._lock:
            if self._file is not None and not self._stopped:
                self._file = None
                logger.warning(
                    "The store %s is gone: it was deleted or moved while in use. A new one is begun.",
                    self._path,
                )

    def _mend(self, error: Exception) -> None:
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
            self._disconnect()
            try:
                self._begin_anew()
            except NewerFormat as newer:
                self._cannot(newer)
            except (*FAULTS, OSError) as fault:
                self._file = None
                logger.warning(
                    "The store %s cannot be made anew (%s); turns are kept in memory.", self._path, fault
                )

    def _begin_anew(self) -> None:
        # The file at the path may be a sound one by now: another process found the damage first.
        if self._file == _identity(self._path):
            _refuse_newer(self._path)
            set_aside(self._path, "The store")
        make_private(self._path)
        self._file = _identity(self._path)
        self._connection = _connect(self._path)
        self._connected = True

    def _maintain(self) -> None:
        due = time.monotonic()
        while True:
            stopped = self._stopped
            failed = True
            try:
                if not self._path.exists():
                    self._note_gone()
                make_private(self._path)
                connection = _connect(self._path, busy_ms=500)
                try:
                    self._deliver(connection)
                    if self._in_trouble:
                        self._in_trouble = False
                        logger.info("The store %s can be used again: it has all that waited.", self._path)
                    if not stopped and time.monotonic() >= due:
                        self.prune(connection)
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                        due = time.monotonic() + _MAINTENANCE_SECONDS
                finally:
                    connection.close()
            except FAULTS as error:
                logger.debug("Store maintenance will be tried again: %s", error)
                if not stopped:
                    self._cannot(error, waited=True)
            except OSError as error:
                self._warn_once("The store %s cannot be written (%s): turns are kept in memory.", error)
            else:
                failed = False
            if failed:
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
        at_once = _DELIVERED_AT_ONCE
        while len(self._waiting):
            # Taken under the file's lock: a put of the same key comes before the taking or after the end.
            try:
                with _transaction(connection):
                    with self._waiting_lock:
                        waiting = self._waiting.take()[:at_once]
                    _write(connection, waiting)
            except _UNFIT as error:
                if len(waiting) > 1:
                    at_once = 1
                    continue
                self._warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
            with self._lock:
                if not self._stopped:
                    self._catch_up()
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
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_MS / 1000)


def _check_format(connection: sqlite3.Connection) -> int:
    """The format of the file. Raises NewerFormat."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise NewerFormat(
            f"it was written by a newer version of reasoning-fix (format {version}, known is {_VERSION})"
        )
    return version


def _refuse_newer(path: Path) -> None:
    """What looks like damage may be a table that a newer version has renamed. Raises NewerFormat."""
    try:
        _connect(path).close()
    except NewerFormat:
        raise
    except FAULTS:
        return


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = readable
    version = _check_format(connection)
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
        if _check_format(connection) < _VERSION:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One that writes. Raises NewerFormat: the file may have been changed since it was opened."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_format(connection)
        yield
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


def _record(row: _Row) -> Record | None:
    """None where a column is not what it was when it was written."""
    if tuple(map(type, row)) != _TYPES:
        return None
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


def _keys(kind: str, record: Record) -> Collection[bytes]:
    """What a record is found by."""
    if kind == "id":
        return [call_id for call_id, _ in record.calls]
    key: bytes = getattr(record, kind)
    return (key,)


def _merged(read: list[_Found], waiting: list[Record]) -> list[Record]:
    """Oldest first; of one millisecond in the order they were put."""
    found = {record.key: record for _, record in sorted(read, key=lambda pair: (pair[1].created, pair[0]))}
    for record in waiting:
        found.pop(record.key, None)
        found[record.key] = record
    return sorted(found.values(), key=lambda record: record.created)
