"""Who holds a port, as three systems tell it."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from reasoning_fix.machine.plan import Done
from reasoning_fix.running.ports import _by_lsof, _by_netstat, _by_proc, holder, is_taken, next_free

LSOF = "p4711\ncpython3.12\np4711\ncpython3.12\n"
NETSTAT = """
Active Connections

  Proto  Local Address          Foreign Address        State           PID
  TCP    127.0.0.1:8080         0.0.0.0:0              LISTENING       4711
  TCP    127.0.0.1:18080        0.0.0.0:0              LISTENING       4712
  TCP    [::1]:8081             [::]:0                 LISTENING       4713
"""
TASKLIST = '"python.exe","4711","Console","1","12,345 K"\n'


def test_a_taken_port_and_the_next_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert is_taken("127.0.0.1", port)
        free = next_free("127.0.0.1", port)
        assert free is not None and port < free and not is_taken("127.0.0.1", free)
    assert not is_taken("192.0.2.1", 8080), "an address of another machine is not taken: it cannot be had"
    assert next_free("127.0.0.1", 65535) is None


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_the_process_that_has_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert holder("127.0.0.1", port).endswith(f"(process {os.getpid()})")
        assert [process for process, _ in _by_proc(port)] == [os.getpid()]


def test_nobody_that_may_be_seen(tmp_path: Path) -> None:
    assert list(_by_proc(8080, tmp_path)) == []
    assert list(_by_lsof(8080, lambda argv: Done(127))) == []
    assert list(_by_netstat(8080, lambda argv: Done(127))) == []


def test_what_lsof_says() -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Done:
        asked.append(argv)
        return Done(0, LSOF)

    assert next(_by_lsof(8080, run)) == (4711, "python3.12")
    assert "-iTCP:8080" in asked[0]


@pytest.mark.parametrize(
    ("port", "expected"), [(8080, [(4711, "python.exe")]), (8081, [(4713, "python.exe")]), (80, [])]
)
def test_what_netstat_says(port: int, expected: list[tuple[int, str]]) -> None:
    found = _by_netstat(port, lambda argv: Done(0, NETSTAT if argv[0] == "netstat" else TASKLIST))
    assert list(found) == expected
