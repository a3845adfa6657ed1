"""A store's own connection to its file, and what becomes of it when the file cannot be used.

Other processes share the file: every use makes sure that it is still the file at the path, in a format that
this program knows. Users of the connection hold the lock. Faults are logged here, each once; nothing here
knows records, or waits for more than one lock of another process.
"""

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

from reasoning_fix.store import opening
from reasoning_fix.store.files import FAULTS, advice, is_busy, is_damage, make_private, set_aside
from reasoning_fix.store.opening import NewerFormat, identity

logger = logging.getLogger(__name__)

_SET_ASIDE_SECONDS = 60.0
_SAID_AGAIN_SECONDS = 600.0


class Gone(sqlite3.OperationalError):
    """There is no file at the path any more that can be used; the maintenance thread makes another."""


class Link:
    """Made with the file, and connected where that can be. Raises NewerFormat, OSError.

    `wake` is set when the maintenance thread should look at the file. Once `stopped`, that thread is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.wake = threading.Event()
        self.stopped = False
        self.in_trouble = False
        self._set_aside_at = -_SET_ASIDE_SECONDS
        self._told: dict[str, float] = {}
        # Does not wait for a lock: others had it for longer than we may wait.
        self._hurried = False
        make_private(path)
        self._file = identity(path)
        self._damaged: tuple[int, int] | None = None
        # Closed, it stands for none.
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self.connection.close()
        self.connected = False
        try:
            self.connection = opening.connect_patiently(path)
            self.connected = True
        except NewerFormat:
            raise
        except FAULTS as error:
            if is_damage(error):
                self._damaged = self._file
                self._begin_anew()
                self._damaged = None
            else:
                self.cannot(error, waited=True)

    def there(self) -> tuple[int, int]:
        """Which file is at the path. Raises Gone if it is missing or damaged."""
        found = identity(self.path)
        if found is None:
            self.disconnect()
            self.note_gone()
            raise Gone("there is no such file")
        if found == self._damaged:
            raise Gone("it is damaged, and about to be set aside")
        return found

    def catch_up(self) -> sqlite3.Connection:
        """Follow the path to the file that is there now (about 10 microseconds where it is ours).

        Another process may have set ours aside, or a person deleted it. Raises Gone.
        """
        found = self.there()
        if self.connected and found == self._file:
            opening.check_format(self.connection)
            return self.connection
        self.disconnect()
        self._file = found
        self.connection = opening.connect(self.path, busy_ms=0)
        self.connected = self._hurried = True
        return self.connection

    def wait_again(self) -> None:
        """The file could be had: the next lock of another process is worth waiting for."""
        if self._hurried:
            self._wait_at_most(opening.BUSY_MS)

    def disconnect(self) -> None:
        self.connection.close()
        self.connected = False

    def version(self) -> object:
        """Another value whenever another connection has written (4 microseconds)."""
        seen = self.catch_up().execute("PRAGMA data_version").fetchone()[0]
        return self._file, id(self.connection), seen

    def is_sound(self) -> bool:
        """Whether the file at the path can be read and written now (about 20 microseconds)."""
        try:
            with self.lock:
                self.catch_up().execute("SELECT row FROM turns LIMIT 1").fetchall()
        except FAULTS:
            return False
        return self._file == identity(self.path) and os.access(self.path, os.W_OK)

    def warn_once(self, text: str, reason: object) -> None:
        """Say it, but not again for ten minutes."""
        now = time.monotonic()
        if now - self._told.get(text, -_SAID_AGAIN_SECONDS) >= _SAID_AGAIN_SECONDS:
            self._told[text] = now
            logger.warning(text, self.path, reason)

    def note_gone(self) -> None:
        with self.lock:
            if self._file is not None and not self.stopped:
                self._file = None
                self.wake.set()
                logger.warning(
                    "The store %s is gone: it was deleted or moved while in use. A new one is begun.",
                    self.path,
                )

    def note_usable(self) -> None:
        if self.in_trouble:
            self.in_trouble = False
            logger.info("The store %s can be used again: it has all that waited.", self.path)

    def cannot(self, error: Exception, waited: bool = False) -> None:
        """The file could not be used: say why and what to do, and do not wait for it again.

        Proxies that share a file lock it for moments: that is worth a line only after one has waited for it.
        """
        if is_damage(error):
            self._note_damage()
            return
        if self.stopped or isinstance(error, Gone):
            return
        if not self.in_trouble and (waited or not is_busy(error)):
            self.in_trouble = True
            what = f"The store %s cannot be used now (%s). {advice(error)}"
            self.warn_once(f"{what} Until then turns are kept in memory.", error)
        with self.lock:
            if isinstance(error, NewerFormat):
                self.disconnect()
            elif self.connected and is_busy(error):
                self._wait_at_most(0)

    def mend(self) -> None:
        """Set a file aside that was found damaged, and begin a new one.

        For the maintenance thread, while it has no connection of its own: SQLite finds the files beside the
        database by their names, and a connection to one that is just being renamed would find the new ones,
        or begin them. Where no new one can be begun turns wait in memory, and the thread tries again.
        """
        with self.lock:
            if self._damaged is None:
                return
            try:
                self._begin_anew()
            except NewerFormat as newer:
                self.cannot(newer)
            except (*FAULTS, OSError) as fault:
                self._file = None
                logger.warning(
                    "The store %s cannot be made anew (%s); turns are kept in memory.", self.path, fault
                )
            finally:
                self._damaged = None

    def _note_damage(self) -> None:
        """Keep away from the file until it was set aside, which is done at most once a minute."""
        with self.lock:
            if time.monotonic() - self._set_aside_at < _SET_ASIDE_SECONDS:
                return
            self._set_aside_at = time.monotonic()
            self.disconnect()
            self._damaged = self._file
            self.wake.set()

    def _begin_anew(self) -> None:
        # The file at the path may be a sound one by now: another process found the damage first.
        if self._damaged == identity(self.path):
            opening.refuse_newer(self.path)
            set_aside(self.path, "The store")
        make_private(self.path)
        self.disconnect()
        self._file = identity(self.path)
        self.connection = opening.connect(self.path)
        self.connected = True

    def _wait_at_most(self, milliseconds: int) -> None:
        """For a lock of another process: every stream stands still meanwhile."""
        self.connection.execute(f"PRAGMA busy_timeout = {milliseconds}").fetchall()
        self._hurried = milliseconds == 0
