"""The processes of a run: the provider, the clients, and mitmdump in three kinds, all up at the same time."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from tests.mitmdump import Proxy

HERE = Path(__file__).resolve().parent
HOST = "api.deepseek.com"
# The fastest thing that mitmproxy can do with a stream short of holding it back to its end.
_PASS_THROUGH = """
def responseheaders(flow):
    if "event-stream" in flow.response.headers.get("content-type", ""):
        flow.response.stream = lambda data: data
"""


class Provider:
    """The provider's process; `ca` is its certificate authority, `port` its port."""

    def __init__(self, home: Path) -> None:
        authority = trustme.CA(organization_name="bench provider")
        self.ca = home / "provider-ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(home / "provider.pem")
        command = [sys.executable, str(HERE / "provider.py"), str(home / "provider.pem")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())


class Kind:
    """One kind of mitmdump, as the clients' commands name it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.pid = proxy.pid
        self.place = {"port": proxy.port, "ca": str(proxy.ca)}


class Setting:
    """Everything that runs beside the bench; use it in a `with` statement."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running = contextlib.ExitStack()
        self._provider = Provider(home)
        self._running.callback(self._provider.process.kill)
        self._load = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._running.callback(self._end_load)
        pass_through = home / "pass_through.py"
        pass_through.write_text(_PASS_THROUGH)
        try:
            self.addon = self._start("addon", addon=True)
            self.pass_through = self._start("pass_through", "-s", str(pass_through), addon=False)
            self.bare = self._start("bare", addon=False)
        except BaseException:
            self._running.close()
            raise

    def fresh(self) -> Kind:
        """One more mitmdump with the addon, with a home of its own."""
        return self._start("fresh", addon=True)

    def _start(self, name: str, *arguments: str, addon: bool) -> Kind:
        quiet = ("--set", "flow_detail=0")
        proxy = Proxy(self._provider, self.home / name, *quiet, *arguments, addon=addon)
        self._running.callback(proxy.stop)
        return Kind(proxy)

    def do(self, command: str, kind: Kind, **arguments: object) -> Any:
        """Let the clients carry out a command through one kind of mitmdump."""
        assert self._load.stdin is not None and self._load.stdout is not None
        self._load.stdin.write(json.dumps({"do": command, **kind.place, **arguments}) + "\n")
        self._load.stdin.flush()
        line = self._load.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients' process ended at {command!r}; see its message above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._end_load()  # so that no proxy waits for its connections
        self._running.close()

    def _end_load(self) -> None:
        assert self._load.stdin is not None
        self._load.stdin.close()
        try:
            self._load.wait(5)
        except subprocess.TimeoutExpired:
            self._load.kill()


def cpu_seconds(pid: int) -> float | None:
    """CPU that a process has used, in steps of 10 ms; None if the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Memory of a process that is in RAM."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        said = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
        )
        return int(said.stdout) * 1024 / 1e6
