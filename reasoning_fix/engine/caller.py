"""Who sends a request, and where to."""

import msgspec

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.wire import Dialect
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider
from reasoning_fix.store.sealing import Scope


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request, where to, and by what headers the client names the conversation."""

    scope: Scope
    provider: Provider
    endpoint: Endpoint
    host: str
    session: str

    @property
    def dialect(self) -> Dialect:
        """The wire that is spoken there."""
        return DIALECTS[self.endpoint.dialect]

    @property
    def issuer(self) -> str:
        """Who answers here: reasoning goes back only to the provider, and on the wire, that it came from."""
        return f"{self.provider.name}/{self.endpoint.dialect}"
