"""Tells a service manager that the proxy lives (sd_notify), from the event loop that does the work.

A loop that hangs sends nothing, and the manager starts the proxy again. The protocol is one datagram per
message to the socket that NOTIFY_SOCKET names:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping

from mitmproxy import ctx


def notify_address(environ: Mapping[str, str]) -> str | None:
    """Where messages go; None where nobody listens. A leading @ stands for the abstract namespace."""
    given = environ.get("NOTIFY_SOCKET", "")
    if given.startswith("@"):
        return "\0" + given[1:]
    return given if given.startswith("/") else None


def beat_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """How often to say WATCHDOG=1: half the time the manager waits; None if it does not wait for us."""
    limit = environ.get("WATCHDOG_USEC", "")
    if not limit.isdecimal() or int(limit) == 0 or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(limit) / 2_000_000


class Watchdog:
    """READY=1 once the proxy listens, WATCHDOG=1 while its event loop turns, STOPPING=1 at the end."""

    name = "reasoning_fix_watchdog"

    def __init__(self) -> None:
        self._address = notify_address(os.environ) if sys.platform != "win32" else None
        self._every = beat_seconds(os.environ, os.getpid())
        self._next: asyncio.TimerHandle | None = None

    def running(self) -> None:
        if self._address is None:
            return
        self._send("READY=1")
        if self._every is not None:
            self._beat()

    def done(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        # A reload of the script ends this addon, not the proxy.
        if ctx.master.should_exit.is_set():
            self._send("STOPPING=1")

    def _beat(self) -> None:
        assert self._every is not None
        self._send("WATCHDOG=1")
        self._next = asyncio.get_running_loop().call_later(self._every, self._beat)

    def _send(self, message: str) -> None:
        """A manager that does not listen, or is gone, is no reason to stop or to wait."""
        if self._address is None or sys.platform == "win32":
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(message.encode(), self._address)
