"""Every provider on every wire, through a real proxy, by the official client libraries.

Clients that drop the reasoning get it back exactly; refusals are repaired before the client sees them.
"""

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from msgspec import structs

from tests.clients import MessagesPerson, Person, script_four_turns, through
from tests.conftest import StartProxy
from tests.mitmdump import Proxy, raw_post
from tests.provider.providers import (
    ARK_CODING,
    CEREBRAS,
    DASHSCOPE,
    DATABRICKS,
    DEEPSEEK,
    EVERYBODY,
    FIREWORKS,
    GLM,
    GO,
    GROQ,
    KIMI,
    KIMI_CODING,
    MIMO,
    MINIMAX,
    MISTRAL,
    OPENROUTER,
    SILICONFLOW,
    VLLM,
    VOLCENGINE,
    ZEN,
    Provider,
)
from tests.provider.settings import Settings
from tests.provider.simulator import Simulator
from tests.provider.turns import Call, Dialect, Text, Thought

streamed_or_not = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])

DIALECTS: tuple[Dialect, ...] = ("chat", "messages", "responses")
# Reasoning stands in the content of these as items, which no client drops and nobody restores.
WITHOUT = (MISTRAL, DATABRICKS)
MORE: dict[str, dict[str, Any]] = {
    "chat/minimax split": {"provider": MINIMAX, "dialect": "chat", "extra_body": {"reasoning_split": True}},
    "chat/kimi k2.7": {"provider": KIMI, "dialect": "chat", "model": "kimi-k2.7-code"},
    "chat/opencode-go kimi": {"provider": GO, "dialect": "chat", "model": "kimi-k2.6"},
    "messages/deepseek claude": {"provider": DEEPSEEK, "dialect": "messages", "model": "claude-opus-5"},
    "messages/opencode-zen minimax": {"provider": ZEN, "dialect": "messages", "model": "minimax-m2.7"},
}
EVERY: dict[str, dict[str, Any]] = {
    f"{dialect}/{provider.name}": {"provider": provider, "dialect": dialect}
    for provider in EVERYBODY
    for dialect in DIALECTS
    if getattr(provider, dialect) and provider not in (*WITHOUT, ARK_CODING, VLLM)
} | MORE
# Every other host and path of each that a client library can be led to; the table above has the first.
PLACES: dict[str, tuple[Provider, Dialect]] = {
    f"{host}{path}": (structs.replace(provider, hosts=(host,), **{dialect: (path,)}), dialect)
    for provider in EVERYBODY
    for dialect in DIALECTS
    for host in provider.hosts
    for path in getattr(provider, dialect)
    if provider not in (*WITHOUT, ARK_CODING, VLLM)
    and path.endswith(("/chat/completions", "/v1/messages", "/responses"))
    and (host, path) != (provider.host, getattr(provider, dialect)[0])
}
OWN = (
    '[[provider]]\nname = "mine"\nhosts = ["llm.example.net", "adb-1234567890123456.7.azuredatabricks.net"]\n'
)


def converse(somebody: Person) -> None:
    for _ in range(3):
        somebody.ask()
    somebody.says("Thanks!")
    somebody.ask()


@pytest.mark.parametrize(("name", "who"), EVERY.items(), ids=EVERY)
@streamed_or_not
def test_what_a_client_drops_goes_back_exactly(
    proxy: Proxy, provider: Simulator, name: str, who: dict[str, Any], streamed: bool
) -> None:
    opening = f"{name} {streamed}"
    script_four_turns(provider, opening)
    converse(through(proxy, opening=opening, streamed=streamed, keeps=False, **who))
    asked = provider.asked(opening)
    assert [request.verdicts for request in asked] == [["exact"] * turn for turn in range(4)]
    assert provider.statuses(opening) == [200] * 4


@pytest.mark.parametrize(("opening", "place"), PLACES.items(), ids=PLACES)
def test_every_host_and_path_is_known(
    proxy: Proxy, provider: Simulator, opening: str, place: tuple[Provider, Dialect]
) -> None:
    which, dialect = place
    script_four_turns(provider, opening)
    somebody = through(proxy, which, dialect, opening, keeps=False)
    for _ in range(3):
        somebody.ask()
    asked = provider.asked(opening)
    assert [request.path for request in asked] == [getattr(which, dialect)[0]] * 3
    assert [request.verdicts for request in asked] == [["exact"] * turn for turn in range(3)]


