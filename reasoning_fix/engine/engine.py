"""Everything that stays between requests, and what can be done with it."""

import os

import msgspec

from reasoning_fix.engine import explaining
from reasoning_fix.engine.caller import Caller, caller_at
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.explaining import Explanation
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.engine.restoring import restore
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.store import Store
from reasoning_fix.store.sealing import SECRET_BYTES, Installation


class Engine:
    """Restores the reasoning in requests, and records it from their answers.

    `secret` (32 bytes) seals what is recorded, and keeps people apart. Keep it with the store, and secret;
    without one, nothing can be read again by a later engine. `lessons` are what refusals taught,
    `preferences` what the person wants. It may be used from several threads.

        engine = Engine(load_table(), MemoryStore())
        caller = engine.caller("api.deepseek.com", "/chat/completions", credential="sk-...")
        exchange = engine.restore(body, caller)
    """

    def __init__(
        self,
        table: Table,
        store: Store,
        *,
        secret: bytes | None = None,
        lessons: Lessons | None = None,
        preferences: Preferences | None = None,
        caches_prefixes: bool = True,
    ) -> None:
        self.installation = Installation(os.urandom(SECRET_BYTES) if secret is None else secret)
        self.knowledge = Knowledge(
            table,
            store,
            Lessons(None) if lessons is None else lessons,
            preferences or Preferences(),
            PrefixCache() if caches_prefixes else None,
        )

    def caller(
        self, host: str, path: str, credential: str, *, session: str = "", method: str = "POST"
    ) -> Caller | None:
        """Who sends a request, and where to; None if the table does not know this host and path.

        Only requests with the same `credential` share what is recorded. `session` is a name of the
        conversation, if the client gives it one.
        """
        provider = self.knowledge.table.provider(host)
        endpoint = self.knowledge.table.endpoint(provider, method, path) if provider is not None else None
        if provider is None or endpoint is None:
            return None
        return caller_at(self.installation.scope(credential), provider, endpoint, host, session)

    def change(self, *, table: Table | None = None, preferences: Preferences | None = None) -> None:
        """Go on with another table, or other preferences. Exchanges that have begun keep those they had."""
        known = self.knowledge
        self.knowledge = msgspec.structs.replace(
            known, table=table or known.table, preferences=preferences or known.preferences
        )

    def restore(self, body: bytes, caller: Caller, *, defers: bool = False) -> Exchange:
        """The exchange of a request with this body, as JSON text.

        If it `defers`, an exchange in which nothing can be missing comes back at once, and the rest of the
        work waits for its answer, or `settle`. Raises NotChatError if the body is not a chat request,
        SpliceError if it repeats member names: such a request is to be sent as it came.
        """
        return Exchange(restore(body, caller, self.knowledge, defers=defers))

    def explain(self, body: bytes, caller: Caller) -> Explanation:
        """Why each turn of a request is, or is not, restored."""
        told, _ = explaining.explain(body, caller, self.knowledge)
        return told

    def close(self) -> None:
        """Write what waits to be written, and let go of it all."""
        if self.knowledge.prefix_cache is not None:
            self.knowledge.prefix_cache.clear()
        self.knowledge.store.close()
