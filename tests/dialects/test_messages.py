"""The Anthropic messages dialect: what is read, what is recorded, and which bytes go back."""

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects import message_answers, messages
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.turns import Call, Other, Turn
from reasoning_fix.dialects.wire import Answered, AnswerError, NotChatError, Request, read_request
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.providers.table import load_table
from tests import SAMPLES
from tests.conversations import Message, Scene

HERE = SAMPLES / "messages"
STREAMS = sorted(HERE.glob("*.sse"))
ID = "call_00_aaaaaaaaaaaaaaaaaaaaaaaa"
SIGNATURE = "65b06a43-7afd-40f9-82cb-379542464ce3"

type Block = dict[str, Any]


def scene_at(host: str = "api.deepseek.com", model: str = "deepseek-v4-pro", path: str = "") -> Scene:
    paths = {
        "api.z.ai": "/api/anthropic/v1/messages",
        "api.kimi.com": "/coding/v1/messages",
        "opencode.ai": "/zen/v1/messages",
    }
    return Scene(host, model, path or paths.get(host, "/anthropic/v1/messages"))


def think(thought: str, signature: str | None = SIGNATURE) -> Block:
    signed = {} if signature is None else {"signature": signature}
    return {"type": "thinking", "thinking": thought} | signed


def redacted(data: str) -> Block:
    return {"type": "redacted_thinking", "data": data}


def text(said: str, **more: object) -> Block:
    return {"type": "text", "text": said} | more


def use(call_id: str = ID, name: str = "f", **arguments: object) -> Block:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str = ID, said: object = "18 degrees", **more: object) -> Block:
    return {"type": "tool_result", "tool_use_id": call_id, "content": said} | more


def user(*content: Block | str) -> Message:
    if len(content) == 1 and isinstance(content[0], str):
        return {"role": "user", "content": content[0]}
    return {"role": "user", "content": list(content)}


def turn(*blocks: Block) -> Message:
    return {"role": "assistant", "content": list(blocks)}


def thinks(block: Block) -> bool:
    return block["type"] in ("thinking", "redacted_thinking")


def stripped(message: Message) -> Message:
    """What a client keeps that does not know thinking."""
    return message | {"content": [block for block in message["content"] if not thinks(block)]}


def whole(*blocks: Block) -> bytes:
    answer = {"id": "m", "type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn"}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def say(scene: Scene, history: Sequence[Message], *blocks: Block, **options: Any) -> Message:
    """Send a request and let the provider answer; what a plain client keeps of it."""
    scene.watch(scene.restore(history, **options), [whole(*blocks)], streamed=False)
    return stripped(turn(*blocks))


def two_turns(scene: Scene) -> list[Message]:
    """user, call, result, answer: as a plain client keeps them."""
    history = [user("What is the weather in Paris?")]
    history.append(say(scene, history, think("R1 \n é"), text("Let me look."), use(city="Paris", n=1.0)))
    history.append(user(result()))
    history.append(say(scene, history, think("R2", "second"), text("It is mild.")))
    return [*history, user("Thanks. And tomorrow?")]


BOTH = [[think("R1 \n é")], [think("R2", "second")]]


def thoughts(history: Sequence[Message]) -> list[list[Block]]:
    """The thinking blocks of each assistant message, where they stand first."""
    found = []
    for message in history:
        if message["role"] == "assistant":
            content = message["content"]
            blocks = content if isinstance(content, list) else []
            first = list(itertools.takewhile(thinks, blocks))
            assert not any(thinks(block) for block in blocks[len(first) :])
            found.append(first)
    return found


def is_stand_in(blocks: list[Block]) -> bool:
    """Whether this is one unsigned block whose text says something."""
    return (
        len(blocks) == 1
        and blocks[0].keys() == {"type", "thinking"}
        and blocks[0]["thinking"].startswith("[reasoning not on record ")
    )


def edited(history: list[Message], index: int, content: object) -> list[Message]:
    copy = [dict(message) for message in history]
    copy[index]["content"] = content
    return copy


# ---- Reading a history -------------------------------------------------------------------------------------


def read(*history: object, **parameters: object) -> Request:
    return read_request(messages, json.dumps({"messages": history} | parameters).encode())


