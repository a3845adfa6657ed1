"""The Responses API dialect: what is read, what is recorded, and which items go back where."""

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects import response_answers, responses
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.turns import Call, Other, Turn
from reasoning_fix.dialects.wire import (
    Answered,
    AnswerError,
    KeptByServer,
    NotChatError,
    Request,
    read_request,
)
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.providers.table import load_table
from tests import SAMPLES
from tests.conversations import Scene

HERE = SAMPLES / "responses"
STREAMS = sorted(HERE.glob("*.sse"))
ID = "call_00_aaaaaaaaaaaaaaaaaaaaaaaa"

type Item = dict[str, Any]


def scene_at(host: str = "api.deepseek.com", model: str = "deepseek-v4-pro") -> Scene:
    return Scene(host, model, "/zen/v1/responses" if host == "opencode.ai" else "/v1/responses")


def reason(*thoughts: str, **more: object) -> Item:
    """A reasoning item as DeepSeek says it."""
    content = [{"type": "reasoning_text", "text": thought} for thought in thoughts]
    return {"id": "rs_1", "type": "reasoning", "summary": [], "content": content} | more


def summed(thought: str, **more: object) -> Item:
    """A reasoning item as Kimi says it."""
    summary = [{"type": "summary_text", "text": thought}]
    return {"id": "rs_2", "type": "reasoning", "summary": summary, "status": "completed"} | more


def user(said: object) -> Item:
    return {"role": "user", "content": said}


def says(said: str, **more: object) -> Item:
    content = [{"type": "output_text", "text": said, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content} | more


def calls(call_id: str = ID, arguments: str = '{"city": "Paris"}', **more: object) -> Item:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments} | more


def output(call_id: str = ID, said: object = "18 degrees", **more: object) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": said} | more


def stripped(items: Sequence[Item]) -> list[Item]:
    """What a client keeps that does not know reasoning."""
    return [item for item in items if item.get("type") != "reasoning"]


def whole(*items: Item, **more: object) -> bytes:
    answer = {"id": "r", "object": "response", "status": "completed", "error": None, "output": items} | more
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def say(scene: Scene, history: Sequence[Item], *items: Item, **options: Any) -> list[Item]:
    """Send a request and let the provider answer; what a plain client keeps of it."""
    scene.watch(scene.restore(history, **options), [whole(*items)], streamed=False)
    return stripped(items)


R1 = reason("R1 \n é", encrypted_content="b3BhcXVl", status="completed")
R2 = reason("R2", id="rs_9")


def two_turns(scene: Scene) -> list[Item]:
    """user, text and call, output, answer: as a plain client keeps them."""
    history = [user("What is the weather in Paris?")]
    history += say(scene, history, R1, says("Let me look."), calls())
    history.append(output())
    history += say(scene, history, R2, says("It is mild."))
    return [*history, user("Thanks. And tomorrow?")]


def with_both(history: Sequence[Item]) -> list[Item]:
    return [history[0], R1, *history[1:4], R2, *history[4:]]


def is_stand_in(item: Item) -> bool:
    """Whether this is an item nobody issued, whose text says something."""
    return (
        item.keys() == {"type", "summary", "content"}
        and [part["type"] for part in item["content"]] == ["reasoning_text"]
        and item["content"][0]["text"].startswith("[reasoning not on record ")
    )


def shape(items: Sequence[Item]) -> str:
    """A history as a line: R reasoning, r a stand-in, u user, m message, c call, o output."""
    letters = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "reasoning":
            letters.append("r" if is_stand_in(item) else "R")
        else:
            letters.append("u" if item.get("role") == "user" else kind.removeprefix("function_call_")[0])
    return "".join(letters).replace("f", "c")


# ---- Reading a history -------------------------------------------------------------------------------------


