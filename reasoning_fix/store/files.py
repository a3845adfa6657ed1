"""The files of a SQLite database: private to their owner, and set aside if they are damaged."""

import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from reasoning_fix.store import StoreError, private_files

logger = logging.getLogger(__name__)

ENDINGS = ("", "-wal", "-shm")
# What a database can answer. Python cannot read all that SQLite says of a damaged schema.
FAULTS = (sqlite3.Error, UnicodeDecodeError)


def make_private(path: Path) -> None:
    """Make the file if there is none, and see that it is ours alone to read. Raises OSError.

    The file at the path is never opened here: closing it would release the locks of this process's
    connections (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        private_files.place(path, b"")
    for ending in ENDINGS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).chmod(0o600)
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, "it cannot be written", str(place))


def is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault, rather than another process."""
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A plain error: what we say is always the same, so the schema must be another.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def is_busy(error: Exception) -> bool:
    """Whether another process has the file, which passes."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def advice(error: Exception) -> str:
    """What a person can do about a file that cannot be used."""
    if isinstance(error, StoreError):
        return "Run that version here, or give this one a file of its own."
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_busy(error):
        return "Another program has locked it: end that program if it does not let go by itself."
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return "See that its disk works and has room."
    return "See that you may write it and its folder."


def readable(value: bytes) -> str:
    """The text_factory of a connection: a damaged name must not hide the rows beside it."""
    return value.decode(errors="replace")


def set_aside(path: Path, what: str) -> None:
    """Give a damaged database another name, and say so."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    for ending in ENDINGS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    logger.warning("%s %s is damaged; it was set aside as %s and a new one begun.", what, path, aside)


def those_set_aside(path: Path) -> Iterator[Path]:
    """Every file that `set_aside` left of a database at this path."""
    if path.parent.is_dir():
        prefix = f"{path.name}.corrupt-"
        yield from sorted(found for found in path.parent.iterdir() if found.name.startswith(prefix))
