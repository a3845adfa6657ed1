"""Who sends a request, and where to."""

from functools import lru_cache

import msgspec

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.wire import Dialect
from reasoning_fix.engine.history import Fingerprints
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider
from reasoning_fix.store.sealing import Scope


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request, where to, and by what headers the client names the conversation.

    `dialect` is the wire that is spoken there. `issuer` says who answers: reasoning goes back only to the
    provider, and on the wire, that it came from. `snapshots`: fragments of an answer may repeat all that came
    before them.
    """

    scope: Scope
    provider: Provider
    endpoint: Endpoint
    host: str
    session: str
    dialect: Dialect
    issuer: str
    snapshots: bool
    fingerprints: Fingerprints


@lru_cache(maxsize=256)
def caller_at(scope: Scope, provider: Provider, endpoint: Endpoint, host: str, session: str) -> Caller:
    """The caller with this scope, at this endpoint of a provider."""
    return Caller(
        scope,
        provider,
        endpoint,
        host,
        session,
        dialect=DIALECTS[endpoint.dialect],
        issuer=f"{provider.name}/{endpoint.dialect}",
        snapshots=provider.snapshots(host),
        fingerprints=Fingerprints(scope.fingerprint_key),
    )
