"""The package's rooms in this process, without a proxy. The only place that knows their signatures."""

import json
from collections.abc import Iterable
from pathlib import Path

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.engine.recording import Recorder, learn
from reasoning_fix.engine.restoring import Cache, Caller, Restored, restore
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import load_table
from reasoning_fix.store import Store
from reasoning_fix.store.sealing import Installation
from reasoning_fix.store.sqlite import open_store

HOST = "api.deepseek.com"


class Rooms:
    """The default store in a directory, and one caller."""

    def __init__(self, directory: Path) -> None:
        self._table = load_table()
        provider = self._table.provider(HOST)
        assert provider is not None
        self._store: Store = open_store(directory / "turns.sqlite3")
        scope = Installation(b"s" * 32).scope("sk-bench")
        self._caller = Caller(scope, provider, provider.endpoints[0], HOST, "")
        self._lessons = Lessons(directory / "lessons.json")
        self._memory: Cache = PrefixCache()

    def restore(self, body: bytes) -> bytes:
        """The request as it goes to the provider, with all work for it done."""
        restored = self.forward(body)
        self.finish(restored)
        return body if restored.body is None else restored.body

    def finish(self, restored: Restored) -> None:
        """What was left to do when the request was on its way, and taken."""
        learn(restored.exchange)

    def record(self, chunks: Iterable[bytes], coding: str = "", streamed: bool = True) -> None:
        """An answer that passes by."""
        tap = Tap(self._exchange(), coding, streamed, None)
        for chunk in chunks:
            tap(chunk)
        tap.finish(complete=True)

    def _exchange(self) -> Recorder:
        body = json.dumps({"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "go"}]})
        return self.forward(body.encode()).exchange

    def forward(self, body: bytes) -> Restored:
        """The work that a request waits for."""
        return restore(
            body,
            self._caller,
            self._table,
            self._store,
            Preferences(),
            self._lessons,
            memory=self._memory,
            defers=True,
        )

    def close(self) -> None:
        self._store.close()
