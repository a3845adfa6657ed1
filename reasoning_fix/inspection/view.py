"""The content view "LLM chat": mitmweb and the console show a chat exchange as a transcript.

Only the public part of mitmproxy.contentviews is used. Which flows are chat exchanges is known by what the
addon noted on them (also in a saved file), else by the provider table.
"""

import re

import msgspec
from mitmproxy import contentviews, flow, http

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.inspection.transcript import Ended, Told, answer_text, request_text
from reasoning_fix.providers import Table
from reasoning_fix.reporting import Treated

# Above every view that mitmproxy brings: they answer with 2 at most.
_FIRST = 10.0
_NEVER = -1.0
# Who ended a stream, by mitmproxy's words for it (proxy/layers/http); in this order.
_CUT_BY = (
    (r"Client disconnected|stream reset by client \((CANCEL|NO_ERROR)\)", "cut by the client"),
    (r"Connection killed", "cut in the proxy"),
    (r"without sending complete message body|[Ss]erver|stream reset by client", "provider stopped"),
)


class _Note(msgspec.Struct):
    """`flow.metadata["reasoning_fix"]`, as interceptor.py writes it."""

    dialect: str = ""
    turns: list[tuple[int, str, str, int]] | None = None
    thinking_off: bool = False
    changed: list[str] = []
    remarks: list[str] = []


class ChatView(contentviews.Contentview):
    """Requests and answers of the providers in `table`, readable."""

    name = "LLM chat"
    syntax_highlight = "none"

    def __init__(self, table: Table) -> None:
        self.table = table

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        """Highest on chat exchanges, never elsewhere."""
        try:
            one = metadata.flow if isinstance(metadata.flow, http.HTTPFlow) else None
            chat = isinstance(metadata.http_message, http.Message) and bool(self._dialect(one))
            return _FIRST if chat and data[:4096].strip() else _NEVER
        except Exception:
            return _NEVER

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        """The transcript; any bytes give some text."""
        one = metadata.flow if isinstance(metadata.flow, http.HTTPFlow) else None
        dialect = self._dialect(one)
        if not isinstance(metadata.http_message, http.Response):
            return request_text(data, dialect, _told(one))
        return answer_text(data, dialect, _ended(one, metadata.http_message), self._snapshots(one))

    def _dialect(self, one: http.HTTPFlow | None) -> str:
        """The wire of a flow; "" where it is no chat exchange."""
        if one is None:
            return ""
        noted = _note(one)
        if noted is not None and noted.dialect in DIALECTS:
            return noted.dialect
        for host in (one.request.pretty_host, one.request.host):
            provider = self.table.provider(host)
            if provider is not None:
                endpoint = self.table.endpoint(provider, one.request.method, one.request.path)
                return "" if endpoint is None else endpoint.dialect
        return ""

    def _snapshots(self, one: http.HTTPFlow | None) -> bool:
        provider = None if one is None else self.table.provider(one.request.pretty_host)
        return provider is not None and one is not None and provider.snapshots(one.request.pretty_host)


def _note(one: http.HTTPFlow) -> _Note | None:
    try:
        return msgspec.convert(one.metadata.get("reasoning_fix"), _Note, strict=False)
    except msgspec.ValidationError:
        return None


def _told(one: http.HTTPFlow | None) -> Told:
    noted = None if one is None else _note(one)
    if noted is None or noted.turns is None:
        return Told()
    turns = tuple(Treated(*turn) for turn in noted.turns)
    return Told(turns, noted.thinking_off, tuple(noted.changed), tuple(noted.remarks))


def _ended(one: http.HTTPFlow | None, response: http.Response) -> Ended:
    error = None if one is None else one.error
    return Ended(response.status_code, "" if one is None or error is None else _cut(one, error))


def _cut(one: http.HTTPFlow, error: flow.Error) -> str:
    said = error.msg
    for pattern, who in _CUT_BY:
        if re.search(pattern, said):
            return f"{who} ({said})"
    client, server = one.client_conn.timestamp_end, one.server_conn.timestamp_end
    if client and (not server or client <= server):
        return f"cut by the client ({said})"
    return f"provider stopped ({said})" if server else f"cut ({said})"