REMINDER = text("<system-reminder>\nToday is Tuesday.\n</system-reminder>")
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u", "n": 1.0}]}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (user("hi"), [Other("user", "hi")]),
        (user(text("hi")), [Other("user", "hi")]),
        (user(text("hi", **MARK)), [Other("user", "hi")]),
        (user(text("a"), text("b")), [Other("user", "ab")]),
        (user(REMINDER), [None]),
        (user(REMINDER["text"]), [None]),
        (user(text("hi"), REMINDER), [Other("user", "hi")]),
        (user(text(REMINDER["text"] + "\n" + REMINDER["text"] + "\n"), text("hi")), [Other("user", "hi")]),
        (
            user(text(f"{REMINDER['text']} and {REMINDER['text']}")),
            [Other("user", f"{REMINDER['text']} and {REMINDER['text']}")],
        ),
        (user(result()), [Other("tool", "18 degrees")]),
        (user(result(said=[text("18 "), text("degrees")])), [Other("tool", "18 degrees")]),
        (user(result(**MARK)), [Other("tool", "18 degrees")]),
        (user({"type": "tool_result", "tool_use_id": "x"}), [Other("tool")]),
        (user(result(said=None)), [Other("tool")]),
        (user(result("a"), result("b", "x")), [Other("tool", "18 degrees"), Other("tool", "x")]),
        (
            user(result("a"), text("and"), text("so"), result("b")),
            [Other("tool", "18 degrees"), Other("user", "andso"), Other("tool", "18 degrees")],
        ),
        (user(), [None]),
        ({"role": "user"}, [Other("user", "", b"null")]),
        ({"role": "user", "content": 7}, [Other("user", "", b"7")]),
        ({"role": "user", "content": ["odd", 7]}, [Other("user", "", b'"odd"7')]),
        ({"role": "system", "content": "It is late."}, [None]),
        (turn(text("a"), text("b")), [Turn("ab"), Other("user", "end")]),
        ({"role": "assistant", "content": "a"}, [Turn("a"), Other("user", "end")]),
        ({"role": "assistant"}, [Turn(""), Other("user", "end")]),
        ({"role": "assistant", "content": [7, "x"]}, [Turn('7"x"'), Other("user", "end")]),
        (turn(use(a=1)), [Turn("", (Call(ID, "f", '{"a": 1}'),)), Other("user", "end")]),
        (
            turn(text("a"), SEARCH, FOUND),
            [
                Turn(
                    'a{"content":[{"n":1.0,"url":"u"}],"tool_use_id":"srvtoolu_1",'
                    '"type":"web_search_tool_result"}',
                    (Call("srvtoolu_1", "web_search", '{"query": "x"}'),),
                ),
                Other("user", "end"),
            ],
        ),
    ],
)
def test_reading(message: Message, expected: list[object]) -> None:
    end = [user("end")] if message["role"] == "assistant" else []
    assert read(message, *end).messages == expected


def test_what_is_attached_counts_without_its_cache_mark() -> None:
    plain = read(user(text("see"), IMAGE)).messages
    assert plain == [Other("user", "see", json.dumps(IMAGE).encode())]
    (marked,) = read(user(text("see"), IMAGE | MARK)).messages
    assert isinstance(marked, Other)
    assert json.loads(marked.attachments) == IMAGE
    (inside,) = read(user(result(said=[text("see"), IMAGE]))).messages
    assert inside == Other("tool", "see", json.dumps(IMAGE).encode())


def test_an_odd_message_does_not_hide_the_others() -> None:
    request = read(user("a"), 7, {"role": 3, "content": "x"}, turn(text("b")), user("c"))
    assert request.messages[0] == Other("user", "a")
    assert request.messages[3:] == [Turn("b"), Other("user", "c")]
    assert request.spans == {3: (3,)}


def test_own_blocks_and_positions() -> None:
    request = read(
        user(result("a"), text("and"), result("b")),
        turn(think("A"), text("x"), redacted("B"), use()),
        turn(text("y")),
        user("end"),
    )
    assert request.spans == {3: (1,), 4: (2,)}
    own = json.loads(request.own[3]["blocks"])
    assert own == [think("A"), 1, redacted("B"), 1]
    assert list(request.own) == [3]


def test_parameters() -> None:
    request = read(user("a"), model="m", tools=[1], system=[text("x", **MARK), text("y")])
    assert (request.model, request.has_tools, request.system, request.continued) == ("m", True, "x\ny", None)
    request = read(user("a"), turn(text("x")), tools=[], system="s")
    assert (request.model, request.has_tools, request.system, request.continued) == ("", False, "s", 1)


@pytest.mark.parametrize("tools", [b"[]", b"[ \n]", b"null", b"{}", b'"a b"', b'{ "a":1}'])
def test_a_request_without_tools(tools: bytes) -> None:
    assert not read_request(messages, b'{"messages":[],"tools":%b}' % tools).has_tools


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"messages":3}',
        b'{"messages":{}}',
        b"\xff",
        b'{"a":' + b"[" * 99999,
    ],
)
def test_what_is_no_messages_request(body: bytes) -> None:
    with pytest.raises(NotChatError):
        read_request(messages, body)
    with pytest.raises(NotChatError):
        scene_at().restore((), body=body)


