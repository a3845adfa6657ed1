"""The provider table: what the rows say, and what a wrong row is told."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning_fix.providers.files import ProviderTableError, read
from reasoning_fix.providers.rows import (
    CHAT_REASONING_FIELDS,
    Dialect,
    OffSwitch,
    ProviderRow,
    Refusal,
    Rule,
)
from reasoning_fix.providers.table import BUILT_IN, LONGEST_MODEL_NAME, NEUTRAL, Provider, Table, load_table

type Write = Callable[[str], Path]

TABLE = load_table()
FILE = read(BUILT_IN, frozenset())
WRITTEN = tomllib.loads(BUILT_IN.read_text(encoding="utf-8"))


def named(name: str, table: Table = TABLE) -> Provider:
    return next(provider for provider in table.by_host.values() if provider.name == name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "providers.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# ---- Hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.deepseek.com", "deepseek"),
        ("API.DeepSeek.COM", "deepseek"),
        ("api.deepseek.com.", "deepseek"),
        ("api.deepseek.com:443", "deepseek"),
        ("api.deepseek.com.:443", "deepseek"),
        ("api.moonshot.cn", "kimi"),
        ("api.kimi.com", "kimi"),
        ("token-plan-sgp.xiaomimimo.com", "mimo"),
        ("dashscope-intl.aliyuncs.com", "dashscope"),
        ("api.minimax.cn", "minimax"),
        ("tokenhub-intl.tencentcloudmaas.com", "tencent"),
        ("api.lkeap.cloud.tencent.com", "tencent"),
        ("api.kilo.ai", "kilo"),
        ("coding.dashscope.aliyuncs.com", "dashscope"),
        ("ws1.cn-beijing.maas.aliyuncs.com:443", "dashscope"),
        # not ours
        ("oss-cn-beijing.aliyuncs.com", None),
        ("maas.aliyuncs.com", None),
        ("evil-api.deepseek.com", None),
        ("x.api.deepseek.com", None),
        ("api.deepseek.com.example.org", None),
        ("chat.deepseek.com", None),
        ("lkeap.cloud.tencent.com", None),
        ("kilo.ai", None),
        ("app.kilo.ai", None),
        ("auth.kimi.com", None),
        ("*.maas.aliyuncs.com.evil.org", None),
        ("[::1]:8000", None),
        ("::1", None),
        ("", None),
        (".", None),
    ],
)
def test_host_belongs_to_provider(host: str, name: str | None) -> None:
    found = TABLE.provider(host)
    assert (found.name if found else None) == name


@given(st.text())
def test_any_text_may_be_asked_for(text: str) -> None:
    TABLE.provider(text)
    TABLE.endpoint(named("deepseek"), text, text)
    assert isinstance(named("deepseek").rule(text), Rule)


@pytest.mark.parametrize(
    ("host", "snapshots"),
    [("api.minimax.io", True), ("API.minimax.io:443", True), ("api.minimaxi.com", False)],
)
def test_only_one_minimax_host_sends_snapshots(host: str, snapshots: bool) -> None:
    assert named("minimax").snapshots(host) is snapshots


# ---- Paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method", "path", "chat"),
    [
        ("deepseek", "POST", "/chat/completions", True),
        ("deepseek", "POST", "/v1/chat/completions", True),
        ("deepseek", "POST", "/beta/chat/completions", True),
        ("deepseek", "post", "/v1/chat/completions/?a=/b", True),
        ("deepseek", "GET", "/v1/chat/completions", False),
        ("deepseek", "POST", "/v1/chat/completions/x", False),
        ("deepseek", "POST", "/x/v1/chat/completions", False),
        ("deepseek", "POST", "/beta/completions", False),
        ("deepseek", "POST", "/user/balance?x=/chat/completions", False),
        ("deepseek", "POST", "", False),
        ("kimi", "POST", "/coding/v1/chat/completions", True),
        ("glm", "POST", "/api/coding/paas/v4/chat/completions", True),
        ("glm", "POST", "/api/paas/v4/chat/completions", True),
        ("mimo", "POST", "/v1/chat/completions", True),
        ("minimax", "POST", "/v1/text/chatcompletion_v2", True),
        ("opencode", "POST", "/zen/go/v1/chat/completions", True),
        ("opencode", "POST", "/zen/v1/chat/completions", True),
        ("openrouter", "POST", "/api/v1/chat/completions", True),
        ("openrouter", "POST", "/api/v1/completions", False),
        ("siliconflow", "POST", "/v1/chat/completions", True),
        ("volcengine", "POST", "/api/v3/chat/completions", True),
        ("volcengine", "POST", "/api/plan/v3/chat/completions", True),
        ("dashscope", "POST", "/compatible-mode/v1/chat/completions", True),
        ("stepfun", "POST", "/step_plan/v1/chat/completions", True),
        ("together", "POST", "/v1/chat/completions", True),
        ("fireworks", "POST", "/inference/v1/chat/completions", True),
        ("groq", "POST", "/openai/v1/chat/completions", True),
        ("novita", "POST", "/openai/v1/chat/completions", True),
        ("nvidia", "POST", "/v1/chat/completions", True),
        ("tencent", "POST", "/v1/chat/completions", True),
        ("qianfan", "POST", "/v2/chat/completions", True),
        ("qianfan", "POST", "/v2/tokenplan/personal/chat/completions", True),
        ("qianfan", "POST", "/v2/coding/chat/completions", True),
        ("qianfan", "POST", "/v2/embeddings", False),
        ("tencent", "POST", "/plan/v3/chat/completions", True),
        ("tencent", "POST", "/coding/v3/chat/completions", True),
        ("tencent", "POST", "/plan/v3/models", False),
        ("kilo", "POST", "/api/gateway/chat/completions", True),
        ("kilo", "POST", "/api/openrouter/chat/completions", True),
        ("kilo", "POST", "/api/openrouter/v1/chat/completions", True),
        ("kilo", "POST", "/api/profile", False),
    ],
)
def test_chat_requests_are_recognised(name: str, method: str, path: str, chat: bool) -> None:
    endpoint = TABLE.endpoint(named(name), method, path)
    assert (endpoint.dialect if endpoint else None) == ("chat_completions" if chat else None)


@pytest.mark.parametrize(
    ("name", "path", "dialect"),
    [
        ("deepseek", "/anthropic/v1/messages", "messages"),
        ("deepseek", "/anthropic/v1/messages?beta=true", "messages"),
        ("deepseek", "/anthropic/messages", "messages"),
        ("deepseek", "/anthropic/v1/messages/count_tokens", None),
        ("deepseek", "/responses", "responses"),
        ("deepseek", "/v1/responses", "responses"),
        ("kimi", "/anthropic/v1/messages", "messages"),
        ("kimi", "/coding/v1/messages", "messages"),
        ("kimi", "/v1/responses", "responses"),
        ("kimi", "/coding/v1/responses", "responses"),
        ("glm", "/api/anthropic/v1/messages", "messages"),
        ("glm", "/api/v1/responses", "responses"),
        ("glm", "/api/paas/v4/responses", None),
        ("mimo", "/anthropic/v1/messages", "messages"),
        ("mimo", "/v1/responses", "responses"),
        ("minimax", "/anthropic/v1/messages", "messages"),
        ("minimax", "/v1/responses", "responses"),
        ("tencent", "/plan/anthropic/v1/messages", "messages"),
        ("tencent", "/coding/anthropic/v1/messages", "messages"),
        ("tencent", "/v1/messages", "messages"),
        ("qianfan", "/anthropic/tokenplan/personal/v1/messages", "messages"),
        ("qianfan", "/anthropic/coding/v1/messages", "messages"),
        ("kilo", "/api/gateway/v1/messages", "messages"),
        ("kilo", "/api/openrouter/responses", "responses"),
        ("novita", "/anthropic/v1/messages", "messages"),
        ("dashscope", "/compatible-mode/v1/responses", "responses"),
        ("dashscope", "/api/v2/apps/protocols/compatible-mode/v1/responses", "responses"),
        ("opencode", "/zen/v1/messages", "messages"),
        ("opencode", "/zen/go/v1/responses", "responses"),
        ("openrouter", "/api/v1/messages", "messages"),
        ("openrouter", "/api/v1/responses", "responses"),
        ("volcengine", "/api/coding/v1/messages", "messages"),
        ("volcengine", "/api/plan/v1/messages", "messages"),
        ("volcengine", "/api/compatible/v1/messages", "messages"),
        ("volcengine", "/api/v3/responses", "responses"),
        ("volcengine", "/api/coding/v3/responses", "responses"),
        ("volcengine", "/api/plan/v3/responses", "responses"),
        ("dashscope", "/apps/anthropic/v1/messages", "messages"),
        ("stepfun", "/step_plan/v1/messages", "messages"),
        ("fireworks", "/inference/v1/responses", "responses"),
    ],
)
def test_other_dialects_have_their_paths(name: str, path: str, dialect: str | None) -> None:
    endpoint = TABLE.endpoint(named(name), "POST", path)
    assert (endpoint.dialect if endpoint else None) == dialect


def test_anthropic_itself_is_no_provider() -> None:
    assert TABLE.provider("api.anthropic.com") is None


@pytest.mark.parametrize(
    ("name", "model", "dialect", "switch"),
    [
        ("deepseek", "deepseek-flash", "chat_completions", "thinking"),
        ("deepseek", "claude-opus-5", "messages", "thinking"),
        ("deepseek", "deepseek-flash", "responses", "effort"),
        ("kimi", "kimi-k2.6", "chat_completions", "thinking"),
        ("kimi", "kimi-k2.7-code", "chat_completions", None),
        ("kimi", "kimi-k3.1-pro", "messages", None),
        # It thinks whatever it is told; elsewhere the host may know better.
        ("kimi", "kimi-k3", "chat_completions", None),
        ("kimi", "kimi-k3", "messages", None),
        ("opencode", "kimi-k3", "chat_completions", "thinking"),
        ("minimax", "MiniMax-M3", "responses", "effort"),
        ("glm", "glm-4.7", "chat_completions", "thinking"),
        ("glm", "glm-5.3-flash", "chat_completions", None),
        ("minimax", "MiniMax-M2.7", "chat_completions", None),
        ("minimax", "MiniMax-M3", "messages", "thinking"),
        ("opencode", "glm-5.3", "chat_completions", None),
        ("openrouter", "z-ai/glm-4.7", "chat_completions", "reasoning"),
        ("openrouter", "moonshotai/kimi-k2.7-code", "chat_completions", None),
        ("dashscope", "qwen3.6-max", "chat_completions", "enable_thinking"),
        ("groq", "qwen/qwen3-32b", "chat_completions", None),
    ],
)
def test_how_thinking_is_turned_off(name: str, model: str, dialect: Dialect, switch: str | None) -> None:
    provider = named(name)
    endpoint = next(endpoint for endpoint in provider.endpoints if endpoint.dialect == dialect)
    found = TABLE.off_switch(endpoint, provider.rule(model, dialect))
    assert (found.name if found else None) == switch


@pytest.mark.parametrize(
    ("name", "model", "family"),
    [
        ("deepseek", "deepseek-flash", "deepseek"),
        ("deepseek", "claude-opus-5", "deepseek"),
        ("opencode", "kimi-k2.7-code", "kimi"),
        ("opencode", "kimi-k3", "kimi"),
        ("openrouter", "moonshotai/kimi-k2.6:free", "kimi"),
        ("openrouter", "anthropic/claude-opus-5", "claude"),
        ("openrouter", "openai/gpt-6", "gpt"),
        ("openrouter", "???", "???"),
    ],
)
def test_families(name: str, model: str, family: str) -> None:
    assert named(name).family(model) == family


# ---- Rules -----------------------------------------------------------------------------------------------

FORBIDDEN, THINKS_NOT, WORDS = "forbidden", "thinks not", "[reasoning not on record {turn}]"
ALWAYS, TOOL_CALLS, WITH_TOOLS, NEVER = "always", "tool_calls", "with_tools", "never"


@pytest.mark.parametrize(
    ("name", "model", "wants"),
    [
        ("deepseek", "deepseek-flash", WITH_TOOLS),
        ("deepseek", "deepseek-v4-pro", WITH_TOOLS),
        ("deepseek", "claude-opus-4-1", WITH_TOOLS),
        ("deepseek", "", WITH_TOOLS),
        ("deepseek", "deepseek-reasoner", WITH_TOOLS),
        ("openrouter", "deepseek-reasoner", WITH_TOOLS),
        ("siliconflow", "deepseek_reasoner", WITH_TOOLS),
        ("siliconflow", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", FORBIDDEN),
        ("deepseek", "deepseek-r1-0528", FORBIDDEN),
        ("deepseek", "deepseek-chat", THINKS_NOT),
        ("deepseek", "deepseek-v3.2", THINKS_NOT),
        ("kimi", "kimi-k2.5", TOOL_CALLS),
        ("kimi", "kimi-k2.6", TOOL_CALLS),
        ("kimi", "k2p5", TOOL_CALLS),
        ("kimi", "kimi-k2-thinking-turbo", TOOL_CALLS),
        ("kimi", "kimi-for-coding", TOOL_CALLS),
        ("kimi", "kimi-k2.7-code-highspeed", ALWAYS),
        ("kimi", "kimi-k3", ALWAYS),
        ("kimi", "kimi-k30", TOOL_CALLS),
        ("kimi", "k3", ALWAYS),
        ("kimi", "k3.1-pro", ALWAYS),
        ("kimi", "moonshot-v1-128k", FORBIDDEN),
        ("kimi", "kimi-k2-0905-preview", THINKS_NOT),
        ("kimi", "kimi-k2-turbo-preview", THINKS_NOT),
        ("kimi", "kimi-latest", THINKS_NOT),
        ("glm", "glm-5.3", NEVER),
        ("mimo", "mimo-v2.5-pro[1M]", TOOL_CALLS),
        ("minimax", "MiniMax-M3", NEVER),
        # gateways go by family, whatever surrounds the name
        ("opencode", "deepseek-v4-flash-free", WITH_TOOLS),
        ("opencode", "kimi-k2.7-code", ALWAYS),
        ("opencode", "glm-5.2", NEVER),
        ("opencode", "minimax-m3-free", NEVER),
        ("opencode", "claude-sonnet-5", NEVER),
        ("openrouter", "deepseek/deepseek-v4-pro:free", WITH_TOOLS),
        ("openrouter", "deepseek/deepseek-chat-v3-0324:free", THINKS_NOT),
        ("openrouter", "deepseek/deepseek-r1:free", FORBIDDEN),
        ("openrouter", "moonshotai/kimi-k2.6", TOOL_CALLS),
        ("openrouter", "moonshotai/kimi-k2:free", THINKS_NOT),
        ("openrouter", "moonshotai/kimi-k3", ALWAYS),
        ("openrouter", "xiaomi/mimo-v2.5", TOOL_CALLS),
        ("openrouter", "openai/gpt-5", NEVER),
        ("siliconflow", "Pro/moonshotai/Kimi-K2.5", TOOL_CALLS),
        ("siliconflow", "deepseek-ai/DeepSeek-V4-Pro", WITH_TOOLS),
        ("volcengine", "deepseek-v4-pro-ga-260813", WITH_TOOLS),
        ("volcengine", "ep-20260813-abcde", NEVER),
        ("dashscope", "kimi/kimi-k2.7-code", NEVER),
        ("fireworks", "accounts/fireworks/models/kimi-k2p6", NEVER),
        ("groq", "moonshotai/kimi-k2-instruct-0905", NEVER),
        ("nvidia", "some/model-k3", NEVER),
        ("together", "zai-org/GLM-5", NEVER),
        ("together", "m" * 100_000 + "kimi-k3", NEVER),
    ],
)
def test_rule_of_model(name: str, model: str, wants: str) -> None:
    for spelling in (model, model.upper()):
        rule = named(name).rule(spelling)
        assert rule is named(name).rule(spelling)
        assert rule.forbidden == (wants == FORBIDDEN)
        assert rule.thinks == ("no" if wants == THINKS_NOT else "yes")
        assert rule.required == (NEVER if wants in (FORBIDDEN, THINKS_NOT) else wants)


@pytest.mark.parametrize(
    ("model", "forbidden"),
    [
        ("doubao-seed-1-6-251015", True),
        ("doubao-seed-1-6-thinking-250715", True),
        ("doubao-seed-1.6-flash", True),
        ("Doubao-1.5-thinking-pro", True),
        ("doubao-1-5-pro-256k-250115", True),
        ("doubao-seed-code-preview-251028", True),
        ("doubao-pro-32k", True),
        ("doubao-seed-1-8-251228", False),
        ("doubao-seed-1.8", False),
        ("doubao-seed-2-0-pro-260215", False),
        ("doubao-seed-2-0-code-preview-260215", False),
        ("doubao-seed-2.1-turbo", False),
        ("doubao-seed-evolving", False),
        ("ark-code-latest", False),
        ("glm-5.3", False),
        ("ep-20260813-abcde", False),
    ],
)
def test_old_doubao_takes_no_reasoning_items(model: str, forbidden: bool) -> None:
    provider = named("volcengine")
    assert provider.rule(model, "responses").forbidden is forbidden
    assert not provider.rule(model, "chat_completions").forbidden


@pytest.mark.parametrize(
    ("path", "model", "wants"),
    [
        ("/api/coding/v3/responses", "deepseek-v4-pro", FORBIDDEN),
        ("/api/coding/v3/responses", "ark-code-latest", FORBIDDEN),
        ("/api/plan/v3/responses", "deepseek-v4-pro", WITH_TOOLS),
        ("/api/coding/v3/chat/completions", "deepseek-v4-pro", WITH_TOOLS),
    ],
)
def test_an_endpoint_may_refuse_what_the_model_takes_elsewhere(path: str, model: str, wants: str) -> None:
    provider = named("volcengine")
    endpoint = TABLE.endpoint(provider, "POST", path)
    assert endpoint is not None
    rule = provider.rule_at(endpoint, model)
    assert rule is provider.rule_at(endpoint, model)
    assert (FORBIDDEN if rule.forbidden else rule.required) == wants
    if rule.forbidden:
        assert (rule.required, rule.placeholder, rule.known_empty) == ("never", None, None)


def test_what_is_too_long_for_a_name_has_no_rule() -> None:
    provider = TABLE.provider("api.moonshot.ai")
    assert provider is not None
    longest = "kimi-k2.6" + "x" * (LONGEST_MODEL_NAME - len("kimi-k2.6"))
    assert provider.rule(longest) != NEUTRAL
    assert provider.rule(longest + "x") == NEUTRAL


@pytest.mark.parametrize(
    ("name", "model", "placeholder", "known_empty", "refuses"),
    [
        ("deepseek", "deepseek-flash", " ", None, ("", ".")),
        ("openrouter", "deepseek/deepseek-v4-pro", " ", None, ("", ".")),
        ("kimi", "kimi-k2.6", " ", "", ()),
        ("kimi", "kimi-k2.7-code", " ", "", ()),
        ("kimi", "k3.1-pro", " ", "", ()),
        ("mimo", "mimo-v2.6-pro", " ", " ", ()),
        ("glm", "glm-5.3", None, None, ()),
        ("minimax", "MiniMax-M2.7", None, None, ()),
        ("deepseek", "deepseek-chat", None, None, ()),
        ("kimi", "moonshot-v1-8k", None, None, ()),
        ("nvidia", "meta/llama-4", None, None, ()),
    ],
)
def test_what_stands_in(
    name: str, model: str, placeholder: str | None, known_empty: str | None, refuses: tuple[str, ...]
) -> None:
    rule = named(name).rule(model)
    assert (rule.placeholder, rule.known_empty, rule.refuses) == (placeholder, known_empty, refuses)


@pytest.mark.parametrize(
    ("name", "reads", "writes"),
    [
        ("deepseek", ("reasoning_content",), "first"),
        ("minimax", ("reasoning_content", "reasoning_details"), "as_received"),
        ("openrouter", ("reasoning_details", "reasoning", "reasoning_content"), "first"),
        ("fireworks", ("reasoning_content",), "first"),
        ("groq", ("reasoning",), "first"),
    ],
)
def test_fields(name: str, reads: tuple[str, ...], writes: str) -> None:
    provider = named(name)
    assert (provider.reads, provider.writes) == (reads, writes)


@pytest.mark.parametrize("digits", ["0123abcd", "0", "abcdefab"])
def test_our_own_stand_ins_are_placeholders(digits: str) -> None:
    assert TABLE.is_placeholder(f"[reasoning not on record {digits}]\n")


def test_off_switches() -> None:
    assert {(".".join(switch.path), switch.value) for switch in TABLE.off_switches} == {
        ("thinking.type", "disabled"),
        ("enable_thinking", False),
        ("reasoning_effort", "none"),
        ("reasoning.enabled", False),
        ("reasoning.effort", "none"),
        ("chat_template_kwargs.enable_thinking", False),
        ("chat_template_kwargs.thinking", False),
    }


def test_every_built_in_row_has_a_source_its_own_or_its_familys_or_its_providers() -> None:
    rows: list[OffSwitch | Refusal | ProviderRow | Rule] = [*FILE.off, *FILE.refusal, *FILE.family]
    for provider in FILE.provider:
        rows += [provider, *provider.rules]
    assert [row for row in rows if not row.source.startswith("https://")] == []
    endpoints = [endpoint for provider in FILE.provider for endpoint in provider.endpoints]
    assert [row for row in endpoints if row.source and not row.source.startswith("https://")] == []


def _written_rules() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The built-in rules that point at a family, as written: provider, rule, one of the family's rows."""
    return [
        (provider["name"], rule, family)
        for provider in WRITTEN["provider"]
        for rule in provider.get("rule", ())
        for family in WRITTEN["family"]
        if family["name"] == rule.get("family")
    ]


