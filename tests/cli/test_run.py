"""`run` and `web` as a person starts them: defaults, what wins over them, reverse ports, upstream proxies."""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy.options import Options
from mitmproxy.test import taddons, tflow

from reasoning_fix import __version__
from reasoning_fix.running.keep_last import KeepLast
from reasoning_fix.running.welcome import Door, exposure
from tests.console import Command, Home, free_ports
from tests.corporate import Corporate
from tests.provider.simulator import DEEPSEEK, GLM, KIMI, Simulator

type Start = Callable[..., Command]

CALL = ("call_00_9V0vrf86Pc9aelHCJMZqnJBo", "get_weather", '{"city": "Zürich"}')
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.fixture
def home(provider: Simulator, tmp_path: Path) -> Home:
    return Home(tmp_path / "home", provider)


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    with contextlib.ExitStack() as running:

        def begin(*words: str, **variables: str) -> Command:
            command = Command(home, *words, **variables)
            running.callback(command.stop)
            return command

        yield begin


def port_of(command: Command) -> int:
    return int(command.wait_for(r"HTTP\(S\) proxy[^\n]* listening at [^\n]*:(\d+)")[1])


def converse(base_url: str, provider: Simulator, client: httpx.Client) -> int:
    """A tool call and the next request, without the reasoning: the status of that one."""
    provider.say(reasoning="The user wants the weather: call the tool.", calls=[CALL])
    provider.say(reasoning="21 degrees.", text="21 °C and dry.")
    headers = {"authorization": "Bearer sk-0123456789abcdef-run"}
    history: list[dict[str, Any]] = [{"role": "user", "content": "Weather in Zürich?"}]
    request: dict[str, Any] = {"model": DEEPSEEK.model, "messages": history, "tools": TOOLS}
    first = client.post(f"{base_url}/chat/completions", json=request, headers=headers)
    assert first.status_code == 200, first.text
    call_id, name, arguments = CALL
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    history += [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "21 °C, dry"},
    ]
    return client.post(f"{base_url}/chat/completions", json=request, headers=headers).status_code


def through(port: int, home: Home) -> httpx.Client:
    trusted = ssl.create_default_context(cafile=str(home.ca))
    return httpx.Client(proxy=f"http://127.0.0.1:{port}", verify=trusted, trust_env=False, timeout=20)


def option_values(command: Command) -> dict[str, str]:
    """The options that tests ask for: a script prints them."""
    command.wait_for("values: ")
    line = next(line for line in command.lines if line.startswith("values: "))
    found: dict[str, str] = json.loads(line.removeprefix("values: "))
    return found


SHOW = """
import json
from mitmproxy import ctx

NAMES = ("listen_host", "listen_port", "flow_detail", "tcp_timeout", "confdir", "mode", "reasoning_fallback")

def running():
    print("values: " + json.dumps({name: str(getattr(ctx.options, name)) for name in NAMES
        if name in ctx.options}), flush=True)
"""
HAS_TIMEOUT = "tcp_timeout" in Options()
with_timeout = pytest.mark.skipif(not HAS_TIMEOUT, reason="mitmproxy has tcp_timeout since 12.2.1")


@pytest.fixture
def show(home: Home) -> str:
    script = home.folder / "show.py"
    script.write_text(SHOW)
    home.configure(scripts="[route.py, ../../show.py]")
    return str(script)


# ---- Defaults, and what wins over them -------------------------------------------------------------------


def test_safe_defaults_a_ca_and_a_repaired_request(
    home: Home, start: Start, show: str, provider: Simulator
) -> None:
    command = start("run", "-p", "0")
    port = port_of(command)
    values = option_values(command)
    assert values["listen_host"] == "127.0.0.1"
    assert values["flow_detail"] == "0"
    assert values.get("tcp_timeout") == ("3600" if HAS_TIMEOUT else None)
    assert values["confdir"] == str(home.confdir)
    with through(port, home) as client:
        assert converse(DEEPSEEK.base_url, provider, client) == 200
    assert provider.requests[-1].verdicts == ["exact"]
    assert not (home.folder / ".mitmproxy").exists()


def test_the_port_is_8080_unless_another_is_asked_for(home: Home, start: Start, show: str) -> None:
    home.configure(scripts="[]")
    assert option_values(start("run", "--no-server", "-s", show))["listen_port"] == "8080"


