"""The pages at http://reasoning.fix/ through a real proxy: what they say, and what nobody can do there."""

import asyncio
import hashlib
import http.client
import json
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from mitmproxy import http as mitm_http
from mitmproxy.certs import CertStore
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow, tutils

from reasoning_fix import __version__
from reasoning_fix.proxy import front_page
from reasoning_fix.proxy.health import Counts, Health, StoreState
from reasoning_fix.proxy.pages import Pages, is_own_page
from reasoning_fix.proxy.stats import metrics
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Line
from reasoning_fix.proxy.stats.recent import MOST, Page, Recent
from tests.conftest import StartProxy
from tests.mitmdump import Proxy, raw_post
from tests.provider.simulator import DEEPSEEK, Simulator

type Answer = tuple[int, dict[str, str], bytes]


def get(
    proxy: Proxy, url: str = "http://reasoning.fix/health", method: str = "GET", **headers: str
) -> Answer:
    """One request in absolute form, as clients ask a proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    try:
        connection.request(method, url, headers=headers)
        response = connection.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def ask_health(proxy: Proxy) -> Health:
    status, _, body = get(proxy)
    assert status == 200
    return msgspec.json.decode(body, type=Health)


def test_health_says_how_the_proxy_is(proxy: Proxy) -> None:
    said = ask_health(proxy)
    der = ssl.PEM_cert_to_DER_cert(proxy.ca.read_text())
    assert said.version == __version__
    assert said.pid == proxy.pid
    assert said.listening == [f"regular@127.0.0.1:{proxy.port}"]
    assert said.store.kind == "sqlite" and Path(said.store.path).is_file() and said.store.healthy
    assert said.ca_sha256.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert said.status == "ok"
    assert ask_health(proxy).uptime_seconds >= said.uptime_seconds > 0


def test_counts_follow_a_conversation(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy()
    assert ask_health(proxy).counts == Counts()
    messages: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
    provider.say(reasoning="Because.", text="Hello.")
    _ask(proxy, messages)
    assert ask_health(proxy).counts == Counts(requests=1, recorded=1)
    provider.say(reasoning="More.", text="Bye.")
    for text in ("Hello.", "Nobody said this."):
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Well?"}]
    _ask(proxy, messages)
    assert ask_health(proxy).counts == Counts(requests=2, recorded=2, restored=1, filled=1)


def _ask(proxy: Proxy, messages: list[dict[str, str]]) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    body = json.dumps({"model": DEEPSEEK.model, "messages": messages, "tools": tools}).encode()
    headers = {"authorization": "Bearer sk-0123456789abcdef-counts"}
    status, _, _ = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, body, headers)
    assert status == 200


def test_the_page_for_people_says_the_same(proxy: Proxy) -> None:
    status, headers, body = get(proxy, "http://reasoning.fix/")
    said, text = ask_health(proxy), body.decode()
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    for part in (said.version, said.mitmproxy, str(said.pid), said.store.path, said.ca_sha256, "cert.pem"):
        assert part in text
    assert f"127.0.0.1:{proxy.port}" in text and "reasoning-fix doctor" in text


@pytest.mark.parametrize("path", ["/cert.pem", "/cert.cer", "/cert.crt"])
def test_the_certificate_can_be_downloaded_and_the_key_cannot(proxy: Proxy, path: str) -> None:
    status, headers, body = get(proxy, f"http://reasoning.fix{path}")
    assert status == 200 and "attachment" in headers["content-disposition"]
    load = x509.load_pem_x509_certificate if path.endswith(".pem") else x509.load_der_x509_certificate
    assert load(body) == x509.load_pem_x509_certificate(proxy.ca.read_bytes())
    assert b"PRIVATE" not in body


def serve(page: Pages, flow: mitm_http.HTTPFlow) -> None:
    waiting = page.requestheaders(flow)
    assert asyncio.iscoroutine(waiting)
    asyncio.run(waiting)


def test_a_key_beside_the_certificate_is_not_served(tmp_path: Path) -> None:
    with taddons.context() as context:
        context.options.add_option("confdir", str, "", "")
        context.options.confdir = str(tmp_path)
        page = Pages(lambda: StoreState("memory", "", True), lambda: Book(None))
        _make_authority(tmp_path)
        key_too = (tmp_path / "mitmproxy-ca.pem").read_bytes()
        assert b"PRIVATE KEY" in key_too
        (tmp_path / "mitmproxy-ca-cert.pem").write_bytes(key_too)
        page.running()
        flow = _flow("reasoning.fix", path="/cert.pem")
        serve(page, flow)
        assert flow.response is not None and flow.response.status_code == 200
        assert b"PRIVATE" not in (flow.response.content or b"")
        (tmp_path / "mitmproxy-ca-cert.pem").unlink()
        page.running()
        flow = _flow("reasoning.fix", path="/cert.pem")
        serve(page, flow)
        assert flow.response is not None and flow.response.status_code == 404
        flow = _flow("reasoning.fix")
        serve(page, flow)
        assert flow.response is not None and json.loads(flow.response.content or b"")["status"] == "degraded"


@pytest.mark.parametrize(
    ("url", "method", "status"),
    [
        ("http://reasoning.fix/health", "HEAD", 200),
        ("http://reasoning.fix/health?x=1", "GET", 200),
        ("http://REASONING.fix:8080/health", "GET", 200),
        ("http://reasoning.fix/favicon.ico", "GET", 404),
        ("http://reasoning.fix/../mitmproxy-ca.pem", "GET", 404),
        ("http://reasoning.fix/health", "POST", 405),
        ("http://reasoning.fix/", "DELETE", 405),
        ("http://reasoning.fix/", "OPTIONS", 405),
    ],
)
def test_the_pages_only_tell(proxy: Proxy, url: str, method: str, status: int) -> None:
    before = len(proxy.lines)
    answer, headers, body = get(proxy, url, method)
    assert answer == status
    assert (body == b"") == (method == "HEAD") and int(headers["content-length"]) > 0
    assert "server connect" not in "".join(proxy.lines[before:])


def test_a_page_of_another_origin_cannot_use_them(proxy: Proxy) -> None:
    for path in ("/", "/health", "/cert.pem", "/missing"):
        _, headers, _ = get(proxy, f"http://reasoning.fix{path}", Origin="http://evil.example")
        assert not [name for name in headers if name.startswith("access-control-")]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("mode", "host", "header", "own"),
    [
        ("regular", "reasoning.fix", "reasoning.fix", True),
        ("regular", "reasoning.fix", "evil.example", True),
        ("regular", "evil.example", "reasoning.fix", False),
        ("upstream:http://127.0.0.1:3128", "evil.example", "reasoning.fix", False),
        ("socks5", "evil.example", "reasoning.fix", False),
        ("transparent", "192.0.2.1", "reasoning.fix", True),
        ("reverse:http://127.0.0.1", "127.0.0.1", "reasoning.fix", False),
        ("regular", "notreasoning.fix", "notreasoning.fix", False),
        ("regular", "reasoning.fix.evil.example", "reasoning.fix.evil.example", False),
    ],
)
def test_a_forged_host_header_is_not_taken_for_the_page(mode: str, host: str, header: str, own: bool) -> None:
    flow = _flow(host, header)
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    assert is_own_page(flow) is own


def test_https_is_refused_with_the_reason_and_reaches_nobody(proxy: Proxy) -> None:
    before = len(proxy.lines)
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=20)
    connection.set_tunnel("reasoning.fix", 443)
    with pytest.raises(OSError, match=r"403 Use http://reasoning\.fix/ without TLS"):
        connection.request("GET", "/health")
    connection.close()
    assert "server connect" not in "".join(proxy.lines[before:])


def test_a_tunnel_to_port_80_gets_the_page_and_reaches_nobody(proxy: Proxy) -> None:
    before = len(proxy.lines)
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.set_tunnel("reasoning.fix", 80)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read())["pid"] == proxy.pid
    connection.close()
    assert "server connect" not in "".join(proxy.lines[before:])


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
def test_through_socks_the_name_is_never_looked_up(start_proxy: StartProxy, strategy: str) -> None:
    proxy = start_proxy("--mode", "socks5", "--set", f"connection_strategy={strategy}")
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as raw:
        raw.sendall(b"\5\1\0")
        assert raw.recv(2) == b"\5\0"
        raw.sendall(b"\5\1\0\3" + bytes([13]) + b"reasoning.fix" + (80).to_bytes(2))
        reply = raw.recv(10)
        if strategy == "lazy":
            raw.sendall(b"GET /health HTTP/1.1\r\nhost: reasoning.fix\r\nconnection: close\r\n\r\n")
            assert raw.recv(15) == b"HTTP/1.1 200 OK"
        else:
            assert reply[:2] != b"\5\0"
    assert "server connect " not in "".join(proxy.lines).replace("server connection", "")


def test_with_an_upstream_proxy_the_page_stays_here(start_proxy: StartProxy) -> None:
    proxy = start_proxy("--mode", "upstream:http://127.0.0.1:9")
    assert ask_health(proxy).listening == [f"upstream@127.0.0.1:{proxy.port}"]


def test_the_page_is_there_while_everything_is_decrypted(start_proxy: StartProxy) -> None:
    proxy = start_proxy("--set", "reasoning_decrypt=all")
    assert ask_health(proxy).pid == proxy.pid


def test_a_store_that_was_asked_to_be_in_memory_is_healthy(start_proxy: StartProxy) -> None:
    said = ask_health(start_proxy("--set", "reasoning_store=memory"))
    assert said.store == StoreState("memory", "", True) and said.status == "ok"


def test_a_store_that_cannot_be_written_degrades_the_health(start_proxy: StartProxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = ask_health(start_proxy("--set", f"reasoning_store={tmp_path / 'file' / 'turns.sqlite3'}"))
    assert said.store.kind == "memory" and not said.store.healthy and said.status == "degraded"


def test_a_store_whose_file_cannot_be_had_degrades_the_health(start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    folder = Path(ask_health(proxy).store.path).parent
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.touch()
    assert not ask_health(proxy).store.healthy
    folder.unlink()
    elsewhere.rename(folder)
    assert ask_health(proxy).store.healthy


def _flow(host: str, header: str = "", path: str = "/health") -> mitm_http.HTTPFlow:
    flow = tflow.tflow(req=tutils.treq(host=host, port=80, scheme=b"http", path=path.encode()))
    flow.request.headers["host"] = header or host
    return flow


def _make_authority(folder: Path) -> None:
    make: Callable[..., object] = CertStore.from_store
    make(folder, "mitmproxy", 2048)


# ---- What passed, for people and for programs --------------------------------------------------------------


def page_of(proxy: Proxy, path: str) -> str:
    status, _, body = get(proxy, f"http://reasoning.fix{path}")
    assert status == 200
    return body.decode()


def test_the_latest_requests_with_what_was_done(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy()
    assert "Nothing yet" in page_of(proxy, "/") and "No chat request" in page_of(proxy, "/")
    first = msgspec.json.decode(page_of(proxy, "/recent"), type=Page)
    assert (list(first.entries), first.next) == ([], 0)
    messages: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
    provider.say(reasoning="Because.", text="Hello.", conversation="Hi")
    _ask(proxy, messages)
    provider.say(reasoning="More.", text="Bye.", conversation="Hi")
    messages += [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Well?"}]
    _ask(proxy, messages)
    told = msgspec.json.decode(page_of(proxy, "/recent?after=0"), type=Page)
    done = [(entry.turns, entry.restored, entry.filled, entry.status) for entry in told.entries]
    assert done == [(0, 0, 0, 200), (1, 1, 0, 200)]
    assert all(entry.is_done and entry.prompt and 0 < entry.delay < 10 for entry in told.entries)
    assert {(e.provider, e.model) for e in told.entries} == {("deepseek", DEEPSEEK.model)}
    after = msgspec.json.decode(page_of(proxy, f"/recent?after={told.next}"), type=Page)
    assert list(after.entries) == [] and after.next == told.next
    begins_anew = msgspec.json.decode(page_of(proxy, "/recent?after=999999"), type=Page)
    assert len(begins_anew.entries) == 2
    front = page_of(proxy, "/")
    assert "restored 1 of 1" in front and 'http-equiv="refresh"' in front
    assert 'http-equiv="refresh"' not in page_of(proxy, "/?still")
    # Names and counts, and not a word of what was said.
    for page in (front, page_of(proxy, "/recent"), page_of(proxy, "/metrics")):
        assert not any(word in page for word in ("Because", "Hello", "Well?", "sk-"))


def test_counts_for_prometheus(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy()
    provider.say(reasoning="Because.", text="Hello.", conversation="Hey")
    _ask(proxy, [{"role": "user", "content": "Hey"}])
    status, headers, body = get(proxy, "http://reasoning.fix/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(parsed(body.decode()))
    labels = (("client", "unnamed"), ("model", DEEPSEEK.model), ("provider", "deepseek"))
    assert samples["reasoning_fix_requests_total", labels] == 1
    assert samples["reasoning_fix_recorded_turns_total", labels] == 1
    assert samples["reasoning_fix_store_healthy", (("kind", "sqlite"),)] == 1
    assert samples["reasoning_fix_uptime_seconds", ()] > 0


def parsed(text: str) -> Iterator[tuple[tuple[str, tuple[tuple[str, str], ...]], float]]:
    """The samples of an exposition by name and labels, each under a head of its own."""
    kind = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            kind = line.split()[2]
        elif not line.startswith("#"):
            found = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? ([0-9.e+]+)", line)
            assert found is not None and found[1] == kind, line
            labels = re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', found[2] or "")
            yield (found[1], tuple(sorted(labels))), float(found[3])


def test_names_from_outside_are_harmless_on_the_pages() -> None:
    found = {Line("2026-11-20", "deepseek", '<b>"x"\\', "<i>"): Counter({"requests": 3, "filled": 1})}
    health = Health(
        status="ok", version="1", mitmproxy="1", python="3", pid=1, uptime_seconds=1.0, listening=[],
        counts=Counts(), store=StoreState("memory", "", True), ca_sha256="", ca_expires="",
    )  # fmt: skip
    latest = Recent()
    latest.add(Line("", "p", "<script>", "<i>"), 0.0)
    front = front_page.page(health, found, latest.after(), "2026-11-27", refreshes=False)
    assert "<b>" not in front.partition("<h1>")[2].replace("<b class", "") and "<i>" not in front
    assert "<script>" not in front and "&lt;script&gt;" in front
    samples = dict(parsed(metrics.exposition(found, health)))
    labels = (("client", "<i>"), ("model", r"<b>\"x\"\\"), ("provider", "deepseek"))
    assert samples["reasoning_fix_requests_total", labels] == 3


def test_the_latest_requests_are_bounded() -> None:
    latest = Recent()
    for number in range(MOST + 20):
        latest.add(Line("", "p", f"m{number}", "c"), 0.0)
    assert len(latest.after()) == MOST and latest.after()[0].model == "m20"