def test_no_built_in_rule_repeats_what_its_family_says() -> None:
    assert len(_written_rules()) > 15
    repeated = [
        f"{provider}: {rule['family']} {key} = {rule[key]!r}"
        for provider, rule, family in _written_rules()
        for key in rule.keys() & family.keys() - {"dialects"}
        if rule[key] == family[key]
    ]
    assert repeated == []


def test_a_built_in_rule_that_says_what_a_family_says_points_at_it() -> None:
    """`models` and `source` aside: with a placeholder of its own a rule would be free to drift."""
    said = [
        {key: value for key, value in family.items() if key not in ("models", "source")}
        for family in WRITTEN["family"]
    ]
    for provider in WRITTEN["provider"]:
        for rule in provider.get("rule", ()):
            rest = {key: value for key, value in rule.items() if key not in ("models", "source")}
            assert rest not in said, f"{provider['name']}: {rule}"


def test_no_built_in_row_stands_twice() -> None:
    own = [
        [{key: value for key, value in row.items() if key != "source"} for row in rows]
        for rows in (WRITTEN["refusal"], WRITTEN["off"], WRITTEN["family"])
    ]
    for provider in WRITTEN["provider"]:
        own += [provider["endpoint"], provider.get("rule", [])]
        inside = [*provider["endpoint"], *provider.get("rule", [])]
        assert provider["source"] not in [row.get("source") for row in inside], provider["name"]
    for rows in own:
        assert [row for row in rows if rows.count(row) > 1] == []


