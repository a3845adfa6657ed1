"""Chat requests on their way through the proxy: which exchange a flow is, and what goes with it.

The one table of that is kept here, so that it outlives a reload of the script.
"""

import weakref

import msgspec
from mitmproxy import http

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.showing import Showing
from reasoning_fix.engine.tap import Tap
from reasoning_fix.proxy.stats.counting import Counted


class Passage(msgspec.Struct):
    """A request on its way.

    `counted` is where it is counted, `tap` what its answer passes through,
    `showing` what shows its thoughts. `is_retry`: it was sent by
    this proxy itself, in place of one that was refused. `is_given_up`: its answer is of no use to us.
    """

    exchange: Exchange
    counted: Counted | None = None
    tap: Tap | None = None
    showing: Showing | None = None
    is_retry: bool = False
    is_given_up: bool = False


_passing: "weakref.WeakKeyDictionary[http.HTTPFlow, Passage]" = weakref.WeakKeyDictionary()


def begin(flow: http.HTTPFlow, passage: Passage) -> None:
    """A request goes on its way."""
    _passing[flow] = passage


def of(flow: http.HTTPFlow) -> Passage | None:
    """What is on its way there."""
    return _passing.get(flow)


def end(flow: http.HTTPFlow) -> Passage | None:
    """It has arrived, or is given up."""
    return _passing.pop(flow, None)
