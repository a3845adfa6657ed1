"""What an answer says more than once is recorded once: whole messages beside deltas, blocks begun anew."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.turns import Call, Turn
from reasoning_fix.dialects.wire import Answered
from tests.conversations import Scene, call, reasoning, tool, turn, user

THOUGHT = "I need to look at the file first.\nThen decide. 表"
TEXT = "I look at it."
CALL = {"id": "call_00_a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SAID = Turn(TEXT, (Call("call_00_a", "f", '{"a": 1}'),))

type Event = dict[str, Any]


def folded(dialect: str, events: list[Event]) -> list[Answered]:
    """The turns of a stream of these events."""
    folder = DIALECTS[dialect].folder(False)
    answers = [one for event in events for one in folder.feed(json.dumps(event).encode())]
    return answers + folder.end(complete=True)


def only(answers: list[Answered]) -> Answered:
    (answer,) = answers
    return answer


# ---- Chat: the whole message beside the deltas -------------------------------------------------------------


def chunk(finish: str | None = None, **choice: object) -> Event:
    return {"choices": [{"index": 0, "finish_reason": finish} | choice]}


def spelled(*, calls: bool = True) -> list[Event]:
    """The message in deltas, without a finish reason."""
    events = [chunk(delta={"reasoning_content": piece}) for piece in (THOUGHT[:7], THOUGHT[7:])]
    events += [chunk(delta={"content": piece}) for piece in (TEXT[:4], TEXT[4:])]
    if calls:
        head = CALL | {"index": 0, "function": {"name": "f", "arguments": ""}}
        rest = {"index": 0, "function": {"arguments": '{"a": 1}'}}
        events += [chunk(delta={"tool_calls": [head]}), chunk(delta={"tool_calls": [rest]})]
    return events


WHOLE: Event = {"role": "assistant", "content": TEXT, "reasoning_content": THOUGHT, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    "events",
    [
        [*spelled(), chunk("tool_calls", message=WHOLE)],
        [*spelled(), chunk(message=WHOLE), chunk("tool_calls", delta={})],
        [*spelled(), chunk("tool_calls", delta={"content": ""}, message=WHOLE)],
        [*spelled(), chunk("tool_calls", delta={}), chunk(message=WHOLE)],
        [
            *spelled(),
            chunk("tool_calls", delta={}),
            {"object": "chat.completion"} | chunk("tool_calls", message=WHOLE),
        ],
        [*spelled(), chunk("tool_calls", message={"role": "assistant", "content": None})],
        [*spelled(), chunk("tool_calls", message=WHOLE | {"content": "", "reasoning_content": ""})],
        [*spelled(), chunk("tool_calls", message=WHOLE | {"tool_calls": [CALL | {"id": None}]})],
        [*spelled(), chunk("tool_calls", message=WHOLE | {"tool_calls": []})],
        [chunk("tool_calls", message=WHOLE)],
        [chunk(delta={"role": "assistant", "content": ""}), chunk("tool_calls", message=WHOLE)],
    ],
    ids=[
        "with the finish reason",
        "before the finish reason",
        "beside an empty delta",
        "after the finish reason",
        "as a document at the end",
        "with nothing in it",
        "with empty texts in it",
        "without the ids",
        "without the calls",
        "and no deltas",
        "and an empty delta",
    ],
)
def test_a_whole_message_takes_the_place_of_its_deltas(events: list[Event]) -> None:
    answer = only(folded("chat_completions", events))
    assert answer.turn == SAID
    assert json.loads(answer.fields["reasoning_content"]) == THOUGHT


def test_a_whole_message_is_the_truth_of_its_deltas() -> None:
    truth = WHOLE | {
        "content": "<think>x</think>" + TEXT,
        "reasoning_details": [{"type": "t", "text": "whole"}],
    }
    half = chunk(delta={"reasoning_details": [{"type": "t", "text": "wh", "index": 0}]})
    answer = only(folded("chat_completions", [*spelled(), half, chunk("stop", message=truth)]))
    assert answer.turn.text == "<think>x</think>" + TEXT
    assert json.loads(answer.fields["reasoning_details"]) == [{"type": "t", "text": "whole"}]


A, B = {"type": "reasoning.summary", "format": "f"}, {"type": "reasoning.encrypted", "format": "f"}


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        (
            [A | {"summary": "one "}, A | {"summary": "two"}, B | {"data": "x"}, A | {"summary": "three"}],
            [A | {"summary": "one two"}, B | {"data": "x"}, A | {"summary": "three"}],
        ),
        ([B | {"data": "x"}, B | {"data": "y"}], [B | {"data": "x"}, B | {"data": "y"}]),
        ([B | {"data": "x"}, B | {"data": "x"}], [B | {"data": "x"}]),
        ([B | {"data": None}, B | {"data": "x"}], [B | {"data": "x"}]),
        (
            [A | {"text": "one"}, {"signature": "s"}, {"text": " two", "signature": "z"}],
            [A | {"text": "one two", "signature": "s"}],
        ),
        ([A | {"text": "one"}, None, A | {"text": " two"}], [A | {"text": "one two"}, None]),
    ],
    ids=["types by turns", "sealed twice", "an item again", "sealed later", "bare fragments", "no item"],
)
@pytest.mark.parametrize("place", [{"index": 0}, {"id": "all"}, {}, {"index": None}], ids=str)
def test_details_that_are_all_numbered_alike_are_told_apart(
    deltas: list[Event | None], whole: list[Event | None], place: Event
) -> None:
    def placed(item: Event | None) -> Event | None:
        return None if item is None else place | item

    events = [chunk(delta={"reasoning_details": [placed(one)]}) for one in deltas]
    answer = only(folded("chat_completions", [*events, chunk("stop", delta={})]))
    assert json.loads(answer.fields["reasoning_details"]) == list(map(placed, whole))


def test_each_choice_has_a_message_of_its_own() -> None:
    other = [{"choices": [{"index": 1, "delta": {"content": "Other.", "reasoning_content": "R"}}]}]
    ends = {
        "choices": [{"index": n, "message": m, "finish_reason": "stop"} for n, m in enumerate((WHOLE, {}))]
    }
    first, second = folded("chat_completions", [*spelled(), *other, ends])
    assert (first.turn, second.turn) == (SAID, Turn("Other."))


@pytest.mark.parametrize("host", ["api.minimax.io", "api.minimaxi.com", "api.deepseek.com", "openrouter.ai"])
def test_the_thought_goes_back_once(host: str) -> None:
    scene = Scene(host, "deepseek-v4-pro")
    exchange = scene.restore([user("go")])
    stream = [*spelled(), chunk("tool_calls", message=WHOLE), chunk(delta={})]
    scene.watch(exchange, [b"data: %b\n\n" % json.dumps(event).encode() for event in stream])
    said = turn(TEXT, [call("call_00_a", '{"a": 1}')])
    assert reasoning(scene.sent([user("go"), said, tool("call_00_a", "x")])) == [THOUGHT]


@given(st.lists(st.text(min_size=1), min_size=1), st.lists(st.text(min_size=1)), st.booleans())
def test_a_stream_and_the_same_with_its_message_are_one(
    thought: list[str], text: list[str], late: bool
) -> None:
    events = [chunk(delta={"reasoning_content": piece}) for piece in thought]
    events += [chunk(delta={"content": piece}) for piece in text]
    end = chunk("stop", delta={})
    whole = chunk(message={"reasoning_content": "".join(thought), "content": "".join(text)})
    with_message = [*events, end, whole] if late else [*events, whole, end]
    assert folded("chat_completions", with_message) == folded("chat_completions", [*events, end])


# ---- Messages: blocks that begin over ----------------------------------------------------------------------


def block(index: int, start: Event, **deltas: list[str]) -> list[Event]:
    added = [
        {"type": "content_block_delta", "index": index, "delta": {"type": f"{name}_delta", name: piece}}
        for name, pieces in deltas.items()
        for piece in pieces
    ]
    begin = {"type": "content_block_start", "index": index, "content_block": start}
    return [begin, *added, {"type": "content_block_stop", "index": index}]


STOP: Event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
BLOCKS = [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}, {"type": "text", "text": TEXT}]


@pytest.mark.parametrize(
    "events",
    [
        [
            *block(0, {"type": "thinking", "thinking": THOUGHT, "signature": "s"}, thinking=[THOUGHT]),
            *block(1, {"type": "text", "text": TEXT}, text=[TEXT[:3], TEXT[3:]]),
        ],
        [
            *block(
                0,
                {"type": "thinking", "thinking": THOUGHT[:5], "signature": ""},
                thinking=[THOUGHT],
                signature=["s"],
            ),
            *block(1, {"type": "text", "text": ""}, text=[TEXT]),
        ],
        [
            *block(0, {"type": "thinking", "thinking": THOUGHT[:5]}, thinking=[THOUGHT[5:]], signature=["s"]),
            *block(1, {"type": "text", "text": TEXT[:5]}, text=[TEXT[5:]]),
        ],
        [{"type": "message_start", "message": {"content": BLOCKS}}],
        [
            {"type": "message_start", "message": {"content": BLOCKS}},
            *block(0, BLOCKS[0] | {"thinking": ""}, thinking=[THOUGHT]),
            *block(1, BLOCKS[1]),
        ],
        [
            *block(0, {"type": "thinking", "thinking": ""}, thinking=["half"]),
            {"type": "message", "content": BLOCKS},
        ],
    ],
    ids=[
        "the whole block again",
        "its beginning again",
        "a first piece that is not repeated",
        "all in the start of the message",
        "in the start, and again",
        "the whole message at the end",
    ],
)
def test_a_block_that_begins_over_is_said_once(events: list[Event]) -> None:
    answer = only(folded("messages", [*events, STOP, {"type": "message_stop"}]))
    assert answer.turn.text == TEXT
    (thinking, _) = json.loads(answer.fields["blocks"])
    assert (thinking["thinking"], thinking["signature"]) == (THOUGHT, "s")


# ---- Responses: items that begin over ----------------------------------------------------------------------


def item(index: int, start: Event, kind: str, pieces: list[str]) -> list[Event]:
    added = {"type": "response.output_item.added", "output_index": index, "item": start}
    return [added, *({"type": f"response.{kind}.delta", "output_index": index, "delta": p} for p in pieces)]


def thinks(*texts: str) -> Event:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "content": [{"type": "reasoning_text", "text": t} for t in texts],
    }


def says(text: str) -> Event:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


@pytest.mark.parametrize(
    "events",
    [
        [*item(0, thinks(THOUGHT), "reasoning_text", [THOUGHT]), *item(1, says(TEXT), "output_text", [TEXT])],
        [
            *item(0, thinks(), "reasoning_text", [THOUGHT]),
            *item(1, says(""), "output_text", [TEXT[:2], TEXT[2:]]),
        ],
        [
            *item(0, thinks(THOUGHT[:4]), "reasoning_text", [THOUGHT[4:]]),
            *item(1, says(TEXT[:4]), "output_text", [TEXT[4:]]),
        ],
        [*item(0, thinks(THOUGHT[:4]), "reasoning_text", [THOUGHT]), *item(1, says(TEXT), "output_text", [])],
    ],
    ids=["whole, and again", "in deltas only", "a first piece that is not repeated", "its beginning again"],
)
def test_an_item_that_begins_over_is_said_once_even_where_it_was_cut(events: list[Event]) -> None:
    answer = only(folded("responses", events))
    assert answer.turn.text == TEXT
    assert json.loads(answer.fields["items"])[0]["content"] == [{"type": "reasoning_text", "text": THOUGHT}]