def test_hosts_lists_every_pattern_once() -> None:
    hosts = TABLE.hosts()
    assert "api.deepseek.com" in hosts and "*.maas.aliyuncs.com" in hosts
    assert list(hosts) == sorted(set(hosts))


# ---- The user's file -------------------------------------------------------------------------------------


def test_a_provider_of_two_lines_has_sensible_defaults(write: Write) -> None:
    table = load_table(write('[[provider]]\nname = "mine"\nhosts = ["LLM.Example.com."]\n'))
    provider = table.provider("llm.example.com:8443")
    assert provider is not None and provider.title == "mine"
    for path, dialect in (
        ("/any/where/chat/completions", "chat_completions"),
        ("/v1/messages", "messages"),
        ("/v1/responses", "responses"),
    ):
        endpoint = table.endpoint(provider, "POST", path)
        assert endpoint is not None and endpoint.dialect == dialect
    assert provider.reads == CHAT_REASONING_FIELDS and provider.writes == "as_received"
    assert provider.rule("deepseek-v4-pro").required == "with_tools"
    assert provider.rule("llama") == NEUTRAL
    assert table.provider("api.deepseek.com") is not None


def test_same_name_replaces_the_built_in_provider(write: Write) -> None:
    table = load_table(write('[[provider]]\nname = "kimi"\nhosts = ["kimi.example.com"]\n'))
    assert table.provider("kimi.example.com") is not None
    assert table.provider("api.moonshot.ai") is None


