"""Thinking is on unless the switch that this endpoint itself listens to says otherwise.

An answer that carried a thought under a switch, or a refusal for want of one, proves that the switch is not
listened to: what is on record goes back. Where it is listened to, nothing is touched.
"""

from typing import Any

import msgspec
import pytest

from tests.laboratory import NOTHING, Lab, either_way, only_added
from tests.strict import Demands, Place, call
from tests.wires import Said

type Switch = dict[str, Any]

DEEPSEEK = Place("api.deepseek.com", "/v1/chat/completions", "deepseek-v4-pro")
DEEPSEEK_MESSAGES = Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-v4-pro")
DEEPSEEK_RESPONSES = Place("api.deepseek.com", "/responses", "deepseek-v4-flash")
KIMI = Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k2.6")
KIMI_CN = Place("api.moonshot.cn", "/v1/chat/completions", "kimi-k2.5")
KIMI_K3 = Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k3")
MIMO = Place("api.xiaomimimo.com", "/v1/chat/completions", "mimo-v2.6-pro")
GO_KIMI = Place("opencode.ai", "/zen/go/v1/chat/completions", "kimi-k2.6")
GO_DEEPSEEK = Place("opencode.ai", "/zen/go/v1/chat/completions", "deepseek-v4-pro")
GO_MESSAGES = Place("opencode.ai", "/zen/go/v1/messages", "kimi-k2.6")
GO_RESPONSES = Place("opencode.ai", "/zen/go/v1/responses", "deepseek-v4-pro")
ROUTER = Place("openrouter.ai", "/api/v1/chat/completions", "deepseek/deepseek-v4-pro", "reasoning")
ROUTER_KIMI = Place("openrouter.ai", "/api/v1/chat/completions", "moonshotai/kimi-k2.6", "reasoning")
ROUTER_MESSAGES = Place("openrouter.ai", "/api/v1/messages", "deepseek/deepseek-v4-pro")
FLOW_KIMI = Place("api.siliconflow.cn", "/v1/chat/completions", "Pro/moonshotai/Kimi-K2.5")
GLM = Place("api.z.ai", "/api/paas/v4/chat/completions", "glm-5.2")

THINKING: Switch = {"thinking": {"type": "disabled"}}
ENABLE: Switch = {"enable_thinking": False}
TEMPLATE: Switch = {"chat_template_kwargs": {"enable_thinking": False}}
TEMPLATE_THINKING: Switch = {"chat_template_kwargs": {"thinking": False}}
ENABLED: Switch = {"reasoning": {"enabled": False}}
EFFORT: Switch = {"reasoning": {"effort": "none"}}
REASONING_EFFORT: Switch = {"reasoning_effort": "none"}

# Not the switch of these endpoints. To all of them https://github.com/musistudio/claude-code-router sends
# `reasoning`.
FOREIGN = [
    (DEEPSEEK, ENABLE),
    (DEEPSEEK, TEMPLATE),
    (DEEPSEEK, TEMPLATE_THINKING),
    (DEEPSEEK, ENABLED),
    (DEEPSEEK_MESSAGES, ENABLE),
    (DEEPSEEK_MESSAGES, ENABLED),
    (DEEPSEEK_RESPONSES, THINKING),
    (DEEPSEEK_RESPONSES, ENABLE),
    (KIMI, REASONING_EFFORT),
    (KIMI, ENABLE),
    (KIMI_CN, TEMPLATE_THINKING),
    (MIMO, ENABLED),
]
# The switch of these endpoints, which what serves the model there does not listen to.
IGNORED = [
    (GO_KIMI, THINKING),
    (GO_DEEPSEEK, THINKING),
    (GO_MESSAGES, THINKING),
    (GO_RESPONSES, EFFORT),
    (ROUTER, ENABLED),
    (ROUTER, EFFORT),
    (ROUTER_KIMI, ENABLED),
    (ROUTER_MESSAGES, THINKING),
    (KIMI_K3, THINKING),
]
HONOURED = [
    (DEEPSEEK, THINKING),
    (DEEPSEEK_MESSAGES, THINKING),
    (DEEPSEEK_RESPONSES, EFFORT),
    (KIMI, THINKING),
    (MIMO, THINKING),
    (GO_DEEPSEEK, THINKING),
    (GO_RESPONSES, EFFORT),
    (ROUTER, ENABLED),
    (ROUTER_KIMI, ENABLED),
    (ROUTER_MESSAGES, THINKING),
    (FLOW_KIMI, ENABLE),
    (GLM, THINKING),
]


def _named(pairs: list[tuple[Place, Switch]]) -> list[Any]:
    return [pytest.param(place, switch, id=f"{place} {switch}") for place, switch in pairs]


