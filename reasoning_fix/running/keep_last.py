"""Bounds what mitmweb remembers: the last flows only, so that it can be left on."""

from collections.abc import Sequence

from mitmproxy import ctx, flow


class KeepLast:
    """Removes the oldest finished flows beyond the last `kept` (0: keeps all); a flow in progress stays.

    The view is asked for all its flows at each end of one: O(kept), microseconds for a thousand.
    """

    name = "reasoning_fix_keep_last"

    def __init__(self, kept: int) -> None:
        self._kept = kept

    def response(self, _: flow.Flow) -> None:
        if not self._kept:
            return
        flows: Sequence[flow.Flow] = ctx.master.commands.call("view.flows.resolve", "@all")
        excess = len(flows) - self._kept
        if excess <= 0:
            return
        oldest = sorted(flows, key=lambda each: each.timestamp_created)[:excess]
        ctx.master.commands.call("view.flows.remove", [each for each in oldest if not each.live])

    error = tcp_end = tcp_error = udp_end = udp_error = response
