"""What a flow says about a chat request and its answer, be it live or saved."""

import msgspec
from mitmproxy import flow, http

from reasoning_fix.engine.originals import undone
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider, Table
from reasoning_fix.proxy import callers, metadata
from reasoning_fix.proxy.metadata import Notes


class ChatRequest(msgspec.Struct):
    """A chat request of a capture: `number` counts the flows of the file from 1.

    `body` is what the client sent, or, where `altered` says so, what went out in its place.
    """

    number: int
    flow: http.HTTPFlow
    route: callers.Route
    body: bytes
    altered: bool
    notes: Notes | None

    @property
    def provider(self) -> Provider:
        return self.route.provider

    @property
    def endpoint(self) -> Endpoint:
        return self.route.endpoint

    @property
    def preferences(self) -> Preferences:
        if self.notes is None or self.notes.preferences is None:
            return Preferences()
        return Preferences(*self.notes.preferences)

    @property
    def begun(self) -> float:
        """When the request was there whole, in seconds since the epoch."""
        if self.notes is not None and self.notes.asked:
            return self.notes.asked / 1000
        request = self.flow.request
        return request.timestamp_end or request.timestamp_start

    @property
    def ended(self) -> float:
        """When its answer was there, or was given up."""
        if self.notes is not None and self.notes.answered:
            return self.notes.answered / 1000
        response = self.flow.response
        if response is not None and response.timestamp_end:
            return response.timestamp_end
        if self.flow.error is not None:
            return max(self.begun, self.flow.error.timestamp)
        return max(self.begun, response.timestamp_start if response is not None else 0.0)


def chat_request(number: int, one: flow.Flow, table: Table) -> ChatRequest | None:
    """The chat request that a flow is; None for all other traffic, and for the copy of one sent again."""
    if not isinstance(one, http.HTTPFlow) or one.metadata.get(metadata.RESENT):
        return None
    if not isinstance(one.request, http.Request) or (route := callers.route(one, table)) is None:
        return None
    known = metadata.read(one.metadata)
    body = _content(one.request)
    if body is None:
        return None
    altered = known is not None and known.altered
    if known is not None and (was := known.before) is not None:
        original = undone(body, known.dialect, was)
        if original is not None:
            body, altered = original, False
    return ChatRequest(number, one, route, body, altered, known)


def _content(request: http.Request) -> bytes | None:
    try:
        return request.content
    except ValueError:
        return None
