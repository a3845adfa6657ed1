"""Reverse mode: a port on this machine for one provider, for a client that only takes a base URL.

Plain HTTP on loopback needs no certificate. Behind a tunnel such a port is open to everybody, and mitmproxy's
`proxyauth` does not help: in reverse mode it reads the Authorization header, which carries the API key. Every
client can send a secret at the head of the path, as part of the base URL.
"""

import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec
from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy.mode_specs import ReverseMode

from reasoning_fix import ReasoningFixError
from reasoning_fix.providers.table import Table
from reasoning_fix.running.command_line import LISTEN_PORT

# mitmweb's page has the port after the proxy's; `run` and `web` are to give the same base URLs.
FIRST_PORT_AFTER = 2
_WEB_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


class ReverseError(ReasoningFixError, ValueError):
    """A --reverse that cannot be; the text says what was expected."""


class Target(msgspec.Struct, frozen=True):
    """One --reverse: the provider's address as a URL, and the local port."""

    url: str
    port: int

    def mode(self) -> str:
        return f"reverse:{self.url}@127.0.0.1:{self.port}"


def targets(given: Iterable[str], table: Table, proxy_port: int) -> list[Target]:
    """`HOST` or `HOST=PORT` (also with a scheme and the provider's own port), each with a port of its own.

    Ports that are not given count up from the proxy's, so that a base URL stays the same from start to start.
    """
    found: list[tuple[str, int | None]] = [_read(text, table) for text in given]
    taken = {port for _, port in found if port}
    following = (proxy_port or LISTEN_PORT) + FIRST_PORT_AFTER
    made = []
    for url, port in found:
        if port is None:
            while following in taken:
                following += 1
            port = following
            taken.add(port)
        made.append(Target(url, port))
    return made


def _read(text: str, table: Table) -> tuple[str, int | None]:
    address, _, number = text.partition("=")
    if number and not (number.isdecimal() and 0 < int(number) < 65536):
        raise ReverseError(
            f"--reverse {text}: expected HOST=PORT with a port from 1 to 65535, found {number!r}."
        )
    url = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.username:
        raise ReverseError(
            f"--reverse {text}: expected HOST or HOST=PORT, for example api.deepseek.com=8082."
        )
    if table.provider(host) is None:
        raise ReverseError(
            f"--reverse {text}: {host} is no host of the provider table, so nothing would be repaired there. "
            "Add it to providers.toml in the user config directory (README, Options)."
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), int(number) if number else None


def base_urls(local: str, host: str, secret: str, table: Table) -> list[str]:
    """What a client is given as its base URL for the provider behind this port; the usual one first."""
    provider = table.provider(host)
    bases: Sequence[str] = provider.bases if provider is not None else ()
    prefix = f"/{secret}" if secret else ""
    return [f"{local}{prefix}{base}" for base in bases or ("",)]


class ReverseSecret:
    """Refuses requests to reverse ports whose path does not begin with the secret, and takes it off."""

    name = "reasoning_fix_reverse_secret"

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "reasoning_reverse_secret",
            str,
            "",
            "A word that the path of every request to a reverse port must begin with; it becomes part of the "
            "base URL. For a port that a tunnel opens to the world. Default: none is asked for.",
        )

    def configure(self, updated: set[str]) -> None:
        if (
            "reasoning_reverse_secret" in updated
            and not set(ctx.options.reasoning_reverse_secret) <= _WEB_SAFE
        ):
            raise exceptions.OptionsError(  # type: ignore[no-untyped-call]
                "reasoning_reverse_secret: only letters, digits and - _ . ~ are allowed, as in a URL."
            )

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        secret: str = ctx.options.reasoning_reverse_secret
        if not secret or flow.response or not isinstance(flow.client_conn.proxy_mode, ReverseMode):
            return
        head, separator, rest = flow.request.path.removeprefix("/").partition("/")
        if hmac.compare_digest(head.encode("utf-8", "surrogateescape"), secret.encode()):
            flow.request.path = f"/{rest}" if separator else "/"
            return
        body = b'{"error":{"message":"reasoning-fix: this port wants its secret at the head of the path."}}'
        flow.response = http.Response.make(404, body, {"content-type": "application/json"})
