"""The provider simulator itself, driven by the official client libraries without any proxy."""

import json
import re
from typing import Any

import httpx
import openai
import pytest

from tests import SAMPLES
from tests.clients import KEY, directly, script_four_turns
from tests.mitmdump import direct_client
from tests.provider.providers import (
    ARK_CODING,
    DEEPSEEK,
    EVERYBODY,
    GLM,
    GO,
    KIMI,
    MIMO,
    MINIMAX,
    OPENROUTER,
    VLLM,
    ZEN,
    Provider,
    at,
)
from tests.provider.refusals import DEEPSEEK_RESPONSES_MISSING
from tests.provider.simulator import Simulator
from tests.provider.turns import Call, Dialect, Event, Text, Thought

USER = {"role": "user", "content": "Weather?"}
SPLIT = {"extra_body": {"reasoning_split": True}}

streamed_or_not = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


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
    if getattr(provider, dialect) and provider is not ARK_CODING
} | WITH_MORE


@pytest.mark.parametrize("who", ALL.values(), ids=ALL)
@streamed_or_not
def test_everything_sent_back_is_exact(provider: Simulator, who: dict[str, Any], streamed: bool) -> None:
    script_four_turns(provider)
    somebody = directly(provider, streamed=streamed, **who)
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
    somebody = directly(provider, MINIMAX, "messages")
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
    somebody = directly(provider, DEEPSEEK, "chat")
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
    somebody = directly(provider, OPENROUTER, "chat")
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
    people = [directly(provider, KIMI, "chat", opening) for opening in ("Rome?", "Oslo?")]
    for somebody in people:
        somebody.ask()
    people[0].history[1]["reasoning_content"] = "Oslo."
    for somebody in people:
        somebody.ask()
    assert [request.verdicts for request in provider.asked("Rome?")] == [[], ["wrong"]]
    assert [request.verdicts for request in provider.asked("Oslo?")] == [[], ["exact"]]
    assert len(provider.asked(host=KIMI.host)) == 4 and not provider.asked(host=GLM.host)


def test_hosts_can_write_thoughts_another_way(provider: Simulator) -> None:
    provider.settings[VLLM.host].writes = "reasoning_content"
    provider.settings[MINIMAX.host].think_tag = "mm:think"
    for which, key, said in (
        (VLLM, "reasoning_content", "Hm."),
        (MINIMAX, "content", "<mm:think>\nHm.\n</mm:think>\n\nDry."),
    ):
        provider.say(reasoning="Hm.", text="Dry.")
        provider.say(text="Bye.")
        somebody = directly(provider, which, "chat")
        somebody.ask()
        assert somebody.history[1][key] == said
        somebody.says("Thanks.")
        somebody.ask()
        assert provider.requests[-1].verdicts == ["exact"]


def test_deepseek_signs_thinking_with_the_id_of_the_message(provider: Simulator) -> None:
    started, *others = events(streamed_body(provider, DEEPSEEK, "messages"))
    signatures = [event["delta"]["signature"] for event in others if "signature" in event.get("delta", {})]
    assert signatures == [started["message"]["id"]]
    again, *_ = events(streamed_body(provider, DEEPSEEK, "messages"))
    assert again["message"]["id"] not in signatures


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a_turn_without_thought_owes_none(provider: Simulator, dialect: Dialect) -> None:
    provider.say(text="Which city?")
    provider.say(text="Dry.")
    somebody = directly(provider, DEEPSEEK, dialect)
    somebody.ask()
    somebody.says("Bern.")
    assert somebody.ask() == "Dry."
    assert provider.requests[-1].verdicts == ["exact"]


# --- the Responses API --------------------------------------------------------------------------------------


@streamed_or_not
def test_a_response_can_be_continued_by_its_id(provider: Simulator, streamed: bool) -> None:
    script_four_turns(provider)
    somebody = directly(provider, DEEPSEEK, "responses", streamed=streamed, stateful=True)
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
    if how == "interleaved, each with the thought":
        return [user, thought, one, output_one, thought, two, output_two]
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
        ("interleaved, each with the thought", ["exact", "wrong"], True),
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
    script_four_turns(provider)
    somebody = directly(provider, DEEPSEEK, "responses")
    somebody.ask()
    somebody.history = changed(somebody.history, how)
    if refused:
        with pytest.raises(openai.BadRequestError) as error:
            somebody.ask()
        assert DEEPSEEK_RESPONSES_MISSING in error.value.response.text
    else:
        somebody.ask()
    assert provider.requests[-1].verdicts == verdicts
    somebody.more["reasoning"] = {"effort": "none"}
    somebody.ask()  # not thinking, everything is accepted


