"""The files of a SQLite database: private to their owner, and set aside where they are damaged."""

import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

ENDINGS = ("", "-wal", "-shm")


def make_private(path: Path) -> None:
    """Make the file if there is none, and see that it is ours alone to read. Raises OSError.

    An existing one is not opened: closing it would release the locks of this process's connections.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for ending in ENDINGS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).chmod(0o600)
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, "it cannot be written", str(place))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, and not who else uses it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(error)


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
