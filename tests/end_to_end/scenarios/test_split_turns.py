"""A turn that a client sends as two messages, the thought alone in the first: it belongs to the calls."""

from typing import Any

import pytest

from tests.laboratory import NOTHING, Lab, by_turns, either_way, named
from tests.strict import Demands, Place, call
from tests.wires import Entry, Said

CHAT = [
    Place("api.deepseek.com", "/v1/chat/completions", "deepseek-v4-flash"),
    Place("opencode.ai", "/zen/go/v1/chat/completions", "deepseek-v4-pro"),
    Place("opencode.ai", "/zen/go/v1/chat/completions", "kimi-k2.6"),
    Place("openrouter.ai", "/api/v1/chat/completions", "deepseek/deepseek-v4-pro", "reasoning"),
    Place("api.moonshot.ai", "/v1/chat/completions", "kimi-k2.6"),
    Place("api.moonshot.cn", "/v1/chat/completions", "kimi-k3"),
    Place("api.xiaomimimo.com", "/v1/chat/completions", "mimo-v2.6-pro"),
    Place("api.siliconflow.cn", "/v1/chat/completions", "Pro/moonshotai/Kimi-K2.5"),
]
ALONE: dict[str, Entry] = {
    "no text": {"content": ""},
    "no content": {"content": None},
    "no member content": {},
    "its text": {"content": "I look."},
}
every_place = pytest.mark.parametrize("place", CHAT, ids=str)


def _split(place: Place, said: Said, first: Entry, thought: str | None = None) -> list[Entry]:
    """The thought, and the text where there is one, then the calls: https://github.com/router-for-me/CLIProxyAPI/issues/4676."""
    alone: dict[str, Any] = {"role": "assistant", **first}
    alone[place.field or "reasoning_content"] = said.thought if thought is None else thought
    (calls,) = place.wire.said(said)
    return [alone, {**calls, "content": ""}]


@by_turns(place=named(CHAT), first=ALONE, known={"on record": True, "never recorded": False})
def test_the_thought_stands_on_the_message_with_the_calls(
    lab: Lab, place: Place, first: Entry, known: bool, streamed: bool
) -> None:
    lab.behaves()
    talk = lab.talk(place, streamed)
    said = call(text=first.get("content") or "")
    if known:
        talk.send(said)
        talk.parts[-2] = _split(place, said, first)
    else:
        talk.brings(said, *_split(place, said, first))
    lab.behaves(Demands(place))
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable == [[said.thought]]


@every_place
def test_each_of_several_such_turns_has_its_own(lab: Lab, place: Place) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, True)
    turns = [call(), call(), call()]
    for number, said in enumerate(turns):
        assert talk.send(said).status == 200
        assert len(talk.got) == 1
        assert talk.accepted.readable == [[one.thought] for one in turns[:number]]
        talk.parts[-2] = _split(place, said, ALONE["no text"])


@every_place
def test_a_thought_that_lost_the_white_space_at_its_ends_is_the_recorded_one(lab: Lab, place: Place) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, True)
    said = call(thought="\nI look at the file first. \n")
    talk.send(said)
    assert said.thought is not None
    talk.parts[-2] = _split(place, said, ALONE["no text"], said.thought.strip())
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable == [[said.thought]]


@either_way
@pytest.mark.parametrize("text", ["", "I look."], ids=["a call", "a text and a call"])
@pytest.mark.parametrize(
    "place",
    [
        Place("api.deepseek.com", "/responses", "deepseek-v4-flash"),
        Place("opencode.ai", "/zen/go/v1/responses", "deepseek-v4-pro"),
        Place("openrouter.ai", "/api/v1/responses", "deepseek/deepseek-v4-pro"),
    ],
    ids=str,
)
def test_on_the_wire_of_items_the_thought_stands_once(
    lab: Lab, place: Place, text: str, streamed: bool
) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed)
    said = call(text=text)
    talk.send(said)
    talk.parts[-2] = place.wire.said(said, kept=True)
    assert talk.send().status == 200
    assert talk.changes == [NOTHING]
    talk.parts[1] = place.wire.said(said)
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable == [[said.thought]]