@pytest.mark.parametrize(
    ("words", "config", "expected"),
    [
        pytest.param(
            "",
            {"tcp_timeout": "77", "mode": "['socks5@0']"},
            {"tcp_timeout": "77", "mode": "['socks5@0']"},
            marks=with_timeout,
        ),
        pytest.param(
            "--set tcp_timeout=88 --flow-detail 3 --set reasoning_fallback=none --mode regular@0",
            {"tcp_timeout": "77", "flow_detail": "1", "reasoning_fallback": "auto", "mode": "['socks5@0']"},
            {"tcp_timeout": "88", "flow_detail": "3", "reasoning_fallback": "none", "mode": "['regular@0']"},
            marks=with_timeout,
        ),
        (
            "--set flow_detail=2 --listen-host localhost",
            {"listen_port": "0"},
            {"flow_detail": "2", "listen_host": "localhost", "listen_port": "0"},
        ),
    ],
)
def test_what_a_person_sets_wins(
    home: Home, start: Start, show: str, words: str, config: dict[str, str], expected: dict[str, str]
) -> None:
    home.configure(**config)
    assert option_values(start("run", *words.split())).items() >= expected.items()


def test_an_explicit_confdir(home: Home, start: Start) -> None:
    other = home.folder / "elsewhere"
    command = start("run", "-p", "0", "--set", f"confdir={other}")
    command.wait_for("CA file: " + re.escape(str(other / "mitmproxy-ca-cert.pem")))
    assert f" --confdir {other} -- opencode" in command.output
    assert (other / "mitmproxy-ca.pem").exists()
    assert not home.ca.exists()


def test_a_mistyped_flag_is_refused(home: Home) -> None:
    result = home.run("run", "-p", "0", "--no-such-flag")
    assert result.returncode == 1
    assert "--no-such-flag" in result.stderr


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("run --help", ("--reverse HOST", "--stickycookie", "usage: reasoning-fix run")),
        ("web --help", ("--keep N", "--web-port")),
        ("run --options", ("reasoning_reverse_secret", "listen_host: 127.0.0.1", "flow_detail: 0")),
        pytest.param("run --options", ("tcp_timeout: 3600",), marks=with_timeout),
        ("run --version", ("Mitmproxy:",)),
        ("run --commands", ("proxyserver.active_connections",)),
    ],
)
def test_help_and_lists(home: Home, words: str, texts: tuple[str, ...]) -> None:
    result = home.run(*words.split())
    assert result.returncode == 0, result.stderr
    assert all(text in result.stdout for text in texts), result.stdout
    assert not home.ca.exists(), "nothing is made for a text"
    assert not (home.folder / ".mitmproxy").exists()