@settings(max_examples=100, deadline=None)
@given(
    st.binary() | st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_arbitrary_bodies_are_never_changed(body: object) -> None:
    raw = body if isinstance(body, bytes) else json.dumps({"messages": body, "tools": [1]}).encode()
    with contextlib.suppress(NotChatError, SpliceError):
        assert not scene_at().restore((), body=raw).is_changed


# ---- Reading an answer -------------------------------------------------------------------------------------


def event(kind: str, **more: object) -> bytes:
    return json.dumps({"type": kind} | more, ensure_ascii=False, separators=(",", ":")).encode()


def start(index: int | None, block: Block) -> bytes:
    return event("content_block_start", **({} if index is None else {"index": index}), content_block=block)


def delta(index: int | None, **more: object) -> bytes:
    return event("content_block_delta", **({} if index is None else {"index": index}), delta=more)


STOP = event("message_delta", delta={"stop_reason": "end_turn"})
BEGIN = event("message_start", message={"content": []})


def pieces(said: str) -> Iterator[str]:
    for at in range(0, len(said), 3):
        yield said[at : at + 3]


def streamed(*blocks: Block) -> list[bytes]:
    """The events of an answer, as a provider streams them."""
    events = [BEGIN]
    for index, block in enumerate(blocks):
        match block["type"]:
            case "thinking":
                blank = {name: "" for name in block if name != "type"}
                events.append(start(index, {"type": "thinking"} | blank))
                events += [delta(index, thinking=piece) for piece in pieces(block["thinking"])]
                if block.get("signature"):
                    events.append(delta(index, signature=block["signature"]))
            case "text":
                events.append(start(index, block | {"text": ""}))
                events += [delta(index, text=piece) for piece in pieces(block["text"])]
            case "tool_use":
                events.append(start(index, block | {"input": {}}))
                written = json.dumps(block["input"])
                events += [delta(index, partial_json=piece) for piece in pieces(written)]
            case _:
                events.append(start(index, block))
        events += [event("content_block_stop", index=index), event("ping")]
    return [*events, STOP, event("message_stop")]


def as_stream(*events: bytes) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % payload for payload in events)


def folded(*payloads: bytes) -> Answered:
    folder = messages.folder(False)
    answers = [answer for payload in payloads for answer in folder.feed(payload)]
    answers += folder.end(complete=False)
    assert folder.end(complete=False) == []
    (answer,) = answers
    return answer


def recorded(*chunks: bytes, is_stream: bool = True) -> list[tuple[Content, bool]]:
    scene = scene_at()
    scene.watch(scene.restore([user("go")]), chunks, streamed=is_stream)
    return scene.records()


MANY = (
    think("A\n é🙂"),
    text("x"),
    think("B", ""),
    use(a=[1, {"b": None}]),
    redacted("c=="),
    text("y"),
    think("D", None),
)


def test_streamed_and_whole_answers_are_the_same_turn() -> None:
    both = [folded(*streamed(*MANY)), folded(whole(*MANY))]
    assert both[0].fields == both[1].fields
    assert json.loads(both[0].fields["blocks"]) == [MANY[0], 1, MANY[2], 1, MANY[4], 1, MANY[6]]
    for answer in both:
        assert answer.complete and answer.turn.text == "xy"
        ((call_id, name, arguments),) = [(c.id, c.name, c.arguments) for c in answer.turn.calls]
        assert (call_id, name, json.loads(arguments)) == (ID, "f", MANY[3]["input"])


@pytest.mark.parametrize(
    ("path", "blocks", "said"),
    [
        (
            "deepseek-messages-tool.sse",
            [think("The user wants the weather in Zürich (苏…"), 2],
            ("Ich schaue nach.", "call_00_Qly4ZbWbBb6iInGZQBD3M394"),
        ),
        (
            "deepseek-messages-nonstream.json",
            [think("The user wants the weather in Zürich (苏黎世) today.\nCall get_weather — °C 🌦."), 1],
            ("", "call_00_Qly4ZbWbBb6iInGZQBD3M394"),
        ),
        (
            "kimi-messages-tool-unsigned.sse",
            [think("User wants Paris 天气.", None), 1],
            ("", "get_weather_0"),
        ),
    ],
)
def test_samples(path: str, blocks: list[object], said: tuple[str, str]) -> None:
    body = (HERE / path).read_bytes()
    is_stream = path.endswith(".sse")
    ((opened, complete),) = recorded(body, is_stream=is_stream)
    assert complete
    assert json.loads(opened.fields["blocks"]) == blocks
    assert (opened.text, *opened.ids) == said
    assert recorded(*(body[i : i + 1] for i in range(len(body))), is_stream=is_stream) == [(opened, True)]
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert recorded(body[:at], body[at:], is_stream=is_stream) == [(opened, True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(STREAMS))
def test_any_split_records_the_same(cuts: list[int], path: Path) -> None:
    body = path.read_bytes()
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    assert recorded(*(body[a:b] for a, b in itertools.pairwise(places))) == recorded(body)


def test_a_sample_goes_back_as_it_came() -> None:
    """The next request, without its thinking, reaches the provider with the very block that came."""
    for path in STREAMS:
        scene = scene_at()
        ask = [user("go")]
        scene.watch(scene.restore(ask), [path.read_bytes()])
        ((opened, _),) = scene.records()
        block, visible = json.loads(opened.fields["blocks"])
        name = "Zürich" if visible == 2 else "Paris"
        said = [text("Ich schaue nach.")] if visible == 2 else []
        kept = turn(*said, use(opened.ids[0], "get_weather", city=name))
        sent = scene.sent([*ask, kept, user(result(opened.ids[0]))])
        assert sent[1] == turn(block, *kept["content"])


def test_the_turn_is_on_record_before_the_stream_ends() -> None:
    scene = scene_at()
    exchange = scene.restore([user("go")])
    folder = exchange.caller.dialect.folder(False)
    *events, last = streamed(think("R"), text("x"))
    assert last == event("message_stop")
    assert [len(folder.feed(payload)) for payload in events][-1] == 1
    assert folder.feed(last) == folder.end(complete=True) == []


@pytest.mark.parametrize("gone", range(1, 9))
def test_a_cut_stream_is_recorded_as_interrupted(gone: int) -> None:
    events = streamed(think("half a thought"), text("Once upon"))
    assert events[-1] == event("message_stop")
    body = as_stream(*events[: -1 - gone])
    ((opened, complete),) = recorded(body)
    assert not complete
    (block, *_) = json.loads(opened.fields["blocks"])
    assert "half a thought".startswith(block["thinking"]) or block["thinking"] == "half a thought"
    assert "Once upon".startswith(opened.text)


@pytest.mark.parametrize(
    "body", [b"", as_stream(event("ping")), as_stream(BEGIN), b"data: [DONE]\n\n", b"{}"]
)
def test_an_answer_that_said_nothing_is_not_recorded(body: bytes) -> None:
    assert recorded(body) == []
    assert recorded(body, is_stream=False) == []


@pytest.mark.parametrize(
    "payload",
    [
        event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        b'{"error":{"message":"no"}}',
        event("error", message="no"),
        b"not json",
        b'"text"',
        b'{"type":"content_block_delta","index":0,"delta":{"thinking":7}}',
        b'{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"\\ud83d"}}',
    ],
)
def test_what_cannot_be_trusted_is_not_recorded(payload: bytes) -> None:
    events = streamed(think("R"), text("x"))
    assert recorded(as_stream(*events[:4], payload, *events[4:])) == []


@pytest.mark.parametrize(
    "payload",
    [
        event("ping"),
        event("content_block_new", index="odd", delta=7),
        event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 1}),
        delta(1, type="citations_delta", citation={"url": "u"}),
        b'{"type":"ping","x":"\\ud83d"}',
    ],
)
def test_what_says_nothing_changes_nothing(payload: bytes) -> None:
    events = streamed(think("R"), text("x"))
    assert recorded(as_stream(*events[:5], payload, *events[5:])) == recorded(as_stream(*events))


