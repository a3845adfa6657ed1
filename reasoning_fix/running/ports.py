"""Who holds a port of this machine, and which one is free: for people whose proxy cannot have it."""

import contextlib
import errno
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from reasoning_fix.machine import plan
from reasoning_fix.machine.plan import Run
from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.probing import ask_health

_TRIED = 100
_LISTENS = "0A"


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already. An address that is not this machine's counts as free: mitmproxy
    says what is wrong with it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tried:
        if sys.platform != "win32":
            # As servers do: a connection that has just ended holds no port.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def next_free(host: str, port: int) -> int | None:
    """The next port after this one that is free; None if none is near."""
    return next((p for p in range(port + 1, min(port + _TRIED, 65536)) if not is_taken(host, p)), None)


def holder(host: str, port: int, run: Run = plan.run) -> str:
    """Who listens there, as far as this user may know."""
    health = ask_health(host, port, 1.0)
    if isinstance(health, Health):
        return f"a reasoning-fix proxy (version {health.version}, process {health.pid})"
    match sys.platform:
        case "win32":
            found = next(_by_netstat(port, run), None)
        case "linux":
            found = next(_by_proc(port), None)
        case _:
            found = next(_by_lsof(port, run), None)
    return f"{found[1]} (process {found[0]})" if found else "another program"


def _by_proc(port: int, root: Path = Path("/proc")) -> Iterator[tuple[int, str]]:
    """Linux: the process that has the socket open; only its own user and root may look
    (https://man7.org/linux/man-pages/man5/proc_pid_net.5.html).
    """
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (root / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    for process in root.glob("[0-9]*") if sockets else ():
        with contextlib.suppress(OSError):
            if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                yield int(process.name), (process / "comm").read_text().strip()


def _by_lsof(port: int, run: Run) -> Iterator[tuple[int, str]]:
    """macOS and BSD: a line `p` with the process, and then one `c` with its name."""
    said = run(("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc")).text
    for process, name in re.findall(r"^p(\d+)\nc(.+)$", said, re.MULTILINE):
        yield int(process), name


def _by_netstat(port: int, run: Run) -> Iterator[tuple[int, str]]:
    """Windows: netstat has the process, tasklist its name."""
    for local, process in re.findall(
        r"^\s*TCP\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s*$", run(("netstat", "-ano", "-p", "TCP")).text, re.MULTILINE
    ):
        if local.endswith(f":{port}"):
            listed = run(("tasklist", "/FI", f"PID eq {process}", "/FO", "CSV", "/NH")).text
            name = re.match(r'\s*"([^"]+)"', listed)
            yield int(process), name[1] if name else "a program"