def read(given: object, **parameters: object) -> Request:
    return read_request(responses, json.dumps({"input": given} | parameters).encode())


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", [Other("user", "hi")]),
        ([], []),
        ([user("hi")], [Other("user", "hi")]),
        ([{"type": "message"} | user("hi")], [Other("user", "hi")]),
        (
            [user([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}])],
            [Other("user", "ab")],
        ),
        ([user([IMAGE])], [Other("user", "", json.dumps(IMAGE).encode())]),
        ([user(None)], [Other("user")]),
        ([{"role": "user"}], [Other("user")]),
        ([{"role": "developer", "content": "x"}, {"role": "system", "content": "y"}], [None, None]),
        ([says("a")], [Turn("a")]),
        ([{"role": "assistant", "content": "a"}], [Turn("a")]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [Turn("no")]),
        ([says("")], [Turn("")]),
        (
            [says("", content=[{"z": 1.0, "type": "x"} | {"cache_control": {}}])],
            [Turn('{"type":"x","z":1.0}')],
        ),
        ([says("a"), says("b")], [Turn("ab")]),
        ([calls()], [Turn("", (Call(ID, "f", '{"city": "Paris"}'),))]),
        (
            [{"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"}],
            [Turn("", (Call("c", "patch", "*** Begin"),))],
        ),
        (
            [{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}}],
            [Turn("", (Call("", "web_search_call", '{"type":"web_search_call","action":{"query": "x"}}'),))],
        ),
        ([output()], [Other("tool", "18 degrees")]),
        (
            [output(said=[{"type": "input_text", "text": "18"}, IMAGE])],
            [Other("tool", "18", json.dumps(IMAGE).encode())],
        ),
        ([{"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}], [Other("tool", "ok")]),
        (
            [{"type": "function_call_output", "call_id": "c"}],
            [Other("tool", "", b'{"type":"function_call_output","call_id":"c"}')],
        ),
        ([user("a"), R1, says("x"), calls(), output(), R2, says("y")], None),
        (
            [{"type": "compaction", "encrypted_content": "x", "id": "1"}],
            [Other("compaction", "", b'{"type":"compaction","encrypted_content":"x"}')],
        ),
        ([7, "x", None], [Other("?", "", raw) for raw in (b"7", b'"x"', b"null")]),
    ],
)
def test_reading(given: object, expected: list[object] | None) -> None:
    request = read(given)
    if expected is None:
        call = Call(ID, "f", '{"city": "Paris"}')
        expected = [Other("user", "a"), Turn("x", (call,)), Other("tool", "18 degrees"), Turn("y")]
        assert request.spans == {1: (1, 2, 3), 3: (5, 6)}
        assert {index: json.loads(own["items"]) for index, own in request.own.items()} == {
            1: [R1, 2],
            3: [R2, 1],
        }
    assert request.messages == expected
    assert request.continued is None


def test_reasoning_after_its_call_belongs_to_the_same_turn() -> None:
    request = read([user("a"), calls(), R1, output(), user("b")])
    assert request.spans == {1: (1, 2)}
    assert json.loads(request.own[1]["items"]) == [1, R1]


def test_parameters() -> None:
    request = read("x", model="m", tools=[1], instructions="s")
    assert (request.model, request.has_tools, request.system) == ("m", True, "s")
    request = read([], tools=[])
    assert (request.model, request.has_tools, request.system) == ("", False, "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"input":3}',
        b'{"input":{}}',
        b'{"input":null}',
        b"\xff",
        b'{"a":' + b"[" * 99999,
    ],
)
def test_what_is_no_responses_request(body: bytes) -> None:
    with pytest.raises(NotChatError):
        read_request(responses, body)
    with pytest.raises(NotChatError):
        scene_at().restore((), body=body)


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}, user("x")]},
        {"input": [{"id": "msg_1"}, user("x")]},
    ],
)
def test_what_the_server_keeps_is_left_alone(more: dict[str, Any]) -> None:
    with pytest.raises(KeptByServer):
        scene_at().restore([user("go"), says("Fine."), user("y")], **more)


@pytest.mark.parametrize(
    "more", [{"previous_response_id": None}, {"conversation": None}, {"previous_response_id": ""}]
)
def test_what_only_names_a_conversation_is_read(more: dict[str, Any]) -> None:
    assert scene_at().restore([user("go"), says("Fine."), user("y")], **more).is_changed


