"""What is done to one turn, by what the provider said, what the client sent and what the rule demands.

A row is one turn of a request, with tools, that a client goes on from.
"""

from typing import Any

import pytest

from reasoning_fix.providers.lessons import Lesson
from tests.conversations import Scene, call, reasoning, tool, turn, user

SAID = "The user wants the weather: call the tool."
OWN = "I have thoughts of my own about this."
LEFT: Any = ...
DEEPSEEK = ("api.deepseek.com", "deepseek-v4-pro")
KIMI = ("api.moonshot.ai", "kimi-k2.6")
KIMI_K27 = ("api.moonshot.ai", "kimi-k2.7-code")
GLM = ("api.z.ai", "glm-4.7")

# By name: host and model; the thought on record (None: it had none, ...: nothing is on record); what the
# client sends (...: no field); what became of it, and what goes to the provider (...: no field).
ROWS: dict[str, tuple[tuple[str, str], Any, Any, str, Any]] = {
    "dropped, on record": (DEEPSEEK, SAID, LEFT, "restored", SAID),
    "null, on record": (DEEPSEEK, SAID, None, "restored", SAID),
    "blank, on record": (DEEPSEEK, SAID, " ", "restored", SAID),
    "a placeholder, on record": (DEEPSEEK, SAID, "[reasoning unavailable]", "restored", SAID),
    "the client's own, on record": (DEEPSEEK, SAID, OWN, "sent", OWN),
    "kept": (DEEPSEEK, SAID, SAID, "sent", SAID),
    "trimmed": (DEEPSEEK, f"\n{SAID} ", SAID, "restored", f"\n{SAID} "),
    "dropped, had none": (DEEPSEEK, None, LEFT, "empty", LEFT),
    "dropped, had an empty one": (DEEPSEEK, "", LEFT, "restored", ""),
    "dropped, not on record": (DEEPSEEK, LEFT, LEFT, "filled", " "),
    "a blank that is accepted, not on record": (DEEPSEEK, LEFT, " ", "absent", " "),
    "the client's own, not on record": (DEEPSEEK, LEFT, OWN, "sent", OWN),
    "not demanded, on record": (GLM, SAID, LEFT, "restored", SAID),
    "not demanded, not on record": (GLM, LEFT, LEFT, "absent", LEFT),
    "not demanded, had an empty one": (GLM, "", LEFT, "empty", LEFT),
    "empty where a field is demanded": (KIMI_K27, "", LEFT, "restored", ""),
    "turns with calls, not on record": (KIMI, LEFT, LEFT, "filled", " "),
}


def asked(said: dict[str, Any], sent: Any) -> list[dict[str, Any]]:
    """A request that goes on from a turn, which the client sends with this thought."""
    own = {} if sent is LEFT else {"reasoning_content": sent}
    return [user("Weather in Bern?"), said | own, tool("call_00_aaaaaaaaaaaa", "mild")]


@pytest.mark.parametrize(("where", "on_record", "sent", "status", "goes"), ROWS.values(), ids=ROWS)
def test_what_becomes_of_a_turn(
    where: tuple[str, str], on_record: Any, sent: Any, status: str, goes: Any
) -> None:
    scene = Scene(*where)
    said = turn("Let me look.", [call("call_00_aaaaaaaaaaaa", '{"city":"Bern"}')])
    if on_record is not LEFT:
        thought = {} if on_record is None else {"reasoning_content": on_record}
        scene.say([user("Weather in Bern?")], said | thought)
    messages = asked(said, sent)
    exchange = scene.restore(messages)
    assert [found.status for found in exchange.report.turns] == [status]
    assert reasoning(scene.sent(messages)) == [goes]


@pytest.mark.parametrize(
    ("mode", "lesson", "on_record", "status", "goes"),
    [
        ("none", None, LEFT, "absent", LEFT),
        ("none", None, SAID, "restored", SAID),
        ("auto", ("missing", "words"), LEFT, "filled", "words"),
        ("auto", ("too_long", ""), SAID, "restored", SAID),
    ],
    ids=["nothing is to be filled", "none restores all the same", "a refusal wants words", "too long"],
)
def test_what_a_person_and_a_refusal_change(
    mode: str, lesson: tuple[str, str] | None, on_record: Any, status: str, goes: Any
) -> None:
    scene = Scene(*DEEPSEEK)
    scene.mode = mode
    if lesson is not None:
        scene.lessons.learn(Lesson(scene.host, "chat_completions", "deepseek", *lesson))  # type: ignore[arg-type]
    said = turn("Let me look.", [call("call_00_aaaaaaaaaaaa", '{"city":"Bern"}')])
    if on_record is not LEFT:
        scene.say([user("Weather in Bern?")], said | {"reasoning_content": on_record})
    messages = asked(said, LEFT)
    assert [found.status for found in scene.restore(messages).report.turns] == [status]
    assert reasoning(scene.sent(messages)) == [goes]
