"""Where the first repair is refused too, that is remembered: the client's next try gets the next idea.

No request of a client ever becomes more than two at the provider.
"""

from collections.abc import Callable

import msgspec
import pytest

from tests.laboratory import Lab, Talk, either_way
from tests.strict import Asked, Demands, Place, Rule, call, missing
from tests.wires import Said

# A repair for each: words, a blank, thinking turned off. More tries than these nobody needs.
TRIES = 3

OFF = (
    {"thinking": {"type": "disabled"}},
    {"reasoning": {"enabled": False}},
    {"reasoning": {"effort": "none"}},
    {"enable_thinking": False},
    {"reasoning_effort": "none"},
)


def _is_off(asked: Asked) -> bool:
    return any(asked.has(switch) for switch in OFF)


def _words(place: Place) -> Rule:
    return Demands(place, accepts=lambda text: bool(text.strip()))


def _a_space(place: Place) -> Rule:
    return Demands(place, accepts=lambda text: text == " ")


def _no_thinking(place: Place) -> Rule:
    return lambda asked: None if _is_off(asked) or not asked.readable else missing(place)


CHAT = [
    Place("api.deepseek.com", "/chat/completions", "deepseek-v4-flash"),
    Place("openrouter.ai", "/api/v1/chat/completions", "~deepseek/deepseek-v4-flash-latest", "reasoning"),
    Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k2.6"),
    Place("opencode.ai", "/zen/v1/chat/completions", "some-new-model"),
    Place("openrouter.ai", "/api/v1/chat/completions", "acme/nova-2", "reasoning"),
    Place("api.siliconflow.cn", "/v1/chat/completions", "Pro/moonshotai/Kimi-K2.5"),
]
OTHER = [
    Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-v4-pro"),
    Place("opencode.ai", "/zen/go/v1/messages", "kimi-k2.6"),
    Place("openrouter.ai", "/api/v1/messages", "acme/nova-2"),
    Place("api.deepseek.com", "/responses", "deepseek-v4-flash"),
    Place("opencode.ai", "/zen/v1/responses", "some-new-model"),
]
PROVIDERS: dict[str, Callable[[Place], Rule]] = {
    "accepts only words": _words,
    "accepts only a space": _a_space,
    "accepts only thinking turned off": _no_thinking,
}
CASES = [
    pytest.param(rule, place, id=f"{place} {name}")
    for name, rule in PROVIDERS.items()
    for place in CHAT + OTHER
]


def _tries(talk: Talk, most: int = TRIES) -> None:
    """The client sends the same request until it is answered."""
    for _ in range(most):
        seen = talk.send()
        assert len(talk.got) <= 2
        if seen.status == 200:
            return
    assert seen.status == 200, f"refused {most} times: {[asked.readable for asked in talk.got]}"


def _foreign(lab: Lab, place: Place, streamed: bool, key: str = "") -> Talk:
    talk = lab.talk(place, streamed, key)
    talk.brings(call(thought=None))
    return talk


@either_way
@pytest.mark.parametrize(("rule", "place"), CASES)
def test_the_next_try_of_the_client_gets_the_next_idea(
    lab: Lab, rule: Callable[[Place], Rule], place: Place, streamed: bool
) -> None:
    lab.behaves(rule(place))
    talk = _foreign(lab, place, streamed)
    _tries(talk)
    if rule is not _no_thinking:
        assert not _is_off(talk.accepted)
        other = _foreign(lab, place, streamed, talk.key)
        assert other.send().status == 200
        assert len(other.got) == 1


@either_way
@pytest.mark.parametrize("place", CHAT, ids=str)
def test_a_turn_that_is_on_record_without_a_thought_gets_one_that_is_accepted(
    lab: Lab, place: Place, streamed: bool
) -> None:
    """Missing, "" and blanks are refused: https://github.com/BerriAI/litellm/issues/27439."""
    lab.behaves(_words(place))
    talk = lab.talk(place, streamed)
    talk.send(Said(call="call_without_a_thought"))
    _tries(talk)
    assert len(talk.accepted.readable[0]) == 1
    turn = call()
    other = lab.talk(place, streamed, talk.key)
    other.send(turn)
    assert other.send().status == 200
    assert len(other.got) == 1
    assert other.accepted.readable == [[turn.thought]]


@pytest.mark.parametrize("place", CHAT[:4] + OTHER[:2], ids=str)
def test_other_requests_in_between_do_not_begin_anew(lab: Lab, place: Place) -> None:
    lab.behaves(_a_space(place))
    talk = _foreign(lab, place, True)
    tries = 0
    while talk.send().status != 200:
        tries += 1
        assert tries < TRIES
        assert len(talk.got) <= 2
        plain = lab.talk(place, True, talk.key)
        assert plain.send().status == 200


@pytest.mark.parametrize("place", [CHAT[0], OTHER[0], OTHER[3]], ids=str)
def test_a_provider_that_accepts_nothing_is_asked_twice_a_request(lab: Lab, place: Place) -> None:
    no = missing(place)
    lab.behaves(lambda asked: no if asked.readable else None)
    talk = _foreign(lab, place, True)
    for _ in range(5):
        seen = talk.send()
        assert (seen.status, seen.body) == (no.status, no.body)
        assert len(talk.got) <= 2


def test_what_was_tried_is_known_after_a_restart(lab: Lab) -> None:
    places = [msgspec.structs.replace(place, model=f"{place.model}-x") for place in CHAT[:4] + OTHER]
    lab.behaves(*(_a_space(place) for place in places))
    talks = [_foreign(lab, place, True) for place in places]
    first = [talk.send().status for talk in talks]
    lab.restart()
    for status, talk in zip(first, talks, strict=True):
        _tries(talk, TRIES if status == 200 else TRIES - 1)
