"""Every chat sample is recorded as its index says, at any split of its bytes."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects.chat_answers import AnswerFolder
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.store.memory import MemoryStore
from tests import SAMPLES
from tests.conversations import Scene, user

CHAT_STREAMS = sorted(SAMPLES.glob("*.sse"))
CHAT_WHOLE = sorted([*SAMPLES.glob("*nonstream*"), SAMPLES / "openrouter-details-mixed.json"])
FIELDS = ("reasoning_content", "reasoning", "reasoning_details")

type Said = tuple[Content, bool]


def exchange(name: str) -> tuple[Scene, Exchange]:
    scene = Scene()
    exchange = scene.restore([user("go")])
    exchange.recorder.caller = msgspec.structs.replace(exchange.caller, snapshots="cumulative" in name)
    return scene, exchange


def recorded(name: str, chunks: list[bytes], coding: str = "", streamed: bool = True) -> list[Said]:
    """What is on record after these chunks have passed; every chunk must come out as it went in."""
    scene, ours = exchange(name)
    tap = ours.tap(coding, streamed=streamed)
    for chunk in chunks:
        assert tap(chunk) is chunk
    tap.finish(complete=True)
    assert isinstance(scene.store, MemoryStore)
    return [
        (msgspec.msgpack.decode(ours.caller.scope.open(r.sealed, r.key), type=Content), r.complete)
        for _, r in scene.store.take()
    ]


def deltas(path: Path) -> dict[str, str]:
    """The plain concatenation of what each text field's deltas say, by another reader than ours."""
    texts: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for name in ("content", "reasoning_content", "reasoning"):
                    if isinstance(value := (choice.get("delta") or {}).get(name), str):
                        texts[name] = texts.get(name, "") + value
    return texts


@pytest.mark.parametrize("path", CHAT_STREAMS, ids=lambda path: path.stem)
def test_recorded_text_is_the_concatenation_of_its_deltas(path: Path) -> None:
    expected = deltas(path)
    folder = AnswerFolder("cumulative" in path.stem)
    answers = []
    for line in path.read_bytes().splitlines():
        if line.startswith(b"data:"):
            answers += folder.feed(line[5:].strip())
    answers += folder.end(complete=False)
    assert len(answers) == 1
    assert answers[0].complete == ("cut" not in path.stem)
    if "cumulative" in path.stem:
        assert answers[0].turn.text == "Checking now"
        assert (
            json.loads(answers[0].fields["reasoning_details"])[0]["text"] == "private reasoning with 表情 🙂"
        )
        return
    assert answers[0].turn.text == expected.get("content", "")
    for name in ("reasoning_content", "reasoning"):
        if name in expected:
            assert json.loads(answers[0].fields[name]) == expected[name]


@pytest.mark.parametrize("path", CHAT_STREAMS, ids=lambda path: path.stem)
def test_every_split_records_the_same(path: Path) -> None:
    body = path.read_bytes()
    whole = recorded(path.stem, [body])
    assert len(whole) == 1
    assert recorded(path.stem, [body[i : i + 1] for i in range(len(body))]) == whole
    # Single places of a split, as many of a long body as of a short one.
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert recorded(path.stem, [body[:at], body[at:]]) == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"\n", b"\r\n"),
        lambda body: body.replace(b"\n", b"\r"),
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.replace(b"data: ", b"data:"),
        lambda body: body.replace(b"data: ", b": hello\nevent: message\nid: 7\ndata: "),
        lambda body: body.replace(b'"choices":', b'\ndata: "choices":'),
        lambda body: body.removesuffix(b"\n"),
    ],
    ids=["CRLF", "CR", "BOM", "no space", "comments and fields", "multi-line data", "no last blank line"],
)
def test_spellings_of_a_stream_record_the_same(change: object) -> None:
    assert callable(change)
    body = (SAMPLES / "deepseek-chat-tool.sse").read_bytes()
    whole = recorded("x", [body])
    changed: bytes = change(body)
    assert recorded("x", [changed]) == whole
    assert recorded("x", [changed[i : i + 1] for i in range(len(changed))]) == whole


def compressed(coding: str, body: bytes) -> bytes:
    raw = zlib.compressobj(wbits=-15)
    compress: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.compress(body),
        "deflate": lambda: zlib.compress(body),
        "raw deflate": lambda: raw.compress(body) + raw.flush(),
        "br": lambda: brotli.compress(body),
        "zstd": lambda: zstandard.compress(body),
        "gzip, br": lambda: brotli.compress(gzip.compress(body)),
    }
    return bytes(compress[coding]())


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "br", "zstd", "gzip, br"])
def test_content_codings_record_the_same(coding: str) -> None:
    body = (SAMPLES / "kimi-k3-tool.sse").read_bytes()
    whole = recorded("x", [body])
    data = compressed(coding, body)
    header = "deflate" if coding == "raw deflate" else coding
    assert recorded("x", [data], header) == whole
    assert recorded("x", [data[i : i + 1] for i in range(len(data))], header) == whole
    assert recorded("x", [b"no" + data], header) == []
    assert recorded("x", [data], "snappy") == []


