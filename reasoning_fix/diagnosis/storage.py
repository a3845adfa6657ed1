"""The file of recorded turns and its secret, looked at without changing anything."""

import contextlib
import os
import sqlite3
from pathlib import Path

from reasoning_fix.diagnosis import Finding, fail, ok

_SECRET_BYTES = 32


def store(path: Path) -> Finding:
    check = "store"
    folder = next(entry for entry in (path.parent, *path.parent.parents) if entry.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(check, f"{folder} cannot be written", f"make {folder} yours again: chown, chmod u+rwx")
    if not path.exists():
        return ok(check, f"{path} is not there yet; the proxy makes it")
    if not os.access(path, os.R_OK | os.W_OK):
        return fail(check, f"{path} cannot be read and written", f"make {path} yours again: chown, chmod 600")
    if shared := _shared(check, path):
        return shared
    try:
        turns, verdict = _looked_into(path)
    except sqlite3.OperationalError as error:
        return fail(
            check, f"{path} cannot be looked into now: {error}", "try again; is another program at it?"
        )
    except sqlite3.DatabaseError as error:
        return fail(check, f"{path} is damaged: {error}", _ANEW)
    if verdict != "ok":
        return fail(check, f"{path} is damaged: {verdict}", _ANEW)
    return ok(check, f"{path} is sound and holds {turns} turns")


_ANEW = "restart the proxy: it sets the file aside and begins a new one"


def secret(folder: Path) -> Finding:
    """Without it nothing in the store can be read; with it and a key, everything of that key can."""
    check, path = "secret", folder / "secret"
    if not path.exists():
        return ok(check, f"{path} is not there yet; the proxy makes it")
    try:
        length = len(path.read_bytes())
    except OSError as error:
        return fail(
            check, f"{path} cannot be read: {error.strerror}", f"make {path} yours again: chown, chmod 600"
        )
    if length != _SECRET_BYTES:
        said = f"{path} has {length} bytes where {_SECRET_BYTES} are expected"
        return fail(
            check, said, "delete it and the store beside it: what is recorded cannot be read any more"
        )
    return _shared(check, path) or ok(check, f"{path} is readable by you alone")


def _shared(check: str, path: Path) -> Finding | None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        return fail(check, f"{path} can be read by others", f"chmod 600 {path}")
    return None


def _looked_into(path: Path) -> tuple[int, str]:
    """How many turns, and SQLite's verdict (about a second for 100 MB)."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
        verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        turns = int(connection.execute("SELECT count(*) FROM turns").fetchone()[0])
    return turns, verdict
