"""Keeps to the person's NO_PROXY behind us: requests to such hosts bypass the upstream proxy."""

from mitmproxy import connection, http

from reasoning_fix.machine.upstream import Upstream


class DirectHosts:
    """In upstream mode, sends requests to hosts that NO_PROXY names to the host itself."""

    name = "reasoning_fix_direct_hosts"

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response or flow.server_conn.via is None or not self._upstream.bypasses(flow.request.host):
            return
        # A new connection: the one at hand may lead through the upstream proxy already.
        flow.server_conn = connection.Server(address=flow.server_conn.address)