def test_a_reasoning_item_is_not_put_back_where_all_are_refused(proxy: Proxy, provider: Simulator) -> None:
    script_four_turns(provider, "ark")
    converse(through(proxy, ARK_CODING, "responses", "ark", keeps=False))
    assert provider.statuses("ark") == [200] * 4
    assert [request.verdicts for request in provider.asked("ark")] == [["missing"] * n for n in range(4)]


@pytest.mark.parametrize("model", ["doubao-seed-1-6-251015", "doubao-1.5-thinking-pro"])
def test_old_doubao_gets_no_reasoning_items(proxy: Proxy, provider: Simulator, model: str) -> None:
    script_four_turns(provider, model)
    converse(through(proxy, VOLCENGINE, "responses", model, model=model, keeps=False))
    assert [request.verdicts for request in provider.asked(model)] == [["missing"] * n for n in range(4)]


@pytest.mark.parametrize(
    ("which", "says", "goes"),
    [
        # Read twice where the summary repeats it; the rest of the item goes back as it came.
        (MIMO, {"summary": "R"}, {}),
        (MIMO, {"summary": None}, {}),
        # What stands in the summary alone is the thought.
        (MIMO, {"summary": "R", "content": None}, {"summary": "R", "content": None}),
        # Refused without a list.
        (DASHSCOPE, {}, {"summary": None}),
        (DASHSCOPE, {"summary": "R"}, {"summary": "R"}),
    ],
)
def test_a_summary_goes_back_only_as_it_is_taken(
    proxy: Proxy, provider: Simulator, which: Provider, says: dict[str, Any], goes: dict[str, Any]
) -> None:
    def item(**texts: str | None) -> dict[str, Any]:
        content = {"content": [{"type": "reasoning_text", "text": "R"}]}
        summary = texts.pop("summary", "")
        found = {"id": "rs_1", "type": "reasoning", "status": "completed", **content}
        if "content" in texts:
            del found["content"]
        if summary == "":
            return found
        return found | {"summary": [{"type": "summary_text", "text": summary}] if summary else []}

    opening = f"summary {which.name} {says}"
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    answer = {"id": "r", "object": "response", "status": "completed", "output": [item(**says), call]}
    provider.answer_raw(
        200, [("content-type", "application/json")], [json.dumps(answer).encode()], conversation=opening
    )
    provider.say(text="Done.", conversation=opening)
    user = {"role": "user", "content": opening}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
    for history in ([user], [user, call, result]):
        body = json.dumps({"model": which.model, "input": history}).encode()
        raw_post(proxy, which.host, which.responses[0], body, {"authorization": "Bearer k"})
    assert provider.asked(opening)[-1].json["input"] == [user, item(**goes), call, result]


