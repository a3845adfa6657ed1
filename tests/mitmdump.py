"""A real mitmdump process with the addon, in a home of its own, and clients that go through it.

Every upstream connection goes to the provider simulator, whose CA is the only one the proxy trusts.
"""

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import anthropic
import openai

from tests import ROOT
from tests.provider.simulator import BY_HOST, Simulator

ADDON = ROOT / "reasoning_fix" / "addon.py"
START_SECONDS = 20.0
TROUBLE = ("mitmproxy has crashed", "Addon error", "Traceback")
_FOLDERS = {
    "HOME": "",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
}
_ROUTE = """
import os
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

def server_connect(data: ServerConnectionHookData) -> None:
    data.server.address = ("127.0.0.1", int(os.environ["SIMULATOR_PORT"]))
"""


class Upstream(Protocol):
    """Where every upstream connection goes: a port on loopback, and the CA of its certificate."""

    ca: Path
    port: int


class Proxy:
    """One process of mitmdump, or of another `program` of mitmproxy.

    `lines` is its output so far; `home` outlives it and may serve the next one.
    """

    def __init__(
        self,
        provider: Upstream,
        home: Path,
        *arguments: str,
        addon: bool = True,
        under: Sequence[str] = (),
        program: str = "mitmdump",
    ) -> None:
        """`under` is a program that starts mitmdump, on a port that stays the same."""
        self.home = home
        self.ca = home / "mitmproxy" / "mitmproxy-ca-cert.pem"
        self.lines: list[str] = []
        self.clients: list[openai.OpenAI | anthropic.Anthropic] = []
        home.mkdir(parents=True, exist_ok=True)
        route = home / "route.py"
        route.write_text(_ROUTE)
        start = f"from mitmproxy.tools.main import {program} as run; run()"
        command = [*under, sys.executable, "-c", start]
        command += [
            "--listen-host",
            "127.0.0.1",
            "--listen-port",
            str(_free_port() if under else 0),
            "--set",
            f"confdir={home / 'mitmproxy'}",
        ]
        command += ["--set", f"ssl_verify_upstream_trusted_ca={provider.ca}"]
        command += [*(("-s", str(ADDON)) if addon else ()), "-s", str(route), *arguments]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {name: str(home / folder) for name, folder in _FOLDERS.items()}
        environment |= {"SIMULATOR_PORT": str(provider.port), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=home
        )
        self._reader = threading.Thread(target=self._drain, name="proxy output", daemon=True)
        self._reader.start()
        line = self.wait_for(r"proxy.* listening at .*:(\d+)", START_SECONDS)
        self.port = int(line[1])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The status that the process ended with by now; None while it runs."""
        return self._process.poll()

    def _drain(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    def wait_for(self, pattern: str, seconds: float = 3.0, after: int = 0) -> re.Match[str]:
        """The first match in the output from line `after` on; waits for it."""
        end = time.monotonic() + seconds
        while True:
            if match := re.search(pattern, "".join(self.lines[after:])):
                return match
            if time.monotonic() > end or (self._process.poll() is not None and not self._reader.is_alive()):
                output = "".join(self.lines[after:])
                raise AssertionError(f"no line with {pattern!r} from mitmdump within {seconds} s:\n{output}")
            time.sleep(0.01)

    def _wait_until_idle(self, seconds: float) -> None:
        """Python 3.12.1 prints a traceback of its own for each connection that is open at the end.

        https://github.com/python/cpython/pull/113690
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            output = "".join(self.lines)
            if output.count("] client connect\n") == output.count("] client disconnect\n"):
                return
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process as Ctrl-C does, and complain about anything that went wrong in it."""
        for api in self.clients:
            api.close()
        self.clients.clear()
        if self._process.poll() is None:
            self._wait_until_idle(2.0)
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError("mitmdump did not stop within 10 s of SIGINT") from None
        finally:
            self._reader.join(5)
        output = "".join(self.lines)
        assert not any(word in output for word in TROUBLE), output


def client(
    proxy: Proxy, host: str, key: str, base_url: str = "", headers: Mapping[str, str] | None = None
) -> openai.OpenAI:
    """The official client (chat and Responses), through the proxy, trusting only the proxy's CA.

    It never repeats a request. `base_url`: another than the host's first, e.g. of OpenCode's other plan.
    """
    http_client = openai.DefaultHttpxClient(proxy=proxy.url, verify=_trusting(proxy.ca), trust_env=False)
    api = _openai(base_url or BY_HOST[host].base_url, key, http_client, headers)
    proxy.clients.append(api)
    return api


def messages_client(
    proxy: Proxy, host: str, key: str, base_url: str = "", headers: Mapping[str, str] | None = None
) -> anthropic.Anthropic:
    """The official Anthropic client, through the proxy; as `client`."""
    http_client = anthropic.DefaultHttpxClient(proxy=proxy.url, verify=_trusting(proxy.ca), trust_env=False)
    api = _anthropic(base_url or BY_HOST[host].messages_url, key, http_client, headers)
    proxy.clients.append(api)
    return api


def direct_client(
    provider: Simulator, host: str, key: str, base_url: str = "", headers: Mapping[str, str] | None = None
) -> openai.OpenAI:
    """The official client, straight to the simulator (on loopback, hence a tunnel to it)."""
    url, verify = tunnel(provider), _trusting(provider.ca)
    http_client = openai.DefaultHttpxClient(proxy=url, verify=verify, trust_env=False)
    return _openai(base_url or BY_HOST[host].base_url, key, http_client, headers)


def direct_messages_client(
    provider: Simulator, host: str, key: str, base_url: str = "", headers: Mapping[str, str] | None = None
) -> anthropic.Anthropic:
    """The official Anthropic client, straight to the simulator."""
    url, verify = tunnel(provider), _trusting(provider.ca)
    http_client = anthropic.DefaultHttpxClient(proxy=url, verify=verify, trust_env=False)
    return _anthropic(base_url or BY_HOST[host].messages_url, key, http_client, headers)


def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


def _openai(
    base_url: str, key: str, http_client: openai.DefaultHttpxClient, headers: Mapping[str, str] | None
) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=base_url,
        api_key=key,
        http_client=http_client,
        default_headers=headers,
        max_retries=0,
        timeout=20,
    )


def _anthropic(
    base_url: str, key: str, http_client: anthropic.DefaultHttpxClient, headers: Mapping[str, str] | None
) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=base_url,
        api_key=key,
        http_client=http_client,
        default_headers=headers,
        max_retries=0,
        timeout=20,
    )


def raw_post(
    proxy: Proxy,
    host: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    ca: Path | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Exactly these bytes through the proxy: status, headers (lower case), body as it came (not decoded).

    Only the CA is trusted that is given, or the proxy's own.
    """
    connection = open_connection(proxy, host, ca)
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def open_connection(proxy: Proxy, host: str, ca: Path | None = None) -> http.client.HTTPSConnection:
    address = urlsplit(proxy.url)
    assert address.hostname is not None
    trusted = ssl.create_default_context(cafile=str(ca or proxy.ca))
    connection = http.client.HTTPSConnection(address.hostname, address.port, context=trusted, timeout=20)
    connection.set_tunnel(host, 443)
    return connection


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_tunnels: dict[int, str] = {}


def tunnel(provider: Simulator) -> str:
    """The URL of a CONNECT door that leads every name to the simulator, without touching a byte."""
    if provider.port not in _tunnels:
        _tunnels[provider.port] = f"http://127.0.0.1:{_open_tunnel(provider.port)}"
    return _tunnels[provider.port]


def _open_tunnel(target: int) -> int:
    opened = threading.Event()
    port = 0

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        upstream, downstream = await asyncio.open_connection("127.0.0.1", target)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(copy(reader, downstream), copy(upstream, writer))

    async def run() -> None:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        opened.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), name="tunnel", daemon=True).start()
    assert opened.wait(5), "the tunnel did not open within 5 s"
    return port
