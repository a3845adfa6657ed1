"""The maintenance thread of a store: whatever is slow, on a connection of its own.

It makes the file where there is none or a damaged one, delivers what waits in memory, prunes, and carries the
write-ahead log over into the file. It comes once a minute, while something waits every few seconds, and when
the link's `wake` is set. Nothing here raises; nothing here knows what a record holds.
"""

import logging
import sqlite3
import threading
import time

from reasoning_fix.store import opening, rows
from reasoning_fix.store.files import FAULTS, make_private
from reasoning_fix.store.link import Link
from reasoning_fix.store.retention import Retention
from reasoning_fix.store.waiting import Waiting

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
_RETRY_SECONDS = 0.2
_RETRY_AT_MOST_SECONDS = 3.0
_PAUSE_SECONDS = 0.002
_BUSY_MS = 500
_DELIVERED_AT_ONCE = 200


class Upkeep:
    """Begins when it is made, ends with `stop`."""

    def __init__(self, link: Link, waiting: Waiting, retention: Retention) -> None:
        self._link = link
        self._waiting = waiting
        self._retention = retention
        self._thread = threading.Thread(target=self._maintain, name="reasoning-fix store", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What still waits in memory is delivered if the file can be had within two seconds."""
        self._link.stopped = True
        self._link.wake.set()
        self._thread.join(2)

    def deliver(self, connection: sqlite3.Connection) -> None:
        """Move what waited in memory into the file; it is dropped only once it can be read there."""
        at_once = _DELIVERED_AT_ONCE
        while len(self._waiting):
            # Taken under the file's lock: a put of the same key comes before the taking or after the end.
            try:
                with opening.transaction(connection):
                    waiting = self._waiting.first(at_once)
                    rows.write(connection, waiting)
            except rows.UNFIT as error:
                if len(waiting) > 1:
                    at_once = 1
                    continue
                self._link.warn_once("The store %s cannot hold a turn (%s); it is not kept.", error)
            with self._link.lock:
                if self._link.stopped:
                    self._link.there()
                else:
                    self._link.catch_up()
            self._waiting.delivered(waiting)
            time.sleep(_PAUSE_SECONDS)

    def _maintain(self) -> None:
        link = self._link
        due = time.monotonic()
        again_in = _RETRY_SECONDS
        while True:
            stopped = link.stopped
            failed = True
            try:
                link.mend()
                link.mend()
                if not link.path.exists():
                    link.note_gone()
                make_private(link.path)
                connection = opening.connect(link.path, _BUSY_MS)
                try:
                    self.deliver(connection)
                    link.note_usable()
                    if not stopped and time.monotonic() >= due:
                        self._retention.prune(connection)
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                        due = time.monotonic() + _EVERY_SECONDS
                finally:
                    connection.close()
            except FAULTS as error:
                logger.debug("Store maintenance will be tried again: %s", error)
                if not stopped:
                    link.cannot(error, waited=True)
            except OSError as error:
                link.warn_once("The store %s cannot be written (%s): turns are kept in memory.", error)
            else:
                failed = False
            if failed:
                # What puts are waiting for is tried again soon, the rest at the next turn.
                due = max(due, time.monotonic() + _EVERY_SECONDS / 10)
            if stopped:
                return
            pause = max(0.0, due - time.monotonic())
            if len(self._waiting):
                pause = again_in
                again_in = min(again_in * 2, _RETRY_AT_MOST_SECONDS)
            else:
                again_in = _RETRY_SECONDS
            link.wake.wait(pause)
            link.wake.clear()
