"""What the commands share: looking ahead at options, the probe, whom a proxy belongs to. Tables of cases."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from reasoning_fix.proxy.health import Counts, Health, StoreState
from reasoning_fix.running.attached import wait_for_end
from reasoning_fix.running.command_line import look_ahead
from reasoning_fix.running.probe import answers


@pytest.mark.parametrize(
    ("words", "config", "name", "expected"),
    [
        ([], "", "listen_port", []),
        (["-p", "81"], "", "listen_port", ["81"]),
        (["--listen-port=81"], "listen_port: 82", "listen_port", ["81"]),
        (["--set", "listen_port=83"], "listen_port: 82", "listen_port", ["83"]),
        (["--set", "listen_port=83", "-p", "81"], "", "listen_port", ["81"]),
        (["-m", "socks5", "--mode", "regular"], "mode: [upstream:http://a]", "mode", ["socks5", "regular"]),
        ([], "mode: [upstream:http://a, regular]", "mode", ["upstream:http://a", "regular"]),
        (["--set", "mode=a", "--set", "mode=b"], "", "mode", ["a", "b"]),
        (["~d x", "-s", "a.py", "--mode", "socks5"], "", "mode", ["socks5"]),
        (["-p"], "", "listen_port", []),
        ([], "mode: [", "mode", []),
        ([], "just words", "mode", []),
    ],
)
def test_looking_ahead(words: list[str], config: str, name: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config)
    assert look_ahead(words, tmp_path).every(name) == expected


@pytest.mark.parametrize(
    ("words", "config", "expected"),
    [
        ([], "", 8080),
        ([], "listen_port: 82", 82),
        (["-p", "x"], "", 8080),
        (["-p", "0"], "listen_port: 82", 0),
    ],
)
def test_the_port(words: list[str], config: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(config)
    assert look_ahead(words, tmp_path).port() == expected


def test_an_explicit_confdir_is_where_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("listen_port: 82")
    given = look_ahead(["--set", f"confdir={tmp_path}"], Path("/elsewhere"))
    assert (given.confdir, given.port()) == (tmp_path, 82)


# ---- The probe -------------------------------------------------------------------------------------------


class Page(http.server.BaseHTTPRequestHandler):
    status = 200
    body = b"{}"
    asked = ""

    def do_GET(self) -> None:
        type(self).asked = self.path
        self.send_response(type(self).status)
        self.send_header("content-length", str(len(type(self).body)))
        self.end_headers()
        self.wfile.write(type(self).body)

    def log_message(self, *_: object) -> None:
        pass


def healthy(fingerprint: str) -> bytes:
    """What the health page of a proxy with this CA says."""
    return msgspec.json.encode(
        Health(
            status="ok",
            version="0",
            mitmproxy="12",
            python="3.12",
            pid=1,
            uptime_seconds=1.0,
            listening=[],
            counts=Counts(),
            store=StoreState("memory", "", True),
            ca_sha256=fingerprint,
            ca_expires="",
        )
    )


@pytest.fixture
def page() -> Iterator[tuple[type[Page], str]]:
    kind = type("OnePage", (Page,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield kind, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "fingerprint", "expected"),
    [
        (200, healthy(""), "", True),
        (200, healthy(""), "AB12", True),
        (200, healthy("AB:12"), "ab12", True),
        (200, healthy("AB:13"), "AB12", False),
        (200, b'{"status": "ok"}', "", False),
        (200, b"[]", "", False),
        (200, b"<html>", "", False),
        (200, b"", "", False),
        (502, healthy(""), "", False),
        (407, b"{}", "", False),
    ],
)
def test_what_is_a_proxy_of_ours(
    page: tuple[type[Page], str], status: int, body: bytes, fingerprint: str, expected: bool
) -> None:
    kind, address = page
    kind.status, kind.body = status, body
    assert answers(address, fingerprint) is expected
    assert kind.asked == "http://reasoning.fix/health", "asked as a proxy is"


def test_where_nothing_listens() -> None:
    assert not answers("127.0.0.1:1")


# ---- Until the program ends ------------------------------------------------------------------------------


def test_it_waits_until_a_process_ends() -> None:
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended = threading.Event()

    def wait() -> None:
        wait_for_end(program.pid)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not ended.wait(0.2)
    assert program.stdin is not None
    program.stdin.close()
    assert ended.wait(10)
    program.wait()


def test_a_process_that_is_gone_has_ended() -> None:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    wait_for_end(program.pid)