def test_deltas_without_index_or_start() -> None:
    answer = folded(
        BEGIN,
        start(None, {"type": "thinking", "thinking": ""}),
        delta(None, thinking="A"),
        start(None, {"type": "text", "text": "x"}),
        delta(None, text="y"),
        STOP,
    )
    assert (answer.turn.text, json.loads(answer.fields["blocks"])) == ("xy", [think("A", None), 1])
    answer = folded(BEGIN, delta(0, thinking="A"), delta(1, text="x"), STOP)
    assert (answer.turn.text, json.loads(answer.fields["blocks"])) == ("x", [think("A", None), 1])


def test_a_call_whose_arguments_stand_in_its_start() -> None:
    for more in ((), (delta(0, partial_json=""),)):
        (call,) = folded(BEGIN, start(0, use(a=1)), *more, STOP).turn.calls
        assert json.loads(call.arguments) == {"a": 1}


def test_characters_split_over_two_fragments_are_joined() -> None:
    halves = [b'"a\\ud83d"', b'"\\ude42b"']
    answer = folded(
        BEGIN,
        start(0, think("", "")),
        *(b'{"type":"content_block_delta","index":0,"delta":{"thinking":%b}}' % half for half in halves),
        start(1, text("")),
        *(b'{"type":"content_block_delta","index":1,"delta":{"text":%b}}' % half for half in halves),
        start(2, use()),
        b'{"type":"content_block_delta","index":2,"delta":{"partial_json":"{\\"x\\":\\"\\ud83d"}}',
        b'{"type":"content_block_delta","index":2,"delta":{"partial_json":"\\ude42\\"}"}}',
        STOP,
    )
    assert json.loads(answer.fields["blocks"]) == [think("a🙂b", ""), 2]
    assert answer.turn == Turn("a🙂b", (Call(ID, "f", '{"x":"🙂"}'),))


def test_fragments_of_blocks_that_come_side_by_side() -> None:
    half = '{"type":"content_block_delta","index":%d,"delta":{"%s":"%s"}}'
    answer = folded(
        BEGIN,
        start(0, think("", "")),
        start(1, text("")),
        (half % (0, "thinking", "\\ud83d")).encode(),
        (half % (1, "text", "\\ud83d")).encode(),
        (half % (0, "thinking", "\\ude42")).encode(),
        (half % (1, "text", "\\ude42")).encode(),
        STOP,
    )
    assert answer.turn.text == "🙂" and json.loads(answer.fields["blocks"]) == [think("🙂", ""), 1]


def test_an_answer_that_only_says_done() -> None:
    events = streamed(think("R"), text("x"))
    assert events[-2:] == [STOP, event("message_stop")]
    assert recorded(as_stream(*events[:-2], b"[DONE]")) == recorded(as_stream(*events))


