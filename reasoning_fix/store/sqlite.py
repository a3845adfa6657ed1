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

from reasoning_fix.store import RELATED_LIMIT, Record, Store, StoreError
from reasoning_fix.store.memory import MemoryStore

logger = logging.getLogger(__name__)

_VERSION = 1
_BUSY_MS = 20
_MAINTENANCE_SECONDS = 60.0
_RETRY_SECONDS = 0.2
_PRUNED_AT_ONCE = 200
_KEYS_AT_ONCE = 500
_SET_ASIDE_SECONDS = 60.0
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
        self._waiting = MemoryStore()
        self._waiting_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._set_aside_at = 0.0
        _make_private(path)
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _set_aside(path)
            _make_private(path)
            self._connection = _connect(path)
        self._thread = threading.Thread(target=self._maintain, name="reasoning-fix store", daemon=True)
        self._thread.start()

    def put(self, scope: bytes, records: Sequence[Record]) -> None:
        try:
            _insert(self._connection, [(scope, record) for record in records])
        except sqlite3.Error as error:
            self._mend(error)
            with self._waiting_lock:
                if not len(self._waiting):
                    logger.warning(
                        "The store %s did not take a turn (%s); it waits in memory.", self._path, error
                    )
                self._waiting.put(scope, records)
            self._wake.set()

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        with self._waiting_lock:
            found = self._waiting.at(scope, places) if len(self._waiting) else []
        return _merged(found, self._read("place", scope, places))

    def related(
        self, scope: bytes, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        found: list[Record] = []
        with self._waiting_lock:
            if len(self._waiting):
                found = self._waiting.related(scope, contexts=contexts, turns=turns, ids=ids)
        read = self._read("context", scope, contexts) + self._read("turn", scope, turns)
        read += self._read("id", scope, ids)
        return _merged(found, read)[-RELATED_LIMIT:]

    def close(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join(2)
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
        while self._used(connection) > self._keep_bytes:
            count = connection.execute(
                "DELETE FROM turns WHERE row IN (SELECT row FROM turns ORDER BY created LIMIT ?)",
                (_PRUNED_AT_ONCE,),
            ).rowcount
            if not count:
                break
            erased += count
        if erased:
            connection.execute("PRAGMA incremental_vacuum").fetchall()
        return erased

    @staticmethod
    def _used(connection: sqlite3.Connection) -> int:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _read(self, kind: str, scope: bytes, keys: Collection[bytes]) -> list[Record]:
        table = "turns" if kind != "id" else "call_ids JOIN turns USING (row)"
        column = f"turns.{kind}" if kind != "id" else "call_ids.id"
        owner = "turns.scope" if kind != "id" else "call_ids.scope"
        columns = ", ".join(f"turns.{name.strip()}" for name in _COLUMNS.split(","))
        wanted = list(keys)
        records: list[Record] = []
        try:
            for start in range(0, len(wanted), _KEYS_AT_ONCE):
                some = wanted[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows: list[_Row] = self._connection.execute(
                    f"SELECT {columns} FROM {table} WHERE {owner} = ? AND {column} IN ({marks}) "
                    f"ORDER BY turns.created DESC, turns.row DESC LIMIT {RELATED_LIMIT}",
                    (scope, *some),
                ).fetchall()
                records += [_record(row) for row in rows]
        except sqlite3.Error as error:
            self._mend(error)
        return records

    def _mend(self, error: sqlite3.Error) -> None:
        """A file found damaged while running is set aside, at most once a minute."""
        if not _is_damage(error) or time.monotonic() - self._set_aside_at < _SET_ASIDE_SECONDS:
            return
        self._set_aside_at = time.monotonic() or 1.0
        try:
            self._connection.close()
            _set_aside(self._path)
            _make_private(self._path)
            self._connection = _connect(self._path)
        except (sqlite3.Error, OSError, StoreError) as fault:
            logger.warning("The store %s cannot be made anew (%s).", self._path, fault)
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _prepare(self._connection)

    def _maintain(self) -> None:
        due = 0.0
        while not self._stopped:
            try:
                connection = _connect(self._path, busy_ms=2000)
                try:
                    self._deliver(connection)
                    if time.monotonic() >= due:
                        self.prune(connection)
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                        due = time.monotonic() + _MAINTENANCE_SECONDS
                finally:
                    connection.close()
            except (sqlite3.Error, OSError, StoreError) as error:
                logger.debug("Store maintenance will be tried again: %s", error)
            pause = _RETRY_SECONDS if len(self._waiting) else _MAINTENANCE_SECONDS
            if len(self._waiting):
                time.sleep(_RETRY_SECONDS)
            self._wake.wait(pause)
            self._wake.clear()

    def _deliver(self, connection: sqlite3.Connection) -> None:
        """Move what waited in memory into the file; it is dropped only once it can be read there."""
        with self._waiting_lock:
            waiting = self._waiting.take()
        if waiting:
            _insert(connection, waiting)
            with self._waiting_lock:
                for scope, record in waiting:
                    self._waiting.drop(scope, record.key)


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        if name == path or name.exists():
            os.close(os.open(name, os.O_RDWR | os.O_CREAT, 0o600))
            name.chmod(0o600)


def _connect(path: Path, busy_ms: int = _BUSY_MS) -> sqlite3.Connection:
    """SQLite gives the files beside the database its own permissions."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_ms / 1000)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreError(f"it was written by a newer version (format {version}, known are up to {_VERSION})")
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
        for scope, record in records:
            connection.execute("DELETE FROM turns WHERE key = ?", (record.key,))
            row = connection.execute(
                f"INSERT INTO turns (scope, {_COLUMNS}) VALUES ({','.join('?' * 18)})", (scope, *_row(record))
            ).lastrowid
            connection.executemany(
                "INSERT OR IGNORE INTO call_ids VALUES (?, ?, ?)",
                [(scope, call_id, row) for call_id, _ in record.calls if call_id],
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _row(record: Record) -> _Row:
    # An id fingerprint may be empty: its length goes first.
    calls = b"".join(bytes((len(call_id),)) + call_id + call for call_id, call in record.calls)
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
        end = at + 1 + packed[at]
        calls.append((packed[at + 1 : end], packed[end : end + 16]))
        at = end + 16
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


def _merged(*groups: list[Record]) -> list[Record]:
    found = {record.key: record for group in groups for record in group}
    return sorted(found.values(), key=lambda record: record.created)


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error)
    return "malformed" in text or "not a database" in text or "no such table" in text


def _set_aside(path: Path) -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    logger.warning("The store %s is damaged; it was set aside as %s and a new one begun.", path, aside)
