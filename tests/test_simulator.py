"""The provider simulator itself, driven by the official client libraries without any proxy."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.people import ChatPerson, MessagesPerson, Person, ResponsesPerson
from tests.provider.providers import (
    CEREBRAS,
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
    STEPFUN,
    TOGETHER,
    VLLM,
    ZEN,
    Provider,
    at,
)
from tests.provider.refusals import (
    DEEPSEEK_EMPTY_TURN,
    GLM_BUDGET,
    KIMI_BOTH,
    KIMI_REQUIRED,
    KIMI_SPECIFIED,
    KIMI_TEMPERATURE,
    KIMI_TOP_P,
    refusal,
)
from tests.provider.settings import Settings
from tests.provider.simulator import Simulator
from tests.provider.turns import Call, Dialect, Event, Text, Thought
from tests.proxy import direct_client, direct_messages_client

ERRORS = Path(__file__).parent / "samples" / "errors"
SAMPLES = Path(__file__).parent / "samples"
KEY = "sk-0123456789abcdef-somebody"
SESSION = {"x-opencode-session": "ses_1"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
OFF = {"thinking": {"type": "disabled"}}
SPLIT = {"extra_body": {"reasoning_split": True}}

streamed_or_not = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


def person(
    simulator: Simulator, provider: Provider, dialect: Dialect, opening: str = "Weather?", **more: Any
) -> Person:
    model = more.pop("model", provider.model)
    if dialect == "messages":
        messages = direct_messages_client(
            simulator, provider.host, KEY, provider.messages_url, headers=SESSION
        )
        return MessagesPerson(messages, model, opening, **more)
    api = direct_client(simulator, provider.host, KEY, provider.base_url, headers=SESSION)
    if dialect == "responses":
        return ResponsesPerson(api, model, opening, **more)
    return ChatPerson(api, model, opening, **more)


def script(simulator: Simulator) -> None:
    """Two calls at once, one more with text, and an answer."""
    city = '{"city": "Zürich"}'
    simulator.say(
        reasoning="Zürich first.\nThen Oslo (奥斯陆).",
        calls=[("call_00_a", "get_weather", city), ("call_01_b", "get_weather", '{"city":"Oslo"}')],
    )
    simulator.say(reasoning="And Bern?  ", text="One more.", calls=[("call_00_c", "get_weather", "{}")])
    simulator.say(reasoning="All dry. 好。", text="All are dry.")
    simulator.say(reasoning="Polite.", text="Welcome.")


def sample(name: str, index: int | None = None) -> str:
    """An error body as it was seen, for the message at `index`."""
    text = next(ERRORS.glob(f"{name}.4*")).read_text().strip()
    if index is None:
        return text
    return re.sub(r"(index |messages\.|\"messages\",)\d+", rf"\g<1>{index}", text)


# --- everything sent back -----------------------------------------------------------------------------------

WITH_MORE: dict[str, dict[str, Any]] = {
    "chat/minimax split": {"provider": MINIMAX, "dialect": "chat"} | SPLIT,
    "chat/minimax m3": {"provider": MINIMAX, "dialect": "chat", "model": "MiniMax-M3"},
    "chat/kimi k2.7": {"provider": KIMI, "dialect": "chat", "model": "kimi-k2.7-code"},
    "chat/opencode-go kimi": {"provider": GO, "dialect": "chat", "model": "kimi-k2.6"},
    "messages/opencode-zen minimax": {"provider": ZEN, "dialect": "messages", "model": "minimax-m2.7"},
}
ALL = {
    f"{dialect}/{provider.name}": {"provider": provider, "dialect": dialect}
    for provider in EVERYBODY
    for dialect in ("chat", "messages", "responses")
    if getattr(provider, dialect)
} | WITH_MORE


@pytest.mark.parametrize("who", ALL.values(), ids=ALL)
@streamed_or_not
def test_everything_sent_back_is_exact(provider: Simulator, who: dict[str, Any], streamed: bool) -> None:
    script(provider)
    somebody = person(provider, streamed=streamed, **who)
    texts = [somebody.ask() for _ in range(3)]
    somebody.says("Thanks!")
    somebody.ask()
    assert texts[-1].endswith("All are dry.")
    assert [request.verdicts for request in provider.requests] == [["exact"] * turn for turn in range(4)]
    assert provider.statuses(host=who["provider"].host) == [200] * 4


def test_every_host_and_path_of_a_provider_answers() -> None:
    for provider in EVERYBODY:
        paths = {"chat": provider.chat, "messages": provider.messages, "responses": provider.responses}
        for host in provider.hosts:
            for dialect, some in paths.items():
                for path in some:
                    found = at(host, path + "?beta=true")
                    assert found is not None and found.dialect(path + "?beta=true") == dialect
    assert at("opencode.ai", "/zen/go/v1/messages") is GO
    assert at("api.anthropic.com", "/v1/messages") is None


# --- reasoning dropped --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deepseek": ({"provider": DEEPSEEK, "dialect": "chat"}, sample("deepseek-chat-error")),
    "deepseek messages": (
        {"provider": DEEPSEEK, "dialect": "messages"},
        sample("deepseek-messages-error"),
    ),
    "deepseek responses": (
        {"provider": DEEPSEEK, "dialect": "responses"},
        sample("deepseek-responses-error"),
    ),
    "kimi": ({"provider": KIMI, "dialect": "chat"}, sample("kimi-chat-error", 1)),
    "kimi messages": ({"provider": KIMI, "dialect": "messages"}, sample("kimi-messages-error", 1)),
    "kimi coding": ({"provider": KIMI_CODING, "dialect": "messages"}, sample("kimi-messages-error", 1)),
    "mimo": ({"provider": MIMO, "dialect": "chat"}, sample("mimo-error")),
    "mimo messages": ({"provider": MIMO, "dialect": "messages"}, sample("mimo-error")),
    "openrouter": ({"provider": OPENROUTER, "dialect": "chat"}, sample("openrouter-error-nested", 1)),
    "zen": ({"provider": ZEN, "dialect": "chat"}, sample("opencode-go-error")),
    "go, kimi": (
        {"provider": GO, "dialect": "chat", "model": "kimi-k2.6"},
        sample("opencode-go-error-nested", 1),
    ),
    "zen responses": (
        {"provider": ZEN, "dialect": "responses"},
        sample("opencode-go-error").replace("reasoning_content", "reasoning_text"),
    ),
    "siliconflow": ({"provider": SILICONFLOW, "dialect": "chat"}, sample("siliconflow-error", 1)),
}


@pytest.mark.parametrize(("who", "body"), REFUSED.values(), ids=REFUSED)
@streamed_or_not
def test_dropped_reasoning_is_refused_in_the_providers_words(
    provider: Simulator, who: dict[str, Any], body: str, streamed: bool
) -> None:
    script(provider)
    somebody = person(provider, streamed=streamed, keeps=False, **who)
    somebody.ask()
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refused:
        somebody.ask()
    assert refused.value.response.text == body
    assert provider.requests[-1].verdicts == ["missing"]
    assert provider.statuses("Weather?") == [200, 400]


NEVER_REFUSED: dict[str, dict[str, Any]] = {
    "glm": {"provider": GLM, "dialect": "chat"},
    "glm messages": {"provider": GLM, "dialect": "messages"},
    "minimax": {"provider": MINIMAX, "dialect": "chat"} | SPLIT,
    "minimax messages": {"provider": MINIMAX, "dialect": "messages"},
    "kimi k3": {"provider": KIMI, "dialect": "chat", "model": "kimi-k3"},
    "kimi responses": {"provider": KIMI, "dialect": "responses", "model": "kimi-k3"},
    "deepseek without tools": {"provider": DEEPSEEK, "dialect": "chat", "tools": False},
    "deepseek, not thinking": {"provider": DEEPSEEK, "dialect": "chat", "extra_body": OFF},
    "deepseek messages, not thinking": {"provider": DEEPSEEK, "dialect": "messages"} | OFF,
    "deepseek responses, no effort": {
        "provider": DEEPSEEK,
        "dialect": "responses",
        "reasoning": {"effort": "none"},
    },
    **{
        which.name: {"provider": which, "dialect": "chat"}
        for which in (GROQ, CEREBRAS, MISTRAL, DATABRICKS, FIREWORKS, TOGETHER, STEPFUN, VLLM)
    },
}


@pytest.mark.parametrize("who", NEVER_REFUSED.values(), ids=NEVER_REFUSED)
@streamed_or_not
def test_what_is_missing_is_not_always_refused(
    provider: Simulator, who: dict[str, Any], streamed: bool
) -> None:
    script(provider)
    somebody = person(provider, streamed=streamed, keeps=False, **who)
    for _ in range(3):
        somebody.ask()
    assert [request.verdicts for request in provider.requests] == [["missing"] * turn for turn in range(3)]


# --- the ledger ---------------------------------------------------------------------------------------------


def thinking(text: str, signature: str) -> Event:
    return {"type": "thinking", "thinking": text, "signature": signature}


FIRST, SECOND = thinking("One.", "sig1"), thinking("Two.", "sig2")
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
SAID = {"type": "text", "text": "Looking."}
CALL = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {}}


@pytest.mark.parametrize(
    ("turn", "verdict"),
    [
        ([[FIRST, HIDDEN, SAID, SECOND, CALL]], "exact"),
        ([[FIRST, HIDDEN, SECOND, SAID, CALL]], "exact"),
        ([[FIRST, HIDDEN, SECOND, SAID], [CALL]], "exact"),
        ([[FIRST, HIDDEN, SECOND, SAID], [FIRST, HIDDEN, SECOND, CALL]], "exact"),
        ([[SAID, FIRST, HIDDEN, SECOND, CALL]], "wrong"),
        ([[HIDDEN, FIRST, SECOND, SAID, CALL]], "wrong"),
        ([[FIRST, SECOND, SAID, CALL]], "wrong"),
        ([[FIRST, HIDDEN, SAID, CALL]], "wrong"),
        ([[FIRST, HIDDEN, SECOND | {"signature": "sig3"}, SAID, CALL]], "wrong"),
        ([[FIRST, HIDDEN, SECOND | {"thinking": "Two"}, SAID, CALL]], "wrong"),
        ([[thinking(" ", ""), SAID, CALL]], "blank"),
        ([[SAID, CALL]], "missing"),
        ([[CALL | {"id": "call_9"}]], "unknown"),
    ],
)
def test_thinking_blocks_are_judged_one_by_one(
    provider: Simulator, turn: list[list[Event]], verdict: str
) -> None:
    provider.say(
        Thought("One.", "sig1"),
        Thought(redacted="ZGF0YQ=="),
        Text("Looking."),
        Thought("Two.", "sig2"),
        Call("call_1", "get_weather", "{}"),
    )
    provider.say(text="Dry.")
    somebody = person(provider, MINIMAX, "messages")
    somebody.ask()
    result = somebody.history[-1]["content"][0]["tool_use_id"]
    pieces = [{"role": "assistant", "content": blocks} for blocks in turn]
    results = [{"type": "tool_result", "tool_use_id": result, "content": "dry"}]
    somebody.history[1:] = [*pieces, {"role": "user", "content": results}]
    if verdict == "unknown":
        somebody.history[1:] = [*pieces, somebody.user("Go on.")]
    somebody.ask()
    assert provider.requests[-1].verdicts == [verdict]


@pytest.mark.parametrize(
    ("field", "value", "verdict", "status"),
    [
        ("reasoning_content", "Hm.", "exact", 200),
        ("reasoning_content", "Hm. ", "wrong", 200),
        ("reasoning_content", " ", "blank", 200),
        ("reasoning_content", "", "blank", 200),
        ("reasoning", "Hm.", "missing", 400),
    ],
)
def test_only_the_providers_own_field_counts(
    provider: Simulator, field: str, value: str, verdict: str, status: int
) -> None:
    provider.say(reasoning="Hm.", text="Dry.")
    provider.say(text="Bye.")
    somebody = person(provider, DEEPSEEK, "chat")
    somebody.ask()
    del somebody.history[1]["reasoning_content"]
    somebody.history[1][field] = value
    somebody.says("Thanks.")
    if status == 200:
        somebody.ask()
    else:
        with pytest.raises(openai.BadRequestError):
            somebody.ask()
    assert (provider.requests[-1].verdicts, provider.statuses()[-1]) == ([verdict], status)


def test_details_must_come_back_as_they_are(provider: Simulator) -> None:
    details = [
        {"type": "reasoning.summary", "summary": "Short.", "id": "rs_1", "index": 0},
        {"type": "reasoning.encrypted", "data": "gAAAA==", "id": "rs_1", "index": 1},
        {"type": "reasoning.future", "extra": {"z": 1}, "index": 2},
    ]
    provider.say(reasoning="Short.", text="Dry.", details=details)
    somebody = person(provider, OPENROUTER, "chat")
    somebody.ask()
    assert somebody.history[1]["reasoning_details"] == details
    for change in ([*details[::-1]], details[1:], details):
        somebody.history[1:] = [somebody.history[1] | {"reasoning_details": change}, somebody.user("So?")]
        provider.say(text="So.")
        somebody.ask()
    verdicts = [request.verdicts[0] for request in provider.requests[1:]]
    assert verdicts == ["wrong", "wrong", "exact"]


def test_another_conversation_has_its_own_turns(provider: Simulator) -> None:
    for opening, thought in (("Rome?", "Rome."), ("Oslo?", "Oslo.")):
        call = ("functions.get_weather:0", "get_weather", "{}")
        provider.say(reasoning=thought, calls=[call], conversation=opening)
        provider.say(text="Dry.", conversation=opening)
    people = [person(provider, KIMI, "chat", opening) for opening in ("Rome?", "Oslo?")]
    for somebody in people:
        somebody.ask()
    people[0].history[1]["reasoning_content"] = "Oslo."
    for somebody in people:
        somebody.ask()
    assert [request.verdicts for request in provider.asked("Rome?")] == [[], ["wrong"]]
    assert [request.verdicts for request in provider.asked("Oslo?")] == [[], ["exact"]]
    assert len(provider.asked(host=KIMI.host)) == 4 and not provider.asked(host=GLM.host)


# --- the Responses API --------------------------------------------------------------------------------------


@streamed_or_not
def test_a_response_can_be_continued_by_its_id(provider: Simulator, streamed: bool) -> None:
    script(provider)
    somebody = person(provider, DEEPSEEK, "responses", streamed=streamed, stateful=True)
    for _ in range(3):
        somebody.ask()
    assert [request.verdicts for request in provider.requests] == [[], [], []]
    assert provider.statuses("Weather?") == [200] * 3
    somebody.more["previous_response_id"] = "nobody's"
    somebody.says("Thanks!")
    with pytest.raises(openai.BadRequestError, match="nobody's"):
        somebody.ask()


def changed(history: list[Event], how: str) -> list[Event]:
    """A turn of one thought and two calls, with the two outputs, altered."""
    user, thought, one, two, output_one, output_two = history
    if how == "interleaved":
        return [user, thought, one, output_one, two, output_two]
    if how == "after its calls":
        return [user, one, two, thought, output_one, output_two]
    changes: dict[str, Event] = {
        "empty": {"content": [{"type": "reasoning_text", "text": ""}]},
        "summary only": {"content": None, "summary": [{"type": "summary_text", "text": "Zürich."}]},
        "sealed only": {"content": None},
        "without id and seal": {"id": None, "encrypted_content": None, "status": None},
    }
    thought = {key: value for key, value in (thought | changes[how]).items() if value is not None}
    return [user, thought, one, two, output_one, output_two]


@pytest.mark.parametrize(
    ("how", "verdicts", "refused"),
    [
        ("interleaved", ["exact", "missing"], True),
        ("after its calls", ["wrong"], False),
        ("empty", ["wrong"], True),
        ("summary only", ["wrong"], True),
        ("sealed only", ["wrong"], True),
        ("without id and seal", ["exact"], False),
    ],
)
def test_reasoning_items_are_read_strictly(
    provider: Simulator, how: str, verdicts: list[str], refused: bool
) -> None:
    script(provider)
    somebody = person(provider, DEEPSEEK, "responses")
    somebody.ask()
    somebody.history = changed(somebody.history, how)
    if refused:
        with pytest.raises(openai.BadRequestError) as error:
            somebody.ask()
        assert error.value.response.text == sample("deepseek-responses-error")
    else:
        somebody.ask()
    assert provider.requests[-1].verdicts == verdicts
    somebody.more["reasoning"] = {"effort": "none"}
    somebody.ask()  # not thinking, everything is accepted


# --- refusals by rule ---------------------------------------------------------------------------------------

PLAIN = {"role": "assistant", "content": "Dry."}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
USER = {"role": "user", "content": "Weather?"}
SPECIFIED = {"tool_choice": {"type": "function", "function": {"name": "f"}}}


def asking(*turns: Event, **more: Any) -> Event:
    return {"messages": [USER, USER, *turns, USER], "tools": TOOLS, **more}


@pytest.mark.parametrize(
    ("which", "body", "name"),
    [
        (GROQ, asking(PLAIN | {"reasoning_content": " "}), "groq-error-forbidden"),
        (CEREBRAS, asking(PLAIN | {"reasoning_content": " "}), "cerebras-error-forbidden"),
        (MISTRAL, asking(PLAIN | {"reasoning_content": " "}), "mistral-error-forbidden"),
        (DEEPSEEK, asking(tool_choice="required"), "deepseek-chat-error-toolchoice"),
        (DEEPSEEK, asking(**SPECIFIED), "deepseek-chat-error-toolchoice"),
        (KIMI, asking(model="kimi-k2.7-code", **OFF), "kimi-chat-error-thinking-off"),
        (
            KIMI,
            asking(CALLED | {"content": [{"type": "text", "text": ""}]}, model="kimi-k2.6"),
            "kimi-chat-error-empty-text",
        ),
        (GLM, asking(model="glm-5.3", **OFF), "glm-error-cannot-disable"),
        (MIMO, asking(CALLED | {"content": None}), "mimo-error-null-content"),
        (
            MINIMAX,
            asking(CALLED, {"role": "tool", "tool_call_id": "call_2", "content": "21"}),
            "minimax-error-pairing",
        ),
    ],
)
def test_refusals_read_as_they_were_seen(which: Provider, body: Event, name: str) -> None:
    found = refusal(which, body)
    assert found is not None and found.body.decode() == sample(name)
    assert str(found.status) in next(ERRORS.glob(f"{name}.4*")).name


@pytest.mark.parametrize(
    ("which", "body", "text"),
    [
        (KIMI, asking(temperature=0.2), KIMI_TEMPERATURE),
        (KIMI, asking(temperature=1, top_p=0.9), KIMI_TOP_P),
        (KIMI, asking(tool_choice="required"), KIMI_REQUIRED),
        (KIMI, asking(**SPECIFIED), KIMI_SPECIFIED),
        (KIMI, asking(reasoning_effort="low", **OFF), KIMI_BOTH),
        (KIMI, asking(temperature=1, top_p=0.95, tool_choice="auto"), None),
        (KIMI, asking(temperature=0.2, tool_choice="required", **OFF), None),
        (KIMI, asking(model="kimi-k3", tool_choice="required"), None),
        (KIMI, asking(model="kimi-k3", reasoning_effort="low", thinking={"type": "enabled"}), None),
        (KIMI, asking(model="kimi-k3.1-pro", **OFF), "only type=enabled"),
        (DEEPSEEK, asking(tool_choice="required", **OFF), None),
        (DEEPSEEK, asking(PLAIN | {"content": None}), DEEPSEEK_EMPTY_TURN),
        (DEEPSEEK, asking(PLAIN | {"prefix": True}), None),
        (FIREWORKS, asking(PLAIN | {"reasoning": "x"}), "Extra inputs are not permitted, field: "),
        (DATABRICKS, asking(PLAIN | {"reasoning_content": "x"}), "messages.2.reasoning_content: Extra"),
        (GLM, asking(model="glm-5.2", **OFF), None),
        (ZEN, asking(CALLED, model="kimi-k2.6", **OFF), "index 2"),
        (ZEN, asking(CALLED, model="deepseek-v4-pro", **OFF), None),
        (ZEN, asking(model="kimi-k2.7-code", **OFF), "Error from provider (Moonshot AI): invalid thinking"),
        (OPENROUTER, asking(CALLED, reasoning={"enabled": False}), None),
    ],
)
def test_refusals_follow_parameters_and_models(which: Provider, body: Event, text: str | None) -> None:
    found = refusal(which, {"model": which.model} | body)
    assert (found is None) if text is None else (found is not None and text in found.body.decode())


def test_refusals_of_the_messages_dialect() -> None:
    turn = {"role": "assistant", "content": [thinking("", ""), CALL]}
    asked = {"messages": [USER, turn, USER], "tools": [{"name": "get_weather"}]}
    refused = functools.partial(refusal, dialect="messages")
    assert refused(DEEPSEEK, asked) is not None
    assert refused(DEEPSEEK, asked | OFF) is None
    assert refused(KIMI, asked | {"model": "kimi-k2.6"}) is None
    orphan = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "nobody's"}]}
    pairing = refused(MINIMAX, {"messages": [USER, turn, orphan]})
    assert pairing is not None and pairing.body.decode() == sample("minimax-error-pairing")
    budget = refused(GLM, {"messages": [USER], "thinking": {"type": "enabled"}})
    assert budget is not None and GLM_BUDGET in budget.body.decode()


def test_deepseek_calls_its_refusals_bytes(provider: Simulator) -> None:
    provider.say(reasoning="Hm.", text="Dry.")
    somebody = person(provider, DEEPSEEK, "chat", keeps=False)
    somebody.ask()
    somebody.says("Sure?")
    with pytest.raises(openai.BadRequestError) as error:
        somebody.ask()
    assert error.value.response.headers["content-type"] == "application/octet-stream"


def test_chinese_glm_and_the_coding_plan(provider: Simulator) -> None:
    base_url = "https://open.bigmodel.cn/api/paas/v4"
    api = direct_client(provider, "open.bigmodel.cn", KEY, base_url)
    somebody = ChatPerson(api, "glm-5.3", "Weather?", extra_body=OFF)
    with pytest.raises(openai.BadRequestError) as error:
        somebody.ask()
    assert error.value.response.text == sample("glm-error-cannot-disable-cn")
    provider.say(text="Dry.")
    api = direct_client(provider, GLM.host, KEY, "https://api.z.ai/api/coding/paas/v4")
    assert ChatPerson(api, "glm-5.3", "Weather?", extra_body=OFF).ask() == "Dry."


def test_opencode_wants_a_session(provider: Simulator) -> None:
    api = direct_client(provider, ZEN.host, KEY)
    with pytest.raises(openai.BadRequestError) as error:
        ChatPerson(api, ZEN.model, "Weather?").ask()
    assert error.value.response.text == sample("opencode-go-error-session")


# --- settings -----------------------------------------------------------------------------------------------

SPACE = PLAIN | {"reasoning_content": " "}
DISAGREEMENTS: dict[str, tuple[Provider, Event, Settings, str | None]] = {
    "a space refused": (DEEPSEEK, asking(SPACE), Settings(refuses=(" ",)), sample("deepseek-chat-error")),
    "a space accepted": (DEEPSEEK, asking(SPACE), Settings(refuses=("",)), None),
    "nothing demanded": (DEEPSEEK, asking(PLAIN), Settings(demand="nothing"), None),
    "calls only": (DEEPSEEK, asking(PLAIN), Settings(demand="calls"), None),
    "every turn": (
        KIMI,
        asking(PLAIN, model="kimi-k2.6"),
        Settings(demand="every"),
        sample("kimi-chat-error"),
    ),
    "old text": (DEEPSEEK, asking(PLAIN), Settings(old_text=True), sample("deepseek-chat-error-old")),
    "a relay": (
        KIMI,
        asking(CALLED, model="kimi-k2.6"),
        Settings(relay=True),
        sample("kimi-relay-error", 2).replace("index 2", "index 2 [trace_id=7f3c]"),
    ),
    "no cause": (
        GO,
        asking(model="kimi-k2.6", temperature=0.2),
        Settings(opaque=True),
        sample("opencode-go-error-opaque"),
    ),
    "a field forbidden": (
        OPENROUTER,
        asking(SPACE, model="qwen/qwen3"),
        Settings(forbids=("reasoning_content",)),
        None,
    ),
}


@pytest.mark.parametrize(("which", "body", "settings", "text"), DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_a_test_can_make_a_host_stricter_or_looser(
    which: Provider, body: Event, settings: Settings, text: str | None
) -> None:
    found = refusal(which, body, settings=settings)
    if settings.forbids:
        assert found is not None
        inner = json.loads(json.loads(found.body)["error"]["metadata"]["raw"])
        assert inner["error"]["message"] == "Unrecognized request argument supplied: reasoning_content"
    elif settings.relay:
        assert found is not None and json.loads(found.body) == json.loads(text or "")
    else:
        assert (found and found.body.decode()) == text


def test_settings_are_per_host_and_end_with_the_test(provider: Simulator) -> None:
    provider.settings[DEEPSEEK.host].demand = "nothing"
    script(provider)
    somebody = person(provider, DEEPSEEK, "chat", keeps=False)
    for _ in range(2):
        somebody.ask()
    provider.settings[DEEPSEEK.host].demand = "every"
    with pytest.raises(openai.BadRequestError):
        somebody.ask()
    provider.reset()
    assert provider.settings[DEEPSEEK.host].demand is None


@pytest.mark.parametrize("which", [DEEPSEEK, KIMI, GLM, MIMO, MINIMAX, OPENROUTER], ids=lambda p: p.name)
def test_a_long_request_is_refused_as_too_long(provider: Simulator, which: Provider) -> None:
    provider.settings[which.host].max_characters = 500
    somebody = person(provider, which, "chat", "x" * 500)
    with pytest.raises(openai.BadRequestError, match=r"(?i)context|token limit|max length"):
        somebody.ask()


def test_signatures_of_others_can_be_refused(provider: Simulator) -> None:
    provider.settings[DEEPSEEK.host].strict_signatures = True
    script(provider)
    somebody = person(provider, DEEPSEEK, "messages")
    somebody.ask()
    somebody.ask()
    somebody.history[1]["content"][0]["signature"] = "another's"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        somebody.ask()


def test_a_refusal_can_be_scripted(provider: Simulator) -> None:
    provider.refuse(b'data:{"error":{}}', 422, "text/plain")
    provider.say(text="Dry.")
    somebody = person(provider, MIMO, "chat")
    with pytest.raises(openai.UnprocessableEntityError):
        somebody.ask()
    assert somebody.ask() == "Dry."
    assert provider.statuses("Weather?", MIMO.host) == [422, 200]


# --- shapes -------------------------------------------------------------------------------------------------


def events(stream: str) -> list[Event]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


def shape(value: Any) -> Any:
    """The keys, and which values are null or empty; figures aside."""
    if isinstance(value, dict):
        keys = value.keys() - {"usage", "logprobs", "token_ids", "cost"}
        return tuple(sorted((key, shape(value[key])) for key in keys))
    if isinstance(value, list):
        return tuple(dict.fromkeys(map(shape, value)))
    return "null" if value is None else type(value).__name__


def said(simulator: Simulator, provider: Provider, dialect: Dialect, **more: Any) -> str:
    """The body of a streamed answer: a thought, a text and a call."""
    simulator.say(reasoning="One two.", text="A b.", calls=[("call_1", "f", '{"city":"Bern"}')])
    somebody = person(simulator, provider, dialect)
    url = {
        "chat": f"{provider.base_url}/chat/completions",
        "messages": f"{provider.messages_url}/v1/messages",
        "responses": f"{provider.base_url}/responses",
    }[dialect]
    asked = {"input": "Weather?"} if dialect == "responses" else {"messages": [USER]}
    api: Any = somebody.api if dialect == "responses" else None
    del api
    client = direct_client(simulator, provider.host, KEY, headers=SESSION)
    body = {"model": provider.model, "stream": True, **asked, **more}
    return client._client.post(url, json=body, headers=SESSION).text


SEEN: dict[str, tuple[Provider, Dialect, dict[str, Any]]] = {
    "messages/deepseek-messages-tool.sse": (DEEPSEEK, "messages", {}),
    "messages/kimi-messages-tool-unsigned.sse": (KIMI, "messages", {}),
    "responses/deepseek-responses-tool.sse": (DEEPSEEK, "responses", {}),
    "responses/kimi-responses-tool.sse": (KIMI, "responses", {}),
}


@pytest.mark.parametrize(("name", "seen"), SEEN.items(), ids=SEEN)
def test_streams_have_the_shapes_that_were_seen(
    provider: Simulator, name: str, seen: tuple[Provider, Dialect, dict[str, Any]]
) -> None:
    which, dialect, more = seen
    ours = said(provider, which, dialect, **more)
    assert {line for line in ours.splitlines() if line.startswith("event:")} >= {
        line for line in (SAMPLES / name).read_text().splitlines() if line.startswith("event:")
    }
    known = {shape(event) for event in events(ours)}
    for event in events((SAMPLES / name).read_text()):
        assert shape(event) in known, event