def test_half_a_character_stays_out_of_a_thought_and_is_replaced_in_text() -> None:
    half = b'{"type":"content_block_delta","index":0,"delta":{"%b":"a\\ud83d"}}'
    with pytest.raises(AnswerError):
        folded(BEGIN, start(0, think("", "")), half % b"thinking", STOP)
    assert folded(BEGIN, start(0, text("")), half % b"text", STOP).turn == Turn("a\ufffd")
    assert recorded(as_stream(BEGIN, start(0, text("")), half % b"text", STOP))[0][0].text == "a\ufffd"


def test_a_turn_over_the_limit_is_given_up() -> None:
    folder = message_answers.AnswerFolder(limit=100)
    with pytest.raises(AnswerError):
        for payload in streamed(think("R" * 100)):
            folder.feed(payload)


def test_what_events_wrap_fragments_in_does_not_count() -> None:
    wrapped = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"},"x":"%b"}'
    folder = message_answers.AnswerFolder(limit=10_000)
    for payload in [BEGIN, start(0, text("")), *[wrapped % (b"-" * 1000)] * 100]:
        folder.feed(payload)
    assert folder.end(complete=False)[0].turn == Turn("a" * 100)


# ---- Restoring ---------------------------------------------------------------------------------------------


def test_dropped_thinking_goes_back_first_in_every_turn() -> None:
    scene = scene_at()
    history = two_turns(scene)
    restored = scene.restore(history)
    assert restored.is_changed
    assert thoughts(json.loads(restored.body)["messages"]) == BOTH
    assert restored.report.text() == "restored 2 of 2 turns: 2 by context"


def test_every_byte_but_the_blocks_stays() -> None:
    scene = scene_at()
    two_turns(scene)
    body = (
        b'{ "temperature":1.0 ,"model":"deepseek-v4-pro","x":"\\u00e9\\/", "messages" : [\n'
        b'{"role":"user","content":"What is the weather in Paris?"} ,\n'
        b'{"zz":1.50,"content" : [ {"type":"text","text":"Let me look."} ,{"type":"tool_use","id":"%b",'
        b'"name":"f","input":{"city":"Paris","n":1.0}} ] ,"role":"assistant"},'
        b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"%b","content":"18 degrees"}]},'
        b'{"role":"assistant","content":"It is mild."},{"role":"user","content":"more"}],"tools":[{"a":1}]}'
    ) % (ID.encode(), ID.encode())
    out = scene.restore((), body=body).body
    first = '{"type":"thinking","thinking":"R1 \\n é","signature":"' + SIGNATURE + '"},'
    second = '[{"type":"thinking","thinking":"R2","signature":"second"},{"type":"text","text":"It is mild."}]'
    expected = body.replace(b'[ {"type":"text"', b"[ " + first.encode() + b'{"type":"text"')
    assert out == expected.replace(b'"It is mild."', second.encode())
    assert not scene.restore((), body=out).is_changed


@pytest.mark.parametrize(
    "content",
    [
        [text("Let me look."), use(city="Paris", n=1)],
        [text("Let me look.", **MARK), use(city="Paris", n=1.0) | MARK],
        [text("Let me "), text("look."), use(n=1.0, city="Paris")],
        [use(city="Paris", n=1.0)],
        [text(" Let me look.\n"), use("toolu_9", city="Paris", n=1.0)],
        [text("R1 \n é\n\nLet me look."), use(city="Paris", n=1.0)],
        [think("", ""), text("Let me look."), use(city="Paris", n=1.0)],
        [think("", SIGNATURE), text("Let me look."), use(city="Paris", n=1.0)],
        [think("R1 \n é", None), text("Let me look."), use(city="Paris", n=1.0)],
        [think("R1 \n é", ""), text("Let me look."), use(city="Paris", n=1.0)],
        [think("[reasoning unavailable]", None), text("Let me look."), use(city="Paris", n=1.0)],
        [text("Let me look."), think(" "), use(city="Paris", n=1.0)],
    ],
)
def test_an_altered_turn_is_recognised(content: list[Block]) -> None:
    scene = scene_at()
    history = edited(two_turns(scene), 1, content)
    sent = scene.sent(history)
    assert thoughts(sent) == BOTH
    assert stripped(sent[1]) == stripped(history[1])


@pytest.mark.parametrize("content", ["It is mild.", " It is mild.\n", [text("It is mild.")]])
def test_a_turn_sent_as_a_string(content: object) -> None:
    scene = scene_at()
    sent = scene.sent(edited(two_turns(scene), 3, content))
    assert sent[3]["content"] == [*BOTH[1], content[0] if isinstance(content, list) else text(str(content))]


@pytest.mark.parametrize("content", ["", " ", None, []])
def test_a_turn_that_only_thought(content: object) -> None:
    scene = scene_at()
    history = [user("Think about it, please")]
    say(scene, history, think("R"))
    sent = scene.sent([*history, {"role": "assistant", "content": content}, user("so?")])
    assert sent[1]["content"] == [think("R")]


