"""Sending the requests of an audit: over the standard library's HTTP, and never more than a bounded number.

Certificates are verified and the proxies of the environment honoured, but redirects are not followed: the key
goes where the person said and nowhere else. What a provider says about itself is made safe to print.
"""

import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from reasoning_fix import ReasoningFixError

_LONGEST = 8 * 1024 * 1024
_PIECE = 65536
_READ = 64 * 1024
_SHOWN = 240
_WAIT_AT_MOST = 60.0
_WAIT_UNSAID = 10.0
# After one of these a stream may stay open for minutes (https://github.com/deepseek-ai/deepseek-harness).
_ENDS = (b"data: [DONE]", b"data:[DONE]", b'"message_stop"', b'"response.completed"')
# Who signs for proxies that repair what the audit asks about.
_REPAIRERS = ("mitmproxy", "reasoning-fix")


class NoAnswer(ReasoningFixError):
    """The audit cannot go on; the text says why, in one line, and what to do."""


class Reply(msgspec.Struct, frozen=True):
    """What came back, whatever its status; `retry_after` in seconds, where it was said."""

    status: int
    body: bytes
    streamed: bool = False
    retry_after: float | None = None


# Sends one request body.
type Send = Callable[[bytes], Reply]


class Repaired(ReasoningFixError, OSError):
    """The connection leads through a proxy that changes requests."""


class _Connection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        assert isinstance(self.sock, ssl.SSLSocket)
        certificate: dict[str, Any] = self.sock.getpeercert() or {}
        for part in certificate.get("issuer", ()):
            for name, value in part:
                if name == "organizationName" and value in _REPAIRERS:
                    raise Repaired(value)


class _Handler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._trust = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req, context=self._trust)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def sender(url: str, headers: Mapping[str, str], *, timeout: float, ca: str | None) -> Send:
    """Sends bodies to this URL. `ca`: a file of certificates to trust besides the system's.

    Raises OSError, ssl.SSLError for a file that holds none.
    """
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    opener = urllib.request.build_opener(_Handler(context), _NoRedirects())
    host = urlsplit(url).hostname or url

    def send(body: bytes) -> Reply:
        request = urllib.request.Request(url, body, dict(headers), method="POST")
        deadline = time.monotonic() + timeout
        try:
            with opener.open(request, timeout=timeout) as response:
                return _reply(response, response.status, deadline)
        except urllib.error.HTTPError as error:
            with error:
                return _reply(error, error.code, deadline)
        except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            raise NoAnswer(_reason(error, host, timeout)) from None

    return send


def _reply(
    response: "http.client.HTTPResponse | urllib.error.HTTPError", status: int, deadline: float
) -> Reply:
    streamed = "event-stream" in (response.headers.get("content-type") or "")
    pieces: list[bytes] = []
    size = 0
    tail = b""
    while piece := response.read1(_PIECE) if hasattr(response, "read1") else response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        tail = tail[-40:] + piece
        if size > _LONGEST or (streamed and any(end in tail for end in _ENDS)):
            break
        if time.monotonic() > deadline:
            raise TimeoutError
    after = response.headers.get("retry-after") or ""
    wait = float(after) if re.fullmatch(r"\d{1,5}(\.\d+)?", after) else None
    return Reply(status, b"".join(pieces), streamed, wait)


def _reason(error: BaseException, host: str, timeout: float) -> str:
    cause: object = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, Repaired):
        return (
            f"a {cause} proxy stands between here and {host}: it would repair what the audit asks about. "
            "Start the audit without it, with `env -u HTTPS_PROXY -u https_proxy` before the command."
        )
    if isinstance(cause, TimeoutError):
        return f"{host} did not answer within {timeout:g} seconds; --timeout gives it longer."
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message
        return f"the certificate of {host} is not trusted here ({said}); --ca FILE trusts the CA in a file."
    if isinstance(cause, socket.gaierror):
        return f"{host} is not known here ({cause.strerror}); is the name right, and the network up?"
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"{host} cannot be reached: {said}."


class Asker:
    """Counts what is sent, waits where a rate limit says so, and stops at the bound."""

    def __init__(
        self,
        send: Send,
        *,
        most: int,
        pause: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._send = send
        self._most = most
        self._pause = pause
        self._sleep = sleep
        self._tell = tell
        self.sent = 0

    def ask(self, body: bytes) -> Reply:
        """The reply to this body; one to a rate limit only where waiting did not help. Raises NoAnswer."""
        for left in (2, 1, 0):
            if self.sent >= self._most:
                raise NoAnswer(f"{self._most} requests were sent, which is as many as were announced.")
            if self.sent and self._pause:
                self._sleep(self._pause)
            self.sent += 1
            reply = self._send(body)
            wait = _WAIT_UNSAID if reply.retry_after is None else reply.retry_after
            if reply.status != 429 or not left or wait > _WAIT_AT_MOST:
                return reply
            self._tell(f"rate limit: going on in {wait:.0f} seconds")
            self._sleep(wait)
        raise AssertionError("not reached")


def said(reply: Reply, key: str) -> str:
    """What a reply says, in one line that may be printed: never the key."""
    text = reply.body[:_READ].decode("utf-8", "replace").strip().removeprefix("data:").strip()
    text = re.sub(r"<[^>]*>", " ", text) if text[:1] == "<" else _inner(text)
    if key:
        text = text.replace(key, "...")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _message(value: object) -> str:
    """The text of an error in any envelope."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    inner = value.get("error", value.get("detail"))
    if isinstance(inner, list):
        inner = next(iter(inner), None)
    found = _message(inner)
    # A gateway may hand on the maker's own words, as JSON in a string.
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw:
        return _inner(raw)
    for name in ("param", "message", "msg"):
        text = value.get(name)
        if isinstance(text, str) and text:
            return text if not found or name == "param" else found
    return found


def _inner(text: str) -> str:
    try:
        return _message(msgspec.json.decode(text.encode())) or text
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
