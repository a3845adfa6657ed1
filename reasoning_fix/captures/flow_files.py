"""Flow files of mitmproxy: read a whole one, and what a saved flow says about a chat request and its answer.

Whatever is no flow file, or is cut short, is said in one line; nothing else may escape from here.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from mitmproxy import exceptions, flow, http
from mitmproxy.io import FlowReader

from reasoning_fix.engine.originals import undone
from reasoning_fix.engine.policy import Wishes
from reasoning_fix.providers.rows import Endpoint
from reasoning_fix.providers.table import Provider, Table
from reasoning_fix.proxy import callers, metadata
from reasoning_fix.proxy.metadata import Notes


class CaptureError(ValueError):
    """The file is no flow file that can be read; the text says why."""


class Asked(msgspec.Struct):
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
    def wishes(self) -> Wishes:
        if self.notes is None or self.notes.wishes is None:
            return Wishes()
        return Wishes(*self.notes.wishes)

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


def load(path: Path) -> list[flow.Flow]:
    """Every flow of a file, in the order of the file. Raises CaptureError."""
    flows: list[flow.Flow] = []
    try:
        with path.open("rb") as file:
            for one in FlowReader(file).stream():
                flows.append(one)
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror or error}") from None
    except exceptions.FlowReadException as error:
        raise CaptureError(_broken(path, len(flows), str(error))) from None
    except Exception as error:  # a reader of foreign bytes: whatever it stumbles over is their fault
        raise CaptureError(_broken(path, len(flows), type(error).__name__)) from None
    if not flows:
        raise CaptureError(f"{path} holds no flow; give a file that `mitmdump -w FILE` or mitmweb saved.")
    return flows


def _broken(path: Path, whole: int, reason: str) -> str:
    reason = " ".join(reason.split()).rstrip(".")[:100]
    if whole:
        return f"{path} is damaged or cut short after {whole} flow{'s'[: whole > 1]} ({reason})."
    return f"{path} is no flow file of mitmproxy ({reason}); give what `mitmdump -w FILE` or mitmweb saved."


def asked(number: int, one: flow.Flow, table: Table) -> Asked | None:
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
    return Asked(number, one, route, body, altered, known)


def _content(request: http.Request) -> bytes | None:
    try:
        return request.content
    except ValueError:
        return None


def in_order(requests: list[Asked]) -> Iterator[tuple[Asked, bool]]:
    """What happened, as it happened: each request when it came (False), and when it was answered (True).

    What was answered by the time a request began is on record for it.
    """
    events = [(one.begun, 1, one.number, one, False) for one in requests]
    events += [
        (max(one.begun, one.ended), 0 if one.ended > one.begun else 2, one.number, one, True)
        for one in requests
    ]
    for *_, one, is_answer in sorted(events, key=lambda event: event[:3]):
        yield one, is_answer