@settings(max_examples=100, deadline=None)
@given(
    st.binary() | st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_arbitrary_bodies_are_never_changed(body: object) -> None:
    raw = body if isinstance(body, bytes) else json.dumps({"input": body, "tools": [1]}).encode()
    with contextlib.suppress(NotChatError, SpliceError):
        assert not scene_at().restore((), body=raw).is_changed


# ---- Reading an answer -------------------------------------------------------------------------------------


def event(kind: str, **more: object) -> bytes:
    return json.dumps({"type": f"response.{kind}"} | more, ensure_ascii=False, separators=(",", ":")).encode()


def pieces(said: str) -> Iterator[str]:
    for at in range(0, len(said), 3):
        yield said[at : at + 3]


DELTAS = {"content": "reasoning_text", "summary": "reasoning_summary_text"}


def about(index: int, item: Item) -> Iterator[bytes]:
    """The events of one item."""
    empty = {"summary": [], "arguments": "", "input": "", "status": "in_progress"}
    hidden = {"content", "encrypted_content"} if item["type"] == "reasoning" else set()
    start = {name: empty.get(name, value) for name, value in item.items() if name not in hidden}
    if item["type"] == "message":
        start["content"] = []
    yield event("output_item.added", output_index=index, item=start)
    match item["type"]:
        case "reasoning":
            for name, kind in DELTAS.items():
                for part in item.get(name, ()):
                    for piece in pieces(part["text"]):
                        yield event(f"{kind}.delta", output_index=index, delta=piece)
                    yield event(f"{kind}.done", output_index=index, text=part["text"])
        case "message":
            for piece in pieces(item["content"][0]["text"]):
                yield event("output_text.delta", output_index=index, delta=piece)
        case "function_call":
            for piece in pieces(item["arguments"]):
                yield event("function_call_arguments.delta", output_index=index, delta=piece)
        case "custom_tool_call":
            for piece in pieces(item["input"]):
                yield event("custom_tool_call_input.delta", output_index=index, delta=piece)
    yield event("output_item.done", output_index=index, item=item)


CREATED = event("created", response={"id": "r", "status": "in_progress", "output": []})


def streamed(*items: Item, end: str = "completed") -> list[bytes]:
    """The events of an answer, as a provider streams them."""
    each = itertools.chain.from_iterable(about(index, item) for index, item in enumerate(items))
    return [CREATED, *each, event(end, response={"id": "r", "status": end, "output": items})]


def as_stream(*events: bytes) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % payload for payload in events)


def folded(*payloads: bytes) -> Answered:
    folder = responses.folder(False)
    answers = [answer for payload in payloads for answer in folder.feed(payload)]
    answers += folder.end(complete=True)
    assert folder.end(complete=True) == []
    (answer,) = answers
    return answer


def recorded(*chunks: bytes, is_stream: bool = True) -> list[tuple[Content, bool]]:
    scene = scene_at()
    scene.watch(scene.restore([user("go")]), chunks, streamed=is_stream)
    return scene.records()


PATCH = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "patch", "input": "*** Begin é"}
MANY = (R1, says("x"), summed("S"), calls(), reason(encrypted_content="e=="), PATCH, says("y"), R2)


def test_streamed_and_whole_answers_are_the_same_turn() -> None:
    both = [folded(*streamed(*MANY)), folded(whole(*MANY))]
    assert both[0] == both[1]
    assert json.loads(both[0].fields["items"]) == [R1, 1, MANY[2], 1, MANY[4], 2, R2]
    call = Call(ID, "f", '{"city": "Paris"}')
    assert both[0].turn == Turn("xy", (call, Call("c", "patch", "*** Begin é")))
    assert both[0].complete


