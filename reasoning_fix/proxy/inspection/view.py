"""The content view "LLM chat": mitmweb and the console show a chat exchange as a transcript.

Only the public part of mitmproxy.contentviews is used. Which flows are chat exchanges is known by what the
addon noted on them (also in a saved file), else by the provider table.
"""

import re

from mitmproxy import contentviews, flow, http

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy import callers
from reasoning_fix.proxy.inspection.transcript import Ended, Told, answer_text, request_text
from reasoning_fix.proxy.metadata import read as read_notes

# Above every view that mitmproxy brings: they answer with 2 at most.
_FIRST = 10.0
_NEVER = -1.0
# Who ended a stream, by mitmproxy's words for it (proxy/layers/http); in this order.
_CUT_BY = (
    (r"Client disconnected|stream reset by client \((CANCEL|NO_ERROR)\)", "cut by the client"),
    (r"Connection killed", "cut in the proxy"),
    (r"without sending complete message body|[Ss]erver|stream reset by client", "provider stopped"),
)


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
        cut = _cut(one, one.error) if one is not None and one.error is not None else ""
        return answer_text(data, dialect, Ended(metadata.http_message.status_code, cut), self._snapshots(one))

    def _dialect(self, one: http.HTTPFlow | None) -> str:
        """The wire of a flow; "" if it is not a chat exchange."""
        if one is None:
            return ""
        noted = read_notes(one.metadata)
        if noted is not None and noted.dialect in DIALECTS:
            return noted.dialect
        to = callers.route(one, self.table)
        return "" if to is None else to.endpoint.dialect

    def _snapshots(self, one: http.HTTPFlow | None) -> bool:
        to = None if one is None else callers.route(one, self.table)
        return to is not None and to.provider.snapshots(to.host)


def _told(one: http.HTTPFlow | None) -> Told:
    noted = None if one is None else read_notes(one.metadata)
    if noted is None:
        return Told()
    return Told(tuple(noted.treated), noted.thinking_off, tuple(noted.changed), tuple(noted.remarks))


def _cut(one: http.HTTPFlow, error: flow.Error) -> str:
    said = error.msg
    for pattern, who in _CUT_BY:
        if re.search(pattern, said):
            return f"{who} ({said})"
    client, server = one.client_conn.timestamp_end, one.server_conn.timestamp_end
    if client and (not server or client <= server):
        return f"cut by the client ({said})"
    return f"provider stopped ({said})" if server else f"cut ({said})"