def test_a_message_without_content() -> None:
    scene = scene_at()
    history = [user("Think about it, please")]
    say(scene, history, think("R"))
    assert scene.sent([*history, {"role": "assistant"}, user("so?")])[1] == turn(think("R"))


INTERLEAVED = (think("A"), text("one"), think("B"), redacted("x=="), use(a=1), think("C", None))


def test_interleaved_blocks_go_back_to_where_they_stood() -> None:
    scene = scene_at()
    history = [user("go")]
    history.append(say(scene, history, *INTERLEAVED))
    history.append(user(result()))
    assert scene.sent(history)[1] == turn(*INTERLEAVED)


def test_where_their_places_are_gone_all_blocks_go_first() -> None:
    scene = scene_at()
    history = [user("go")]
    kept = say(scene, history, *INTERLEAVED)
    kept["content"][:1] = [text("o"), text("ne")]
    sent = scene.sent([*history, kept, user(result())])
    assert sent[1] == turn(*filter(thinks, INTERLEAVED), *kept["content"])


@pytest.mark.parametrize("kept", [k for n in range(1, 4) for k in itertools.combinations(range(4), n)])
def test_blocks_that_a_client_dropped_come_back_beside_those_it_kept(kept: tuple[int, ...]) -> None:
    scene = scene_at()
    history = [user("go")]
    say(scene, history, *INTERLEAVED)
    mine = [block for i, block in enumerate(filter(thinks, INTERLEAVED)) if i in kept]
    history += [turn(*mine, *stripped(turn(*INTERLEAVED))["content"]), user(result())]
    assert scene.sent(history)[1] == turn(*INTERLEAVED)


def test_blocks_that_a_client_blanked_come_back_beside_those_it_kept() -> None:
    scene = scene_at()
    history = [user("go")]
    say(scene, history, *INTERLEAVED)
    for blank in (think("", ""), think("", None), think("", SIGNATURE)):
        kept = turn(INTERLEAVED[0], text("one"), blank, *INTERLEAVED[3:])
        assert scene.sent([*history, kept, user(result())])[1] == turn(*INTERLEAVED)


def test_blank_blocks_of_the_provider_are_whole() -> None:
    scene = scene_at()
    history = [user("go")]
    said = (think("A"), think("", ""), text("one"))
    say(scene, history, *said)
    assert not scene.restore([*history, turn(*said), user("more")]).is_changed


@pytest.mark.parametrize(
    "own",
    [
        [think("R1 \n é")],
        [think("something else")],
        [think("R1 \n é"), think("more")],
        [think("R1 \n é", "another signature")],
        [redacted("x")],
    ],
)
def test_thinking_that_the_client_sends_itself_is_left_alone(own: list[Block]) -> None:
    scene = scene_at()
    history = two_turns(scene)
    history = edited(history, 1, [*own, *history[1]["content"]])
    assert scene.sent(history)[1] == history[1]


def test_a_turn_split_into_text_and_call_gets_its_thinking_once() -> None:
    scene = scene_at()
    history = two_turns(scene)
    said, called = history[1]["content"]
    split = [history[0], turn(said), turn(called), *history[2:]]
    first, *rest = thoughts(scene.sent(split))
    assert rest == BOTH and is_stand_in(first)


def test_the_thinking_of_a_split_turn_stands_once_and_with_its_calls() -> None:
    scene = scene_at()
    history = two_turns(scene)
    said, called = history[1]["content"]
    split = [history[0], turn(*BOTH[0], said), turn(called), *history[2:]]
    first, second, last = thoughts(scene.sent(split))
    assert is_stand_in(first) and [second, last] == BOTH


def test_pieces_that_each_have_their_blocks_are_left_alone() -> None:
    scene = scene_at()
    history = [user("go")]
    say(scene, history, think("A"), text("one"), think("B"), use(a=1))
    split = [*history, turn(think("A"), text("one")), turn(think("B"), use(a=1)), user(result())]
    assert not scene.restore(split).is_changed


def test_merged_turns_get_both_thoughts_where_they_stood() -> None:
    scene = scene_at()
    ids = [f"call_00_{name * 24}" for name in "ab"]
    history = [user("Read both files")]
    for call_id in ids:
        history.append(say(scene, history, think(call_id[-1]), use(call_id, path=call_id)))
        history.append(user(result(call_id, call_id)))
    merged = turn(*history[1]["content"], *history[3]["content"])
    sent = scene.sent([history[0], merged, user(*history[2]["content"], *history[4]["content"])])
    assert sent[1] == turn(think("a"), use(ids[0], path=ids[0]), think("b"), use(ids[1], path=ids[1]))


def test_results_may_come_in_one_message_or_several() -> None:
    scene = scene_at()
    ids = [f"call_0{n}_{'a' * 24}" for n in range(2)]
    history = [user("go")]
    history.append(say(scene, history, think("R"), *(use(call_id, n=call_id) for call_id in ids)))
    results = [result(call_id) for call_id in ids]
    together, apart = [user(*results)], [user(one) for one in results]
    kept = say(scene, [*history, *together], think("S"), text("Done."))
    for gap in (together, apart):
        assert thoughts(scene.sent([*history, *gap, kept, user("more")])) == [[think("R")], [think("S")]]


