"""A conversation begun with another model goes on: what its client brings and nobody here can read gives way.

Sealed, foreign and empty values give way to what is on record, else to a placeholder, once the provider says
that a thought is missing; thinking stays on. Words of the client's own are kept, where the provider reads
them.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.laboratory import NOTHING, Lab, Talk, by_turns, either_way, named
from tests.strict import Asked, Demands, Place, call, thought
from tests.wires import Entry, Said

SIGNATURE = "EqQBcDLgYk7OoxMMmPgk4zqQ6H0ku42xMvwG8tIijxeQ4Iqz+Cx6YTJx0c7gUHAkloZPe5v/JOfCR+LWANo7"
SEALED = "gAAAAABocPwYG8lO+Du4gItQ78DndkriAJ7OeEtDnP1vPongqWSIZJW9X+WAc0GaFG4nZSWpPjlc0utNDh4UKGshfoXt9o"

MESSAGES = [
    Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-v4-pro[1m]"),
    Place("api.moonshot.ai", "/anthropic/v1/messages", "kimi-k2.6"),
    Place("api.kimi.com", "/coding/v1/messages", "kimi-for-coding"),
    Place("opencode.ai", "/zen/go/v1/messages", "kimi-k2.7-code"),
    Place("token-plan-sgp.xiaomimimo.com", "/anthropic/v1/messages", "mimo-v2.5-pro"),
    Place("openrouter.ai", "/api/v1/messages", "deepseek/deepseek-v4-pro"),
]
RESPONSES = [
    Place("api.deepseek.com", "/responses", "deepseek-flash"),
    Place("api.deepseek.com", "/v1/responses", "deepseek-v4-pro"),
    Place("opencode.ai", "/zen/go/v1/responses", "deepseek-v4-pro"),
]
CHAT = [
    Place("openrouter.ai", "/api/v1/chat/completions", "deepseek/deepseek-v4-pro", "reasoning"),
    Place("openrouter.ai", "/api/v1/chat/completions", "moonshotai/kimi-k2.6", "reasoning"),
    Place("opencode.ai", "/zen/go/v1/chat/completions", "deepseek-v4-flash"),
]

type Brought = Callable[[Place, Said], list[Entry]]


def _blocks(*blocks: Entry) -> Brought:
    def brought(place: Place, turn: Said) -> list[Entry]:
        entries = place.wire.said(turn)
        entries[0]["content"] = [*blocks, *entries[0]["content"]]
        return entries

    return brought


def _item(**members: Any) -> Brought:
    return lambda place, turn: [{"type": "reasoning", "summary": [], **members}, *place.wire.said(turn)]


def _fields(**members: Any) -> Brought:
    return lambda place, turn: [{**place.wire.said(turn)[0], **members}]


def _detail(**members: Any) -> Entry:
    return {"type": "reasoning.encrypted", "data": SEALED, "format": "openai-responses-v1", **members}


UNREADABLE: list[tuple[list[Place], dict[str, Brought]]] = [
    (
        MESSAGES,
        {
            "an empty thought with a signature": _blocks(
                {"type": "thinking", "thinking": "", "signature": SIGNATURE}
            ),
            "a sealed thought": _blocks({"type": "redacted_thinking", "data": SIGNATURE}),
            "both": _blocks(
                {"type": "thinking", "thinking": "", "signature": SIGNATURE},
                {"type": "redacted_thinking", "data": SIGNATURE},
            ),
            "an empty thought": _blocks({"type": "thinking", "thinking": ""}),
        },
    ),
    (
        RESPONSES,
        {
            "a sealed item": _item(encrypted_content=SEALED),
            "a sealed item with an id": _item(id="rs_0a1b", encrypted_content=SEALED),
            "a sealed item with empty content": _item(content=[], encrypted_content=SEALED),
            "an empty item": _item(),
            "an item with an empty text": _item(content=[{"type": "reasoning_text", "text": ""}]),
        },
    ),
    (
        CHAT,
        {
            "a sealed detail": _fields(reasoning_details=[_detail(index=0)]),
            "a sealed detail with an id": _fields(reasoning_details=[_detail(id="rs_0a1b", index=0)]),
            "a sealed detail and an empty text": _fields(
                reasoning="",
                reasoning_details=[{"type": "reasoning.text", "text": "", "index": 0}, _detail()],
            ),
        },
    ),
]
CASES = [
    pytest.param(place, brought, id=f"{name}, {place}")
    for places, ways in UNREADABLE
    for place in places
    for name, brought in ways.items()
]


def _thinking_on(place: Place) -> dict[str, Any]:
    return {"thinking": {"type": "adaptive"}} if place.wire.name == "messages" else {}


def _begun_elsewhere(
    lab: Lab, place: Place, brought: Brought, streamed: bool, key: str = "", turn: Said | None = None
) -> Talk:
    turn = turn or call(thought=None)
    talk = lab.talk(place, streamed, key, **_thinking_on(place))
    talk.brings(turn, *brought(place, turn))
    return talk


def _settings_stay(talk: Talk) -> bool:
    return talk.accepted.settings == Asked("", talk.place.path, b"", json.loads(talk.sent)).settings


@pytest.mark.parametrize(("place", "brought"), CASES)
def test_a_conversation_begun_elsewhere_goes_on(lab: Lab, place: Place, brought: Brought) -> None:
    lab.behaves(Demands(place))
    talk = _begun_elsewhere(lab, place, brought, True)
    said = call()
    assert talk.send(said).status == 200
    assert len(talk.got) <= 2
    assert _settings_stay(talk)
    assert talk.send().status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable[-1] == [said.thought]
    other = _begun_elsewhere(lab, place, brought, False, talk.key)
    assert other.send().status == 200
    assert len(other.got) == 1
    assert _settings_stay(other)


@pytest.mark.parametrize(("place", "brought"), CASES)
def test_a_turn_of_this_model_in_such_a_conversation_gets_its_own_thought(
    lab: Lab, place: Place, brought: Brought
) -> None:
    """The client went to another model and back: the second turn was said here, the first was not."""
    lab.behaves()
    talk = _begun_elsewhere(lab, place, brought, True)
    said = call()
    talk.send(said)
    lab.behaves(Demands(place))
    assert talk.send().status == 200
    assert len(talk.got) <= 2
    assert _settings_stay(talk)
    assert talk.accepted.readable[-1] == [said.thought]


@pytest.mark.parametrize(("place", "brought"), CASES)
def test_a_turn_on_record_gets_its_thought_in_place_of_what_cannot_be_read(
    lab: Lab, place: Place, brought: Brought
) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, False, **_thinking_on(place))
    said = call()
    talk.send(said)
    talk.parts[-2] = brought(place, said)
    assert talk.send().status == 200
    assert len(talk.got) <= 2
    assert _settings_stay(talk)
    assert talk.accepted.readable == [[said.thought]]


def _text(text: str) -> Entry:
    return {"type": "text", "text": text}


OWN_WORDS: dict[str, Callable[[str], Brought]] = {
    # https://github.com/openai/codex/issues/42249
    "a part of type text": lambda words: _item(content=[_text(words)], encrypted_content="cd9c2d24-0"),
    "a part of type text, nothing sealed": lambda words: _item(content=[_text(words)]),
    # https://github.com/HKUDS/nanobot/pull/5214
    "a plain string": lambda words: _item(content=words),
    "a plain string with an id": lambda words: _item(id="rs_0a1b", content=words),
}


@by_turns(place=named(RESPONSES), form=OWN_WORDS, known={"on record": True, "never recorded": False})
def test_words_of_the_clients_own_are_kept_where_the_provider_reads_them(
    lab: Lab, place: Place, form: Callable[[str], Brought], known: bool, streamed: bool
) -> None:
    lab.behaves(Demands(place))
    talk = lab.talk(place, streamed)
    turns = [call(), call()]
    if known:
        talk.send(turns[0])
        del talk.parts[1:]
    more = 0
    for number, turn in enumerate(turns, 1):
        assert turn.thought is not None
        talk.brings(turn, *form(turn.thought)(place, turn))
        assert talk.send(Said(text="Done.")).status == 200
        del talk.parts[-2:]
        more += len(talk.got) - 1
        assert more <= 1
        assert _settings_stay(talk)
        assert talk.accepted.readable == [[one.thought] for one in turns[:number]]


@either_way
@pytest.mark.parametrize(
    ("place", "brought"),
    [
        (
            MESSAGES[0],
            lambda words: _blocks({"type": "thinking", "thinking": words, "signature": SIGNATURE}),
        ),
        (MESSAGES[1], lambda words: _blocks({"type": "thinking", "thinking": words})),
        (
            RESPONSES[0],
            lambda words: _item(
                content=[{"type": "reasoning_text", "text": words}], encrypted_content=SEALED
            ),
        ),
        (CHAT[0], lambda words: _fields(reasoning=words)),
        (CHAT[0], lambda words: _fields(reasoning_details=[{"type": "reasoning.text", "text": words}])),
    ],
)
def test_what_can_be_read_is_not_touched(
    lab: Lab, place: Place, brought: Callable[[str], Brought], streamed: bool
) -> None:
    lab.behaves(Demands(place))
    talk = _begun_elsewhere(lab, place, brought(thought()), streamed)
    assert talk.send().status == 200
    assert talk.changes == [NOTHING]


def test_what_was_learned_holds_after_a_restart(lab: Lab) -> None:
    ways = [(places[0], next(iter(ways.values()))) for places, ways in UNREADABLE]
    lab.behaves(*(Demands(place) for place, _ in ways))
    talks = [_begun_elsewhere(lab, place, brought, True) for place, brought in ways]
    for talk in talks:
        assert talk.send().status == 200
    lab.restart()
    for talk, (place, brought) in zip(talks, ways, strict=True):
        assert talk.send().status == 200
        assert len(talk.got) == 1
        other = _begun_elsewhere(lab, place, brought, False)
        assert other.send().status == 200
        assert len(other.got) == 1
