"""The table of variables: what is in it, what is refused, what values it leads to, and how that is undone."""

import base64
from pathlib import Path

import pytest

from reasoning_fix.machine.environment import (
    REPLACED,
    EnvironmentTableError,
    Values,
    read,
    removal,
    table,
    undone,
    variables,
)
from reasoning_fix.machine.trust import bundle

VALUES = Values("http://127.0.0.1:8080", Path("/c/ca.pem"), Path("/c/bundle.pem"), ("api.deepseek.com",))
ROW = """
[[variable]]
name = "X_CA"
kind = "bundle"
effect = "replaces"
runtimes = "x"
does = "y"
source = "https://example.org/"
"""


def test_what_every_runtime_needs() -> None:
    made = variables({}, VALUES)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "GLOBAL_AGENT_HTTP_PROXY"):
        assert made[name] == "http://127.0.0.1:8080", name
    for name in ("NO_PROXY", "no_proxy"):
        assert made[name] == "localhost,127.0.0.1,::1"
    for name in ("NODE_EXTRA_CA_CERTS", "DENO_CERT"):
        assert made[name] == "/c/ca.pem", name
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"):
        assert made[name] == "/c/bundle.pem", name
    assert made["NODE_USE_ENV_PROXY"] == "1"


def test_a_single_ca_never_stands_where_the_store_is_replaced() -> None:
    for row in table():
        assert row.effect == {"ca": "adds", "bundle": "replaces"}.get(row.kind, "")
        assert variables({}, VALUES)[row.name] != "/c/ca.pem" or row.effect == "adds"


def test_additions_of_the_persons_own_are_not_lost() -> None:
    assert variables({"NODE_EXTRA_CA_CERTS": "/corp.pem"}, VALUES)["NODE_EXTRA_CA_CERTS"] == "/c/bundle.pem"


def test_the_variables_that_name_cas() -> None:
    assert {"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"} <= set(bundle.VARIABLES)
    assert not {"HTTPS_PROXY", "NO_PROXY", "NODE_USE_ENV_PROXY"} & set(bundle.VARIABLES)


@pytest.mark.parametrize(
    "person",
    [
        {},
        {"PATH": "/bin", "HTTPS_PROXY": "http://corp:1", "NO_PROXY": "a,b"},
        {"SSL_CERT_FILE": "/a 'b'.pem", "https_proxy": "", "no_proxy": "ünïcode"},
    ],
)
def test_undone_is_what_was_before(person: dict[str, str]) -> None:
    inside = person | variables(person, VALUES)
    assert undone(inside) == person
    # From inside a shell that has them already, another proxy's are the same ones.
    again = inside | variables(inside, VALUES)
    assert undone(again) == person
    assert again == inside
    taken_out = dict(inside)
    for name, value in removal(inside).items():
        if value is None:
            taken_out.pop(name, None)
        else:
            taken_out[name] = value
    assert taken_out == person


def test_without_a_mark_nothing_is_undone() -> None:
    person = {"HTTPS_PROXY": "http://corp:1"}
    assert undone(person) == person


@pytest.mark.parametrize("mark", ["", "!", "bm90IGpzb24=", "WzFd", "eyJhIjogMX0=", "ü"])
def test_a_mark_that_is_not_ours_gives_nothing_back(mark: str) -> None:
    assert undone({REPLACED: mark, "HTTPS_PROXY": "http://127.0.0.1:8080", "PATH": "/bin"}) == {
        "PATH": "/bin"
    }


def test_a_mark_gives_back_only_variables_of_the_table() -> None:
    inside = variables({"HTTPS_PROXY": "http://corp:1"}, VALUES)
    inside[REPLACED] = base64.urlsafe_b64encode(b'{"PATH": "/evil", "HTTPS_PROXY": "http://corp:1"}').decode()
    assert undone(inside) == {"HTTPS_PROXY": "http://corp:1"}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (('effect = "replaces"', ""), "found effect ''"),
        (('effect = "replaces"', 'effect = "adds"'), "found effect 'adds'"),
        (('kind = "bundle"', 'kind = "bundles"'), "Invalid enum value"),
        (('name = "X_CA"', 'name = "X CA"'), "not a name that a shell can set"),
        (('name = "X_CA"', 'name = "1X"'), "not a name that a shell can set"),
        (("https://example.org/", "example.org"), "expected an https address"),
        (('does = "y"', 'does = "y"\nvalue = "1"'), "found value '1'"),
        (('does = "y"', 'do = "y"'), "unknown field"),
        (("[[variable]]", ROW + "[[variable]]"), "found twice"),
        (("[[variable]]", "[[variable]"), "environment.toml"),
    ],
)
def test_what_is_refused(changed: tuple[str, str], text: str) -> None:
    with pytest.raises(EnvironmentTableError, match=text):
        read(ROW.replace(*changed, 1))