def test_same_host_moves_to_the_users_provider(write: Write) -> None:
    table = load_table(write('[[provider]]\nname = "mine"\nhosts = ["api.moonshot.ai"]\n'))
    assert table.provider("api.moonshot.ai") is named("mine", table)
    assert table.provider("api.moonshot.cn") is named("kimi", table)


def test_longer_wildcards_win(write: Write) -> None:
    table = load_table(
        write(
            '[[provider]]\nname = "wide"\nhosts = ["*.example.com"]\n'
            '[[provider]]\nname = "narrow"\nhosts = ["*.eu.example.com", "x.example.com"]\n'
        )
    )
    for host, name in [
        ("a.example.com", "wide"),
        ("a.eu.example.com", "narrow"),
        ("x.example.com", "narrow"),
    ]:
        assert table.provider(host) is named(name, table)
    assert table.provider("example.com") is None


def test_the_users_families_switches_and_placeholders_count(write: Write) -> None:
    table = load_table(
        write(
            'placeholders = ["(LOST 17x)"]\n[words]\nlost = ["verloren"]\n'
            '[[off]]\npath = ["quiet"]\nvalue = true\n'
            '[[family]]\nmodels = "glm"\nrequired = "always"\n'
        )
    )
    assert table.is_placeholder(" (lost 17x) ") and table.is_placeholder(".")
    assert table.is_placeholder("[reasoning verloren]") and table.is_placeholder("[reasoning omitted]")
    assert not TABLE.is_placeholder(" (lost 17x) ") and not TABLE.is_placeholder("[reasoning verloren]")
    assert ("quiet",) in [switch.path for switch in table.off_switches]
    assert named("openrouter", table).rule("z-ai/glm-5").required == "always"
    assert named("glm", table).rule("glm-5").required == "never"