@either_way
@pytest.mark.parametrize(("place", "switch"), _named(FOREIGN + IGNORED))
def test_an_answer_with_a_thought_proves_that_the_switch_is_not_listened_to(
    lab: Lab, place: Place, switch: Switch, streamed: bool
) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed, **switch)
    said = [call(), call()]
    talk.send(said[0])
    other = lab.talk(place, streamed, talk.key)
    other.send(call())
    for number, turn in enumerate((said[1], call()), 1):
        assert talk.send(turn).status == 200
        assert len(talk.got) == 1
        assert talk.accepted.readable == [[one.thought] for one in said[:number]]
        assert talk.accepted.has(switch)


@either_way
@pytest.mark.parametrize(("place", "switch"), _named(FOREIGN))
def test_a_switch_of_other_hosts_is_not_believed(
    lab: Lab, place: Place, switch: Switch, streamed: bool
) -> None:
    """The client sets it in the midst of a conversation, so that no answer under it was seen."""
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed)
    said = call()
    talk.send(said)
    talk.members = switch
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert only_added(talk.changes[0])
    assert talk.accepted.readable == [[said.thought]]


@either_way
@pytest.mark.parametrize(("place", "switch"), _named(IGNORED))
def test_a_refusal_proves_that_the_switch_is_not_listened_to(
    lab: Lab, place: Place, switch: Switch, streamed: bool
) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed)
    said = call()
    talk.send(said)
    talk.members = switch
    assert talk.send(call(thought=None, text="I go on.")).status == 200
    assert len(talk.got) <= 2
    assert talk.accepted.readable == [[said.thought]]
    assert talk.accepted.has(switch)
    others = lab.talk(place, streamed, talk.key)
    first = call()
    others.send(first)
    others.members = switch
    assert others.send().status == 200
    assert len(others.got) == 1
    assert only_added(others.changes[0])
    assert others.accepted.readable == [[first.thought]]


@pytest.mark.parametrize(("place", "switch"), _named(FOREIGN + IGNORED))
def test_a_turn_that_nobody_recorded_gets_a_placeholder_after_a_refusal_under_a_switch(
    lab: Lab, place: Place, switch: Switch
) -> None:
    lab.behaves(Demands(place))
    for most, streamed in ((2, True), (1, False)):
        talk = lab.talk(place, streamed, **switch)
        talk.brings(call(thought=None))
        assert talk.send().status == 200
        assert len(talk.got) <= most
        assert talk.accepted.has(switch)
        assert [len(texts) for texts in talk.accepted.readable] == [1]


@either_way
@pytest.mark.parametrize(("place", "switch"), _named(HONOURED))
def test_nothing_is_touched_where_the_switch_is_listened_to(
    lab: Lab, place: Place, switch: Switch, streamed: bool
) -> None:
    lab.behaves(Demands(place, off=switch))
    talk = lab.talk(place, streamed)
    talk.send(call())
    talk.members = switch
    for _ in range(2):
        assert talk.send(call(thought=None, text="I look.")).status == 200
        assert talk.changes == [NOTHING]


# Kimi K3 listens to none by any of its names.
@pytest.mark.parametrize(("place", "switch"), _named([pair for pair in IGNORED if pair[0] is not KIMI_K3]))
def test_what_is_proved_of_one_model_is_not_believed_of_another(
    lab: Lab, place: Place, switch: Switch
) -> None:
    other = msgspec.structs.replace(place, model=f"{place.model}-preview")
    lab.behaves(Demands(place), Demands(other, off=switch))
    talk = lab.talk(place, True, **switch)
    talk.send(call())
    talk.send()
    listening = lab.talk(other, True, talk.key)
    listening.send(call())
    listening.members = switch
    assert listening.send().status == 200
    assert listening.changes == [NOTHING]


@either_way
@pytest.mark.parametrize(
    "place",
    [
        Place("api.deepseek.com", "/chat/completions", "deepseek-reasoner"),
        Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-reasoner"),
        Place("openrouter.ai", "/api/v1/chat/completions", "deepseek/deepseek-reasoner", "reasoning"),
        Place("opencode.ai", "/zen/v1/chat/completions", "deepseek-reasoner"),
    ],
    ids=str,
)
def test_a_refusal_is_believed_more_than_the_rule(lab: Lab, place: Place, streamed: bool) -> None:
    """By that name V4 is served, which wants its thoughts back: https://github.com/n8n-io/n8n/issues/29119."""
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed)
    said = [call(), call()]
    talk.send(said[0])
    assert talk.send(said[1]).status == 200
    assert len(talk.got) <= 2
    assert only_added(talk.changes[-1])
    assert talk.accepted.readable == [[said[0].thought]]
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable == [[one.thought] for one in said]


def test_what_was_proved_holds_after_a_restart(lab: Lab) -> None:
    pairs = dict((place, switch) for place, switch in IGNORED)
    lab.behaves(*(Demands(place) for place in pairs))
    said: dict[Place, Said] = {place: call() for place in pairs}
    talks = {place: lab.talk(place, True, **switch) for place, switch in pairs.items()}
    for place, talk in talks.items():
        talk.send(said[place])
    lab.restart()
    for place, talk in talks.items():
        assert talk.send().status == 200
        assert len(talk.got) == 1
        assert talk.accepted.readable == [[said[place].thought]]
