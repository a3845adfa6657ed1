"""The format of a SQLite store, and connections to it.

An empty file gets its tables when it is opened; a file that a newer version wrote is refused as soon as that
is noticed. This file knows paths and connections; it knows nothing of records, threads and waiting.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from reasoning_fix.store import StoreError
from reasoning_fix.store.files import FAULTS, is_busy, readable

# How long a proxy may wait for another process's lock, and how long a person may.
BUSY_MS = 20
PATIENT_MS = 5000
_OPENING_SECONDS = 0.5
_VERSION = 1
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


class NewerFormat(StoreError, sqlite3.DatabaseError):
    """A newer version of this program made the file, or changed it while it was in use."""


def identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path, busy_ms: int = BUSY_MS) -> sqlite3.Connection:
    """SQLite gives the files beside the database its own permissions. Raises NewerFormat, sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_ms / 1000)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_patiently(path: Path) -> sqlite3.Connection:
    """Two proxies may make the file at once: the change to WAL fails at once, whatever the busy timeout."""
    deadline = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            return connect(path)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_MS / 1000)


def check_format(connection: sqlite3.Connection) -> int:
    """The format of the file. Raises NewerFormat."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise NewerFormat(
            f"it was written by a newer version of reasoning-fix (format {version}, known is {_VERSION})"
        )
    return version


def refuse_newer(path: Path) -> None:
    """What looks like damage may be a table that a newer version has renamed. Raises NewerFormat."""
    try:
        connect(path).close()
    except NewerFormat:
        raise
    except FAULTS:
        return


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One that writes. Raises NewerFormat: the file may have been changed since it was opened."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_format(connection)
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = readable
    version = check_format(connection)
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
        if check_format(connection) < _VERSION:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
