"""What went out is turned back into what the client sent."""

import json
from typing import Any

import pytest

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.wire import read_request
from reasoning_fix.engine.explaining import explain
from reasoning_fix.engine.originals import Before, undone
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.proxy import metadata
from reasoning_fix.proxy.metadata import Notes
from tests.conversations import Message, Scene, call, tool, turn, user

THINKING = {"type": "thinking", "thinking": "Mine.", "signature": "s"}


def parts(*blocks: Message | str) -> Message:
    made = [{"type": "text", "text": one} if isinstance(one, str) else one for one in blocks]
    return {"role": "assistant", "content": made}


CHAT: dict[str, list[Message]] = {
    "no field": [user("a"), turn("Dry."), user("b")],
    "null": [user("a"), turn("Dry.", reasoning_content=None), user("b")],
    "blank": [user("a"), turn("Dry.", reasoning_content="", more=1), user("b")],
    "no content": [user("a"), turn(None, [call("call_1")]), tool("call_1", "x")],
    "parts": [user("a"), parts("Dry", " there."), user("b"), turn("Ok."), user("c")],
    "another field": [user("a"), turn("Dry.", reasoning="Mine."), user("b")],
}
MESSAGES: dict[str, list[Message]] = {
    "a text": [user("a"), turn("Dry."), user("b")],
    "blank": [user("a"), turn(""), user("b")],
    "nothing": [user("a"), {"role": "assistant", "content": []}, user("b")],
    "blocks": [
        user("a"),
        parts("Dry.", {"type": "tool_use", "id": "c", "name": "f", "input": {}}),
        user("b"),
    ],
    "own": [user("a"), parts(THINKING, "Dry."), user("b"), turn("Ok."), user("c")],
    "blank thought": [user("a"), parts({"type": "thinking", "thinking": ""}, "Dry."), user("b")],
}
RESPONSES: dict[str, list[Message]] = {
    "a message": [user("a"), turn("Dry."), user("b")],
    "a call": [
        user("a"),
        turn("Dry."),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "own": [user("a"), {"type": "reasoning", "summary": [], "id": "rs_1"}, turn("Dry."), user("b")],
}
HOSTS = {
    "chat": ("api.deepseek.com", "deepseek-flash", "/chat/completions", CHAT),
    "kimi": ("api.moonshot.ai", "kimi-k2.7", "/v1/chat/completions", CHAT),
    "messages": ("api.deepseek.com", "deepseek-flash", "/anthropic/v1/messages", MESSAGES),
    "responses": ("api.deepseek.com", "deepseek-flash", "/responses", RESPONSES),
}
ROWS = [
    pytest.param(host, model, path, history, id=f"{name} {shape}")
    for name, (host, model, path, shapes) in HOSTS.items()
    for shape, history in shapes.items()
]
# Refusals that teach to fill, to take out, to turn off: the request is changed in every way there is.
LESSONS = {
    "by rule": [],
    "words": [("missing", "[words]")],
    "forbidden": [("forbidden", "reasoning_content"), ("forbidden", "reasoning")],
    "blocks": [("forbidden", "blocks"), ("forbidden", "items")],
    "off": [("missing", "off")],
    "parameter": [("parameter", "temperature"), ("missing", "[words]")],
}


def said(dialect: str, body: bytes) -> Any:
    """What a body says to its dialect, however it is spelled."""
    request = read_request(DIALECTS[dialect], body)
    rest = {name: json.loads(bytes(v)) for name, v in request.parameters.items()}
    own = {
        index: {name: json.loads(value) for name, value in fields.items()}
        for index, fields in request.own.items()
    }
    return request.messages, own, {n: v for n, v in rest.items() if n not in ("messages", "input")}


@pytest.mark.parametrize("taught", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize(("host", "model", "path", "history"), ROWS)
def test_what_went_out_says_again_what_came(
    host: str, model: str, path: str, history: list[Message], taught: list[tuple[Any, str]]
) -> None:
    scene = Scene(host, model, path)
    caller = scene.caller()
    body = scene.body(history, temperature=0.2)
    lessons = [Lesson(host, caller.endpoint.dialect, "", means, detail) for means, detail in taught]
    restored = scene.restore_body(body, caller, *lessons)
    if not restored.is_changed:
        assert restored.report.before is None
        return
    assert restored.report.before is not None and restored.body != body
    noted = metadata.written(restored.report, caller.endpoint, scene.preferences)
    was = metadata.read({metadata.KEY: noted})
    assert was is not None and was.before == restored.report.before and was.altered
    dialect = caller.endpoint.dialect
    back = undone(restored.body, dialect, restored.report.before)
    assert back is not None
    assert said(dialect, back) == said(dialect, body)


def test_what_was_only_added_goes_without_a_trace() -> None:
    scene = Scene()
    scene.say(CHAT["no field"][:1], turn("Dry.", reasoning_content="R"))
    body = json.dumps(json.loads(scene.body(CHAT["no field"])), indent=3).encode()
    restored = scene.restore_body(body, scene.caller())
    assert restored.is_changed and restored.report.before is not None
    assert undone(restored.body, "chat_completions", restored.report.before) == body


@pytest.mark.parametrize(
    "kept", ["Dry there.", [{"type": "text", "text": "Dry there."}]], ids=["text", "part"]
)
def test_a_think_block_goes_from_the_content_again(kept: object) -> None:
    scene = Scene("api.minimax.io", "minimax-m2.7", "/v1/chat/completions")
    scene.say([user("a")], turn("<think>\nHm.\n</think>\n\nDry there."))
    body = scene.body([user("a"), {"role": "assistant", "content": kept}, user("b")])
    restored = scene.restore_body(body, scene.caller())
    assert restored.is_changed and b"<think>" in restored.body and restored.report.before is not None
    assert undone(restored.body, "chat_completions", restored.report.before) == body


@pytest.mark.parametrize(
    ("body", "dialect"),
    [
        (b"{}", "chat_completions"),
        (b"not json", "messages"),
        (b'{"messages": [{"role": "user"}]}', "chat_completions"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "messages"),
        (b'{"input": [], "previous_response_id": "r"}', "responses"),
        (b"{}", "another"),
    ],
)
def test_another_body_is_not_undone(body: bytes, dialect: str) -> None:
    assert undone(body, dialect, Before({0: {"reasoning_content": None}})) is None


@pytest.mark.parametrize(
    "found",
    [None, 3, "text", [], {"turns": 3}, {"turns": [[1]]}, {"before_turns": [["a"]]}, {"wishes": [1]}],
)
def test_what_is_no_note_counts_as_none(found: object) -> None:
    assert metadata.read({metadata.KEY: found}) is None
    assert metadata.read({metadata.KEY: {}}) == Notes()


@pytest.mark.parametrize("remembers", [True, False])
def test_turns_that_stand_side_by_side_are_undone(remembers: bool) -> None:
    """On the Responses wire they are told apart by what is on record: no reader of the body alone could."""
    scene = Scene("api.deepseek.com", "deepseek-v4-pro", "/responses")
    if not remembers:
        scene.memory = None

    def say(history: list[Message], *output: Message) -> None:
        exchange = scene.restore(history)
        folder = exchange.caller.dialect.folder(False)
        body = {"object": "response", "status": "completed", "output": output}
        for one in folder.feed(json.dumps(body).encode()) + folder.end(complete=True):
            exchange.recorder.record(one)

    def thought(text: str) -> Message:
        part = {"type": "reasoning_text", "text": text}
        return {"id": f"rs_{text}", "type": "reasoning", "summary": [], "content": [part]}

    def spoken(text: str) -> Message:
        return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}

    begin = [user("What is the weather in Bern, please?")]
    say(begin, thought("A"), spoken("Let me have a look at the forecast for you."))
    history = [*begin, spoken("Let me have a look at the forecast for you."), user("Well?")]
    say(history, thought("B"), spoken("It is going to be dry all day."))
    history = [*history, spoken("It is going to be dry all day."), user("And then?")]
    for text in ("First", "Then"):
        say(history, thought(text), spoken(f"{text} I look at the weather map of Bern."))
        history = [*history, spoken(f"{text} I look at the weather map of Bern.")]
    history.append(user("And?"))
    for _ in range(2):
        exchange = scene.restore(history)
        assert exchange.report.restored == 4 and exchange.report.before is not None
        assert len(exchange.report.before.cuts) == 1
        was = undone(exchange.body, "responses", exchange.report.before)
        assert was is not None and json.loads(was)["input"] == history
    told, _ = explain(scene.body(history), scene.caller(), scene.knowledge)
    assert [turn.line[:5] for turn in told.turns] == ["Let m", "It is", "First", "Then "]
