"""A proxy that belongs to one program: it says when it is ready, and ends when the program does.

`exec` starts it, reads the ready line, and becomes the program: nothing stands between the program and its
terminal, its signals and its exit code. So the proxy watches from outside: on Linux by pidfd, on macOS and
BSD by kqueue, on Windows (where `exec` stays, as a process cannot become another) by the end of its standard
input.
"""

import contextlib
import os
import select
import sys
import threading
import time

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver

from reasoning_fix.running.first_repair import FirstRepair
from reasoning_fix.running.probe import READY


class Attached:
    """Prints `READY PORT` when it listens; shuts the proxy down when the process `owner` has ended.

    `terminal` is a file descriptor to say on, once, that the proxy has been of use.
    """

    name = "reasoning_fix_attached"

    def __init__(self, owner: int, terminal: int | None = None) -> None:
        self._owner = owner
        self._terminal = terminal

    def running(self) -> None:
        master = ctx.master
        server: Proxyserver = ctx.master.addons.lookup["proxyserver"]
        port = next((address[1] for address in server.listen_addrs()), 0)
        repair = None if self._terminal is None else FirstRepair(self._terminal, port)

        def watch() -> None:
            wait_for_end(self._owner)
            if repair is not None:
                repair.end()
            with contextlib.suppress(RuntimeError):  # it is ending already
                master.shutdown()  # type: ignore[no-untyped-call]

        threading.Thread(target=watch, name="owner", daemon=True).start()
        print(f"{READY}{port}", flush=True)
        # The reader of that line goes away; what follows joins standard error, which is a log file.
        os.dup2(2, 1)


def wait_for_end(process: int) -> None:
    """Returns when this process is no more; at once if it is not there."""
    if sys.platform == "win32":
        sys.stdin.buffer.read()
    elif sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            return
        except OSError:  # a kernel before 5.3
            _poll(process)
            return
        select.select([descriptor], [], [])
        os.close(descriptor)
    else:
        queue = select.kqueue()
        ends = select.kevent(process, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        with contextlib.suppress(ProcessLookupError):
            queue.control([ends], 1)


def _poll(process: int) -> None:
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        time.sleep(0.5)
