"""What is done for turns that nobody recorded, by mode; turning thinking off; asking for reasoning apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.providers.rows import Means
from tests.conversations import Scene, call, reasoning, tool, turn, user

HISTORY = [user("go"), turn("", [call("c1")]), tool("c1", "sunny"), turn("It is sunny."), user("more")]


def sent(scene: Scene, messages: list[dict[str, Any]] = HISTORY, **parameters: Any) -> dict[str, Any]:
    """The whole request as the provider gets it; nothing where it is what the client sent."""
    exchange = scene.restore(messages, **parameters)
    return dict(json.loads(exchange.body)) if exchange.is_changed else {}


@pytest.mark.parametrize(
    ("host", "model", "parameters", "switched"),
    [
        ("api.deepseek.com", "deepseek-flash", {}, {"thinking": {"type": "disabled"}}),
        (
            "api.deepseek.com",
            "deepseek-flash",
            {"thinking": {"type": "enabled", "budget_tokens": 5}, "reasoning_effort": "high"},
            {"thinking": {"type": "disabled"}, "reasoning_effort": None},
        ),
        ("api.moonshot.ai", "kimi-k2.6", {}, {"thinking": {"type": "disabled"}}),
        ("api.xiaomimimo.com", "mimo-v2.5", {}, {"thinking": {"type": "disabled"}}),
        ("openrouter.ai", "deepseek/deepseek-v4-pro", {}, {"reasoning": {"enabled": False}}),
        (
            "openrouter.ai",
            "deepseek/deepseek-v4-pro",
            {"reasoning": {"effort": "high"}, "include_reasoning": True},
            {"reasoning": {"enabled": False}, "include_reasoning": None},
        ),
        ("api.siliconflow.cn", "Pro/moonshotai/Kimi-K2.5", {}, {"enable_thinking": False}),
        (
            "integrate.api.nvidia.com",
            "deepseek-ai/deepseek-v4",
            {"chat_template_kwargs": {"keep": 1}},
            {"chat_template_kwargs": {"keep": 1, "thinking": False}},
        ),
    ],
)
def test_disable_thinking(
    host: str, model: str, parameters: dict[str, Any], switched: dict[str, object]
) -> None:
    scene = Scene(host, model)
    scene.mode = "disable-thinking"
    got = sent(scene, **parameters)
    assert {name: got.get(name) for name in switched} == switched
    assert got["messages"] == HISTORY


@pytest.mark.parametrize(
    ("host", "model"),
    [("api.moonshot.ai", "kimi-k2.7-code"), ("api.moonshot.ai", "kimi-k3.1-pro")],
)
def test_where_thinking_cannot_be_turned_off_it_is_filled(host: str, model: str) -> None:
    scene = Scene(host, model)
    scene.mode = "disable-thinking"
    assert reasoning(sent(scene)["messages"]) == [" ", " "]


def test_a_model_that_always_thinks_is_filled_whatever_the_request_says() -> None:
    off: dict[str, Any] = {"thinking": {"type": "disabled"}}
    assert reasoning(sent(Scene("api.moonshot.ai", "kimi-k2.7-code"), **off)["messages"]) == [" ", " "]
    assert sent(Scene("api.moonshot.ai", "kimi-k2.6"), **off) == {}


@pytest.mark.parametrize("blank", ["", ".", " "])
@pytest.mark.parametrize("on_record", [False, True])
def test_a_blank_that_is_accepted_stays_as_the_client_sent_it(blank: str, on_record: bool) -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    said = turn("", [call("c1")])
    if on_record:
        scene.say([user("go")], said)
    assert sent(scene, [user("go"), said | {"reasoning_content": blank}, tool("c1", "sunny")]) == {}


@pytest.mark.parametrize("model", ["glm-5.3", "glm-5.3-flashx", "glm-4.7"])
def test_glm_is_never_filled_nor_turned_off(model: str) -> None:
    scene = Scene("api.z.ai", model)
    for scene.mode in ("auto", "disable-thinking", "none"):
        assert sent(scene) == {}


def test_a_lesson_fills_nothing_where_the_person_wants_nothing_filled() -> None:
    scene = Scene("api.z.ai", "glm-4.7")
    family = scene.caller().provider.family(scene.model)
    scene.lessons.learn(Lesson(scene.host, "chat_completions", family, "missing", "words"))
    assert reasoning(sent(scene)["messages"]) == ["words", "words"]
    scene.mode = "none"
    assert sent(scene) == {}
    # Nor is what the client put there itself touched.
    assert sent(scene, [user("go"), turn("Hi.", reasoning_content=" "), user("more")]) == {}


@pytest.mark.parametrize(("means", "detail"), [("missing", "words"), ("forbidden", "reasoning_content")])
def test_a_rule_of_the_persons_own_is_not_amended_by_lessons(
    tmp_path: Path, means: Means, detail: str
) -> None:
    mine = '[[provider]]\nname = "mine"\nhosts = ["llm.example.net"]\n'
    rule = '[[provider.rule]]\nname = "glm"\nmodels = "^glm"\nrequired = "never"\n'
    outcomes = []
    for text in (mine, mine + rule):
        (tmp_path / "own.toml").write_text(text)
        scene = Scene("llm.example.net", "glm-4.7")
        scene.use_table(tmp_path / "own.toml")
        history = [user("go"), scene.say([user("go")], turn("Hi.", reasoning_content="R")), user("more")]
        family = scene.caller().provider.family(scene.model)
        scene.lessons.learn(Lesson(scene.host, "chat_completions", family, means, detail))
        outcomes.append(reasoning(scene.sent([*history, turn("Unknown."), user("end")])))
    amended, kept = outcomes
    assert kept == ["R", ...]
    assert amended != kept


def test_disable_thinking_restores_where_everything_is_on_record() -> None:
    scene = Scene()
    scene.mode = "disable-thinking"
    said = scene.say([user("go")], turn("Hello there", reasoning_content="R"))
    got = sent(scene, [user("go"), said, user("more")])
    assert reasoning(got["messages"]) == ["R"] and "thinking" not in got


def test_none_fills_nothing_and_restores_all() -> None:
    scene = Scene()
    scene.mode = "none"
    assert sent(scene) == {}
    said = scene.say([user("go")], turn("Hello there", reasoning_content="R"))
    assert reasoning(sent(scene, [user("go"), said, user("more")])["messages"]) == ["R"]


def test_chosen_models_never_think() -> None:
    scene = Scene(model="deepseek-flash")
    scene.preferences = Preferences(disable="flash")
    got = sent(scene, [user("go")], reasoning_effort="max")
    assert got["thinking"] == {"type": "disabled"} and "reasoning_effort" not in got
    scene.model = "deepseek-v4-pro"
    assert sent(scene, [user("go")], reasoning_effort="max") == {}


def test_a_choice_that_the_client_made_already_changes_nothing() -> None:
    scene = Scene(model="deepseek-flash")
    scene.preferences = Preferences(disable="flash")
    assert sent(scene, [user("go")], thinking={"type": "disabled"}) == {}


def test_what_contradicts_inside_a_parameter_goes_and_the_rest_stays() -> None:
    scene = Scene(path="/anthropic/v1/messages", model="claude-opus-5")
    scene.preferences = Preferences(disable="claude")
    got = sent(scene, [user("go")], output_config={"effort": "high", "format": {"type": "json_schema"}})
    assert got["output_config"] == {"format": {"type": "json_schema"}}
    assert got["thinking"] == {"type": "disabled"}


def test_split_is_asked_for_where_the_endpoint_knows_it() -> None:
    scene = Scene("api.minimax.io", "MiniMax-M2.7")
    scene.preferences = Preferences(split=True)
    assert sent(scene, [user("go")])["reasoning_split"] is True
    assert sent(scene, [user("go")], reasoning_split=False) == {}
    other = Scene()
    other.preferences = Preferences(split=True)
    assert sent(other, [user("go")]) == {}


def test_optional_reasoning_can_be_left_out() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    first = scene.say([user("go")], turn("", [call("functions.f:0")], reasoning_content="R1"))
    said = [user("go"), first, tool("functions.f:0", "sunny")]
    second = scene.say(said, turn("It is sunny there.", reasoning_content="R2"))
    said += [second, user("more")]
    assert reasoning(scene.sent(said)) == ["R1", "R2"]
    shorter = Lesson(scene.host, "chat_completions", "kimi-k2.5", "too_long")
    short = scene.restore_body(scene.body(said), scene.caller(), shorter)
    assert reasoning(json.loads(short.body)["messages"]) == ["R1", ...]
    assert short.report.text() == "restored 1 of 1 turns: 1 by context; left out the reasoning of 1 turn"
    assert reasoning(scene.sent(said)) == ["R1", "R2"]


# ---- Model switches ---------------------------------------------------------------------------------------


def test_a_makers_models_see_each_others_reasoning() -> None:
    scene = Scene(model="deepseek-v4-pro")
    said = scene.say([user("go")], turn("Hello there", reasoning_content="R"))
    scene.model = "deepseek-flash"
    assert reasoning(scene.sent([user("go"), said, user("more")])) == ["R"]


def test_on_a_gateway_another_makers_reasoning_is_as_good_as_not_recorded() -> None:
    scene = Scene("openrouter.ai", "moonshotai/kimi-k2.6")
    said = scene.say([user("go")], turn("Hello there", reasoning="R"))
    history = [user("go"), said, user("more")]
    scene.model = "moonshotai/kimi-k3"
    assert scene.sent(history)[1]["reasoning"] == "R"
    scene.model = "deepseek/deepseek-v4-pro"
    assert scene.sent(history)[1]["reasoning"] == " "
    scene.model = "anthropic/claude-opus-5"
    assert not scene.restore(history).is_changed


def test_another_provider_did_not_say_it() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    said = scene.say([user("go")], turn("Hello there", [call("c1")], reasoning_content="R"))
    history = [user("go"), said, tool("c1", "sunny")]
    scene.host, scene.model = "api.deepseek.com", "deepseek-flash"
    assert reasoning(scene.sent(history)) == [" "]
    scene.mode = "disable-thinking"
    assert sent(scene, history)["thinking"] == {"type": "disabled"}


def test_another_wire_of_the_same_provider_did_not_say_it_either() -> None:
    scene = Scene(model="deepseek-flash")
    said = scene.say([user("go")], turn("Hello there", reasoning_content="R"))
    scene.path = "/anthropic/v1/messages"
    body = scene.restore([user("go"), said, user("more")]).body
    assert body is not None and b'"R"' not in body and b"[reasoning not on record " in body


# ---- `<think>` in content ---------------------------------------------------------------------------------

TAGGED = "<think>\nR\n</think>\n\nHello there."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hello there.", TAGGED),
        ("  Hello there.\n", TAGGED),
        ([{"type": "text", "text": "Hello there."}], [{"type": "text", "text": TAGGED}]),
        (
            [
                {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": " there."},
            ],
            [
                {
                    "type": "text",
                    "text": "<think>\nR\n</think>\n\nHello",
                    "cache_control": {"type": "ephemeral"},
                },
                {"type": "text", "text": " there."},
            ],
        ),
        (TAGGED, TAGGED),
    ],
)
def test_a_stripped_block_goes_back_where_it_was(content: object, expected: object) -> None:
    scene = Scene("api.minimax.io", "MiniMax-M2.7")
    scene.say([user("go")], turn(TAGGED))
    history = [user("go"), {"role": "assistant", "content": content}, user("more")]
    assert scene.sent(history)[1]["content"] == expected


def test_a_stripped_block_goes_back_to_no_other_text() -> None:
    scene = Scene("api.minimax.io", "MiniMax-M2.7")
    scene.say([user("go")], turn(TAGGED))
    assert not scene.restore([user("go"), turn("Hello there. [stopped]"), user("more")]).is_changed


def test_a_thought_that_still_stands_in_the_content_is_not_sent_twice() -> None:
    scene = Scene("api.minimax.io", "MiniMax-M3")
    scene.say([user("go")], turn(TAGGED, reasoning_content="R"))
    assert not scene.restore([user("go"), turn(TAGGED), user("more")]).is_changed


def test_talk_of_such_a_block_is_no_thought() -> None:
    scene = Scene("api.minimax.io", "MiniMax-M3")
    said = scene.say([user("go")], turn("Write <think>so</think> and no more.", reasoning_content="R"))
    assert reasoning(scene.sent([user("go"), said, user("more")])) == ["R"]