def test_compacted_history_and_edited_system_prompt() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert thoughts(scene.sent(history, system=[text("It is Tuesday.", **MARK)])) == BOTH
    assert thoughts(scene.sent([user("Summary: weather."), *history[1:]], system="other")) == BOTH


def test_moving_marks_and_changing_reminders_between_turns() -> None:
    scene = scene_at()
    ask = [user(text("Say done", **MARK), REMINDER)]
    say(scene, ask, think("R"), text("Done."))
    other = text("<system-reminder>You have 3 todos.</system-reminder>")
    for first in (user(text("Say done")), user("Say done"), user(other, text("Say done"), other)):
        assert thoughts(scene.sent([first, turn(text("Done.")), user("more")])) == [[think("R")]]


def test_server_tools_printed_again_by_a_client() -> None:
    scene = scene_at()
    ask = [user("search")]
    found = json.dumps(FOUND).replace("1.0", "1.00").encode()
    body = whole(think("R"), SEARCH, text("Found it.")).replace(
        b',{"type":"text"', b"," + found + b',{"type":"text"'
    )
    scene.watch(scene.restore(ask), [body], streamed=False)
    kept = turn(SEARCH, dict(reversed(FOUND.items())) | MARK, text("Found it."))
    assert thoughts(scene.sent([*ask, kept, user("more")])) == [[think("R")]]


def test_an_interrupted_turn_gets_the_thought_that_came() -> None:
    scene = scene_at()
    ask = [user("Tell a story")]
    body = as_stream(*streamed(think("half a tho"), text("Once upon a ti"))[:-4])
    scene.watch(scene.restore(ask), [body])
    for said in ("Once upon", "Once upon a ti [stopped]"):
        (blocks,) = thoughts(scene.sent([*ask, turn(text(said)), user("go on")]))
        assert blocks == [think("half a tho")]


def test_a_last_assistant_message_is_left_alone_and_belongs_to_the_turn() -> None:
    scene = scene_at()
    history = two_turns(scene)
    sent = scene.sent([*history, turn(text("Tomorrow "))])
    assert thoughts(sent) == [*BOTH, []]
    say(scene, [*history, turn(text("Tomorrow "))], think("R3"), text("it rains."))
    sent = scene.sent([*history, turn(text("Tomorrow it rains.")), user("oh")])
    assert thoughts(sent) == [*BOTH, [think("R3")]]


def test_thinking_off_is_left_alone() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert not scene.restore(history, thinking={"type": "disabled"}).is_changed
    assert thoughts(scene.sent(history, thinking={"type": "adaptive"})) == BOTH


@pytest.mark.parametrize("model", ["claude-opus-4-8", "claude-sonnet-5", "deepseek-flash"])
def test_a_model_by_any_name_on_the_makers_host(model: str) -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert thoughts(scene.sent(history, model=model)) == BOTH
    (blocks,) = thoughts(scene.sent([user("x"), turn(text("y")), user("z")], model=model))
    assert is_stand_in(blocks)


def test_never_across_credentials_or_wires() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert all(is_stand_in(blocks) for blocks in thoughts(scene.sent(history, key="sk-two")))
    scene.host = "api.xiaomimimo.com"
    called, said = thoughts(scene.sent(history))
    assert is_stand_in(called) and said == []


def test_restoring_twice_gives_the_same_bytes() -> None:
    scene = scene_at()
    history = [*two_turns(scene), turn(text("strange")), user("x")]
    first = scene.restore(history).body
    assert first is not None and first == scene.restore(history).body
    assert not scene.restore((), body=first).is_changed


def test_own_thinking_is_learned_and_comes_back() -> None:
    scene = scene_at()
    history = [user("hello there"), turn(think("mine"), redacted("y"), text("Hi!")), user("next")]
    assert scene.restore(history).recorder.learned == 1
    assert scene.sent(edited(history, 1, "Hi!"))[1] == history[1]
    assert scene.restore(history).recorder.learned == 0


def test_repeated_member_names_are_not_guessed_at() -> None:
    head = b'{"messages":[],"tools":[1],"messages":[{"role":"assistant","content":"x"},'
    with pytest.raises(SpliceError):
        scene_at().restore((), body=head + b'{"role":"user","content":"y"}]}')


# ---- What nobody recorded ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "model", "tools", "called", "said"),
    [
        ("api.deepseek.com", "deepseek-flash", True, True, True),
        ("api.deepseek.com", "deepseek-flash", False, False, False),
        ("api.moonshot.ai", "kimi-k2.6", True, True, False),
        ("api.moonshot.cn", "kimi-k3", True, True, False),
        ("api.kimi.com", "kimi-for-coding", True, True, False),
        ("api.xiaomimimo.com", "mimo-v2.6-pro", True, True, False),
        ("api.z.ai", "glm-5.3", True, False, False),
        ("api.minimax.io", "MiniMax-M3", True, False, False),
        ("opencode.ai", "claude-opus-4-8", True, False, False),
        ("opencode.ai", "deepseek-v4-pro", True, True, True),
    ],
)
def test_fill_by_rule(host: str, model: str, tools: bool, called: bool, said: bool) -> None:
    scene = scene_at(host, model)
    history = [user("go"), turn(use()), user(result()), turn(text("Fine.")), user("y")]
    found = thoughts(scene.sent(history, tools=[{"name": "f"}] if tools else []))
    assert [is_stand_in(blocks) for blocks in found] == [called, said]
    assert [bool(blocks) for blocks in found] == [called, said]


