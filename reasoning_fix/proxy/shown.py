"""Thoughts that are shown, for whom the option `reasoning_show` names: on flows, by engine/showing.py."""

from mitmproxy import http

from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.engine import Engine
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.showing import Showing, unshown
from reasoning_fix.proxy.options import Options

# The wire on which thoughts can be shown.
WIRE = "chat_completions"


def showing(options: Options, exchange: Exchange) -> Showing | None:
    """What shows the thoughts of an answer; None if the person did not ask for that of this model."""
    if options.show is None or exchange.caller.endpoint.dialect != WIRE:
        return None
    if options.show.search(exchange.report.model) is None:
        return None
    return Showing(exchange.caller.fingerprints, options.show_as)


def restored_without(engine: Engine, body: bytes, caller: Caller) -> Exchange:
    """The exchange of a request, without the thoughts that were shown to its client.

    Raises as `Engine.restore` does.
    """
    left = unshown(body, caller.fingerprints) if caller.endpoint.dialect == WIRE else body
    exchange = engine.restore(left, caller, defers=True)
    if left is not body:
        exchange.is_changed = True
        exchange.report.remarks += ("thoughts that were shown are taken out",)
    return exchange


def show_whole(response: http.Response, how: Showing, is_stream: bool) -> None:
    """Show the thoughts of an answer that is here as a whole, if it can be read."""
    try:
        body = response.content
    except ValueError:
        return
    if body:
        response.content = how.feed(body) + how.end() if is_stream else how.whole(body)
