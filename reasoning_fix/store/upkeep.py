"""The maintenance thread of a store: whatever is slow, on a connection of its own.

It makes the file if it is missing or damaged, delivers what waits in memory, prunes, and checkpoints the
write-ahead log: once a minute, every few seconds while something waits, after some 8 MB of log, and whenever
the link's `wake` is set. Nothing here raises, or knows what a record holds.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence

from reasoning_fix.store import Record, opening, rows
from reasoning_fix.store.files import FAULTS, make_private
from reasoning_fix.store.link import Link
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.retention import Retention

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
_RETRY_SECONDS = 0.2
_RETRY_AT_MOST_SECONDS = 3.0
_PAUSE_SECONDS = 0.002
_BUSY_MS = 500
_DELIVERED_AT_ONCE = 200
_CHECKPOINTS_AT_ONCE = 3
_LOG_BYTES = 8 * 1024 * 1024
# What a put adds to the write-ahead log beside its content: each page of the tables and indexes that it
# touches, whole (27 KB measured).
_PUT_BYTES = 28 * 1024


class Upkeep:
    """Starts when it is made, ends with `stop`."""

    def __init__(self, link: Link, waiting: MemoryStore, retention: Retention) -> None:
        self._link = link
        self._waiting = waiting
        self._retention = retention
        # Bytes since the last checkpoint, roughly: a put that is counted just as one ends may be left out.
        self._logged = 0
        self._thread = threading.Thread(target=self._maintain, name="reasoning-fix store", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What still waits in memory is delivered if the file can be had within two seconds."""
        self._link.stopped = True
        self._link.wake.set()
        self._thread.join(2)

    def count(self, records: Sequence[Record]) -> None:
        """They were put; if the write-ahead log has grown much, it is time for a checkpoint."""
        self._logged += sum(_PUT_BYTES + len(record.sealed) for record in records)
        if self._logged >= _LOG_BYTES:
            self._link.wake.set()

    def deliver(self, connection: sqlite3.Connection) -> None:
        """Move what waited in memory into the file; it is dropped only once it can be read there."""
        at_once = _DELIVERED_AT_ONCE
        while len(self._waiting):
            # Taken under the file's lock: a put of the same key comes before the taking or after the end.
            try:
                with opening.transaction(connection):
                    waiting = self._waiting.take()[:at_once]
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
            for scope, record in waiting:
                self._waiting.drop_unchanged(scope, record)
            self.count([record for _, record in waiting])
            time.sleep(_PAUSE_SECONDS)

    def _carry_over(self, connection: sqlite3.Connection) -> None:
        """Only a log that is carried over whole starts over; what is put meanwhile makes it longer."""
        before = self._logged
        for _ in range(_CHECKPOINTS_AT_ONCE):
            busy, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if busy or logged == done:
                break
        self._logged -= before

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
                        self._carry_over(connection)
                        due = time.monotonic() + _EVERY_SECONDS
                    elif self._logged >= _LOG_BYTES:
                        self._carry_over(connection)
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