@pytest.mark.parametrize(
    ("path", "call_id"), [("deepseek", "call_00_kw66qNnNto11bSfJVIdlV5Oo"), ("kimi", "get_weather_0")]
)
def test_samples(path: str, call_id: str) -> None:
    body = (HERE / f"{path}-responses-tool.sse").read_bytes()
    ((opened, complete),) = recorded(body)
    last = json.loads(body.rpartition(b"data: ")[2])["response"]["output"]
    item, visible = json.loads(opened.fields["items"])
    assert complete and item == last[0] and visible == 1
    (part,) = item["content" if path == "deepseek" else "summary"]
    assert part["text"] == "The user wants the weather in Zürich"
    assert (opened.text, *opened.ids) == ("", call_id)
    assert recorded(*(body[i : i + 1] for i in range(len(body)))) == [(opened, True)]
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert recorded(body[:at], body[at:]) == [(opened, True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(STREAMS))
def test_any_split_records_the_same(cuts: list[int], path: Path) -> None:
    body = path.read_bytes()
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    assert recorded(*(body[a:b] for a, b in itertools.pairwise(places))) == recorded(body)


def test_a_sample_goes_back_as_it_came() -> None:
    for path in STREAMS:
        scene = scene_at()
        ask = [user("go")]
        body = path.read_bytes()
        scene.watch(scene.restore(ask), [body])
        said = json.loads(body.rpartition(b"data: ")[2])["response"]["output"]
        for end in (output(said[1]["call_id"]), user("stop")):
            assert scene.sent([*ask, said[1], end]) == [*ask, *said, end]


def test_the_turn_is_on_record_with_the_last_event() -> None:
    folder = responses.folder(False)
    *events, last = streamed(R1, says("x"))
    assert [folder.feed(payload) for payload in events] == [[]] * len(events)
    assert len(folder.feed(last)) == 1
    assert folder.end(complete=True) == folder.feed(last) == []


@pytest.mark.parametrize("gone", range(1, 12))
def test_a_cut_stream_is_recorded_as_interrupted(gone: int) -> None:
    events = streamed(reason("half a thought"), says("Once upon"))
    ((opened, complete),) = recorded(as_stream(*events[:-gone]))
    assert not complete
    item = json.loads(opened.fields["items"])[0]
    assert item["id"] == "rs_1"
    if parts := item.get("content"):
        assert "half a thought".startswith(parts[0]["text"])
    assert "Once upon".startswith(opened.text)


def test_a_response_that_ran_out_of_tokens_is_a_turn() -> None:
    events = streamed(R1, says("Once upon"), end="incomplete")
    assert recorded(as_stream(*events)) == [(folded_opened(*events), True)]
    whole_one = whole(
        R1, says("Once upon"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}
    )
    assert recorded(whole_one, is_stream=False) == [(folded_opened(*events), True)]


def folded_opened(*events: bytes) -> Content:
    answer = folded(*events)
    return Content(answer.fields, answer.turn.text, tuple(call.id for call in answer.turn.calls))


def test_deltas_without_items_at_the_end_are_enough() -> None:
    events = streamed(R2, says("x"), calls(), PATCH, summed("S"))
    short = [one for one in events if b"item.done" not in one and b".completed" not in one]
    ends = [event("completed", response={"status": "completed"}), event("completed", response={"output": []})]
    for end in ends:
        answer = folded(*short, end)
        assert answer.complete
        assert answer.turn == folded(*events).turn
        (first, three, last) = json.loads(answer.fields["items"])
        assert (first["content"], three, last["summary"]) == (R2["content"], 3, summed("S")["summary"])


def test_items_that_only_the_last_event_has_in_full() -> None:
    full = (R1, says("x"), calls())
    empty = [one for one in streamed(*full) if b"delta" not in one and b"item.done" not in one]
    assert folded(*empty) == folded(whole(*full))
    assert folded(CREATED, empty[-1]) == folded(whole(*full))


def test_a_relay_that_leaves_reasoning_out_of_its_last_event() -> None:
    events = [one for one in streamed(R1, says("x")) if b"item.done" not in one]
    last = event("completed", response={"output": [says("x")]})
    answer = folded(*events[:-1], last)
    assert answer.turn == Turn("x")
    assert json.loads(answer.fields["items"])[0]["content"] == R1["content"]


def test_done_items_that_lack_what_their_deltas_said() -> None:
    events = streamed(R1, says("x"), calls())
    bare: dict[str, Any] = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": None,
        "encrypted_content": "b3BhcXVl",
    }
    for one in range(len(events) - 1):
        made = json.loads(events[one])
        if made["type"] == "response.output_item.done":
            kind = made["item"]["type"]
            less = {"reasoning": bare, "message": says("", content=[]), "function_call": calls(arguments="")}
            events[one] = event("output_item.done", output_index=made["output_index"], item=less[kind])
    answer = folded(*events[:-1], event("completed", response={"output": []}))
    assert answer.turn == folded(whole(R1, says("x"), calls())).turn
    assert json.loads(answer.fields["items"]) == [bare | {"content": R1["content"]}, 2]


def test_items_without_an_index() -> None:
    events = []
    for payload in streamed(R1, says("x"), calls()):
        made = json.loads(payload)
        made.pop("output_index", None)
        events.append(json.dumps(made).encode())
    short = [one for one in events if b'"response.output_item.done"' in one]
    for some in (events[:-1], short):
        answer = folded(*some, event("completed", response={}))
        assert answer.turn == Turn("x", (Call(ID, "f", '{"city": "Paris"}'),))
        assert json.loads(answer.fields["items"]) == [R1, 2]


@pytest.mark.parametrize(
    "body", [b"", as_stream(CREATED), b"data: [DONE]\n\n", b"{}", whole(status="in_progress")]
)
def test_an_answer_that_said_nothing_is_not_recorded(body: bytes) -> None:
    assert recorded(body) == []
    assert recorded(body, is_stream=False) == []


@pytest.mark.parametrize(
    "payload",
    [
        event("failed", response={"status": "failed", "error": {"code": "server_error", "message": "no"}}),
        event("error", message="no"),
        b'{"type":"error","code":"x","message":"no"}',
        b'{"error":{"message":"no"}}',
        b"not json",
        b'{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"\\ud83d"}}',
    ],
)
def test_what_cannot_be_trusted_is_not_recorded(payload: bytes) -> None:
    events = streamed(R1, says("x"))
    assert recorded(as_stream(*events[:4], payload, *events[4:])) == []


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_whole_answer_that_failed_is_not_recorded(status: str) -> None:
    assert recorded(whole(R1, says("x"), status=status), is_stream=False) == []
    assert recorded(whole(R1, says("x"), error={"message": "no"}), is_stream=False) == []


