"""What a proxy keeps: turns, the secret of its installation, lessons, counts, the latest conversations."""

import logging
import os
from typing import Self

import msgspec

from reasoning_fix.engine import recording
from reasoning_fix.engine.prefix_cache import Memory
from reasoning_fix.engine.restoring import Remembering
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.proxy.health import StoreState
from reasoning_fix.proxy.options import Options
from reasoning_fix.proxy.stats import book
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.store import Store, StoreError
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation
from reasoning_fix.store.sqlite import SqliteStore, open_store

logger = logging.getLogger(__name__)


class Belongings(msgspec.Struct, frozen=True):
    """Opened together, closed together."""

    store: Store
    installation: Installation
    lessons: Lessons
    book: Book
    memory: Remembering

    @classmethod
    def open(cls, options: Options) -> Self:
        """What lies where the options say; what cannot be had there is kept in memory, says the log."""
        path = options.store
        store: Store = MemoryStore()
        if path is not None:
            store = open_store(path, keep_days=options.keep_days, keep_megabytes=options.keep_megabytes)
        try:
            installation = Installation.load(options.directory)
        except StoreError as error:
            logger.warning("%s Until then turns are kept only while the proxy runs.", error)
            store.close()
            store, installation = MemoryStore(), Installation(os.urandom(32))
        if isinstance(store, SqliteStore):
            recording.now.go_on_after(store.newest())
        return cls(
            store,
            installation,
            Lessons(None if path is None else path.with_name("lessons.json")),
            Book(None if path is None else path.with_name(book.FILE), keep_days=options.keep_days),
            Memory(),
        )

    def close(self) -> None:
        """Write what waits, and release it all."""
        self.memory.clear()
        self.book.close()
        self.store.close()

    def state(self, options: Options) -> StoreState:
        """Where turns are kept now, for the health page."""
        if isinstance(self.store, SqliteStore):
            return StoreState("sqlite", str(options.store), self.store.is_sound())
        return StoreState("memory", str(options.store or ""), options.store is None)
