"""The proxy's own pages at http://reasoning.fix/: how it is, and its CA to download.

They are answered here: no connection to that name leaves the machine. They change nothing, and a page of
another origin can neither read nor frame nor run them.
"""

import asyncio
import os
import platform
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from mitmproxy import ctx, http, version
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from reasoning_fix import __version__
from reasoning_fix.machine.upstream import address_of
from reasoning_fix.proxy import front_page
from reasoning_fix.proxy.health import HOST, METRICS_PATH, PATH, RECENT_PATH, Health, StoreState, counts
from reasoning_fix.proxy.stats import metrics
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import day_of
from reasoning_fix.proxy.stats.recent import recent

_TLS_PORT = 443
_STARTED = time.monotonic()
# Scripts, styles, frames and readers of other origins are kept out by the browser itself
# (https://developer.mozilla.org/docs/Web/HTTP/Headers/Cross-Origin-Resource-Policy).
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# Path -> encoding, media type. Android and Windows open the DER file with a double click.
_CERTIFICATES = {
    "/cert.pem": (Encoding.PEM, "application/x-pem-file"),
    "/cert.cer": (Encoding.DER, "application/x-x509-ca-cert"),
    "/cert.crt": (Encoding.DER, "application/x-x509-ca-cert"),
}


def is_own_page(flow: http.HTTPFlow) -> bool:
    """Whether a request asks for these pages.

    Where the client names its destination that name counts, else (transparent modes) the Host header.
    """
    if isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return False
    named = flow.client_conn.proxy_mode.type_name in ("regular", "upstream", "socks5")
    return _is_own(flow.request.host if named else flow.request.pretty_host)


def _is_own(name: str) -> bool:
    return name.lower().rstrip(".") == HOST


class Pages:
    """Answers requests to http://reasoning.fix/ from what the proxy knows of itself."""

    name = "reasoning_fix_pages"

    def __init__(self, store_state: Callable[[], StoreState], book: Callable[[], Book]) -> None:
        self._store_state = store_state
        self._book = book
        self._authority: x509.Certificate | None = None

    def running(self) -> None:
        """Keep the CA that this process signs with: its file may hold another one later."""
        self._authority = _authority()

    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A request for these pages is answered; all others go on without a wait."""
        if flow.response or flow.error or not flow.live or not is_own_page(flow):
            return None
        return self._serve(flow)

    async def _serve(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = False
        flow.response = await self._answer(flow.request)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """A tunnel to these pages must not reach out; over TLS the CA may not speak for this name."""
        if flow.response or not _is_own(flow.request.host):
            return
        if flow.request.port != _TLS_PORT:
            flow.response = http.Response.make(200)
            return
        flow.response = _text(403, f"There is no HTTPS here: use http://{HOST}/\n")
        # Many clients show nothing else of a refused tunnel.
        flow.response.reason = f"Use http://{HOST}/ without TLS"

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """In every mode: no other machine is asked for this name."""
        if data.server.address and _is_own(data.server.address[0]):
            data.server.error = f"{HOST} is a page of this proxy, reached over plain HTTP"

    async def _answer(self, request: http.Request) -> http.Response:
        path, _, query = request.path.partition("?")
        if request.method not in ("GET", "HEAD"):
            answer = _text(405, "These pages can only be read.\n")
            answer.headers["allow"] = "GET, HEAD"
        elif path == PATH:
            body = msgspec.json.format(msgspec.json.encode(self._health()), indent=2)
            answer = _response(200, body + b"\n", "application/json")
        elif path == "/":
            answer = _response(200, (await self._front_page(query)).encode(), "text/html; charset=utf-8")
        elif path == RECENT_PATH:
            after = query.removeprefix("after=")
            told = recent.page(os.getpid(), int(after) if after.isdecimal() and len(after) < 16 else 0)
            answer = _response(200, msgspec.json.encode(told), "application/json")
        elif path == METRICS_PATH:
            told_total = metrics.exposition(self._book().total(), self._health())
            answer = _response(200, told_total.encode(), metrics.MEDIA_TYPE)
        elif path in _CERTIFICATES:
            answer = _certificate(path, self._authority)
        else:
            known = ", ".join(["/", PATH, RECENT_PATH, METRICS_PATH, *_CERTIFICATES])
            answer = _text(404, f"There is no such page; there are {known}.\n")
        if request.method == "HEAD":
            length = answer.headers["content-length"]
            answer.content = b""
            answer.headers["content-length"] = length
        return answer

    async def _front_page(self, query: str) -> str:
        """The counts lie in a file, which is not read on the event loop."""
        book = self._book()
        found = await asyncio.to_thread(lambda: book.counts(front_page.DAYS))
        today = day_of(time.time())
        return front_page.page(self._health(), found, recent.after(), today, refreshes=query != "still")

    def _health(self) -> Health:
        store = self._store_state()
        authority = self._authority
        return Health(
            status="ok" if store.healthy and authority else "degraded",
            version=__version__,
            mitmproxy=version.VERSION,
            python=platform.python_version(),
            pid=os.getpid(),
            uptime_seconds=round(time.monotonic() - _STARTED, 1),
            listening=_listening(),
            counts=counts,
            store=store,
            ca_sha256=authority.fingerprint(SHA256()).hex(":").upper() if authority else "",
            ca_expires=f"{authority.not_valid_after_utc:%Y-%m-%d}" if authority else "",
        )


def _authority() -> x509.Certificate | None:
    """Only the CA's certificate, whatever else the file holds; None if there is none."""
    path = Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _listening() -> list[str]:
    servers = ctx.master.addons.get("proxyserver")  # type: ignore[no-untyped-call]
    if servers is None:
        return []
    return [
        f"{server.mode.type_name}@{address_of(host, port)}"
        for server in servers.servers
        for host, port, *_ in server.listen_addrs
    ]


def _certificate(path: str, authority: x509.Certificate | None) -> http.Response:
    if authority is None:
        return _text(404, "There is no readable mitmproxy-ca-cert.pem in the confdir.\n")
    encoding, media_type = _CERTIFICATES[path]
    answer = _response(200, authority.public_bytes(encoding), media_type)
    name = f"reasoning-fix-ca.{path.rpartition('.')[2]}"
    answer.headers["content-disposition"] = f'attachment; filename="{name}"'
    return answer


def _text(status: int, text: str) -> http.Response:
    return _response(status, text.encode(), "text/plain; charset=utf-8")


def _response(status: int, body: bytes, media_type: str) -> http.Response:
    return http.Response.make(status, body, {"content-type": media_type, **_HEADERS})
