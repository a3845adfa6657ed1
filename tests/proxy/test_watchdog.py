"""What a service manager hears: a real mitmdump with the addon, and a socket in the manager's place."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoning_fix.proxy.watchdog import Watchdog, beat_seconds, notify_address
from tests.conftest import StartProxy

PATIENCE = 20.0


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)

    def hear(self) -> str:
        return self.socket.recv(4096).decode()

    def hears_nothing_for(self, seconds: float) -> bool:
        """Nothing arrives from now on; what is already on its way is not counted."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        return False


@pytest.fixture
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    name = (
        f"\0reasoning-fix-{os.getpid()}"
        if getattr(request, "param", "") == "abstract"
        else str(tmp_path / "notify")
    )
    listening = Manager(name)
    monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
    yield listening
    listening.socket.close()


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_the_manager_hears_of_the_start_the_life_and_the_end(
    manager: Manager, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    proxy = start_proxy()
    assert manager.hear() == "READY=1"
    assert [manager.hear() for _ in range(5)] == ["WATCHDOG=1"] * 5
    proxy.stop()
    heard = manager.hear()
    while heard == "WATCHDOG=1":
        heard = manager.hear()
    assert heard == "STOPPING=1"
    assert manager.hears_nothing_for(0.2)


def test_an_event_loop_that_hangs_says_nothing(
    manager: Manager, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    script, hung, freed = tmp_path / "hang.py", tmp_path / "hung", tmp_path / "freed"
    script.write_text(
        "import pathlib, time\n"
        f"hung, freed = pathlib.Path({str(hung)!r}), pathlib.Path({str(freed)!r})\n"
        "def client_connected(client):\n"
        "    hung.touch()\n"
        "    while not freed.exists():\n"
        "        time.sleep(0.01)\n"
    )
    proxy = start_proxy("-s", str(script))
    assert manager.hear() == "READY=1" and manager.hear() == "WATCHDOG=1"
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE):
        end = time.monotonic() + PATIENCE
        while not hung.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert manager.hears_nothing_for(0.3)
        freed.touch()
        assert manager.hear() == "WATCHDOG=1"


def test_a_reload_of_the_script_is_not_the_end(
    manager: Manager, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    copy = tmp_path / "copy.py"
    copy.write_text(
        "from reasoning_fix.proxy.watchdog import Watchdog\naddons = [Watchdog()]\naddons[0].name = 'w'\n"
    )
    start_proxy("-s", str(copy))
    assert _heard_until_ready(manager, times=2) == 0
    later = time.time() + 60
    os.utime(copy, (later, later))
    assert _heard_until_ready(manager, times=1) == 0


def _heard_until_ready(manager: Manager, times: int) -> int:
    """How often STOPPING=1 comes before READY=1 has come so many times."""
    stopping = 0
    end = time.monotonic() + PATIENCE
    while times:
        assert time.monotonic() < end
        heard = manager.hear()
        times -= heard == "READY=1"
        stopping += heard == "STOPPING=1"
    return stopping


def test_without_a_watchdog_only_the_start_is_told(manager: Manager, start_proxy: StartProxy) -> None:
    start_proxy()
    assert manager.hear() == "READY=1"
    assert manager.hears_nothing_for(0.3)


def test_a_manager_that_is_gone_harms_nobody(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "10000")
    start_proxy().wait_for("reasoning-fix is ready")


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    Watchdog().running()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_beat_is_half_of_what_the_manager_waits(environ: dict[str, str], seconds: float | None) -> None:
    assert beat_seconds(environ, 7) == seconds


@pytest.mark.parametrize(
    ("given", "address"),
    [("", None), ("/run/x", "/run/x"), ("@x", "\0x"), ("vsock:2:1234", None)],
)
def test_where_messages_go(given: str, address: str | None) -> None:
    assert notify_address({"NOTIFY_SOCKET": given}) == address
    assert notify_address({}) is None