@pytest.mark.parametrize(
    "payload",
    [
        event("in_progress", response={"output": []}),
        event("reasoning_summary.delta", output_index=0, delta={"text": "odd"}),
        event("output_text.delta", output_index=7, delta="of no item"),
        event("content_part.added", output_index=1, part={"type": "output_text", "text": ""}),
        b'{"type":"response.new","x":"\\ud83d"}',
        b"[DONE]",
    ],
)
def test_what_says_nothing_changes_nothing(payload: bytes) -> None:
    events = streamed(R1, says("x"))
    assert recorded(as_stream(*events[:4], payload, *events[4:])) == recorded(as_stream(*events))


def test_characters_split_over_two_fragments_are_joined() -> None:
    events = streamed(reason("a🙂b"), says("a🙂b"), calls(arguments='{"x":"🙂"}'))
    split = []
    for payload in events[:-1]:
        if b"delta" not in payload:
            split += [payload] if b"item.done" not in payload else []
            continue
        made = json.loads(payload)
        units = made["delta"].encode("utf-16-be")
        for at in range(0, len(units), 2):
            made["delta"] = units[at : at + 2].decode("utf-16-be", "surrogatepass")
            split.append(json.dumps(made).encode())
    answer = folded(*split, event("completed", response={}))
    assert answer.turn == Turn("a🙂b", (Call(ID, "f", '{"x":"🙂"}'),))
    assert json.loads(answer.fields["items"])[0]["content"] == reason("a🙂b")["content"]


def test_half_a_character_stays_out_of_a_thought_and_is_replaced_in_text() -> None:
    half = '{"type":"response.%s.delta","output_index":0,"delta":"a\\ud83d"}'
    start = event("output_item.added", output_index=0, item={"type": "reasoning", "id": "1"})
    with pytest.raises(AnswerError):
        folded(start, (half % "reasoning_text").encode(), event("completed", response={}))
    start = event("output_item.added", output_index=0, item=says("", content=[]))
    answer = folded(start, (half % "output_text").encode(), event("completed", response={}))
    assert answer.turn == Turn("a\ufffd")


def test_a_turn_over_the_limit_is_given_up() -> None:
    folder = response_answers.AnswerFolder(limit=100)
    with pytest.raises(AnswerError):
        for payload in streamed(reason("R" * 100)):
            folder.feed(payload)


# ---- Restoring ---------------------------------------------------------------------------------------------


def test_dropped_items_go_back_before_what_they_belong_to() -> None:
    scene = scene_at()
    history = two_turns(scene)
    restored = scene.restore(history)
    assert restored.is_changed
    assert json.loads(restored.body)["input"] == with_both(history)
    assert restored.report.text() == "restored 2 of 2 turns: 2 by context"


def test_every_byte_but_the_items_stays() -> None:
    scene = scene_at()
    two_turns(scene)
    body = (
        b'{ "temperature":1.0 ,"x":"\\u00e9\\/", "input" : [ '
        b'{"role":"user","content":"What is the weather in Paris?"} ,\n'
        b'{"zz":1.50,"content" : "Let me look." ,"role":"assistant"},'
        b'{"call_id":"%b" ,"type":"function_call","name":"f","arguments":"{\\"city\\":\\"Paris\\"}"},'
        b'{"type":"function_call_output","call_id":"%b","output":"18 degrees"}\n,'
        b' {"role":"assistant","content":"It is mild."} ],"tools":[{"a":1}]}'
    ) % (ID.encode(), ID.encode())
    out = scene.restore((), body=body).body
    assert out is not None
    assert json.loads(out)["input"] == with_both(json.loads(body)["input"])
    written = [json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() for item in (R1, R2)]
    assert out.replace(b"," + written[0], b"", 1).replace(b"," + written[1], b"", 1) == body
    assert not scene.restore((), body=out).is_changed


@pytest.mark.parametrize(
    "items",
    [
        [says("Let me look.", id="msg_1", status="completed"), calls(id="fc_1", status="completed")],
        [{"role": "assistant", "content": "Let me look."}, calls(arguments='{"city":"Paris"}')],
        [says(" Let me look.\n"), calls("call_rewritten")],
        [says("Let me "), says("look."), calls()],
        [calls()],
        [calls(), says("Let me look.")],
    ],
)
def test_an_altered_turn_is_recognised(items: list[Item]) -> None:
    scene = scene_at()
    history = two_turns(scene)
    altered = [history[0], *items, *history[3:]]
    assert scene.sent(altered) == [history[0], R1, *items, history[3], R2, *history[4:]]