@pytest.mark.parametrize("path", CHAT_WHOLE, ids=lambda path: path.stem)
def test_whole_answers(path: Path) -> None:
    body = path.read_bytes()
    message = json.loads(body)["choices"][0]["message"]
    for chunks in ([body], [body[i : i + 1] for i in range(len(body))]):
        ((said, complete),) = recorded("x", chunks, streamed=False)
        assert complete
        assert said.text == (message["content"] or "").strip()
        assert list(said.ids) == [call["id"] for call in message.get("tool_calls") or ()]
        assert {n: json.loads(v) for n, v in said.fields.items()} == {
            n: message[n] for n in FIELDS if n in message
        }
        assert said.fields.get("reasoning_details", b"") in body


def test_recorded_stream_of_a_real_provider() -> None:
    lines = (SAMPLES / "deepseek-tool-call.chunks.jsonl").read_bytes().splitlines()
    body = b"".join(b"data: %b\n\n" % line for line in lines) + b"data: [DONE]\n\n"
    ((said, complete),) = recorded("x", [body])
    expected = "".join(
        json.loads(line)["choices"][0]["delta"].get("reasoning_content") or "" for line in lines
    )
    assert complete and said.text == "" and len(said.ids) == 1
    assert json.loads(said.fields["reasoning_content"]) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(CHAT_STREAMS))
def test_any_split_records_the_same(cuts: list[int], path: Path) -> None:
    body = path.read_bytes()
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(places) if a < b]
    assert recorded(path.stem, chunks) == recorded(path.stem, [body])


def event(delta: object, finish: str | None = None) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def folded(*events: bytes) -> list[tuple[str, str, str]]:
    folder = AnswerFolder()
    answers = [answer for payload in events for answer in folder.feed(payload)] + folder.end(complete=True)
    return [(call.id, call.name, call.arguments) for call in answers[-1].turn.calls]


def call(arguments: str, **more: object) -> dict[str, object]:
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [more | {"function": function}]}


def test_tool_call_fragments() -> None:
    both = [("a1", "f", '{"x":1}'), ("b2", "g", "{}")]
    with_index = (
        event(call("", index=0, id="a1", name="f")),
        event(call('{"x"', index=0, id="")),
        event(call("", index=1, id="b2", name="g")),
        event(call(":1}", index=0, id="")),
        event(call("{}", index=1, id=None)),
    )
    without_index = (
        event(call('{"x"', id="a1", name="f")),
        event(call(":1}", id="")),
        event(call("{}", id="b2", name="g")),
    )
    always_zero = (
        event(call('{"x":1}', index=0, id="a1", name="f")),
        event(call("{}", index=0, id="b2", name="g")),
    )
    for events in (with_index, without_index, always_zero):
        assert folded(*events) == both
    assert (
        folded(event(call('{"x"', index=0, id="a1", name="f")), event(call(":1}", index=0, id="zz")))
        == both[:1]
    )


def test_reasoning_after_content_and_between() -> None:
    folder = AnswerFolder()
    for delta in ({"reasoning_content": "a"}, {"content": "x"}, {"reasoning_content": "b"}, {"content": "y"}):
        assert folder.feed(event(delta)) == []
    (answer,) = folder.feed(event({"reasoning_content": "c"}, "stop"))
    assert (answer.turn.text, answer.fields) == ("xy", {"reasoning_content": b'"abc"'})


def test_a_character_split_over_two_fragments_is_joined() -> None:
    folder = AnswerFolder()
    folder.feed(b'{"choices":[{"delta":{"reasoning_content":"a\\ud83d"}}]}')
    folder.feed(b'{"choices":[{"delta":{"reasoning_content":"\\ude42b"}}]}')
    (answer,) = folder.feed(b"[DONE]")
    assert json.loads(answer.fields["reasoning_content"]) == "a🙂b"


@pytest.mark.parametrize(
    "events",
    [
        (b'{"choices":[{"delta":{"reasoning_content":"a\\ud83d"},"finish_reason":"stop"}]}',),
        (b'{"error":{"message":"no"},"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}',),
        (b'{"choices":[{"delta":{"content":"x"},"finish_reason":"error"}]}',),
        (b"not json",),
    ],
)
def test_what_cannot_go_back_is_not_recorded(events: tuple[bytes, ...]) -> None:
    body = b"".join(b"data: %b\n\n" % payload for payload in events)
    assert recorded("x", [body]) == []
