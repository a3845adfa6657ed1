"""The tap reads many small chunks at once; a turn is on record all the same before its last chunk goes on."""

import json
from pathlib import Path

import msgspec
import pytest

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.engine.recording import is_text
from reasoning_fix.streams.events import EventReader
from tests import SAMPLES
from tests.conversations import Scene, user

PATHS = {
    "chat_completions": "/chat/completions",
    "messages": "/anthropic/v1/messages",
    "responses": "/v1/responses",
}
STREAMS = [
    (dialect, path)
    for dialect in PATHS
    for path in sorted((SAMPLES if dialect == "chat_completions" else SAMPLES / dialect).glob("*.sse"))
]
EVERY_STREAM = pytest.mark.parametrize(
    ("dialect", "path"), STREAMS, ids=[f"{dialect} {path.stem}" for dialect, path in STREAMS]
)

type Said = list[tuple[Content, bool]]


def begin(dialect: str, name: str = "") -> tuple[Scene, Exchange]:
    scene = Scene(path=PATHS[dialect])
    exchange = scene.restore([user("go")])
    exchange.recorder.caller = msgspec.structs.replace(exchange.caller, snapshots="cumulative" in name)
    return scene, exchange


def events(path: Path) -> list[bytes]:
    """The stream as chunks of one whole event each."""
    return [event + b"\n\n" for event in path.read_bytes().split(b"\n\n") if event]


def payloads(event: bytes) -> list[bytes]:
    return EventReader().feed(event + b"\n\n")


@EVERY_STREAM
def test_a_turn_is_on_record_before_the_chunk_that_ends_it_goes_on(dialect: str, path: Path) -> None:
    scene, exchange = begin(dialect, path.stem)
    tap = exchange.tap("", streamed=True)
    folder = DIALECTS[dialect].folder(exchange.recorder.caller.snapshots)
    expected = 0
    for event in events(path):
        assert tap(event) is event
        expected += sum(len(folder.feed(payload)) for payload in payloads(event))
        assert len(scene.records()) == expected
    tap.finish(complete=True)
    assert len(scene.records()) == expected + len(folder.end(complete=False))


@EVERY_STREAM
def test_events_that_end_a_turn_are_seen_to_do_so_and_few_others_are(dialect: str, path: Path) -> None:
    spoken = DIALECTS[dialect]
    folder = spoken.folder("cumulative" in path.stem)
    in_doubt = 0
    for event in events(path):
        may_end = spoken.may_end(event)
        assert may_end or not any(folder.feed(payload) for payload in payloads(event))
        in_doubt += may_end
    assert in_doubt <= 3 + len(events(path)) // 2


@EVERY_STREAM
def test_a_stream_that_is_cut_anywhere_keeps_what_came(dialect: str, path: Path) -> None:
    chunks = events(path)
    for length in range(0, len(chunks), max(1, len(chunks) // 40)):
        found: list[Said] = []
        for parts in (chunks[:length], [b"".join(chunks[:length])]):
            scene, exchange = begin(dialect, path.stem)
            tap = exchange.tap(keep=1 << 20)
            for part in parts:
                tap(part)
            tap.finish(complete=False)
            tap.finish(complete=True)
            kept = tap.kept(complete=False)
            assert (b"" if kept is None else kept.data) == b"".join(parts)
            found.append(scene.records())
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("dialect", "event", "may_end"),
    [
        ("chat_completions", b'{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}', False),
        ("chat_completions", b'{"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}', False),
        ("chat_completions", b'{"choices":[{"delta":{"content":"a"}}]}', False),
        ("chat_completions", b'{"choices":[{"finish_reason":null,"native_finish_reason":null}]}', False),
        ("chat_completions", b'{"choices":[{"delta":{},"finish_reason":"stop"}]}', True),
        ("chat_completions", b'{"choices":[{"delta":{},"finish_reason" : null}]}', True),
        ("chat_completions", b'{"choices":[{"finish_reason":null},{"finish_reason":"stop"}]}', True),
        ("chat_completions", b'{"choices":[{"finish\\u005freason":"stop"}]}', True),
        ("chat_completions", b"[DONE]", True),
        ("messages", b'{"type":"content_block_delta","delta":{"text":"a"}}', False),
        ("messages", b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}', True),
        ("messages", b'{"type":"message_stop"}', True),
        ("messages", b'{"type":"m\\u0065ssage_stop"}', True),
        ("messages", b"[DONE]", True),
        ("responses", b'{"type":"response.output_text.delta","delta":"a"}', False),
        ("responses", b'{"type":"response.completed","response":{}}', True),
        ("responses", b'{"type":"response.incomplete","response":{}}', True),
        ("responses", b'{"object":"response","output":[]}', True),
    ],
)
def test_what_may_end_a_turn(dialect: str, event: bytes, may_end: bool) -> None:
    assert bool(DIALECTS[dialect].may_end(b"data: " + event + b"\n\n")) is may_end


def test_chunks_that_end_within_an_event_are_read_at_once() -> None:
    scene, exchange = begin("chat_completions")
    tap = exchange.tap("", streamed=True)
    first = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    last = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    for chunk in (first, last[:40], last[40:]):
        assert scene.records() == []
        tap(chunk)
    assert [opened.text for opened, _ in scene.records()] == ["Hi"]


def test_a_stream_that_was_given_up_can_still_be_looked_at() -> None:
    scene, exchange = begin("chat_completions")
    tap = exchange.tap(keep=1 << 20)
    chunks = [b'data: {"error":{"message":"x"}}\n\n', b'data: {"choices":[]}\n\n', b": end\n\n"]
    for chunk in chunks:
        assert tap(chunk) is chunk
    tap.finish(complete=True)
    kept = tap.kept(complete=True)
    assert kept is not None
    assert kept.data == b"".join(chunks)
    assert scene.records() == []


def test_an_empty_frame_in_mid_stream_ends_nothing() -> None:
    """HTTP/2 allows it; as a chunk of HTTP/1 it would be the end of the answer."""
    scene, exchange = begin("chat_completions")
    tap = exchange.tap("", streamed=True)
    for text in ("a", "b"):
        tap(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode())
        assert tap(b"") == []
    tap(b"data: [DONE]\n\n")
    assert [(opened.text, complete) for opened, complete in scene.records()] == [("ab", True)]


def test_long_streams_are_read_as_they_come() -> None:
    scene, exchange = begin("chat_completions")
    tap = exchange.tap("", streamed=True)
    one = json.dumps({"choices": [{"delta": {"content": "a", "reasoning_content": "b"}}]}).encode()
    for _ in range(1000):
        tap(b"data: " + one + b"\r\n\r\n")
    assert len(tap._held) < 40
    tap(b"data: [DONE]\r\n\r\n")
    assert [(opened.text, complete) for opened, complete in scene.records()] == [("a" * 1000, True)]


@pytest.mark.parametrize(
    ("value", "fits"),
    [(b'"a"', True), (b'"\\ud83d\\ude00"', True), (b'[{"thinking":"\\ud83d"}]', False), (b'"\xff"', False)],
)
def test_what_no_provider_could_parse_is_not_recorded(value: bytes, fits: bool) -> None:
    assert is_text(value) is fits