@pytest.mark.parametrize(("name", "who"), EVERY.items(), ids=EVERY)
def test_what_a_client_keeps_is_not_touched(
    proxy: Proxy, provider: Simulator, name: str, who: dict[str, Any]
) -> None:
    opening = f"kept {name}"
    script_four_turns(provider, opening)
    line = len(proxy.lines)
    converse(through(proxy, opening=opening, keeps=True, **who))
    assert [request.verdicts for request in provider.asked(opening)] == [["exact"] * n for n in range(4)]
    assert "restored" not in "".join(proxy.lines[line:])


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@streamed_or_not
def test_a_server_of_ones_own(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path, dialect: Dialect, streamed: bool
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    proxy = start_proxy("--set", f"reasoning_providers={own}")
    script_four_turns(provider, "own")
    converse(through(proxy, VLLM, dialect, "own", streamed=streamed, keeps=False))
    assert [request.verdicts for request in provider.asked("own")] == [["exact"] * n for n in range(4)]


RAW = {
    "chat": ("/chat/completions", b"messages", b'{"role": "assistant", "content": "It is dry and %b."}'),
    "messages": (
        "/anthropic/v1/messages", b"messages",
        b'{"role": "assistant", "content": [{"type": "text", "text": "It is dry and %b."}]}'),
    "responses": (
        "/responses", b"input", b'{"type": "message", "role": "assistant", "content": '
        b'[{"type": "output_text", "text": "It is dry and %b."}]}'),
}  # fmt: skip
BROKEN = {
    "half a character": rb'{"role": "user", "content": "cut here: \ud83d"}',
    "a character cut as bytes": b'{"role": "user", "content": "cut here: \xf0\x9f"}',
    "null": b"null",
    "deep nesting": b'{"role": "user", "content": "cut here", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("dialect", RAW)
@pytest.mark.parametrize("name", BROKEN)
def test_a_message_that_cannot_be_read_costs_no_turn(
    proxy: Proxy, provider: Simulator, dialect: str, name: str
) -> None:
    """It came with the second question, and stays in every request from then on."""
    path, member, said = RAW[dialect]
    key = {"authorization": f"Bearer sk-broken-{dialect}-{name.replace(' ', '-')}"}
    history = [b'{"role": "user", "content": "Is it %b, %b?"}' % (name.encode(), dialect.encode())]
    thoughts = [f"The {word} thought." for word in ("first", "second", "third")]
    # Each answer is written by hand, since not every request is one that the simulator can read.
    for number, thought in enumerate(thoughts):
        word = str(number).encode()
        turn = said % word
        answer = _answer(dialect, f"It is dry and {number}.", thought)
        length = ("content-length", str(len(answer)))
        provider.answer_raw(200, [("content-type", "application/json"), length], [answer])
        body = b'{"model": "deepseek-flash", "tools": [], "%b": [%b]}' % (member, b", ".join(history))
        status, _, _ = raw_post(proxy, "api.deepseek.com", path, body, key)
        got = provider.requests[-1].body
        assert status == 200
        assert [one.encode() in got for one in thoughts] == [n < number for n in range(3)]
        # Every byte that came is in what went, in its order; nothing but thoughts came between.
        left = iter(got)
        assert all(byte in left for byte in body)
        assert got.count(b", %b, " % BROKEN[name]) == min(number, 1)
        history += [turn, BROKEN[name]] if number == 0 else [turn]
        history.append(b'{"role": "user", "content": "And %b?"}' % word)


def _answer(dialect: str, text: str, thought: str) -> bytes:
    if dialect == "chat":
        message = {"role": "assistant", "content": text, "reasoning_content": thought}
        return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    if dialect == "messages":
        thinks = {"type": "thinking", "thinking": thought, "signature": "s"}
        whole = {"type": "message", "role": "assistant", "content": [thinks, {"type": "text", "text": text}]}
        return json.dumps(whole | {"stop_reason": "end_turn"}).encode()
    parts = [{"type": "reasoning_text", "text": thought}]
    says = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    output = [{"type": "reasoning", "summary": [], "content": parts}, says]
    return json.dumps({"object": "response", "status": "completed", "output": output}).encode()


# ---- Messages ----------------------------------------------------------------------------------------------


def test_interleaved_and_redacted_thoughts_go_back_where_they_stood(
    proxy: Proxy, provider: Simulator
) -> None:
    provider.say(
        Thought("first"),
        Thought(redacted="c2VjcmV0"),
        Text("Let me look."),
        Thought("second"),
        Call("call_00_x", "get_weather", "{}"),
    )
    provider.say(reasoning="done", text="Dry.")
    somebody = through(proxy, MINIMAX, "messages", "interleaved", keeps=False)
    somebody.ask()
    somebody.ask()
    assert provider.requests[-1].verdicts == ["exact"]
    kinds = [block["type"] for block in provider.requests[-1].json["messages"][1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text", "thinking", "tool_use"]


def test_anthropic_itself_is_never_decrypted(proxy: Proxy, provider: Simulator) -> None:
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        raw_post(proxy, "api.anthropic.com", "/v1/messages", b"{}")
    # The certificate that came is the server's own.
    assert raw_post(proxy, "api.anthropic.com", "/v1/messages", b"{}", ca=provider.ca)[0] == 200


def test_a_query_string_changes_nothing(proxy: Proxy, provider: Simulator) -> None:
    provider.say(reasoning="R", text="Hello there.")
    provider.say(text="Bye.")
    first = {"model": "deepseek-flash", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
    path = "/anthropic/v1/messages?beta=true"
    raw_post(proxy, DEEPSEEK.host, path, json.dumps(first).encode(), {"x-api-key": "sk-q"})
    said = {"role": "assistant", "content": "Hello there."}
    first["messages"] += [said, {"role": "user", "content": "more"}]  # type: ignore[operator]
    raw_post(proxy, DEEPSEEK.host, path, json.dumps(first).encode(), {"x-api-key": "sk-q"})
    assert provider.requests[-1].verdicts == ["exact"]


# ---- A translator in the middle ----------------------------------------------------------------------------


def test_a_translator_that_drops_thinking_is_healed(proxy: Proxy, provider: Simulator) -> None:
    """A client speaks Anthropic's format to a local translator, which speaks chat completions upstream."""
    script_four_turns(provider, "translated")
    upstream = through(proxy, DEEPSEEK, "chat", "translated", keeps=False)
    translator = _Translator(upstream)
    client = MessagesPerson(translator, "claude-opus-5", "translated", streamed=False)  # type: ignore[arg-type]
    converse(client)
    assert all(
        block["type"] != "thinking"
        for m in client.history
        for block in m["content"]
        if m["role"] == "assistant"
    )
    assert provider.statuses("translated") == [200] * 4
    assert [r.verdicts for r in provider.asked("translated")] == [["exact"] * turn for turn in range(4)]


class _Translator:
    """Anthropic messages in, chat completions out; it knows no thinking blocks."""

    def __init__(self, upstream: Person) -> None:
        self.upstream = upstream
        self.messages = self

    def create(self, messages: list[dict[str, Any]], **more: Any) -> Any:
        self.upstream.history = [line for message in messages for line in self._translated(message)]
        self.upstream.ask()
        said = next(m for m in reversed(self.upstream.history) if m["role"] == "assistant")
        blocks: list[dict[str, Any]] = [{"type": "text", "text": said["content"]}] if said["content"] else []
        for call in said.get("tool_calls") or ():
            function = call["function"]
            given = json.loads(function["arguments"])
            blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "x", "stop_sequence": None}
        usage = {"input_tokens": 1, "output_tokens": 1}
        return anthropic.types.Message.model_validate(
            {**head, "content": blocks, "stop_reason": "end_turn", "usage": usage}
        )

    def _translated(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        content = message["content"]
        if isinstance(content, str):
            return [{"role": message["role"], "content": content}]
        if message["role"] == "user":
            return [
                {"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]}
                for block in content
            ]
        text = "".join(block["text"] for block in content if block["type"] == "text")
        calls = [
            {
                "id": block["id"],
                "type": "function",
                "function": {"name": block["name"], "arguments": json.dumps(block["input"], indent=1)},
            }
            for block in content
            if block["type"] == "tool_use"
        ]
        return [{"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})]


# ---- Refusals ----------------------------------------------------------------------------------------------

PLAIN = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "x"},
]
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "go"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
]


def strangers(proxy: Proxy, provider: Provider, opening: str, **more: Any) -> Person:
    """Somebody whose conversation began before the proxy ran."""
    somebody = through(proxy, provider, "chat", opening, key=f"sk-{opening}", **more)
    somebody.history = [somebody.user(opening), *CALLED[1:]]
    return somebody


MISSING: dict[str, tuple[Provider, str, Settings]] = {
    "kimi wants plain turns too": (KIMI, "kimi-k2.6", Settings(demand="every")),
    "kimi refuses a space": (KIMI, "kimi-k2.6", Settings(refuses=(" ",))),
    "deepseek refuses a space": (DEEPSEEK, "deepseek-flash", Settings(refuses=(" ", ""))),
    "deepseek in its old words": (DEEPSEEK, "deepseek-flash", Settings(refuses=(" ",), old_text=True)),
    "deepseek behind a relay": (DEEPSEEK, "deepseek-flash", Settings(refuses=(" ",), relay=True)),
    "mimo": (MIMO, "mimo-v2.5-pro", Settings(demand="every")),
    "opencode": (ZEN, "deepseek-v4-pro", Settings(refuses=(" ",))),
    "openrouter": (OPENROUTER, "moonshotai/kimi-k2.6", Settings(demand="every")),
    "siliconflow": (SILICONFLOW, "Pro/moonshotai/Kimi-K2.5", Settings(demand="every")),
    "a model that no row knows": (ZEN, "deepseek-v4-pro", Settings(refuses=(" ",))),
}


@pytest.mark.parametrize(("opening", "row"), MISSING.items(), ids=MISSING)
@streamed_or_not
def test_missing_reasoning_is_repaired_and_learned(
    start_proxy: StartProxy,
    provider: Simulator,
    opening: str,
    row: tuple[Provider, str, Settings],
    streamed: bool,
) -> None:
    who, model, provider.settings[row[0].host] = row
    proxy = start_proxy()
    provider.say(reasoning="R1", text="It is dry there.")
    provider.say(reasoning="R2", text="Welcome.")
    somebody = strangers(proxy, who, opening, model=model, streamed=streamed, keeps=False)
    somebody.history += [{"role": "assistant", "content": "Dry."}, somebody.user("sure?")]
    assert somebody.ask() == "It is dry there."
    assert provider.statuses(opening) == [400, 200]
    proxy.wait_for("refused: reasoning missing; repaired and sent again: ")
    # What was learned holds at once, and the answer to the repaired request is on record.
    somebody.says("thanks")
    assert somebody.ask() == "Welcome."
    assert provider.statuses(opening) == [400, 200, 200]
    assert provider.requests[-1].verdicts[-1] == "exact"


def test_a_lesson_outlives_the_proxy(start_proxy: StartProxy, provider: Simulator, tmp_path: Path) -> None:
    provider.settings[KIMI.host] = Settings(refuses=(" ",))
    for _ in range(2):
        provider.say(text="Dry.")
    for number in range(2):
        proxy = start_proxy(home=tmp_path / "home")
        strangers(proxy, KIMI, f"outlive {number}").ask()
        proxy.stop()
    assert provider.statuses() == [400, 200, 200]


FORBIDDEN = {"groq": GROQ, "cerebras": CEREBRAS, "mistral": MISTRAL, "databricks": DATABRICKS}


@pytest.mark.parametrize(("name", "who"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_stale_fields_are_taken_out_where_they_are_refused(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path, name: str, who: Provider
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    proxy = start_proxy("--set", f"reasoning_providers={own}")
    somebody = through(proxy, who, "chat", name)
    somebody.history += [
        {"role": "assistant", "content": "Hi.", "reasoning_content": "from another host"},
        somebody.user("more"),
    ]
    for _ in range(2):
        provider.say(text="Dry.")
        somebody.ask()
        somebody.says("and?")
    status = 422 if who is MISTRAL else 400
    assert provider.statuses(name) == [status, 200, 200]
    assert b"reasoning_content" not in provider.requests[-1].body
    proxy.wait_for("refused: reasoning not allowed; repaired and sent again: took reasoning that is refused")


def test_fireworks_refuses_the_other_name(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy()
    somebody = through(proxy, FIREWORKS, "chat", "fireworks")
    somebody.history += [{"role": "assistant", "content": "Hi.", "reasoning": "stale"}, somebody.user("more")]
    provider.say(text="Dry.")
    assert somebody.ask() == "Dry."
    assert provider.statuses("fireworks") == [400, 200]


PARAMETERS: dict[str, tuple[Provider, dict[str, Any], dict[str, Any]]] = {
    "temperature": (KIMI, {"temperature": 0.2}, {"temperature": None}),
    "top_p": (KIMI, {"top_p": 0.5}, {"top_p": None}),
    "effort beside thinking": (
        KIMI,
        {"reasoning_effort": "high", "extra_body": {"thinking": {"type": "enabled"}}},
        {"reasoning_effort": None, "thinking": {"type": "enabled"}},
    ),
    "a tool by name": (
        KIMI,
        {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        {"thinking": {"type": "disabled"}},
    ),
    "any tool": (KIMI, {"tool_choice": "required"}, {"thinking": {"type": "disabled"}}),
    "any tool at deepseek": (DEEPSEEK, {"tool_choice": "required"}, {"thinking": {"type": "disabled"}}),
}


@pytest.mark.parametrize(("name", "row"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameters_that_thinking_forbids(
    start_proxy: StartProxy,
    provider: Simulator,
    name: str,
    row: tuple[Provider, dict[str, Any], dict[str, Any]],
) -> None:
    who, given, sent = row
    proxy = start_proxy()
    somebody = through(proxy, who, "chat", name, **given)
    for _ in range(2):
        provider.say(text="Dry.")
        assert somebody.ask() == "Dry."
        somebody.says("and?")
    assert provider.statuses(name) == [400, 200, 200]
    for request in provider.asked(name)[1:]:
        assert {key: request.json.get(key) for key in sent} == sent


def test_a_request_that_grew_too_long_is_sent_with_what_is_demanded_only(
    start_proxy: StartProxy, provider: Simulator
) -> None:
    proxy = start_proxy()
    provider.say(reasoning="long " * 400, calls=[("call_00_a", "get_weather", "{}")])
    provider.say(reasoning="longer " * 400, text="All dry over there.")
    somebody = through(proxy, KIMI, "chat", "long", keeps=False)
    somebody.ask()
    somebody.ask()
    provider.settings[KIMI.host] = Settings(max_characters=4500)
    provider.say(text="Short.")
    somebody.says("and?")
    assert somebody.ask() == "Short."
    assert provider.statuses("long") == [200, 200, 400, 200]
    called, plain = (m for m in provider.requests[-1].json["messages"] if m["role"] == "assistant")
    assert called["reasoning_content"] == "long " * 400 and "reasoning_content" not in plain


def test_models_that_always_think_are_not_turned_off_again(
    start_proxy: StartProxy, provider: Simulator
) -> None:
    """The person wants thinking off for a model of which the table does not know that it cannot be."""
    proxy = start_proxy("--set", "reasoning_disable=kimi")
    provider.say(reasoning="R", text="Dry.")
    provider.say(reasoning="R", text="Dry.")
    somebody = through(proxy, KIMI_CODING, "chat", "always", model="kimi-k2.7-code-x")
    assert somebody.ask() == "Dry."
    assert provider.statuses("always") == [200]


def test_nothing_is_sent_a_third_time(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy()
    text = "The `reasoning_content` in the thinking mode must be passed back to the API."
    body = json.dumps({"error": {"message": text}}).encode()
    for _ in range(4):
        provider.refuse(body)
    with pytest.raises(openai.BadRequestError) as refused:
        strangers(proxy, KIMI, "thrice").ask()
    assert refused.value.response.content == body
    assert provider.statuses("thrice") == [400, 400]
    proxy.wait_for("refused .reasoning missing., and again after a repair")
    with pytest.raises(openai.BadRequestError):
        strangers(proxy, KIMI, "thrice").ask()
    assert provider.statuses("thrice") == [400, 400, 400, 400]
    assert "learned" not in "".join(proxy.lines)


UNRELATED = [
    (400, b'{"error":{"message":"text content is empty"}}'),
    (400, b'{"error":{"message":"messages[2]: missing field id"}}'),
    (401, b'{"error":{"message":"reasoning_content in the thinking mode must be passed back"}}'),
    (429, b'{"error":{"message":"slow down"}}'),
    (500, b"reasoning_content in the thinking mode must be passed back"),
]


@pytest.mark.parametrize(("status", "body"), UNRELATED)
def test_other_refusals_pass_byte_for_byte(
    proxy: Proxy, provider: Simulator, status: int, body: bytes
) -> None:
    provider.refuse(body, status)
    request = json.dumps({"model": "kimi-k2.6", "messages": CALLED}).encode()
    got = raw_post(proxy, KIMI.host, KIMI.chat_path, request, {"authorization": "Bearer sk-unrelated"})
    assert (got[0], got[2]) == (status, body)
    assert provider.statuses() == [status]


def test_mode_none_repairs_nothing_that_is_missing(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy("--set", "reasoning_fallback=none")
    with pytest.raises(openai.BadRequestError):
        strangers(proxy, KIMI, "none").ask()
    assert provider.statuses("none") == [400]


def test_mode_disable_thinking(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy("--set", "reasoning_fallback=disable-thinking")
    provider.say(text="Dry.")
    assert strangers(proxy, KIMI, "disabled").ask() == "Dry."
    assert provider.statuses("disabled") == [200]
    assert provider.requests[-1].json["thinking"] == {"type": "disabled"}
    proxy.wait_for("api.moonshot.ai kimi-k2.6: turned thinking off")


def test_glm_that_cannot_be_turned_off_is_left_alone(start_proxy: StartProxy, provider: Simulator) -> None:
    proxy = start_proxy("--set", "reasoning_fallback=disable-thinking", "--set", "reasoning_disable=glm")
    provider.say(reasoning="R", text="Dry.")
    assert strangers(proxy, GLM, "glm").ask() == "Dry."
    assert provider.statuses("glm") == [200]