@pytest.mark.parametrize(
    "kept",
    [
        {"id": "rs_1", "type": "reasoning"},
        {"id": "rs_1", "type": "reasoning", "summary": [], "content": None},
        {"type": "reasoning", "summary": [], "content": []},
        {"type": "reasoning", "summary": [], "encrypted_content": "b3BhcXVl"},
        {"id": "rs_1", "type": "reasoning", "summary": [], "content": R1["content"]},
        reason("", encrypted_content="b3BhcXVl"),
        reason(" "),
        reason("[reasoning unavailable]"),
    ],
)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_a_client_left_out_of_an_item_comes_back(kept: Item, at: int) -> None:
    scene = scene_at()
    history = two_turns(scene)
    sent = scene.sent([*history[:at], kept, *history[at:]])
    assert sent == with_both(history)


def test_content_that_was_dropped_beside_its_summary_comes_back() -> None:
    scene = scene_at()
    ask = [user("go")]
    both = reason("long and true", summary=[{"type": "summary_text", "text": "short"}])
    kept = say(scene, ask, both, says("Fine."))
    sent = scene.sent([*ask, {"type": "reasoning", "summary": both["summary"]}, *kept, user("more")])
    assert sent[1] == both


INTERLEAVED = (R1, says("one"), R2, calls(), summed("S"))


def test_interleaved_items_go_back_to_where_they_stood() -> None:
    scene = scene_at()
    ask = [user("go")]
    history = [*ask, *say(scene, ask, *INTERLEAVED), output()]
    assert scene.sent(history) == [*ask, *INTERLEAVED, output()]


def test_where_their_places_are_gone_all_items_go_first() -> None:
    scene = scene_at()
    ask = [user("go")]
    say(scene, ask, *INTERLEAVED)
    kept = [says("o"), says("ne"), calls()]
    thoughts = [item for item in INTERLEAVED if item["type"] == "reasoning"]
    assert scene.sent([*ask, *kept, output()]) == [*ask, *thoughts, *kept, output()]


@pytest.mark.parametrize("kept", [k for n in range(1, 3) for k in itertools.combinations(range(3), n)])
def test_items_that_a_client_dropped_come_back_beside_those_it_kept(kept: tuple[int, ...]) -> None:
    scene = scene_at()
    ask = [user("go")]
    say(scene, ask, *INTERLEAVED)
    numbers = iter(range(3))
    mine = [item for item in INTERLEAVED if item["type"] != "reasoning" or next(numbers) in kept]
    assert scene.sent([*ask, *mine, output()]) == [*ask, *INTERLEAVED, output()]


def test_items_that_a_client_blanked_come_back_beside_those_it_kept() -> None:
    scene = scene_at()
    ask = [user("go")]
    say(scene, ask, *INTERLEAVED)
    for blank in (
        {"type": "reasoning", "summary": []},
        reason("", id=None),
        {"type": "reasoning", "id": "rs_9"},
    ):
        kept = [R1, says("one"), blank, *INTERLEAVED[3:]]
        assert scene.sent([*ask, *kept, output()]) == [*ask, *INTERLEAVED, output()]


@pytest.mark.parametrize(
    "own",
    [[R1], [reason("something else")], [R1, reason("more")], [reason("R1 \n é", encrypted_content="other")]],
)
@pytest.mark.parametrize("at", [1, 3])
def test_reasoning_that_the_client_sends_itself_is_left_alone(own: list[Item], at: int) -> None:
    scene = scene_at()
    history = two_turns(scene)
    mine = [*history[:at], *own, *history[at:]]
    assert scene.sent(mine) == [*mine[: 4 + len(own)], R2, *mine[4 + len(own) :]]


def test_a_turn_that_only_thought() -> None:
    scene = scene_at()
    ask = [user("Think about it, please")]
    assert say(scene, ask, R1) == []
    assert scene.sent([*ask, {"id": "rs_1", "type": "reasoning"}, user("so?")]) == [*ask, R1, user("so?")]


def test_calls_of_one_turn_between_their_outputs() -> None:
    """The turn gets its reasoning once, before its first call; what follows is recognised all the same."""
    scene = scene_at()
    ids = [f"call_0{n}_{'a' * 24}" for n in range(2)]
    both = [calls(call_id, json.dumps({"n": call_id})) for call_id in ids]
    ask = [user("go")]
    say(scene, ask, R1, *both)
    mixed = [*ask, both[0], output(ids[0]), both[1], output(ids[1])]
    sent = scene.sent(mixed)
    assert shape(sent) == "uRcorco" and sent[1] == R1
    mixed += say(scene, mixed, R2, says("Done."))
    sent = scene.sent([*mixed, user("more")])
    assert shape(sent) == "uRcorcoRmu" and sent[7] == R2
    grouped = [*ask, *both, output(ids[0]), output(ids[1])]
    assert scene.sent(grouped) == [*ask, R1, *grouped[1:]]


