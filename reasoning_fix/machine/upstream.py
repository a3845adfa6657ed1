"""The proxy a person's environment already names: what it means for us to sit in front of it.

Variables in, values out. A client behind us no longer sees the person's own proxy, so we go through it
instead (mitmproxy's upstream mode), and keep to their NO_PROXY. https://curl.se/docs/manpage.html#ENVIRONMENT
has the usual meaning of the variables.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from reasoning_fix import ReasoningFixError

# In the order they are asked. Provider hosts are reached by HTTPS, so its proxy decides; lower case first, as
# curl and Python do.
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class UpstreamError(ReasoningFixError, ValueError):
    """A variable names a proxy that mitmproxy cannot go through; the text says which and what to do."""


class Upstream(msgspec.Struct, frozen=True):
    """`mode` is for mitmproxy, `auth` is "name:password" or ""; `direct` are hosts that bypass it."""

    mode: str
    auth: str
    host: str
    port: int
    direct: tuple[str, ...]

    def bypasses(self, host: str) -> bool:
        return any(covers(entry, host) for entry in self.direct)


def find(environment: Mapping[str, str]) -> Upstream | None:
    """The person's proxy; None without one, or where NO_PROXY is "*". Raises UpstreamError."""
    direct = tuple(no_proxy_entries(environment))
    for name in VARIABLES:
        value = environment.get(name, "").strip()
        if value:
            return None if "*" in direct else _read(name, value, direct)
    return None


def _read(name: str, value: str, direct: tuple[str, ...]) -> Upstream:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise UpstreamError(f"{name} is no address of a proxy; expected http://HOST:PORT.")
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise UpstreamError(
            f"{name} names a {scheme} proxy, and mitmproxy can only go through http and https ones. Set it "
            "to such a one, or unset it to connect directly."
        )
    port = port or (443 if scheme == "https" else 80)
    auth = ""
    if parts.username is not None:
        auth = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Upstream(f"upstream:{scheme}://{address_of(host, port)}", auth, host, port, direct)


def address_of(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def no_proxy_entries(environment: Mapping[str, str]) -> list[str]:
    """The person's own NO_PROXY, each entry once; entries are divided by commas or blanks."""
    entries: dict[str, None] = {}
    for name in NO_PROXY_VARIABLES:
        entries |= dict.fromkeys(environment.get(name, "").replace(",", " ").split())
    return list(entries)


def covers(entry: str, host: str) -> bool:
    """Whether a NO_PROXY entry keeps a host (or a "*.domain" of the provider table) from the proxy."""
    entry = entry.strip().lower()
    if entry == "*":
        return True
    if entry.count(":") == 1:
        entry = entry.partition(":")[0]
    entry = entry.removeprefix("*").removeprefix(".").removesuffix(".")
    name = host.lower().removesuffix(".")
    base = name.removeprefix("*.")
    if not entry:
        return False
    return base == entry or base.endswith(f".{entry}") or (name != base and entry.endswith(f".{base}"))


def client_no_proxy(environment: Mapping[str, str], hosts: Iterable[str]) -> str:
    """NO_PROXY for a program behind us: loopback and the person's own, save what hides providers from us."""
    ours = tuple(hosts)
    kept = [entry for entry in no_proxy_entries(environment) if not any(covers(entry, host) for host in ours)]
    return ",".join(dict.fromkeys((*LOOPBACK, *kept)))