def test_stand_ins_differ_from_turn_to_turn_and_stay_the_same() -> None:
    scene = scene_at()
    history = [message for n in range(5) for message in (user("again"), turn(text("Done.")))]
    sent = scene.sent([*history, user("end")])
    words = [blocks[0]["thinking"] for blocks in thoughts(sent)]
    assert len(set(words)) == 5
    longer = scene.sent([*history, user("end"), turn(text("x")), user("y")], system="other")
    assert [blocks[0]["thinking"] for blocks in thoughts(longer)][:5] == words


@pytest.mark.parametrize("blank", [think("", ""), think("", None), think(" ", None), think(".", None)])
def test_a_blank_that_says_nothing_is_filled(blank: Block) -> None:
    scene = scene_at()
    sent = scene.sent([user("go"), turn(blank, text("Fine.")), user("y")])
    (blocks,) = thoughts(sent)
    assert is_stand_in(blocks)
    assert scene.records() == []


def test_a_stand_in_that_comes_back_is_neither_recorded_nor_replaced() -> None:
    scene = scene_at()
    history = [user("go"), turn(text("Fine.")), user("y")]
    sent = scene.sent(history)
    assert not scene.restore(sent).is_changed
    echo = sent[1]["content"][0]
    scene.watch(scene.restore(sent), [whole(echo, text("Sure."))], streamed=False)
    scene.watch(scene.restore(sent), [as_stream(*streamed(echo, text("Sure.")))])
    assert scene.records() == []


def test_nothing_is_filled_when_told_so() -> None:
    scene = scene_at()
    scene.mode = "none"
    assert not scene.restore([user("go"), turn(text("Fine.")), user("y")]).is_changed


def test_thinking_is_turned_off_when_told_so() -> None:
    scene = scene_at()
    scene.mode = "disable-thinking"
    body = scene.restore(
        [user("go"), turn(text("Fine.")), user("y")], thinking={"type": "enabled", "budget_tokens": 1}
    ).body
    assert body is not None
    sent = json.loads(body)
    assert sent["thinking"] == {"type": "disabled"} and thoughts(sent["messages"]) == [[]]


def test_a_turn_known_to_have_had_no_thinking() -> None:
    for host, model, filled in (
        ("api.deepseek.com", "deepseek-flash", False),
        ("api.moonshot.ai", "kimi-k2.6", True),
    ):
        scene = scene_at(host, model)
        history = [user("hello there")]
        history.append(say(scene, history, use(a=1)))
        (blocks,) = thoughts(scene.sent([*history, user(result())]))
        assert is_stand_in(blocks) == bool(blocks) == filled


def test_empty_thinking_goes_back_as_it_was() -> None:
    scene = scene_at()
    history = [user("hello there")]
    history.append(say(scene, history, think("", ""), text("Hi!")))
    assert scene.sent([*history, user("next")])[1] == turn(think("", ""), text("Hi!"))


# ---- Universal rules ---------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
# A thought that is a known placeholder is taken for its echo.
TABLE = load_table()
THOUGHTS = TEXTS.filter(lambda thought: not TABLE.is_placeholder(thought))
BLOCKS = st.one_of(
    st.builds(think, THOUGHTS, st.none() | TEXTS),
    st.builds(redacted, TEXTS),
    st.builds(text, TEXTS.filter(str.strip)),
    st.builds(lambda x: use(f"call_00_{'q' * 24}", x=x), TEXTS),
)
TURNS = st.lists(BLOCKS, min_size=1, max_size=5).filter(lambda blocks: not all(map(thinks, blocks)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TURNS), min_size=1, max_size=6), st.booleans())
def test_a_stripped_conversation_is_restored_exactly(
    said: list[tuple[str, list[Block]]], is_stream: bool
) -> None:
    scene = scene_at()
    full: list[Message] = []
    for number, (question, blocks) in enumerate(said):
        full.append(user(f"{number} {question}"))
        exchange = scene.restore(full)
        answer = as_stream(*streamed(*blocks)) if is_stream else whole(*blocks)
        scene.watch(exchange, [answer], streamed=is_stream)
        full.append(turn(*blocks))
    full.append(user("end"))
    # What the client would send, had it kept everything, in the spelling of the provider.
    plain = [stripped(m) if m["role"] == "assistant" else m for m in full]
    spelled = [json.dumps(x, ensure_ascii=False, separators=(",", ":")).encode() for x in (plain, full)]
    body, expected = (b'{"tools":[1],"messages":%b}' % written for written in spelled)
    out = scene.restore((), body=body).body
    assert out == expected
    assert not scene.restore((), body=out).is_changed
