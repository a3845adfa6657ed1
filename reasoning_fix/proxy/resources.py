"""What a proxy holds open: the engine, and the book of counts."""

import logging
from typing import Self

import msgspec

from reasoning_fix.engine import recording
from reasoning_fix.engine.engine import Engine
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy.health import StoreState
from reasoning_fix.proxy.options import Options
from reasoning_fix.proxy.stats import book
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.store import Store, StoreError
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import load_secret
from reasoning_fix.store.sqlite import SqliteStore, open_store

logger = logging.getLogger(__name__)


class Resources(msgspec.Struct, frozen=True):
    """Opened together, closed together."""

    engine: Engine
    book: Book

    @classmethod
    def open(cls, options: Options, table: Table) -> Self:
        """What lies where the options say; what cannot be had there is kept in memory, says the log."""
        path = options.store
        store: Store = MemoryStore()
        secret: bytes | None = None
        if path is not None:
            store = open_store(path, keep_days=options.keep_days, keep_megabytes=options.keep_megabytes)
        try:
            secret = load_secret(options.directory)
        except StoreError as error:
            logger.warning("%s Until then turns are kept only while the proxy runs.", error)
            store.close()
            store = MemoryStore()
        if isinstance(store, SqliteStore):
            recording.now.go_on_after(store.newest())
        lessons = Lessons(None if path is None else path.with_name("lessons.json"))
        return cls(
            Engine(table, store, secret=secret, lessons=lessons, preferences=options.preferences),
            Book(None if path is None else path.with_name(book.FILE), keep_days=options.keep_days),
        )

    def close(self) -> None:
        """Write what waits, and release it all."""
        self.book.close()
        self.engine.close()

    def state(self, options: Options) -> StoreState:
        """Where turns are kept now, for the health page."""
        store = self.engine.knowledge.store
        if isinstance(store, SqliteStore):
            return StoreState("sqlite", str(options.store), store.is_sound())
        return StoreState("memory", str(options.store or ""), options.store is None)
