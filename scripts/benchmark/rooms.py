"""The package's rooms in this process, without a proxy. The only place that knows their signatures."""

import json
from collections.abc import Iterable
from pathlib import Path

from reasoning_fix import fallback, providers
from reasoning_fix.recording import Exchange, Tap
from reasoning_fix.restoring import Caller, restore
from reasoning_fix.store import Store
from reasoning_fix.store.sealing import Installation
from reasoning_fix.store.sqlite import open_store

HOST = "api.deepseek.com"


class Rooms:
    """The default store in a directory, and one caller."""

    def __init__(self, directory: Path) -> None:
        self._table = providers.load()
        provider = self._table.provider(HOST)
        assert provider is not None
        self._store: Store = open_store(directory / "turns.sqlite3")
        self._caller = Caller(Installation(b"s" * 32).scope("sk-bench"), provider, HOST, "")

    def restore(self, body: bytes) -> bytes:
        """The request as it goes to the provider."""
        restored = restore(body, self._caller, self._table, self._store, fallback.AUTO)
        return body if restored.body is None else restored.body

    def record(self, chunks: Iterable[bytes], coding: str = "", streamed: bool = True) -> None:
        """An answer that passes by."""
        tap = Tap(self._exchange(), coding, streamed, None)
        for chunk in chunks:
            tap(chunk)
        tap(b"")

    def _exchange(self) -> Exchange:
        body = json.dumps({"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "go"}]})
        return restore(body.encode(), self._caller, self._table, self._store, fallback.AUTO).exchange

    def close(self) -> None:
        self._store.close()
