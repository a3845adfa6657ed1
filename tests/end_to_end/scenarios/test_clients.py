"""The official libraries in the same scenarios: a repaired request is an ordinary answer to them.

Where the rules put words in at once, a switch that the provider does not listen to makes the refusal.
"""

import json
from typing import Any

from tests.laboratory import Lab, either_way
from tests.mitmdump import client, messages_client
from tests.strict import Answer, Demands, Place, call, missing
from tests.wires import TOOL, Said

CHAT = Place("api.deepseek.com", "/v1/chat/completions", "deepseek-v4-pro")
MESSAGES = Place("api.deepseek.com", "/anthropic/v1/messages", "deepseek-v4-pro")
RESPONSES = Place("api.deepseek.com", "/v1/responses", "deepseek-v4-pro")
USER = "Look into it"


def _first_event(place: Place) -> Answer:
    """The refusal as the first event of a stream, which a library would raise as an error."""
    error = missing(place).body
    if place is CHAT:
        return Answer(200, [b": waiting\n\n", b"data: " + error + b"\n\n"], "text/event-stream")
    data = {"type": "error", **json.loads(error)}
    return Answer(200, [f"event: error\ndata: {json.dumps(data)}\n\n".encode()], "text/event-stream")


def _behaves(lab: Lab, place: Place, streamed: bool) -> Said:
    """Words are wanted on a turn that nobody recorded; the refusal comes as the wire allows it."""
    no = _first_event(place) if streamed else None
    lab.behaves(Demands(place, accepts=lambda text: bool(text.strip()), no=no))
    good = call(text="Good.", thought="I see.")
    lab.servers.script.append(good)
    return good


@either_way
def test_openai_chat(lab: Lab, streamed: bool) -> None:
    good = _behaves(lab, CHAT, streamed)
    api = client(lab.proxy, CHAT.host, "sk-lab-openai", "https://api.deepseek.com/v1")
    turn = CHAT.wire.said(call(thought=None), kept=False)
    messages = [*CHAT.wire.user(USER), *turn, *CHAT.wire.result(turn[0]["tool_calls"][0]["id"])]
    tools = [{"type": "function", "function": {"name": "read_file", "parameters": TOOL}}]
    # Bodies are written by hand here, as programs without types do.
    asked: dict[str, Any] = {"model": CHAT.model, "messages": messages, "tools": tools, "stream": streamed}
    answer: Any = api.chat.completions.create(**asked)
    if streamed:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = answer.choices[0].message.content
    assert text == good.text
    assert len(lab.servers.ledger) == 2


@either_way
def test_anthropic_messages(lab: Lab, streamed: bool) -> None:
    good = _behaves(lab, MESSAGES, streamed)
    api = messages_client(lab.proxy, MESSAGES.host, "sk-lab-anthropic", "https://api.deepseek.com/anthropic")
    turn = MESSAGES.wire.said(call(thought=None))
    result = MESSAGES.wire.result(turn[0]["content"][0]["id"])
    asked: dict[str, Any] = {
        "model": MESSAGES.model,
        "max_tokens": 900,
        "messages": [*MESSAGES.wire.user(USER), *turn, *result],
        "tools": [{"name": "read_file", "input_schema": TOOL}],
        "thinking": {"type": "disabled"},
    }
    message: Any
    if streamed:
        with api.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = api.messages.create(**asked)
    assert [block.text for block in message.content if block.type == "text"] == [good.text]
    assert len(lab.servers.ledger) == 2


@either_way
def test_openai_responses(lab: Lab, streamed: bool) -> None:
    good = _behaves(lab, RESPONSES, streamed)
    api = client(lab.proxy, RESPONSES.host, "sk-lab-responses", "https://api.deepseek.com/v1")
    turn = call(thought=None)
    wire = RESPONSES.wire
    asked: dict[str, Any] = {
        "model": RESPONSES.model,
        "input": [*wire.user(USER), *wire.said(turn), *wire.result(turn.call)],
        "tools": [{"type": "function", "name": "read_file", "parameters": TOOL}],
        "reasoning": {"effort": "none"},
    }
    done: Any
    if streamed:
        done = [event for event in api.responses.create(**asked, stream=True)][-1].response
    else:
        done = api.responses.create(**asked)
    texts = [part.text for item in done.output if item.type == "message" for part in item.content]
    assert texts == [good.text]
    assert len(lab.servers.ledger) == 2
