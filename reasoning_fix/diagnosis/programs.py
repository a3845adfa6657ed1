"""What runs here: Python, mitmproxy, and what listens at the proxy's port."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from reasoning_fix.diagnosis import Finding, fail, ok
from reasoning_fix.machine.plan import Run
from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.probing import NOTHING

# As in pyproject.toml: requires-python, and the range of mitmproxy.
OLDEST_PYTHON = (3, 12)
OLDEST_MITMPROXY, FIRST_UNKNOWN_MITMPROXY = (12, 2), (13,)
_LISTEN = "0A"


class Owner(msgspec.Struct, frozen=True):
    """Who listens at a port; 0 where the process belongs to somebody else and cannot be seen."""

    pid: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'process'} (process {self.pid})" if self.pid else "a program of another user"


def python_version(found: Sequence[int]) -> Finding:
    version = ".".join(map(str, found[:3]))
    if tuple(found[:2]) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return fail("python", f"{version} is too old", f"use Python {oldest} or newer")
    return ok("python", version)


def mitmproxy_version(found: str) -> Finding:
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not numbers >= OLDEST_MITMPROXY or numbers >= FIRST_UNKNOWN_MITMPROXY:
        return fail("mitmproxy", f"{found} is not one this works with", 'pip install "mitmproxy>=12.2,<13"')
    return ok("mitmproxy", found)


def port(address: str, answer: Health | str, owners: Sequence[Owner]) -> Finding:
    """Whether the port is the proxy's, or free for it."""
    if isinstance(answer, Health):
        return ok("port", f"{address} is reasoning-fix {answer.version} (process {answer.pid})")
    if answer == NOTHING and not owners:
        return ok("port", f"{address} is free")
    whom = ", ".join(str(owner) for owner in owners) or "another program"
    return fail(
        "port",
        f"{address} is taken by {whom}, which is not this proxy ({answer})",
        "end that program, or use another port: `reasoning-fix run --listen-port PORT`",
    )


def owners_by_proc(number: int, proc: Path = Path("/proc")) -> list[Owner]:
    """Linux: who listens at a TCP port, by the kernel's tables (`man 5 proc`)."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == number:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return []
    found = []
    for process in proc.glob("[0-9]*"):
        try:
            if any(os.readlink(handle) in inodes for handle in (process / "fd").iterdir()):
                found.append(Owner(int(process.name), (process / "comm").read_text().strip()))
        except OSError:
            continue
    return sorted(found, key=lambda owner: owner.pid) or [Owner(0)]


def owners_by_lsof(number: int, run: Run) -> list[Owner]:
    """macOS: the same by lsof, whose -F output has one field per line (`man lsof`)."""
    ended = run(("lsof", "-nP", f"-iTCP:{number}", "-sTCP:LISTEN", "-Fpc"))
    found: list[Owner] = []
    for line in ended.text.splitlines():
        if line.startswith("p"):
            found.append(Owner(int(line[1:])))
        elif line.startswith("c") and found:
            found[-1] = Owner(found[-1].pid, line[1:])
    return found


def owners_by_netstat(number: int, run: Run) -> list[Owner]:
    """Windows: the same by netstat and tasklist. A listening socket has no peer; its word is translated."""
    found: list[Owner] = []
    for line in run(("netstat", "-ano", "-p", "TCP")).text.splitlines():
        fields = line.split()
        if len(fields) < 5 or fields[2] not in ("0.0.0.0:0", "[::]:0"):
            continue
        if fields[1].rpartition(":")[2] == str(number) and fields[-1].isdecimal():
            listed = run(("tasklist", "/FI", f"PID eq {fields[-1]}", "/FO", "CSV", "/NH")).text
            match = re.match(r'\s*"([^"]+)"', listed)
            found.append(Owner(int(fields[-1]), match[1] if match else ""))
    return list(dict.fromkeys(found))