POINTS = '[[provider]]\nname = "mine"\nhosts = ["a.example.com"]\n[[provider.rule]]\n'


@pytest.mark.parametrize(
    ("rule", "dialect", "expected"),
    [
        # all of it, and each wire as the family has it
        ('models = "^mine$"', "chat_completions", ("mimo", TOOL_CALLS, " ", " ")),
        ('models = "^mine$"', "messages", ("mimo", TOOL_CALLS, WORDS, WORDS)),
        ('models = "^mine$"', "responses", ("mimo", NEVER, None, None)),
        # but for what the rule says itself
        ('models = ""\nplaceholder = "-"', "messages", ("mimo", TOOL_CALLS, "-", WORDS)),
        ('models = ""\nname = "other"', "messages", ("other", TOOL_CALLS, WORDS, WORDS)),
        ('models = ""\nrequired = "always"', "responses", ("mimo", ALWAYS, None, None)),
        ('models = ""\nforbidden = true', "messages", ("mimo", NEVER, None, None)),
        ('models = ""\nthinks = "no"', "chat_completions", ("mimo", NEVER, None, None)),
        # and on its own wires only
        ('models = ""\ndialects = ["messages"]', "messages", ("mimo", TOOL_CALLS, WORDS, WORDS)),
        ('models = ""\ndialects = ["messages"]', "chat_completions", ("unknown", NEVER, None, None)),
        # the family's models, if it says nothing of them
        ('required = "always"', "messages", ("unknown", NEVER, None, None)),
    ],
)
def test_a_users_rule_may_point_at_a_built_in_family(
    write: Write, rule: str, dialect: Dialect, expected: tuple[str, str, str | None, str | None]
) -> None:
    found = named("mine", load_table(write(f'{POINTS}family = "mimo"\n{rule}\n'))).rule("mine", dialect)
    assert (found.name, found.required, found.placeholder, found.known_empty) == expected