def test_merged_turns_get_both_items_where_they_stood() -> None:
    scene = scene_at()
    ids = [f"call_00_{name * 24}" for name in "ab"]
    history = [user("Read both files")]
    for call_id, thought in zip(ids, (R1, R2), strict=True):
        history += say(scene, history, thought, calls(call_id, json.dumps({"path": call_id})))
        history.append(output(call_id, call_id))
    user_said, one, out_one, two, out_two = history
    assert scene.sent([user_said, one, two, out_one, out_two]) == [
        user_said,
        R1,
        one,
        R2,
        two,
        out_one,
        out_two,
    ]


def test_compacted_history_and_edited_instructions() -> None:
    scene = scene_at()
    history = two_turns(scene)
    late = [{"role": "developer", "content": "It is Tuesday."}, *history]
    assert scene.sent(late, instructions="other") == [late[0], *with_both(history)]
    summary = [user("Summary: weather."), *history[1:]]
    assert scene.sent(summary) == with_both(summary)


def test_a_text_as_input_is_the_same_as_a_message() -> None:
    scene = scene_at()
    exchange = scene.restore((), body=b'{"model":"deepseek-flash","input":"Say done"}')
    scene.watch(exchange, [whole(R1, says("Done."))], streamed=False)
    assert scene.sent([user("Say done"), says("Done."), user("more")])[1] == R1


def test_an_interrupted_turn_gets_the_thought_that_came() -> None:
    scene = scene_at()
    ask = [user("Tell a story")]
    events = streamed(reason("half a tho"), says("Once upon a ti"))[:-2]
    scene.watch(scene.restore(ask), [as_stream(*events)])
    for said in ("Once upon", "Once upon a ti [stopped]"):
        sent = scene.sent([*ask, says(said), user("go on")])
        assert shape(sent) == "uRmu" and sent[1]["content"] == reason("half a tho")["content"]


def test_thinking_off_is_left_alone() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert not scene.restore(history, reasoning={"effort": "none"}).is_changed
    assert scene.sent(history, reasoning={"effort": "high"}) == with_both(history)


def test_the_switch_of_another_wire_turns_nothing_off() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert scene.sent(history, thinking={"type": "disabled"}) == with_both(history)


def test_never_across_credentials_or_wires() -> None:
    scene = scene_at()
    history = two_turns(scene)
    assert shape(scene.sent(history, key="sk-two")) == "urmcormu"
    scene.path = "/anthropic/v1/messages"
    assert scene.member == "messages"
    said = [
        {"role": "user", "content": history[0]["content"]},
        {"role": "assistant", "content": "It is mild."},
    ]
    assert "R2" not in json.dumps(scene.sent([*said, user("x")]))


def test_restoring_twice_gives_the_same_bytes() -> None:
    scene = scene_at()
    history = [*two_turns(scene), says("strange"), user("x")]
    first = scene.restore(history).body
    assert first is not None and first == scene.restore(history).body
    assert not scene.restore((), body=first).is_changed


def test_own_reasoning_is_learned_and_comes_back() -> None:
    scene = scene_at()
    mine = reason("mine", id="rs_7")
    history = [user("hello there"), mine, says("Hi!"), user("next")]
    assert scene.restore(history).recorder.learned == 1
    assert scene.sent(stripped(history)) == history
    assert scene.restore(history).recorder.learned == 0


@pytest.mark.parametrize(
    "blank", [{"id": "rs_1", "type": "reasoning"}, reason(), reason(""), reason(" "), reason(".")]
)
def test_an_item_that_says_nothing_is_not_learned_and_filled(blank: Item) -> None:
    scene = scene_at()
    sent = scene.sent([user("go"), blank, says("Fine."), user("y")])
    assert shape(sent) == "urmu"
    assert scene.records() == []


def test_repeated_member_names_are_not_guessed_at() -> None:
    body = (
        b'{"tools":[1],"input":[],"input":[{"role":"assistant","content":"x"},{"role":"user","content":"y"}]}'
    )
    with pytest.raises(SpliceError):
        scene_at().restore((), body=body)


