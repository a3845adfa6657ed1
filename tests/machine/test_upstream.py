"""The person's own proxy, read from their variables: tables of cases."""

import pytest

from reasoning_fix.machine.upstream import Upstream, UpstreamError, client_no_proxy, covers, find


@pytest.mark.parametrize(
    ("variables", "mode", "auth"),
    [
        ({"HTTPS_PROXY": "http://corp:3128"}, "upstream:http://corp:3128", ""),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:2"}, "upstream:http://low:1", ""),
        ({"ALL_PROXY": "http://all:1", "HTTP_PROXY": "http://plain:2"}, "upstream:http://all:1", ""),
        ({"HTTP_PROXY": "http://plain:2"}, "upstream:http://plain:2", ""),
        ({"HTTPS_PROXY": "corp.example:8888"}, "upstream:http://corp.example:8888", ""),
        ({"HTTPS_PROXY": "http://corp.example"}, "upstream:http://corp.example:80", ""),
        ({"HTTPS_PROXY": "HTTPS://corp.example/"}, "upstream:https://corp.example:443", ""),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "upstream:http://[::1]:3128", ""),
        ({"HTTPS_PROXY": "http://me:p%40ss%3Aword@corp:1"}, "upstream:http://corp:1", "me:p@ss:word"),
        ({"HTTPS_PROXY": "http://me@corp:1"}, "upstream:http://corp:1", "me:"),
    ],
)
def test_the_proxy_that_is_meant(variables: dict[str, str], mode: str, auth: str) -> None:
    found = find(variables)
    assert found is not None
    assert (found.mode, found.auth) == (mode, auth)


@pytest.mark.parametrize(
    "variables",
    [{}, {"HTTPS_PROXY": "  "}, {"HTTPS_PROXY": "http://corp:1", "NO_PROXY": "a.example, *"}],
)
def test_none_is_meant(variables: dict[str, str]) -> None:
    assert find(variables) is None


@pytest.mark.parametrize("value", ["socks5://corp:1080", "socks5h://me:secret@corp:1", "ftp://corp:1"])
def test_what_mitmproxy_cannot_go_through_is_refused(value: str) -> None:
    with pytest.raises(UpstreamError, match=r"ALL_PROXY names a (socks5h?|ftp) proxy") as refused:
        find({"ALL_PROXY": value})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("value", ["http://", "http://corp:notaport", "http://[corp:1"])
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(UpstreamError, match="HTTPS_PROXY is no address"):
        find({"HTTPS_PROXY": value})


@pytest.mark.parametrize(
    ("entry", "host", "expected"),
    [
        ("*", "api.deepseek.com", True),
        ("api.deepseek.com", "api.deepseek.com", True),
        ("API.DeepSeek.com.", "api.deepseek.com", True),
        ("deepseek.com", "api.deepseek.com", True),
        (".deepseek.com", "api.deepseek.com", True),
        ("*.deepseek.com", "api.deepseek.com", True),
        ("deepseek.com:443", "api.deepseek.com", True),
        ("seek.com", "api.deepseek.com", False),
        ("api.deepseek.com", "deepseek.com", False),
        ("", "api.deepseek.com", False),
        (".", "api.deepseek.com", False),
        ("10.0.0.0/8", "api.deepseek.com", False),
        ("::1", "api.deepseek.com", False),
        ("llm.corp.example", "*.corp.example", True),
        ("corp.example", "*.corp.example", True),
        ("other.example", "*.corp.example", False),
    ],
)
def test_what_an_entry_of_no_proxy_covers(entry: str, host: str, expected: bool) -> None:
    assert covers(entry, host) is expected


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "intra.example,localhost"}, "localhost,127.0.0.1,::1,intra.example"),
        (
            {"no_proxy": "a.example b.example", "NO_PROXY": "c.example"},
            "localhost,127.0.0.1,::1,a.example,b.example,c.example",
        ),
        ({"NO_PROXY": "deepseek.com, .com, *, intra.example"}, "localhost,127.0.0.1,::1,intra.example"),
    ],
)
def test_no_proxy_for_a_program_behind_us(person: dict[str, str], expected: str) -> None:
    assert client_no_proxy(person, ("api.deepseek.com", "*.corp.example")) == expected


def test_hosts_that_bypass_the_upstream() -> None:
    upstream = Upstream("upstream:http://corp:1", "", "corp", 1, ("z.ai",))
    assert upstream.bypasses("api.z.ai")
    assert not upstream.bypasses("api.deepseek.com")