def test_a_rule_points_at_a_family_of_its_own_file_first(write: Write) -> None:
    own = '[[family]]\nname = "glm"\nmodels = "zhipu"\nrequired = "always"\n'
    table = load_table(write(f'{own}{POINTS}family = "glm"\n'))
    assert named("mine", table).rule("zhipu-5").required == "always"
    assert named("mine", table).rules[0].models == "zhipu"
    # The built-in file means its own.
    assert named("glm", table).rule("glm-5").required == "never"


def test_a_filled_in_rule_has_a_source(write: Write) -> None:
    text = (
        MINE + 'source = "https://b.example/"\n[[provider.rule]]\nmodels = "a"\n'
        '[[provider.rule]]\nfamily = "glm"\n'
        '[[provider.rule]]\nfamily = "glm"\nsource = "https://c.example/"\n'
    )
    sources = [rule.source for rule in named("mine", load_table(write(text))).rules[:3]]
    assert sources == ["https://b.example/", named("glm").rule("glm-5").source, "https://c.example/"]


def test_an_empty_file_changes_nothing(write: Write) -> None:
    assert load_table(write("")).hosts() == TABLE.hosts()


MINE = '[[provider]]\nname = "mine"\nhosts = ["a.example.com"]\n'


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("# hello\nx = = 1\n", 2, "", "not valid TOML"),
        ('placeholders = ["a"\n', 1, "", "not valid TOML"),
        (f"placeholders = {'[' * 5000}", 1, "", "its values are nested too deep"),
        (
            "color = 1\n",
            1,
            "color",
            "allowed here: placeholders, words, stand_in, off, refusal, family, provider",
        ),
        (
            "\n[[providers]]\nname = 1\n",
            2,
            "providers",
            "allowed here: placeholders, words, stand_in, off, refusal, family, provider",
        ),
        ('[provider]\nname = "x"\n', 1, "provider", "Expected `array`"),
        ('[[provider]]\nname = "mine"\n', 1, "provider[0].hosts", "missing"),
        (MINE + 'write = "first"\n', 4, "provider[0].write", "writes"),
        (MINE + 'writes = "last"\n', 4, "provider[0].writes", "found 'last'; allowed: as_received, first"),
        (
            MINE + 'reads = ["reasoning", "thoughts"]\n',
            4,
            "provider[0].reads[1]",
            "found 'thoughts'; allowed: re",
        ),
        (MINE + "title = 3\n", 4, "provider[0].title", "Expected `str`, got `int`, found 3"),
        (MINE + MINE.replace("mine", "b"), 6, "provider[1].hosts", "which provider 'mine' here has already"),
        (MINE + MINE.replace("a.", "b."), 5, "provider[1].name", "found 'mine'"),
        (MINE.replace("a.ex", "https://a.ex"), 3, "provider[0].hosts", "without scheme, port or path"),
        (MINE.replace("a.ex", "a.*.ex"), 3, "provider[0].hosts", "*.example.com"),
        (MINE.replace('"a.example.com"', ""), 3, "provider[0].hosts", "at least one host"),
        (MINE + 'snapshot_hosts = ["b"]\n', 4, "provider[0].snapshot_hosts", "allowed: the provider's hosts"),
        (
            MINE + '[[provider.endpoint]]\n[[provider.endpoint]]\n# path\npath = "("\n',
            7,
            "provider[0].endpoint[1].path",
            "regular expression",
        ),
        (
            MINE + '[[provider.endpoint]]\ndialect = "smoke"\n',
            5,
            "provider[0].endpoint[0].dialect",
            "allowed: chat_completions",
        ),
        (
            MINE
            + MINE.replace("mine", "b").replace("a.", "b.")
            + '[[provider.rule]]\nrequired = "sometimes"\n',
            8,
            "provider[1].rule[0].required",
            "found 'sometimes'; allowed: never, tool_calls, with_tools, always",
        ),
        (
            MINE + "[[provider.rule]]\nrequired = 1\n",
            5,
            "provider[0].rule[0].required",
            "found 1; allowed: never",
        ),
        (MINE + "[[provider.rules]]\n", 4, "provider[0].rules", "allowed here: name, hosts"),
        ('[[family]]\nmodels = "a"\n\n[[family]]\nmodels = "["\n', 5, "family[1].models", "found '['"),
        ('[[family]]\nthinks = "no"\nplaceholder = " "\n', 3, "family[0].placeholder", "a row with thinks"),
        ('[[family]]\nrequired = "always"\nforbidden = true\n', 2, "family[0].required", "forbidden = true"),
        ('[[family]]\nplaceholder = "."\nrefuses = ["."]\n', 2, "family[0].placeholder", "is refused"),
        (
            f'{POINTS}models = "a"\nfamily = "kimi-k9"\n',
            6,
            "provider[0].rule[0].family",
            "found 'kimi-k9'; expected the name of a family (deepseek, deepseek-chat, ",
        ),
        (
            f'{POINTS}family = "glm"\n[[provider.rule]]\nfamily = ["glm"]\n',
            7,
            "provider[0].rule[1].family",
            "Expected `str`, got `array`",
        ),
        (
            f'{POINTS}family = "kimi-always"\ndialects = ["responses"]\n',
            5,
            "provider[0].rule[0].family",
            "found 'kimi-always', which has no row for these `dialects`",
        ),
        (
            f'{POINTS}family = "deepseek"\nplaceholder = "."\n',
            6,
            "provider[0].rule[0].placeholder",
            "found '.', which this row's `refuses` says is refused",
        ),
        (
            f'{POINTS}family = "deepseek-chat"\n[[provider.rule]]\nfamily = "kimi-k2"\nrequired = "always"\n',
            8,
            "provider[0].rule[1].required",
            "only 'never' goes with thinks",
        ),
        ('[[family]]\nfamily = "glm"\n', 2, "family[0].family", "unknown key; allowed here: name, models"),
        (
            f"{POINTS}families = 1\n",
            5,
            "provider[0].rule[0].families",
            "thinks, forbidden, off, source, family",
        ),
        ("[[off]]\npath = []\nvalue = true\n", 2, "off[0].path", "empty list"),
        ('[[off]]\npath = ["a"]\nvalue = 1.5\n', 3, "off[0].value", "found 1.5"),
    ],
)
def test_a_wrong_file_is_told_where_and_why(write: Write, text: str, line: int, key: str, says: str) -> None:
    path = write(text)
    with pytest.raises(ProviderTableError) as caught:
        load_table(path)
    error = caught.value
    assert (error.file, error.line, error.key) == (path, line, key)
    assert says in error.reason
    assert str(error).startswith(f"{path}, line {line}: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderTableError, match=r"missing\.toml, line 1: cannot be read"):
        load_table(tmp_path / "missing.toml")


def test_a_file_that_is_not_utf8_is_told_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# fine\n# caf\xe9\n")
    with pytest.raises(ProviderTableError, match="line 2: expected UTF-8"):
        load_table(path)


@given(st.text(alphabet='[]provideruls.=" \n#1a', max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8")
    try:
        load_table(path)
    except ProviderTableError as error:
        assert 1 <= error.line <= text.count("\n") + 1


def test_the_built_in_file_passes_as_a_users_file() -> None:
    assert load_table(BUILT_IN).hosts() == TABLE.hosts()
