"""Nothing is put in where nothing is wanted, and a thought goes back as the provider said it, to the byte."""

import json

import pytest

from tests.laboratory import NOTHING, Lab, Talk, by_turns, either_way, named, only_added
from tests.strict import Place, call
from tests.wires import Entry, Said

MINIMAX = [
    Place("api.minimax.io", "/v1/chat/completions", "MiniMax-M3"),
    Place("api.minimaxi.com", "/v1/chat/completions", "MiniMax-M2.7"),
    Place("api.minimax.io", "/v1/text/chatcompletion_v2", "MiniMax-M2.5"),
    Place("opencode.ai", "/zen/go/v1/chat/completions", "minimax-m3"),
    Place("openrouter.ai", "/api/v1/chat/completions", "minimax/minimax-m2.7", "reasoning"),
]
THINKS = "<think>\nI look at the file first.\n</think>\n\n"


@either_way
@pytest.mark.parametrize("turn", ["a text", "a call"])
@pytest.mark.parametrize("place", MINIMAX, ids=str)
def test_no_empty_field_beside_a_think_block_that_the_client_kept(
    lab: Lab, place: Place, turn: str, streamed: bool
) -> None:
    lab.behaves()
    talk = lab.talk(place, streamed)
    if turn == "a call":
        talk.send(call(thought="", text=THINKS))
    else:
        talk.send(Said(thought="", text=f"{THINKS}Forty-two."))
    for _ in range(2):
        assert talk.send().status == 200
        assert talk.changes == [NOTHING]


# Where no rule asks for a field, an empty thought is none.
ASKS_FOR_NOTHING = [
    Place("api.z.ai", "/api/paas/v4/chat/completions", "glm-5.2"),
    Place("api.minimax.io", "/v1/chat/completions", "MiniMax-M3"),
    Place("dashscope.aliyuncs.com", "/compatible-mode/v1/chat/completions", "qwen3.6-plus"),
    Place("opencode.ai", "/zen/v1/chat/completions", "some-new-model"),
    Place("openrouter.ai", "/api/v1/chat/completions", "z-ai/glm-5.2", "reasoning"),
    Place("api.z.ai", "/api/anthropic/v1/messages", "glm-5.2"),
    Place("api.minimax.io", "/anthropic/v1/messages", "MiniMax-M3"),
    Place("openrouter.ai", "/api/v1/messages", "acme/nova-2"),
    Place("openrouter.ai", "/api/v1/responses", "acme/nova-2"),
    Place("opencode.ai", "/zen/v1/responses", "some-new-model"),
]


@either_way
@pytest.mark.parametrize("place", ASKS_FOR_NOTHING, ids=str)
def test_an_empty_thought_is_not_written_where_no_rule_asks_for_it(
    lab: Lab, place: Place, streamed: bool
) -> None:
    lab.behaves()
    talk = lab.talk(place, streamed)
    talk.send(call(thought=""))
    talk.send(Said(thought="", text="Forty-two."))
    assert talk.changes == [NOTHING]
    assert talk.send().status == 200
    assert talk.changes == [NOTHING]


@either_way
@pytest.mark.parametrize(
    "place",
    [
        Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k2.7-code"),
        Place("api.moonshot.cn", "/v1/chat/completions", "kimi-k3"),
        Place("opencode.ai", "/zen/go/v1/chat/completions", "kimi-k2.7-code"),
    ],
    ids=str,
)
def test_an_empty_thought_is_written_where_the_rule_demands_a_field_on_every_turn(
    lab: Lab, place: Place, streamed: bool
) -> None:
    """https://github.com/MoonshotAI/kimi-cli: an empty value satisfies it."""
    lab.behaves()
    talk = lab.talk(place, streamed)
    talk.send(Said(thought="", text="Forty-two."))
    assert talk.send().status == 200
    assert only_added(talk.changes[0])
    assert talk.accepted.turns[0].entry["reasoning_content"] == ""


@either_way
@pytest.mark.parametrize(
    "place",
    [
        Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k2.6"),
        Place("api.siliconflow.cn", "/v1/chat/completions", "Pro/moonshotai/Kimi-K2.5"),
    ],
    ids=str,
)
def test_an_empty_thought_is_written_beside_calls_alone_where_the_rule_names_calls(
    lab: Lab, place: Place, streamed: bool
) -> None:
    lab.behaves()
    talk = lab.talk(place, streamed)
    talk.send(Said(thought="", text="Forty-two."))
    talk.send(call(thought=""))
    assert talk.changes == [NOTHING]
    assert talk.send().status == 200
    text, calls = talk.accepted.turns
    assert "reasoning_content" not in text.entry
    assert calls.entry["reasoning_content"] == ""


