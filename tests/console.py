"""The console command as a person calls it, in a home of its own whose proxies reach only the simulator.

The way upstream is what a person would write into config.yaml: a script that leads every connection to
loopback, and the CA to trust there. `exec` starts its own proxy, so nothing else would reach it.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.mitmdump import TROUBLE, Upstream

SECONDS = 30.0
_FOLDERS = {
    "HOME": "",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
}
# `exec` and `env` set these, and the machine that runs the tests may have some of its own.
_NOT_INHERITED = re.compile(r"proxy|_CA_|^SSL_|_CERT|CAINFO|CA_CERTS|SSL_ROOTS|^REASONING_FIX", re.IGNORECASE)
_ROUTE = """
import os
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

def server_connect(data: ServerConnectionHookData) -> None:
    if data.server.address[0] != "127.0.0.1":
        data.server.address = ("127.0.0.1", {port})
"""


def measured() -> dict[str, str]:
    """By what `scripts/test --coverage` measures a process, for one with an environment of its own."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


class Home:
    """A person's home: files of theirs, and commands that are run in it."""

    def __init__(self, folder: Path, provider: Upstream) -> None:
        self.folder = folder
        self.confdir = folder / ".config" / "reasoning-fix"
        self.confdir.mkdir(parents=True)
        self.ca = self.confdir / "mitmproxy-ca-cert.pem"
        (self.confdir / "route.py").write_text(_ROUTE.replace("{port}", str(provider.port)))
        self.config = {"scripts": "[route.py]", "ssl_verify_upstream_trusted_ca": str(provider.ca)}
        self.configure()

    def configure(self, **options: str) -> None:
        """Writes config.yaml: these options (YAML texts) besides the way upstream."""
        self.config |= options
        text = "".join(f"{name}: {value}\n" for name, value in self.config.items())
        (self.confdir / "config.yaml").write_text(text)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.search(name)}
        folders = {name: str(self.folder / folder) for name, folder in _FOLDERS.items()}
        return kept | folders | {"PYTHONUNBUFFERED": "1"} | dict(more or {})

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "reasoning_fix", *words]

    def run(
        self, *words: str, given: str | None = None, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """One command to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(variables),
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def exec_log(self) -> str:
        path = self.folder / ".local" / "state" / "reasoning-fix" / "log" / "exec.log"
        return path.read_text() if path.exists() else ""


class Command:
    """One command that goes on running; `lines` is its output so far."""

    def __init__(self, home: Home, *words: str, **variables: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            home.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=home.environment(variables),
            cwd=home.folder,
        )
        self._reader = threading.Thread(target=self._drain, name="command output", daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        end = time.monotonic() + seconds
        while True:
            if match := re.search(pattern, self.output):
                return match
            if time.monotonic() > end or (self.process.poll() is not None and not self._reader.is_alive()):
                raise AssertionError(f"no {pattern!r} in:\n{self.output}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it as Ctrl-C does, and complains about anything that went wrong in it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it did not stop:\n{self.output}") from None
        finally:
            self._reader.join(5)
        assert not any(word in self.output for word in TROUBLE), self.output


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_closed(port: int, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while is_open(port):
        assert time.monotonic() < end, f"port {port} is still open"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no connection gets for its own end meanwhile (as those that the
    system chooses may).
    """
    with contextlib.ExitStack() as open_together:
        found: list[int] = []
        while len(found) < count:
            port = random.SystemRandom().randrange(10_000, 32_000)
            with contextlib.suppress(OSError):
                open_together.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found
