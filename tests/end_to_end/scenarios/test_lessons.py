"""What a provider refuses for one model is learned for that model: no other is sent anything else for it."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from tests.laboratory import NOTHING, Lab, Talk, either_way
from tests.strict import Demands, Place, Refuses, Rule, call, refusal
from tests.wires import Said

CHAT = [
    Place("openrouter.ai", "/api/v1/chat/completions", "acme/nova-2", "reasoning"),
    Place("opencode.ai", "/zen/v1/chat/completions", "some-new-model"),
    Place("api.kilo.ai", "/api/openrouter/chat/completions", "acme/nova-2", "reasoning"),
    Place("api.novita.ai", "/openai/v1/chat/completions", "acme/nova-2"),
]
MESSAGES = [
    Place("openrouter.ai", "/api/v1/messages", "acme/nova-2"),
    Place("opencode.ai", "/zen/v1/messages", "some-new-model"),
]
RESPONSES = [
    Place("openrouter.ai", "/api/v1/responses", "acme/nova-2"),
    Place("opencode.ai", "/zen/v1/responses", "some-new-model"),
]
OTHERS = ["openai/gpt-5.6", "claude-opus-4-8"]
DETAILS = [{"type": "reasoning.text", "text": "I look first.", "signature": "EqQB2o2SLyyj", "index": 0}]


class Lesson(msgspec.Struct, frozen=True):
    """What is refused of a model, and the request that meets it."""

    rule: Callable[[Place], Rule]
    members: dict[str, Any] = {}
    details: bool = False

    def talk(self, lab: Lab, place: Place, streamed: bool, key: str = "") -> Talk:
        talk = lab.talk(place, streamed, key, **self.members)
        turn = call(thought=None)
        talk.brings(turn)
        if self.details:
            talk.parts[-2][0]["reasoning_details"] = DETAILS
        return talk


def _thinks(place: Place) -> Callable[[Any], bool]:
    return lambda asked: (
        not any(
            asked.has(off)
            for off in (
                {"thinking": {"type": "disabled"}},
                {"reasoning": {"enabled": False}},
                {"reasoning": {"effort": "none"}},
            )
        )
    )


def _parameter(name: str, text: str) -> Lesson:
    return Lesson(
        lambda place: Refuses(lambda asked: name in asked.json, refusal(text), place.model), {name: 0.2}
    )


def _forced(choice: Any) -> Lesson:
    text = "tool_choice 'required' is incompatible with thinking enabled"
    return Lesson(
        lambda place: Refuses(
            lambda asked: asked.json.get("tool_choice") == choice and _thinks(place)(asked),
            refusal(text),
            place.model,
        ),
        {"tool_choice": choice},
    )


def _forbidden(text: str, status: int) -> Lesson:
    return Lesson(
        lambda place: Refuses(
            lambda asked: any("reasoning_details" in turn.entry for turn in asked.turns),
            refusal(text, status),
            place.model,
        ),
        details=True,
    )


LESSONS = {
    "a thought is demanded": Lesson(Demands),
    "a field is refused": _forbidden("reasoning_details: Extra inputs are not permitted", 400),
    "a field is unsupported": _forbidden("property 'reasoning_details' is unsupported", 422),
    "a temperature is refused": _parameter(
        "temperature", "invalid temperature: only 1 is allowed for this model"
    ),
    "a top_p is refused": _parameter("top_p", "invalid top_p: only 0.95 is allowed for this model"),
    "a forced tool is refused": _forced("required"),
}
ON_MESSAGES = {
    "a thought is demanded": Lesson(Demands),
    "a temperature is refused": LESSONS["a temperature is refused"],
    "a forced tool is refused": _forced({"type": "any"}),
}
ON_RESPONSES = {
    "a thought is demanded": Lesson(Demands),
    "a forced tool is refused": _forced("required"),
}
CASES = [
    pytest.param(lesson, place, id=f"{name}, {place}")
    for places, lessons in ((CHAT, LESSONS), (MESSAGES, ON_MESSAGES), (RESPONSES, ON_RESPONSES))
    for place in places
    for name, lesson in lessons.items()
]


@either_way
@pytest.mark.parametrize(("lesson", "place"), CASES)
def test_other_models_are_sent_what_their_client_sent(
    lab: Lab, lesson: Lesson, place: Place, streamed: bool
) -> None:
    lab.behaves(lesson.rule(place))
    taught = lesson.talk(lab, place, streamed)
    assert taught.send().status == 200
    assert len(taught.got) == 2
    for model in OTHERS:
        other = lesson.talk(lab, msgspec.structs.replace(place, model=model), streamed, taught.key)
        assert other.send().status == 200
        assert other.changes == [NOTHING]
    again = lesson.talk(lab, place, streamed, taught.key)
    assert again.send().status == 200
    assert len(again.got) == 1


NAMED = [
    Place("openrouter.ai", "/api/v1/chat/completions", "moonshotai/kimi-k2.6", "reasoning"),
    Place("opencode.ai", "/zen/go/v1/chat/completions", "deepseek-v4-pro"),
    Place("opencode.ai", "/zen/go/v1/messages", "kimi-k2.6"),
]


@pytest.mark.parametrize("place", NAMED, ids=str)
def test_what_a_known_family_was_refused_changes_nothing_for_models_of_none(lab: Lab, place: Place) -> None:
    placeholder_of_the_rule = lab.talk(place, True)
    placeholder_of_the_rule.brings(call(thought=None))
    lab.behaves()
    placeholder_of_the_rule.send()
    refused = placeholder_of_the_rule.accepted.readable[0]
    lab.behaves(Demands(place, accepts=lambda text: text not in refused and text.strip() != ""))
    taught = lab.talk(place, True)
    taught.brings(call(thought=None))
    assert taught.send().status == 200
    for model in OTHERS:
        other = lab.talk(msgspec.structs.replace(place, model=model), True, taught.key)
        other.brings(call(thought=None))
        assert other.send().status == 200
        assert other.changes == [NOTHING]


def test_what_was_learned_holds_for_its_model_alone_after_a_restart(lab: Lab) -> None:
    found = cast(list[tuple[Lesson, Place]], [case.values for case in CASES])
    cases = [case for case in found if case[1].host in ("openrouter.ai", "opencode.ai")]
    lab.behaves(*(lesson.rule(place) for lesson, place in cases))
    cases = [(lesson, place) for lesson, place in cases if lesson.rule is Demands]
    for lesson, place in cases:
        assert lesson.talk(lab, place, True).send().status == 200
    lab.restart()
    for lesson, place in cases:
        again = lesson.talk(lab, place, False)
        assert again.send().status == 200
        assert len(again.got) == 1
        other = lesson.talk(lab, msgspec.structs.replace(place, model="openai/gpt-5.6"), False)
        other.send()
        assert other.changes == [NOTHING]


@pytest.mark.parametrize("place", [CHAT[0], CHAT[1], MESSAGES[1], RESPONSES[1]], ids=str)
def test_what_a_model_thought_itself_comes_back_whatever_another_was_refused(lab: Lab, place: Place) -> None:
    """Not one lesson, but the record: another model of the host is restored as ever."""
    other = msgspec.structs.replace(place, model="anthropic/claude-opus-4.8")
    field = place.field or "reasoning_content"
    no = refusal(f"property 'messages.1.{field}' is unsupported")
    lab.behaves(Refuses(lambda asked: any(turn.readable for turn in asked.turns), no, place.model))
    taught = lab.talk(place, True)
    taught.send(call())
    taught.send()
    talk = lab.talk(other, True, taught.key)
    said = Said(thought="I look first.", call="call_of_another_model")
    talk.send(said)
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable == [["I look first."]]