@either_way
@pytest.mark.parametrize(
    "place",
    [
        Place("opencode.ai", "/zen/v1/messages", "claude-opus-4-8"),
        Place("openrouter.ai", "/api/v1/messages", "anthropic/claude-opus-4.8"),
        Place("opencode.ai", "/zen/v1/responses", "gpt-5.6"),
        Place("openrouter.ai", "/api/v1/responses", "openai/gpt-5.6"),
    ],
    ids=str,
)
def test_a_sealed_thought_without_a_text_is_one(lab: Lab, place: Place, streamed: bool) -> None:
    lab.behaves()
    talk = lab.talk(place, streamed)
    talk.send(call(thought="", seal="EqQBcDLgYk7OoxMMmPgk4zqQ6H0ku42x"))
    assert talk.send().status == 200
    assert only_added(talk.changes[0])
    assert talk.accepted.turns[0].seals == ["EqQBcDLgYk7OoxMMmPgk4zqQ6H0ku42x"]


SAID = "\n I look at the file first: größer ≥ 3.\n\nThen decide. \n"
ECHOES = {
    "trimmed": SAID.strip(),
    "trimmed at the end": SAID.rstrip(),
    "trimmed at the start": SAID.lstrip(),
    "with more": f"{SAID}\n",
}
THREE_WIRES = [
    Place("api.deepseek.com", "/v1/chat/completions", "deepseek-v4-pro"),
    Place("api.z.ai", "/api/paas/v4/chat/completions", "glm-5.2"),
    Place("openrouter.ai", "/api/v1/chat/completions", "acme/nova-2", "reasoning"),
    Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-v4-pro"),
    Place("opencode.ai", "/zen/v1/messages", "claude-opus-4-8"),
    Place("api.deepseek.com", "/responses", "deepseek-v4-flash"),
    Place("opencode.ai", "/zen/go/v1/responses", "deepseek-v4-pro"),
]


def _kept(lab: Lab, place: Place, echo: str, streamed: bool) -> Talk:
    """A client that keeps the thought and its seal, but writes the thought as `echo`."""
    lab.behaves()
    talk = lab.talk(place, streamed)
    seal = "c2VhbA==" if place.wire.name == "messages" else ""
    said = call(thought=SAID, seal=seal)
    talk.send(said)
    talk.parts[-2] = place.wire.said(Said(thought=echo, call=said.call, seal=seal), kept=True)
    if place.field and place.wire.name == "chat":
        message = talk.parts[-2][0]
        message[place.field] = message.pop("reasoning_content")
    assert talk.send().status == 200
    return talk


@by_turns(place=named(THREE_WIRES), echo=ECHOES)
def test_a_thought_that_differs_by_white_space_at_its_ends_goes_back_as_it_was_said(
    lab: Lab, place: Place, echo: str, streamed: bool
) -> None:
    talk = _kept(lab, place, echo, streamed)
    assert len(talk.got) == 1
    assert talk.accepted.readable == [[SAID]]
    said, written = (json.dumps(text, ensure_ascii=False).encode() for text in (SAID, echo))
    expected = talk.sent.replace(written, said)
    if place.wire.name == "chat":
        assert talk.accepted.body == expected
        return
    # A block or an item goes back whole, as it was said; around it nothing changes.
    taken, added = talk.changes[0]
    assert b"user" not in taken + added
    assert _but_for_thoughts(talk.accepted.json) == _but_for_thoughts(json.loads(expected))


def _but_for_thoughts(body: Entry) -> Entry:
    items = [item for item in body.get("input", ()) if item["type"] != "reasoning"]
    return {**body, "input": items}


OWN = {
    "other words": "I read the file first.",
    "a word more": f"{SAID} So be it.",
    "other white space within": SAID.replace("\n\n", "\n"),
    "a part": SAID[: len(SAID) // 2],
}


@by_turns(place=named(THREE_WIRES), echo=OWN)
def test_any_other_text_of_the_clients_stays(lab: Lab, place: Place, echo: str, streamed: bool) -> None:
    assert _kept(lab, place, echo, streamed).changes == [NOTHING]


@pytest.mark.parametrize("place", THREE_WIRES, ids=str)
def test_a_thought_that_the_client_kept_stays(lab: Lab, place: Place) -> None:
    assert _kept(lab, place, SAID, True).changes == [NOTHING]
