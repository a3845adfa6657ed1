"""What a tap held back of a streamed answer goes on after the `response` hook, or what came in its place.

A refusal may come as the first event of a stream with status 200. The client must not see it before it is
known whether the request can be repaired, and that takes a request of its own: the hook waits for it. But
mitmproxy sends nothing of a streamed body after that hook. So its stream layer is extended by that one thing,
through the hook by which an addon chooses layers.
"""

from mitmproxy import ctx
from mitmproxy.addons.next_layer import NextLayer as NextLayerAddon
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import Command
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import RequestProtocolError, ResponseData, ResponseProtocolError
from mitmproxy.proxy.layers.http._hooks import HttpResponseHook

from reasoning_fix.engine.tap import Tap


class HeldBack:
    """The addon that has streams sent by a layer that can wait."""

    def next_layer(self, nextlayer: NextLayer) -> None:
        # Scripts are asked before mitmproxy's own addon, which leaves alone what was chosen already.
        if nextlayer.layer is None and (usual := _mitmproxys_own()) is not None:
            usual.next_layer(nextlayer)
        chosen: layer.Layer | None = nextlayer.layer
        while chosen is not None:
            if type(chosen) is HttpLayer:
                chosen.__class__ = _HttpLayer
            chosen = getattr(chosen, "child_layer", None)


def _mitmproxys_own() -> NextLayerAddon | None:
    found = ctx.master.addons.get("nextlayer")  # type: ignore[no-untyped-call]
    return found if isinstance(found, NextLayerAddon) else None


class _HttpLayer(HttpLayer):
    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.streams[stream_id] = _HttpStream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())


class _HttpStream(HttpStream):
    def start_response_stream(self) -> layer.CommandGenerator[None]:
        tap = self._tap()
        if tap is not None:
            tap.may_hold_back = True
        yield from super().start_response_stream()

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        # The hook may put another response in the place of this one.
        tap = self._tap()
        for command in super().send_response(already_streamed):
            yield command
            if already_streamed and tap is not None and isinstance(command, HttpResponseHook):
                yield from self._late(tap)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        tap = self._tap()
        if tap is not None and isinstance(event, ResponseProtocolError):
            yield from self._late(tap)
        yield from super().handle_protocol_error(event)

    def _tap(self) -> Tap | None:
        response = self.flow.response if hasattr(self, "flow") else None
        return response.stream if response is not None and isinstance(response.stream, Tap) else None

    def _late(self, tap: Tap) -> layer.CommandGenerator[None]:
        if held := tap.take_late():
            command: Command = SendHttp(ResponseData(self.stream_id, held), self.context.client)
            yield command