@pytest.mark.parametrize("option", ["-p", "--port", "--listen-port"])
def test_a_port_that_is_taken(home: Home, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = home.run("run", option, str(port))
    assert result.returncode == 2
    assert f"127.0.0.1:{port} is taken by " in result.stderr
    if sys.platform == "linux":
        assert f"(process {os.getpid()})" in result.stderr
    (free,) = re.findall(r"`reasoning-fix run --port (\d+)`", result.stderr)
    assert port < int(free) < port + 100
    assert "One program" not in result.stdout, "no next steps for a proxy that does not run"


def test_a_proxy_of_ours_that_holds_the_port(home: Home) -> None:
    (port,) = free_ports(1)
    running = Command(home, "run", "--port", str(port))
    running.wait_for("is ready")
    result = home.run("web", "--port", str(port))
    running.stop()
    assert result.returncode == 2
    assert (
        f"taken by a reasoning-fix proxy (version {__version__}, process {running.process.pid})"
        in result.stderr
    )


def test_a_provider_table_that_is_wrong(home: Home) -> None:
    (home.confdir / "providers.toml").write_text("[[provider]]\nname = 1\n")
    result = home.run("run", "-p", "0")
    assert result.returncode == 2
    assert "providers.toml, line 2" in result.stderr


# ---- The next steps --------------------------------------------------------------------------------------


def test_the_next_steps(home: Home, start: Start) -> None:
    command = start("run", "-p", "0")
    port = port_of(command)
    command.wait_for("CA file: ")
    assert f"http://127.0.0.1:{port}" in command.output
    assert f"NODE_EXTRA_CA_CERTS={home.ca}" in command.output
    assert f"SSL_CERT_FILE={home.confdir / 'reasoning-fix-bundle.pem'}" in command.output
    assert f"exec --port {port} -- opencode" in command.output
    assert f"env --port {port})" in command.output


def test_the_next_steps_in_socks_mode(start: Start) -> None:
    command = start("run", "--mode", "socks5", "-p", "0")
    command.wait_for(r"HTTPS_PROXY=socks5h://127\.0\.0\.1:\d+")


def test_quiet_says_nothing(home: Home, start: Start, show: str) -> None:
    command = start("run", "-q", "-p", "0")
    option_values(command)
    command.stop()
    assert [line for line in command.lines if not line.startswith("values: ")] == []


LOCAL, WIDE = Door("regular", "127.0.0.1", 8080), Door("regular", "0.0.0.0", 8080)
REVERSE = Door("reverse", "0.0.0.0", 8082, "api.deepseek.com")


@pytest.mark.parametrize(
    ("door", "has_password", "has_secret", "warning"),
    [
        (LOCAL, False, False, ""),
        (Door("regular", "::1", 8080), False, False, ""),
        (Door("regular", "localhost", 8080), False, False, ""),
        (WIDE, False, False, "--proxyauth"),
        (WIDE, False, True, "--proxyauth"),
        (WIDE, True, False, ""),
        (Door("regular", "", 8080), False, False, "--proxyauth"),
        (Door("socks5", "192.168.1.7", 1080), False, False, "--proxyauth"),
        (REVERSE, False, False, "reasoning_reverse_secret"),
        (REVERSE, True, False, "reasoning_reverse_secret"),
        (REVERSE, False, True, ""),
        (Door("wireguard", "0.0.0.0", 51820), False, False, ""),
    ],
)
def test_who_is_warned(door: Door, has_password: bool, has_secret: bool, warning: str) -> None:
    text = exposure(door, has_password, has_secret)
    assert warning in text if warning else not text


def test_a_warning_when_others_can_reach_the_proxy(start: Start) -> None:
    open_to_all = start("run", "-p", "0", "--listen-host", "0.0.0.0")
    open_to_all.wait_for("CA file: ")
    assert "Everybody who can reach 0.0.0.0:" in open_to_all.output
    guarded = start("run", "-p", "0", "--listen-host", "0.0.0.0", "--proxyauth", "me:word")
    guarded.wait_for("CA file: ")
    assert "Everybody" not in guarded.output


# ---- Reverse ports ---------------------------------------------------------------------------------------


def routed_late(home: Home) -> None:
    """In reverse mode mitmproxy takes the Host header from the address, if that was led elsewhere before."""
    home.configure(connection_strategy="lazy")


def test_reverse_ports_beside_the_proxy(home: Home, start: Start, provider: Simulator) -> None:
    routed_late(home)
    first, second = free_ports(2)
    command = start(
        "run", "-p", "0", "--reverse", f"{DEEPSEEK.host}={first}", "--reverse", f"{GLM.host}={second}"
    )
    urls = {
        host: command.wait_for(rf"Base URL for {re.escape(host)}[^\n]*?: (http\S+)")[1]
        for host in (DEEPSEEK.host, GLM.host)
    }
    assert urls[GLM.host].endswith("/api/paas/v4")
    with httpx.Client(trust_env=False, timeout=20) as client:
        assert converse(urls[DEEPSEEK.host], provider, client) == 200
        assert provider.requests[-1].verdicts == ["exact"]
        provider.say(text="yes")
        body = {"model": GLM.model, "messages": [{"role": "user", "content": "x"}]}
        answer = client.post(f"{urls[GLM.host]}/chat/completions", json=body)
        assert answer.status_code == 200
        assert provider.requests[-1].host == GLM.host
    with through(port_of(command), home) as client:
        assert converse(DEEPSEEK.base_url, provider, client) == 200


def test_a_reverse_port_behind_a_secret(home: Home, start: Start, provider: Simulator) -> None:
    routed_late(home)
    secret = ("--set", "reasoning_reverse_secret=b7Kp2")
    (port,) = free_ports(1)
    command = start("run", "-p", "0", "--reverse", f"{DEEPSEEK.host}={port}", *secret)
    url = command.wait_for(r"Base URL for [^\n]*?: (http\S+/b7Kp2)")[1]
    with httpx.Client(trust_env=False, timeout=20) as client:
        assert converse(url, provider, client) == 200
        asked = len(provider.requests)
        refused = client.post(f"{url.removesuffix('b7Kp2')}chat/completions", json={})
        assert refused.status_code == 404
        assert len(provider.requests) == asked, "nothing reaches the provider without the secret"


def test_a_reverse_port_keeps_the_modes_of_config_yaml(home: Home, start: Start, show: str) -> None:
    home.configure(mode="['socks5@0']", listen_port="0")
    (port,) = free_ports(1)
    values = option_values(start("run", "--reverse", f"{KIMI.host}={port}"))
    assert values["mode"] == f"['socks5@0', 'reverse:https://{KIMI.host}@127.0.0.1:{port}']"


def test_a_reverse_port_for_a_host_that_is_no_providers(home: Home) -> None:
    result = home.run("run", "-p", "0", "--reverse", "example.org")
    assert result.returncode == 2
    assert "no host of the provider table" in result.stderr


# ---- The person's own proxy ------------------------------------------------------------------------------


def test_through_the_persons_own_proxy(
    home: Home, start: Start, provider: Simulator, corporate: Corporate
) -> None:
    variables = {
        "HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{corporate.port}",
        "NO_PROXY": "z.ai,intra.example",
    }
    corporate.refused.add(f"{GLM.host}:443")
    command = start("run", "-p", "0", "--upstream", **variables)
    expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
    with through(port_of(command), home) as client:
        assert converse(DEEPSEEK.base_url, provider, client) == 200
        assert corporate.asked[0] == (f"{DEEPSEEK.host}:443", expected)
        assert {asked for asked, _ in corporate.asked} == {f"{DEEPSEEK.host}:443"}
        provider.say(text="yes")
        body = {"model": GLM.model, "messages": [{"role": "user", "content": "x"}]}
        answer = client.post(f"{GLM.base_url}/chat/completions", json=body)
        assert answer.status_code == 200
        assert provider.requests[-1].host == GLM.host
    assert "p@ss" not in command.output


@pytest.mark.parametrize(
    ("words", "variables", "text"),
    [
        (("-p", "0"), {"ALL_PROXY": "socks5://127.0.0.1:1"}, "can only go through http and https ones"),
        (("-p", "8123"), {"HTTPS_PROXY": "http://localhost:8123"}, "which is this one itself"),
        (("--mode", "regular@0"), {"HTTPS_PROXY": "http://127.0.0.1:1"}, "leave that out"),
    ],
)
def test_an_upstream_that_cannot_be(
    home: Home, words: tuple[str, ...], variables: dict[str, str], text: str
) -> None:
    result = home.run("run", "--upstream", *words, **variables)
    assert result.returncode == 2
    assert text in result.stderr


# ---- web -------------------------------------------------------------------------------------------------


def test_web_keeps_the_last_flows(home: Home, start: Start, provider: Simulator) -> None:
    (page_port,) = free_ports(1)
    page_words = ("--no-web-open-browser", "--web-port", str(page_port), "--set", "web_password=word")
    command = start("web", "--keep", "3", "-p", "0", *page_words)
    port = port_of(command)
    command.wait_for("CA file: ")
    with through(port, home) as client:
        for number in range(7):
            provider.say(text=f"answer {number}")
            body = {"model": DEEPSEEK.model, "messages": [{"role": "user", "content": f"question {number}"}]}
            assert client.post(f"{DEEPSEEK.base_url}/chat/completions", json=body).status_code == 200
    with httpx.Client(trust_env=False, headers={"authorization": "Bearer word"}) as page:
        flows = page.get(f"http://127.0.0.1:{page_port}/flows").json()
        assert len(flows) == 3
        kept = page.get(f"http://127.0.0.1:{page_port}/flows/{flows[-1]['id']}/request/content.data").text
    assert "question 6" in kept


def test_flows_in_progress_are_kept() -> None:
    from mitmproxy.addons.view import View

    view, addon = View(), KeepLast(2)
    with taddons.context(view, addon):
        flows = [tflow.tflow(resp=True) for _ in range(5)]
        for age, flow in enumerate(flows):
            flow.timestamp_created = 1000.0 + age
            flow.live = age == 0
        view.add(flows)
        addon.response(flows[-1])
        assert list(view) == [flows[0], *flows[3:]]


def test_keep_0_keeps_all() -> None:
    from mitmproxy.addons.view import View

    view, addon = View(), KeepLast(0)
    with taddons.context(view, addon):
        view.add([tflow.tflow(resp=True) for _ in range(5)])
        addon.response(tflow.tflow())
        assert len(view) == 5


def test_keep_wants_a_number_from_0(home: Home) -> None:
    result = home.run("web", "--keep", "-1", "-p", "0")
    assert result.returncode == 2


def test_plain_requests_to_the_port_are_no_way_in(home: Home, start: Start) -> None:
    port = port_of(start("run", "-p", "0"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status in (400, 502)
    connection.close()
