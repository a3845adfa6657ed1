"""The engine in this process, without a proxy."""

import json
from collections.abc import Iterable
from pathlib import Path

from reasoning_fix import Engine, Exchange, load_table, open_store

HOST = "api.deepseek.com"


class Rooms:
    """An engine with the default store in a directory, and one caller."""

    def __init__(self, directory: Path) -> None:
        self._engine = Engine(load_table(), open_store(directory / "turns.sqlite3"), secret=b"s" * 32)
        caller = self._engine.caller(HOST, "/chat/completions", "sk-bench")
        assert caller is not None
        self._caller = caller

    def restore(self, body: bytes) -> bytes:
        """The request as it goes to the provider, with all work for it done."""
        exchange = self.forward(body)
        exchange.accept()
        return exchange.body

    def forward(self, body: bytes) -> Exchange:
        """The work that a request waits for."""
        return self._engine.restore(body, self._caller, defers=True)

    def record(self, chunks: Iterable[bytes], coding: str = "", streamed: bool = True) -> None:
        """An answer that passes by."""
        body = json.dumps({"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "go"}]})
        tap = self.forward(body.encode()).tap(coding, streamed=streamed)
        for chunk in chunks:
            tap(chunk)
        tap.finish(complete=True)

    def close(self) -> None:
        self._engine.close()
