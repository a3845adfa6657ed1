"""What the provider simulator refuses, in the words each provider was seen to use."""

import functools
import re
from typing import Any

import anthropic
import openai
import pytest

from tests import SAMPLES
from tests.clients import KEY, ChatPerson, directly, script_four_turns
from tests.mitmdump import direct_client
from tests.provider.providers import (
    CEREBRAS,
    DATABRICKS,
    DEEPSEEK,
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
from tests.provider.turns import Event

ERRORS = SAMPLES / "errors"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
OFF = {"thinking": {"type": "disabled"}}
USER = {"role": "user", "content": "Weather?"}

streamed_or_not = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


def sample(name: str, index: int | None = None) -> str:
    """An error body as it was seen, for the message at `index`."""
    text = next(ERRORS.glob(f"{name}.4*")).read_text().strip()
    if index is None:
        return text
    return re.sub(r"(index |messages\.|\"messages\",)\d+", rf"\g<1>{index}", text)


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
    script_four_turns(provider)
    somebody = directly(provider, streamed=streamed, keeps=False, **who)
    somebody.ask()
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refused:
        somebody.ask()
    assert isinstance(refused.value, openai.BadRequestError | anthropic.BadRequestError)
    assert refused.value.response.text == body
    assert provider.requests[-1].verdicts == ["missing"]
    assert provider.statuses("Weather?") == [200, 400]


NEVER_REFUSED: dict[str, dict[str, Any]] = {
    "glm": {"provider": GLM, "dialect": "chat"},
    "glm messages": {"provider": GLM, "dialect": "messages"},
    "minimax": {"provider": MINIMAX, "dialect": "chat", "extra_body": {"reasoning_split": True}},
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
    script_four_turns(provider)
    somebody = directly(provider, streamed=streamed, keeps=False, **who)
    for _ in range(3):
        somebody.ask()
    assert [request.verdicts for request in provider.requests] == [["missing"] * turn for turn in range(3)]


# --- refusals by rule ---------------------------------------------------------------------------------------

PLAIN = {"role": "assistant", "content": "Dry."}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
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
    call = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {}}
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": ""}, call]}
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
    somebody = directly(provider, DEEPSEEK, "chat", keeps=False)
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
        DEEPSEEK,
        asking(PLAIN),
        Settings(relay=True),
        sample("relay-trace-error").replace("content[].thinking", "reasoning_content"),
    ),
    "no cause": (
        GO,
        asking(model="kimi-k2.6", temperature=0.2),
        Settings(opaque=True),
        sample("opencode-go-error-opaque"),
    ),
    "a field forbidden": (
        SILICONFLOW,
        asking(SPACE, model="qwen/qwen3"),
        Settings(forbids=("reasoning_content",)),
        '{"code":20015,"message":"Unrecognized request argument supplied: reasoning_content","data":null}',
    ),
}


@pytest.mark.parametrize(("which", "body", "settings", "text"), DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_a_test_can_make_a_host_stricter_or_looser(
    which: Provider, body: Event, settings: Settings, text: str | None
) -> None:
    found = refusal(which, body, settings=settings)
    assert (found and found.body.decode()) == text


def test_settings_are_per_host_and_end_with_the_test(provider: Simulator) -> None:
    provider.settings[DEEPSEEK.host].demand = "nothing"
    script_four_turns(provider)
    somebody = directly(provider, DEEPSEEK, "chat", keeps=False)
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
    somebody = directly(provider, which, "chat", "x" * 500)
    with pytest.raises(openai.BadRequestError) as error:
        somebody.ask()
    assert re.search(
        r"maximum context length|token limit|max length|context window", error.value.response.text
    )


def test_signatures_of_others_can_be_refused(provider: Simulator) -> None:
    provider.settings[DEEPSEEK.host].strict_signatures = True
    script_four_turns(provider)
    somebody = directly(provider, DEEPSEEK, "messages")
    somebody.ask()
    somebody.ask()
    somebody.history[1]["content"][0]["signature"] = "another's"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        somebody.ask()


def test_a_refusal_can_be_scripted(provider: Simulator) -> None:
    provider.refuse(b'data:{"error":{}}', 422, "text/plain")
    provider.say(text="Dry.")
    somebody = directly(provider, MIMO, "chat")
    with pytest.raises(openai.UnprocessableEntityError):
        somebody.ask()
    assert somebody.ask() == "Dry."
    assert provider.statuses("Weather?", MIMO.host) == [422, 200]
