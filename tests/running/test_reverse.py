"""Reverse ports: what --reverse may say, which ports follow, what a client is told, and the secret."""

import pytest
from mitmproxy import exceptions
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow

from reasoning_fix.providers.table import load_table
from reasoning_fix.running.reverse import ReverseError, ReverseSecret, Target, base_urls, targets
from tests.provider.providers import PROVIDERS, Provider

TABLE = load_table()
DEEPSEEK, KIMI = "https://api.deepseek.com", "https://api.moonshot.ai"


@pytest.mark.parametrize(
    ("given", "proxy_port", "expected"),
    [
        (["api.deepseek.com"], 8080, [Target(DEEPSEEK, 8082)]),
        (["api.deepseek.com", "api.moonshot.ai"], 8080, [Target(DEEPSEEK, 8082), Target(KIMI, 8083)]),
        (["api.deepseek.com", "api.moonshot.ai=8082"], 8080, [Target(DEEPSEEK, 8083), Target(KIMI, 8082)]),
        (["https://api.deepseek.com/=9000"], 8080, [Target(DEEPSEEK, 9000)]),
        (["api.deepseek.com:8443=9000"], 8080, [Target(f"{DEEPSEEK}:8443", 9000)]),
        (["api.deepseek.com", "api.moonshot.ai"], 0, [Target(DEEPSEEK, 8082), Target(KIMI, 8083)]),
    ],
)
def test_targets(given: list[str], proxy_port: int, expected: list[Target]) -> None:
    assert targets(given, TABLE, proxy_port) == expected


def test_modes_are_ones_that_mitmproxy_knows() -> None:
    mode = ProxyMode.parse(Target("https://api.deepseek.com:8443", 8082).mode())
    assert (mode.type_name, mode.listen_host(""), mode.listen_port(1)) == ("reverse", "127.0.0.1", 8082)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", "expected HOST or HOST=PORT"),
        ("api.deepseek.com=http", "expected HOST=PORT with a port"),
        ("api.deepseek.com=0", "expected HOST=PORT with a port"),
        ("api.deepseek.com=70000", "expected HOST=PORT with a port"),
        ("https://api.deepseek.com/v1", "expected HOST or HOST=PORT"),
        ("ftp://api.deepseek.com", "expected HOST or HOST=PORT"),
        ("api.deepseek.com:x", "expected HOST or HOST=PORT"),
        ("example.org", "no host of the provider table"),
    ],
)
def test_what_is_refused(given: str, text: str) -> None:
    with pytest.raises(ReverseError, match=text):
        targets([given], TABLE, 8080)


@pytest.mark.parametrize(
    ("host", "secret", "expected"),
    [
        ("api.deepseek.com", "", "http://127.0.0.1:8082"),
        ("api.deepseek.com", "word", "http://127.0.0.1:8082/word"),
        ("api.z.ai", "", "http://127.0.0.1:8082/api/paas/v4"),
        ("dashscope.aliyuncs.com", "w", "http://127.0.0.1:8082/w/compatible-mode/v1"),
        ("unknown.example", "", "http://127.0.0.1:8082"),
    ],
)
def test_base_urls(host: str, secret: str, expected: str) -> None:
    assert base_urls("http://127.0.0.1:8082", host, secret, TABLE)[0] == expected


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: str(provider.name))
def test_the_usual_base_is_the_one_of_the_sdk(provider: Provider) -> None:
    assert base_urls(f"https://{provider.host}", provider.host, "", TABLE)[0] == provider.base_url


def test_every_base_of_the_table_leads_to_a_chat_endpoint() -> None:
    for provider in set(TABLE.by_host.values()):
        assert provider.bases, provider.name
        for base in provider.bases:
            paths = (f"{base}/chat/completions", f"{base}/v1/messages", f"{base}/responses")
            assert any(TABLE.endpoint(provider, "POST", path) for path in paths), (provider.name, base)


@pytest.mark.parametrize(
    ("mode", "path", "forwarded"),
    [
        ("reverse:https://api.deepseek.com", "/word/v1/chat/completions?a=1", "/v1/chat/completions?a=1"),
        ("reverse:https://api.deepseek.com", "/word/word/x", "/word/x"),
        ("reverse:https://api.deepseek.com", "/word", "/"),
        ("reverse:https://api.deepseek.com", "/words/v1", None),
        ("reverse:https://api.deepseek.com", "/v1/word", None),
        ("reverse:https://api.deepseek.com", "/", None),
        ("reverse:https://api.deepseek.com", "/\udce9", None),
        ("regular", "/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_the_secret(mode: str, path: str, forwarded: str | None) -> None:
    addon = ReverseSecret()
    with taddons.context(addon) as context:
        context.configure(addon, reasoning_reverse_secret="word")
        flow = tflow.tflow()
        flow.client_conn.proxy_mode = ProxyMode.parse(mode)
        flow.request.path = path
        addon.requestheaders(flow)
    if forwarded is None:
        assert flow.response is not None
        assert flow.response.status_code == 404
    else:
        assert flow.response is None
        assert flow.request.path == forwarded


def test_without_a_secret_nothing_is_asked_for() -> None:
    addon = ReverseSecret()
    with taddons.context(addon):
        flow = tflow.tflow()
        flow.client_conn.proxy_mode = ProxyMode.parse("reverse:https://api.deepseek.com")
        addon.requestheaders(flow)
    assert flow.response is None


@pytest.mark.parametrize("secret", ["a/b", "a b", "ü", "a?b"])
def test_a_secret_that_no_path_can_carry_is_refused(secret: str) -> None:
    addon = ReverseSecret()
    with taddons.context(addon) as context, pytest.raises(exceptions.OptionsError, match="only letters"):
        context.configure(addon, reasoning_reverse_secret=secret)