# --- shapes -------------------------------------------------------------------------------------------------


def events(stream: str) -> list[Event]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


def shape(value: Any) -> Any:
    """The keys, and the types of their values; figures aside, which differ by the day."""
    if isinstance(value, dict):
        keys = sorted(value.keys() - {"usage", "logprobs", "token_ids"})
        return tuple((key, shape(value[key])) for key in keys)
    if isinstance(value, list):
        return tuple(dict.fromkeys(map(shape, value)))
    return type(value).__name__


def streamed_body(simulator: Simulator, provider: Provider, dialect: Dialect, **more: Any) -> str:
    """What comes over the wire for a thought, a text (but on the Responses API) and a call."""
    text = "" if dialect == "responses" else "A b."
    simulator.say(reasoning="One two.", text=text, calls=[("call_1", "f", '{"city":"Bern"}')])
    asked: Event = {"input": "Weather?"} if dialect == "responses" else {"messages": [USER]}
    urls = {
        "chat": f"{provider.base_url}/chat/completions",
        "messages": f"{provider.messages_url}/v1/messages",
        "responses": f"{provider.responses_url}/responses",
    }
    client = direct_client(simulator, provider.host, KEY)
    answer = client.post(
        urls[dialect], body={"model": provider.model, "stream": True, **asked, **more}, cast_to=httpx.Response
    )
    return answer.text


@pytest.mark.parametrize(
    ("which", "dialect", "name"),
    [
        (DEEPSEEK, "messages", "messages/deepseek-messages-tool.sse"),
        (KIMI, "messages", "messages/kimi-messages-tool-unsigned.sse"),
        (DEEPSEEK, "responses", "responses/deepseek-responses-tool.sse"),
        (KIMI, "responses", "responses/kimi-responses-tool.sse"),
    ],
)
def test_events_have_the_shapes_that_were_seen(
    provider: Simulator, which: Provider, dialect: Dialect, name: str
) -> None:
    ours, seen = streamed_body(provider, which, dialect), (SAMPLES / name).read_text()
    names = re.compile(r"^event: (.*)", re.MULTILINE)
    assert set(names.findall(ours)) >= set(names.findall(seen))
    known = {shape(event) for event in events(ours)}
    for event in events(seen):
        assert shape(event) in known, event


@pytest.mark.parametrize(
    ("which", "name", "more"),
    [
        (DEEPSEEK, "deepseek-chat-tool.sse", {}),
        (KIMI, "kimi-k26-tool.sse", {}),
        (KIMI, "kimi-k3-tool.sse", {}),
        (GLM, "glm-tool-whole-call.sse", {}),
        (MIMO, "mimo-tool.sse", {}),
        (MINIMAX, "minimax-think-tags-tool.sse", {}),
        (MINIMAX, "minimax-split-incremental.sse", {"reasoning_split": True}),
        (MINIMAX, "minimax-split-cumulative.sse", {"reasoning_split": True}),
        (MINIMAX, "minimax-m3-mirrored.sse", {"model": "MiniMax-M3"}),
        (OPENROUTER, "openrouter-tool.sse", {}),
        (VLLM, "vllm-reasoning-field.sse", {}),
    ],
)
def test_deltas_have_the_shapes_that_were_seen(
    provider: Simulator, which: Provider, name: str, more: dict[str, Any]
) -> None:
    def deltas(stream: str) -> dict[Any, Event]:
        choices = [choice for event in events(stream) for choice in event["choices"]]
        return {shape(choice["delta"]): choice["delta"] for choice in choices}

    provider.settings[which.host].cumulative = "cumulative" in name
    ours, seen = deltas(streamed_body(provider, which, "chat", **more)), deltas((SAMPLES / name).read_text())
    assert [delta for known, delta in seen.items() if known not in ours] == []
