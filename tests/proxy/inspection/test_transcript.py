"""Transcripts of every wire, as golden files; and that any bytes at all give a text of bounded length.

`python -m tests.proxy.inspection.test_transcript` writes the golden files anew: look at what changed.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.engine.report import Treated
from reasoning_fix.proxy.inspection.transcript import LONGEST, Ended, Told, answer_text, request_text
from reasoning_fix.streams.copies import Copy
from tests import SAMPLES

GOLDEN = SAMPLES / "transcripts"
RECORDED = 1_795_000_000_123
LIMIT = LONGEST + 10_000
DIALECTS = ("chat_completions", "messages", "responses")

# Golden file -> sample, and how it ended.
ANSWERS: dict[str, tuple[str, Ended]] = {
    "chat-tools-streamed": ("deepseek-chat-tool.sse", Ended()),
    "chat-tools-whole": ("deepseek-chat-nonstream.http-body", Ended()),
    "chat-cut-by-the-client": (
        "deepseek-chat-cut.sse",
        Ended(cut="cut by the client (Client disconnected.)"),
    ),
    "chat-cut-without-a-word": ("deepseek-chat-cut.sse", Ended()),
    "chat-reasoning-that-is-empty": ("kimi-k27-empty-reasoning.sse", Ended()),
    "chat-think-tags": ("minimax-think-tags-tool.sse", Ended()),
    "chat-think-tags-unopened": ("minimax-think-tags-unopened.sse", Ended()),
    "chat-mirrored": ("minimax-m3-mirrored.sse", Ended()),
    "chat-snapshots": ("minimax-split-cumulative.sse", Ended()),
    "chat-blank-content": ("minimax-nonstream-split.json", Ended()),
    "chat-details-of-every-kind": ("openrouter-details-mixed.json", Ended()),
    "chat-refused": ("errors/deepseek-chat-error.400.json", Ended(400)),
    "chat-refused-in-an-event": ("errors/mimo-error.400.http-body", Ended(400)),
    "chat-refused-without-a-message": ("errors/mistral-error-forbidden.422.json", Ended(422)),
    "messages-streamed": ("messages/deepseek-messages-tool.sse", Ended()),
    "messages-whole": ("messages/deepseek-messages-nonstream.json", Ended()),
    "messages-unsigned": ("messages/kimi-messages-tool-unsigned.sse", Ended()),
    "messages-refused": ("errors/kimi-messages-error.400.json", Ended(400)),
    "responses-streamed": ("responses/deepseek-responses-tool.sse", Ended()),
    "responses-summary": ("responses/kimi-responses-tool.sse", Ended()),
}

PNG = base64.b64encode(b"\x89PNG" + bytes(3000)).decode()
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def call(call_id: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


CHAT: dict[str, Any] = {
    "model": "deepseek-flash",
    "stream": True,
    "thinking": {"type": "enabled"},
    "reasoning_effort": "high",
    "max_tokens": 4096,
    "stream_options": {"include_usage": True},
    "tools": [FUNCTION, {"type": "web_search"}],
    "messages": [
        {"role": "system", "content": "You are brief.\nVery."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": PNG}},
                {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
                {"type": "hologram", "depth": 3},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "A cat?\n\nLet me look.",
            "tool_calls": [call("call_00_a", '{"city":"Zürich","days":[1,2]}'), call("call_01_b", "{broken")],
        },
        {"role": "tool", "tool_call_id": "call_00_a", "content": "x" * 5000},
        {"role": "tool", "tool_call_id": "call_01_b", "content": [{"type": "text", "text": "dry"}]},
        {"role": "assistant", "content": "Sent by the client.", "reasoning_content": "My own."},
        {
            "role": "user",
            "content": "[3] assistant: reasoning restored by context\r+ no\u2028+ such\x1b[2J line",
        },
        {"role": "assistant", "content": "Filled.", "reasoning_content": " "},
        {"role": "assistant", "content": "Known to be empty."},
        {"role": "assistant", "content": "A piece."},
        {"role": "assistant", "content": "Left out."},
        {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "assistant", "content": "<think>Tagged.</think>Go on", "prefix": True},
    ],
}
CHAT_TURNS = (
    Treated(2, "restored", "tool-call id", RECORDED),
    Treated(5, "sent", "context", RECORDED),
    Treated(7, "filled"),
    Treated(8, "empty", "context", RECORDED),
    Treated(9, "part", "context", RECORDED),
    Treated(10, "left out", "context", RECORDED),
    Treated(11, "absent"),
)
MESSAGES: dict[str, Any] = {
    "model": "kimi-k3",
    "max_tokens": 1000,
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "read_file", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "Read it."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "First.", "signature": "c2ln"},
                {"type": "text", "text": "Reading."},
                {"type": "redacted_thinking", "data": "QUJD" * 10},
                {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "/etc/hosts"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": "no such file",
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [
                        {"type": "text", "text": "see"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                    ],
                },
                {"type": "text", "text": "<system-reminder>note</system-reminder>"},
                {"type": "text", "text": "Go on."},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Sorry."}]},
        {"role": "user", "content": "Again."},
    ],
}
# As the dialect counts: the tool results of one user message and what is said beside them count apart.
MESSAGES_TURNS = (Treated(1, "restored", "context", RECORDED), Treated(5, "absent"))
RESPONSES: dict[str, Any] = {
    "model": "deepseek-flash",
    "instructions": "Be brief.",
    "reasoning": {"effort": "high", "summary": "auto"},
    "store": False,
    "input": [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Look."}, {"type": "input_image", "image_url": "x"}],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is 42."}]},
        {"type": "message", "role": "developer", "content": "Hurry."},
        {"type": "hologram", "depth": 3},
    ],
}
RESPONSES_TURNS = (Treated(1, "restored", "neighbour", RECORDED), Treated(3, "absent"))
REQUESTS: dict[str, tuple[str, dict[str, Any], Told]] = {
    "request-chat": ("chat_completions", CHAT, Told(CHAT_TURNS)),
    "request-chat-nothing-noted": ("chat_completions", CHAT, Told()),
    "request-chat-thinking-off": (
        "chat_completions",
        CHAT | {"thinking": {"type": "disabled"}},
        Told((), thinking_off=True, changed=("thinking",)),
    ),
    "request-messages": ("messages", MESSAGES, Told(MESSAGES_TURNS)),
    "request-responses": ("responses", RESPONSES, Told(RESPONSES_TURNS)),
    "request-responses-kept-by-the-server": (
        "responses",
        {"model": "m", "previous_response_id": "resp_1", "input": "And Oslo?"},
        Told(),
    ),
}


def answer(name: str) -> str:
    sample, ended = ANSWERS[name]
    dialect = {"messages": "messages", "responses": "responses"}.get(
        name.partition("-")[0], "chat_completions"
    )
    return answer_text((SAMPLES / sample).read_bytes(), dialect, ended, snapshots="snapshots" in name)


def request(name: str) -> str:
    dialect, body, told = REQUESTS[name]
    return request_text(json.dumps(body).encode(), dialect, told)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    assert answer(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    assert request(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("status", "said", "gutter"),
    [
        ("sent", "[1] assistant: reasoning sent by the client", "|"),
        (
            "restored",
            "[1] assistant: reasoning restored by tool-call id, recorded 2026-11-18 11:06:40 UTC",
            "+",
        ),
        ("filled", "[1] assistant: reasoning not on record, filled by rule", "+"),
        (
            "empty",
            "[1] assistant: on record as having had no reasoning, recorded 2026-11-18 11:06:40 UTC",
            "|",
        ),
        ("left out", "[1] assistant: reasoning on record, left out", "|"),
        ("absent", "[1] assistant: reasoning absent, and not on record", "|"),
        ("of the future", "[1] assistant: of the future", "|"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_turn_says_what_became_of_its_reasoning(
    dialect: str, status: str, said: str, gutter: str
) -> None:
    turn: list[dict[str, Any]]
    match dialect:
        case "chat_completions":
            turn = [{"role": "assistant", "content": "hi", "reasoning_content": "thought"}]
        case "messages":
            thought = {"type": "thinking", "thinking": "thought"}
            turn = [{"role": "assistant", "content": [thought, {"type": "text", "text": "hi"}]}]
        case _:
            item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "thought"}]}
            turn = [item, {"type": "message", "role": "assistant", "content": "hi"}]
    history = "input" if dialect == "responses" else "messages"
    asked = {"role": "user", "content": "hello"}
    body = {history: [asked, *turn, asked]}
    recorded = RECORDED if "recorded" in said else 0
    evidence = "tool-call id" if status == "restored" else ""
    text = request_text(json.dumps(body).encode(), dialect, Told((Treated(1, status, evidence, recorded),)))
    said = said.replace("[1]", "[1-2]") if dialect == "responses" else said
    assert said in text.splitlines()
    assert f"{gutter}     thought" in text.splitlines()
    assert ("put in by reasoning-fix" in text) is (gutter == "+")


def test_no_text_of_a_conversation_passes_for_a_heading() -> None:
    lines = request("request-chat").splitlines()
    headings = [line for line in lines if line.startswith("[")]
    assert headings[3].startswith("[3] tool") and len(headings) == len(CHAT["messages"])
    assert not any(line.startswith("+ no") or line.startswith("+ such") for line in lines)
    assert "\x1b" not in request("request-chat")


def test_tool_results_are_shortened_and_say_by_how_much() -> None:
    text = request("request-chat")
    assert "[… 3,000 characters left out …]" in text
    assert "x" * 3000 not in text


def test_a_long_history_keeps_its_ends_and_counts_what_is_between() -> None:
    messages: list[dict[str, Any]] = []
    for number in range(3000):
        messages.append({"role": "user", "content": f"question {number} " + "y" * 600})
        messages.append({"role": "assistant", "content": f"answer {number}", "reasoning_content": "z" * 600})
    turns = tuple(Treated(2 * number + 1, "restored", "context", RECORDED) for number in range(3000))
    body = json.dumps({"model": "m", "messages": messages}).encode()
    text = request_text(body, "chat_completions", Told(turns))
    assert len(text) <= LIMIT
    assert "question 0 " in text and "answer 2999" in text and "question 1500 " not in text
    assert "messages left out here; their turns: " in text and " restored …]" in text
    assert "reasoning-fix: 3000 turns: 3000 restored (3000 by context)" in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "cannot be shown"),
        (b"{}", "This is not a chat request."),
        (b"[1]", "This is not a chat request."),
        (b"{", "cannot be shown"),
        (b"[" * 100_000, "cannot be shown"),
        (b"\xff\xfe\x00", "cannot be shown"),
        (b'{"messages":{}}', "Chat completions request"),
        (b'{"messages":["odd",7,null,{"role":3},{"role":"assistant","content":9}]}', "[4] assistant"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "[0] user"),
    ],
)
def test_odd_requests_give_some_text(body: bytes, said: str) -> None:
    assert said in request_text(body, "chat_completions" if b"messages" in body else "")
    request_text(body).encode()


def event(delta: dict[str, str]) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": delta}],
        "usage": None,
    }


def test_a_stream_that_was_too_long_shows_both_its_ends() -> None:
    deltas = [{"reasoning_content": f"t{n} "} for n in range(4000)] + [{"content": "The end."}]
    copy = Copy(64 * 1024, "")
    for delta in deltas:
        copy.add(b"data: %b\n\n" % json.dumps(event(delta)).encode())
    copy.add(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    kept = copy.kept(complete=True)
    assert kept is not None
    text = answer_text(kept.data, "chat_completions")
    assert "t0 t1 " in text and " t3999" in text and "The end." in text and "t2000 " not in text
    assert "kB of the answer were not kept …]" in text and "unread" not in text


@pytest.mark.parametrize(
    ("sample", "upto", "said"),
    [
        (
            "deepseek-chat-tool.sse",
            '"name":"get_time"',
            "    call get_time (call_01_8URkLt5NjmNkVKhDmMcNq9Mo):\n",
        ),
        ("messages/deepseek-messages-tool.sse", "Ich schaue nach.", "    Ich schaue nach.\n"),
        ("messages/deepseek-messages-tool.sse", '"partial_json":"city"', '      {"city\n'),
        ("responses/deepseek-responses-tool.sse", '":\\"Zür"', '      {"city":"Zür\n'),
        (
            "responses/deepseek-responses-tool.sse",
            '"delta":"ürich"',
            "|     The user wants the weather in Zürich\n",
        ),
    ],
)
def test_a_cut_stream_shows_what_came_so_far(sample: str, upto: str, said: str) -> None:
    body = (SAMPLES / sample).read_bytes()
    end = body.index(b"\n\n", body.index(upto.encode()))
    text = answer_text(body[:end])
    assert said in text and "\nend: provider stopped" in text


def test_a_text_of_the_responses_api_that_was_cut_is_shown() -> None:
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "One "},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "two"},
    ]
    stream = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in events)
    assert "[assistant]\n    One two\n" in answer_text(stream, "responses")


def test_a_text_of_many_lines_keeps_its_ends() -> None:
    messages = [
        {"role": "user", "content": "first\n" + "\n" * 9_000 + "last"},
        {"role": "user", "content": "next"},
    ]
    text = request_text(json.dumps({"messages": messages}).encode())
    assert (
        text.count("\n") < 2_100 and "    first\n" in text and "    last\n" in text and "    next\n" in text
    )
    assert "    [… 7,002 lines left out …]\n" in text


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*.sse")))
def test_every_truncation_of_a_stream_gives_a_text(name: str) -> None:
    body = (SAMPLES / name).read_bytes()
    for end in range(0, len(body), 97):
        assert "cannot be shown" not in answer_text(body[:end], "chat_completions")


def cpu_seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.process_time()
        work()
        return time.process_time() - begun

    return min(once() for _ in range(3))


def test_ten_megabytes_cost_no_more_than_some_passes_of_json() -> None:
    """About as much as to decode and encode them once, where this was written: 0.1 s, a stream 0.4 s."""
    asked = {"role": "user", "content": "question " * 80}
    said = {"role": "assistant", "content": "answer " * 100, "reasoning_content": "thought " * 200}
    body = json.dumps({"model": "m", "messages": [asked, said] * 3300}).encode()
    told = Told(tuple(Treated(2 * number + 1, "restored", "context", RECORDED) for number in range(3300)))
    events = [
        json.dumps(event({"reasoning_content": f"word {n}"}) | {"id": "x" * 100}).encode()
        for n in range(50_000)
    ]
    stream = b"".join(b"data: %b\n\n" % one for one in events)
    assert len(body) > 9_000_000 < len(stream)
    json_once = cpu_seconds(lambda: json.dumps(json.loads(body)))
    assert cpu_seconds(lambda: request_text(body, "chat_completions", told)) < 10 * json_once
    json_each = cpu_seconds(lambda: [json.loads(one) for one in events])
    assert cpu_seconds(lambda: answer_text(stream, "chat_completions")) < 15 * json_each


@settings(deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(("", *DIALECTS)))
def test_any_bytes_give_a_bounded_text(body: bytes, dialect: str) -> None:
    for text in (request_text(body, dialect), answer_text(body, dialect)):
        assert text and len(text) <= LIMIT
        text.encode()


KEYS = st.sampled_from(
    (
        *(
            "role",
            "content",
            "messages",
            "input",
            "type",
            "text",
            "thinking",
            "tool_calls",
            "function",
            "name",
        ),
        *(
            "arguments",
            "reasoning_content",
            "reasoning_details",
            "choices",
            "delta",
            "message",
            "index",
            "usage",
        ),
        *(
            "error",
            "response",
            "output",
            "item",
            "status",
            "finish_reason",
            "source",
            "data",
            "url",
            "summary",
        ),
        *("content_block", "output_index", "system", "tools", "model", "prompt_tokens", "incomplete_details"),
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)
TYPES = st.sampled_from(
    (
        *("message_start", "content_block_start", "content_block_delta", "message", "error", "tool_use"),
        *("response.output_item.added", "response.output_item.done", "response.completed", "reasoning"),
        *("response.output_text.delta", "thinking", "tool_result", "image", "function_call", "text"),
    )
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(JSON, TYPES), min_size=1, max_size=4), st.sampled_from(("", *DIALECTS)))
def test_any_shape_gives_a_bounded_text(values: list[tuple[Any, str]], dialect: str) -> None:
    shaped = [value | {"type": kind} if isinstance(value, dict) else value for value, kind in values]
    body = json.dumps(shaped[0]).encode()
    stream = b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in shaped)
    history = {"messages": shaped, "input": shaped, "system": shaped, "tools": shaped}
    wire = json.dumps({"choices": shaped, "content": shaped, "output": shaped}).encode()
    told = Told((Treated(0, "restored", "context", -5), Treated(99, "absent"), Treated(-1, "?", "?", 10**30)))
    texts = [answer_text(payload, dialect) for payload in (body, stream, wire)]
    texts += [request_text(payload, dialect, told) for payload in (body, json.dumps(history).encode())]
    for text in texts:
        assert text and len(text) <= LIMIT
        assert "cannot be shown" not in text or "no JSON" in text, text
        text.encode()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for made, names in ((answer, ANSWERS), (request, REQUESTS)):
        for one in names:
            (GOLDEN / f"{one}.txt").write_text(made(one))
