"""See it work, in ten seconds and without a key: the refusal, and the same conversation through the proxy.

The provider is an example on this machine that demands its reasoning back as DeepSeek does; nothing reaches
the network, and nothing is left behind.

  reasoning-fix try
  reasoning-fix try && reasoning-fix exec -- opencode

Exit codes: 0 it works here; 1 it does not; 2 used wrongly.
"""

import argparse
import http.client
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from reasoning_fix.cli.execute import ourselves
from reasoning_fix.machine.environment import undone
from reasoning_fix.running.example import CALL, HOST, MODEL, PATH, Example
from reasoning_fix.running.probe import READY

type Connect = Callable[[], http.client.HTTPConnection]
type Message = dict[str, Any]

_SECONDS = 30.0
_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
_QUESTION = "Do I need an umbrella in Zürich?"
# To a name that does not lead to this machine by itself.
_ROUTE = """
def server_connect(data):
    data.server.address = ("127.0.0.1", {port})
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(arguments: argparse.Namespace) -> int:
    """Show both; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="reasoning-fix-") as folder:
        provider = Example(Path(folder))
        try:
            print("Without the proxy:")
            refused = not _converse(lambda: _direct(provider))
            print("\nThrough the proxy:")
            worked = _through_proxy(provider, Path(folder))
        finally:
            provider.close()
    print(
        "\nIt works here. Next: `reasoning-fix exec -- PROGRAM`."
        if refused and worked
        else "\nThat is not right."
    )
    return 0 if refused and worked else 1


def _through_proxy(provider: Example, folder: Path) -> bool:
    route = folder / "route.py"
    route.write_text(_ROUTE.format(port=provider.port))
    options = {
        "confdir": folder / "proxy",
        "ssl_verify_upstream_trusted_ca": provider.ca,
        "reasoning_store": folder / "turns.sqlite3",
        "termlog_verbosity": "error",
    }
    words = [
        "run",
        "--attached",
        str(os.getpid()),
        "--listen-host",
        "127.0.0.1",
        "--port",
        "0",
        "-s",
        str(route),
    ]
    words += [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    proxy = subprocess.Popen(
        ourselves(words), env=undone(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert proxy.stdout is not None
        port = next((line.removeprefix(READY) for line in proxy.stdout if line.startswith(READY)), "")
        if not port:
            print("  the proxy did not start", file=sys.stderr)
            return False
        authority = folder / "proxy" / "mitmproxy-ca-cert.pem"
        if not _converse(lambda: _proxied(int(port), authority)):
            return False
    finally:
        proxy.terminate()
        proxy.communicate(timeout=_SECONDS)
    returned = provider.received[-1][1].get("reasoning_content")
    print(f"  The provider got back: {returned!r}")
    return True


def _direct(provider: Example) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(HOST, timeout=_SECONDS)
    raw = socket.create_connection(("127.0.0.1", provider.port), _SECONDS)
    context = ssl.create_default_context(cafile=str(provider.ca))
    connection.sock = context.wrap_socket(raw, server_hostname=HOST)
    return connection


def _proxied(port: int, authority: Path) -> http.client.HTTPConnection:
    context = ssl.create_default_context(cafile=str(authority))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=context)
    connection.set_tunnel(HOST, 443)
    return connection


def _converse(connect: Connect) -> bool:
    """A question with one tool call, by a client that keeps role, content and tool calls only."""
    history: list[Message] = [{"role": "user", "content": _QUESTION}]
    print(f"  user       {_QUESTION}")
    said = _asked(connect, history)
    function = CALL["function"]
    print(
        f"  assistant  calls {function['name']}({function['arguments']})   [the client drops its reasoning]"
    )
    history.append({name: said[name] for name in ("role", "content", "tool_calls")})
    history.append({"role": "tool", "tool_call_id": CALL["id"], "content": "21 °C, dry"})
    print("  tool       21 °C, dry")
    said = _asked(connect, history)
    if "role" not in said:
        print(f"  HTTP 400   {said['message']}")
        return False
    print(f"  assistant  {said['content']}")
    return True


def _asked(connect: Connect, history: list[Message]) -> Message:
    """The message of the answer, or the error."""
    body = msgspec.json.encode({"model": MODEL, "messages": history, "tools": _TOOLS})
    connection = connect()
    try:
        headers = {"content-type": "application/json", "authorization": "Bearer sk-example"}
        connection.request("POST", PATH, body, headers)
        answer = msgspec.json.decode(connection.getresponse().read())
    finally:
        connection.close()
    found: Message = answer["error"] if "error" in answer else answer["choices"][0]["message"]
    return found