# ---- What nobody recorded ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "model", "tools", "expected"),
    [
        ("api.deepseek.com", "deepseek-flash", True, "urcormu"),
        ("api.deepseek.com", "deepseek-flash", False, "ucomu"),
        ("api.moonshot.ai", "kimi-k3", True, "ucomu"),
        ("opencode.ai", "deepseek-v4-pro", True, "urcormu"),
        ("opencode.ai", "kimi-k2.6", True, "ucomu"),
        ("opencode.ai", "gpt-6", True, "ucomu"),
    ],
)
def test_fill_by_rule(host: str, model: str, tools: bool, expected: str) -> None:
    history = [user("go"), calls(), output(), says("Fine."), user("y")]
    scene = scene_at(host, model)
    assert shape(scene.sent(history, tools=[{"type": "function"}] if tools else [])) == expected


def test_stand_ins_differ_from_turn_to_turn_and_stay_the_same() -> None:
    scene = scene_at()
    history = [item for n in range(5) for item in (user("again"), says("Done."))]

    def words(items: Sequence[Item]) -> list[str]:
        return [item["content"][0]["text"] for item in items if item.get("type") == "reasoning"]

    first = words(scene.sent([*history, user("end")]))
    assert len(set(first)) == 5
    longer = [*history, user("end"), says("x"), user("y")]
    assert words(scene.sent(longer, instructions="other"))[:5] == first


def test_a_stand_in_that_comes_back_is_neither_recorded_nor_replaced() -> None:
    scene = scene_at()
    sent = scene.sent([user("go"), says("Fine."), user("y")])
    assert shape(sent) == "urmu"
    assert not scene.restore(sent).is_changed
    scene.watch(scene.restore(sent), [whole(sent[1], says("Sure."))], streamed=False)
    scene.watch(scene.restore(sent), [as_stream(*streamed(sent[1], says("Sure.")))])
    assert scene.records() == []


def test_nothing_is_filled_when_told_so() -> None:
    scene = scene_at()
    scene.mode = "none"
    assert not scene.restore([user("go"), says("Fine."), user("y")]).is_changed


def test_thinking_is_turned_off_when_told_so() -> None:
    scene = scene_at()
    scene.mode = "disable-thinking"
    body = scene.restore([user("go"), says("Fine."), user("y")], reasoning={"effort": "high"}).body
    assert body is not None
    sent = json.loads(body)
    assert sent["reasoning"]["effort"] == "none" and shape(sent["input"]) == "umu"


def test_a_turn_known_to_have_had_no_reasoning() -> None:
    scene = scene_at()
    history = [user("hello there")]
    history += say(scene, history, says("Hi!"))
    assert not scene.restore([*history, user("next")]).is_changed


# ---- Universal rules ---------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
TABLE = load_table()
# A placeholder (".", say) is no reasoning, and not recorded.
THOUGHTS = TEXTS.filter(lambda text: not TABLE.is_placeholder(text))
ITEMS = st.one_of(
    st.builds(reason, THOUGHTS),
    st.builds(lambda x: reason(encrypted_content=x), TEXTS.filter(str.strip)),
    st.builds(summed, THOUGHTS),
    st.builds(says, TEXTS.filter(str.strip)),
    st.builds(lambda x: calls(f"call_00_{'q' * 24}", json.dumps({"x": x})), TEXTS),
)
TURNS = st.lists(ITEMS, min_size=1, max_size=5).filter(lambda items: bool(stripped(items)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TURNS), min_size=1, max_size=6), st.booleans())
def test_a_stripped_conversation_is_restored_exactly(
    said: list[tuple[str, list[Item]]], is_stream: bool
) -> None:
    scene = scene_at()
    full: list[Item] = []
    for number, (question, items) in enumerate(said):
        full.append(user(f"{number} {question}"))
        exchange = scene.restore(full)
        answer = as_stream(*streamed(*items)) if is_stream else whole(*items)
        scene.watch(exchange, [answer], streamed=is_stream)
        full += items
    full.append(user("end"))
    spelled = [
        json.dumps(x, ensure_ascii=False, separators=(",", ":")).encode() for x in (stripped(full), full)
    ]
    body, expected = (b'{"tools":[1],"input":%b}' % written for written in spelled)
    out = scene.restore((), body=body).body
    assert out == expected
    assert not scene.restore((), body=out).is_changed


def test_a_stand_in_has_the_summary_that_the_provider_takes() -> None:
    table = load_table()
    written = responses.stand_in("items", "words")
    assert written is not None
    for host, keys in (
        ("api.deepseek.com", {"type", "summary", "content"}),
        ("dashscope.aliyuncs.com", {"type", "summary", "content"}),
        ("api.xiaomimimo.com", {"type", "content"}),
    ):
        provider = table.provider(host)
        assert provider is not None
        (item,) = json.loads(responses.fitted(provider, written))
        assert item.keys() == keys and item["content"] == [{"type": "reasoning_text", "text": "words"}]
