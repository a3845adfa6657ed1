"""Who sends a request, and where to: the provider and endpoint, the credential, the conversation's header.

It reads flows of mitmproxy, live ones and saved ones alike; it decides nothing and keeps nothing.
"""

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from mitmproxy import http

from reasoning_fix.engine.caller import Caller, caller_at
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider, Table
from reasoning_fix.store.sealing import Installation

CREDENTIALS = ("authorization", "x-api-key", "api-key")
ANONYMOUS = ("", "public")
# Headers by which clients name a conversation: evidence where they come, never identity.
SESSION_HEADERS = ("x-opencode-session", "x-claude-code-session-id", "x-session-id", "session-id")
AGENT_HEADER = "x-claude-code-agent-id"
_HOST_HEADER_COUNTS = ("reverse", "local")


def host_of(flow: http.HTTPFlow) -> str:
    """The host that a request goes to, by a name that its sender cannot just claim.

    A Host header is such a claim: with it anyone could have a restored body sent to a server of their own.
    It counts where the sender does not choose the destination (reverse), and where only programs of this
    machine come (local). Of a bare address the name in the TLS handshake counts, which mitmproxy checks the
    server's certificate for; a request that names its destination itself (no tunnel) has no such handshake.
    """
    request = flow.request
    if flow.client_conn.proxy_mode.type_name in _HOST_HEADER_COUNTS:
        return request.pretty_host.lower()
    in_tunnel = request.scheme == "https" and flow.server_conn.address is not None
    if in_tunnel and flow.client_conn.sni and _is_address(request.host):
        return flow.client_conn.sni.lower()
    return request.host.lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Route(NamedTuple):
    """Where a chat request goes to; `host` is as the client names it."""

    provider: Provider
    endpoint: Endpoint
    host: str


def route(flow: http.HTTPFlow, table: Table) -> Route | None:
    """The provider and endpoint that a chat request goes to; None for all other traffic."""
    request = flow.request
    return _route(table, host_of(flow), request.host, request.method, request.path.partition("?")[0])


@lru_cache(maxsize=256)  # each of a request's hooks asks, and the next request goes the same way
def _route(table: Table, host: str, address: str, method: str, path: str) -> Route | None:
    provider = table.provider(host) or table.provider(address)
    if provider is None:
        return None
    endpoint = table.endpoint(provider, method, path)
    return Route(provider, endpoint, host) if endpoint is not None else None


def caller(flow: http.HTTPFlow, to: Route, installation: Installation) -> Caller:
    """Who sends this request, with the scope of the credential that it carries."""
    named = session(flow.request.headers)
    scope = installation.scope(credential(flow, to.provider, named))
    return caller_at(scope, to.provider, to.endpoint, to.host, named)


def session(headers: http.Headers) -> str:
    """The conversation as the client's headers name it; "" where they do not."""
    named = [headers[name] for name in SESSION_HEADERS if headers.get(name)]
    if named and headers.get(AGENT_HEADER):
        named.append(headers[AGENT_HEADER])
    return "\n".join(named)


def credential(flow: http.HTTPFlow, provider: Provider, session: str) -> str:
    """What a scope is made of: the key itself, whichever header carries it.

    Without one (free tiers), the conversation or the client's address keeps people apart.
    """
    for name in CREDENTIALS:
        value = bare(flow.request.headers.get(name, ""))
        if value.lower() not in ANONYMOUS:
            return value
    peer = flow.client_conn.peername
    return f"anonymous\n{provider.name}\n{session or (peer[0] if peer else '')}"


def bare(header: str) -> str:
    """A credential without the word before it."""
    value = header.strip()
    return value[7:].strip() if value.lower().startswith("bearer ") else value
