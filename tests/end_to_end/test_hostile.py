"""Hostile input: what clients, providers and files may say to do harm, and what comes of it.

The first part is the short form of scripts/fuzz: the same targets and promises, from the same first inputs,
with a fixed seed. The rest are attacks that somebody would think of.
"""

import asyncio
import base64
import gzip
import json
import logging
import re
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode

from reasoning_fix.dialects import DIALECTS, chat_completions
from reasoning_fix.dialects.splice import SpliceError, Written, members
from reasoning_fix.dialects.turns import Call, Other
from reasoning_fix.engine.history import Fingerprints, canonical_arguments
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import callers
from scripts.fuzzing import targets
from scripts.fuzzing.mutations import mutate
from scripts.fuzzing.seeds import seeds
from scripts.fuzzing.targets import TARGETS
from scripts.fuzzing.worlds import THOUGHT, worlds
from tests import SAMPLES, TESTS
from tests.conversations import Message, Scene, call, reasoning, tool, turn, user
from tests.mitmdump import Proxy
from tests.proxy.test_interceptor import ANSWER, HISTORY, NEXT, Door, door

__all__ = ["door"]

STAND_IN = "[reasoning not on record 1f3a9c2b]"
ID = "call_00_abcdefgh"


def test_every_test_that_the_security_notes_name_is_there() -> None:
    tests = TESTS
    notes = (tests.parent / "README.md").read_text().partition("## Security")[2].partition("\n## ")[0]
    named = re.findall(r"`(test_\w+)`", notes)
    written = "".join(path.read_text() for path in tests.rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in written] == []


# ---- Any bytes ---------------------------------------------------------------------------------------------

# Those that go through a file or whole transcripts take many times as long.
CASES = {"provider-table": 40, "views": 40, "events": 80}


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    first, random = seeds(name), Random(name)
    for data in first:
        TARGETS[name](data)
    for _ in range(CASES.get(name, 200)):
        TARGETS[name](mutate(random.choice(first), random.choice(first), random))


def test_a_target_notices_a_changed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    write = chat_completions.write_history

    def spoil(*given: Any) -> Written:
        written = write(*given)
        return written._replace(data=written.data.replace(b"mild", b"wild"))

    monkeypatch.setattr(chat_completions, "write_history", spoil)
    with pytest.raises(AssertionError, match=r"not what the client sent|more than the reasoning"):
        TARGETS["requests-chat"](worlds()["chat"].body)


def test_a_target_notices_a_changed_chunk_and_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    data = seeds("answers")[0]
    with monkeypatch.context() as patch:
        patch.setattr(Tap, "__call__", lambda self, chunk: chunk + b" ")
        with pytest.raises(AssertionError, match="a chunk was changed"):
            TARGETS["answers"](data)
    monkeypatch.setattr("reasoning_fix.engine.usage.read", lambda payload: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError in reasoning-fix"):
        TARGETS["answers"](data)


def test_a_target_notices_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    real = targets.decoder
    monkeypatch.setattr(targets, "decoder", lambda coding, most: real(coding, 1 << 30))
    with pytest.raises(AssertionError, match="beyond the bound"):
        for data in seeds("codings"):
            TARGETS["codings"](data)


# ---- Histories that imitate ours ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [STAND_IN, " ", ".", "[reasoning unavailable]", "<think>x</think>", "</think>"]
)
def test_what_imitates_a_placeholder_elsewhere_is_only_text(text: str) -> None:
    """In a user's message, a tool's result or the visible text of a turn it is neither taken out nor used."""
    scene = Scene()
    history = [user(text)]
    history.append(scene.say(history, turn("Looking.", [call(ID)], reasoning_content="R1")))
    history.append(tool(ID, text))
    history.append(scene.say(history, turn(text, reasoning_content="R2")))
    history.append(user(f"What did you mean by {text!r}?"))
    sent = scene.sent(history)
    assert reasoning(sent) == ["R1", "R2"]
    assert [m.get("content") for m in sent] == [m.get("content") for m in history]


def test_reasoning_that_quotes_a_placeholder_is_no_placeholder() -> None:
    scene = Scene()
    quoting = f"The history says {STAND_IN}; what was it?"
    history = [user("go"), turn("Hi!", reasoning_content=quoting), user("next")]
    asked = scene.restore(history)
    assert (asked.is_changed, asked.recorder.learned) == (False, 1)


def test_an_answer_that_is_nothing_but_a_placeholder_teaches_nothing() -> None:
    """A model that echoes ours, or a provider that plants it: the turn is as good as not recorded."""
    scene = Scene()
    history = [user("go")]
    history.append(scene.say(history, turn("A long and plain answer.", reasoning_content=STAND_IN)))
    assert scene.records() == []
    assert reasoning(scene.sent([*history, user("next")])) == [" "]


# ---- Texts that are meant to collide -----------------------------------------------------------------------

MARKS = Fingerprints(b"k" * 32)
CALLS = {
    "the name takes a byte of the arguments": (Call("", "a", '{"b":1}'), Call("", 'a{"b":1', "}")),
    "a name that looks like a length": (Call("", "1:x", "{}"), Call("", "1", ":x{}")),
    "a name that looks like the whole form": (Call("", "x", "{}"), Call("", "f1:x", "{}")),
    "arguments that are a text of themselves": (Call("", "f", '{"a":1}'), Call("", "f", r'"{\"a\":1}"')),
    "a number and its text": (Call("", "f", '{"a":1}'), Call("", "f", '{"a":"1"}')),
    "NFC and NFD": (Call("", "f", '{"a":"é"}'), Call("", "f", '{"a":"e\u0301"}')),
    "a number that is too large, and null": (Call("", "f", '{"a":1e999}'), Call("", "f", '{"a":null}')),
    "a number that is none, and null": (
        Call("", "f", '{"a":NaN,"b":1.5}'), Call("", "f", '{"a":null,"b":1.5}')),
    "numbers of 400 digits": (Call("", "f", "1" + "0" * 400), Call("", "f", "2" + "0" * 400)),
    "half a character and its replacement": (Call("", "f", "\ud800"), Call("", "f", "\ufffd")),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), CALLS.values(), ids=CALLS)
def test_calls_that_differ_never_look_alike(one: Call, other: Call) -> None:
    assert MARKS.call(one) != MARKS.call(other)


SAME = {
    "key order and spaces": ('{"a":1,"b":2}', ' { "b" : 2 , "a" : 1 } '),
    "escapes": ('{"a":"é/"}', '{"a":"\\u00e9\\/"}'),
    "1.0 and 1": ('{"a":1.0}', '{"a":1}'),
    "nothing, blank and an empty object": ("", " null "),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_spellings_of_the_same_arguments_do(one: str, other: str) -> None:
    assert canonical_arguments(one) == canonical_arguments(other)


OTHERS = {
    "text moved into the attachment": (Other("user", "ab", b"c"), Other("user", "a", b"bc")),
    "text moved into the role": (Other("user", "ab"), Other("usera", "b")),
    "lengths in the role": (Other("1:0:user", "a"), Other("user", "a")),
    "another role": (Other("user", "a"), Other("tool", "a")),
    "NFC and NFD": (Other("user", "é"), Other("user", "e\u0301")),
    "an invisible character": (Other("user", "a"), Other("user", "a\u200b")),
    "a letter that looks the same": (Other("user", "a"), Other("user", "а")),
}


@pytest.mark.parametrize(("one", "other"), OTHERS.values(), ids=OTHERS)
def test_messages_that_differ_never_look_alike(one: Other, other: Other) -> None:
    assert MARKS.other(one) != MARKS.other(other)


BYTES = st.binary(max_size=40)
TEXTS = st.text(st.sampled_from("ab:01{}\"', \n"), max_size=12)


@given(TEXTS, st.lists(TEXTS, max_size=3), TEXTS, st.lists(TEXTS, max_size=3))
def test_no_border_between_text_and_calls_can_be_moved(
    text: str, names: list[str], other: str, others: list[str]
) -> None:
    def mark(said: str, calls: list[str]) -> bytes:
        return MARKS.turn(said, tuple(MARKS.call(Call("", name, "{}")) for name in calls))

    assert (mark(text, names) == mark(other, others)) is ((text, names) == (other, others))


@given(st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3))
def test_no_border_between_parts_can_be_moved(one: list[str], other: list[str]) -> None:
    assert (MARKS.of(*one) == MARKS.of(*other)) is (one == other)


def test_a_context_cannot_be_written_into_a_text() -> None:
    """A message that spells out what is hashed for a history does not stand for that history."""
    said = MARKS.turn("Hi", ())
    gap = MARKS.other(Other("user", "go"))
    spelled = (b"c16:16:" + said + said + gap).decode("latin-1")
    fingerprints = {
        MARKS.context(said, said, (gap,)),
        MARKS.other(Other("user", spelled)),
        MARKS.turn(spelled, ()),
        MARKS.id(spelled),
        MARKS.of(spelled),
        MARKS.place(said + gap, said),
        MARKS.place(said, gap + said),
    }
    assert len(fingerprints) == 7


def test_an_id_of_another_conversation_brings_none_of_its_thoughts() -> None:
    """Ids are the client's to choose: beside another call one proves nothing."""
    scene = Scene()
    scene.say([user("mine")], turn("Looking.", [call(ID, '{"city":"Paris"}')], reasoning_content="SECRET"))
    forged = turn("Something else.", [call(ID, '{"path":"/etc"}', "read")])
    assert reasoning(scene.sent([user("other"), forged, tool(ID, "x")])) == [" "]


# ---- Credentials -------------------------------------------------------------------------------------------


def asks(door: Door, **headers: str) -> http.HTTPFlow:
    body = json.dumps({"model": "deepseek-flash", "messages": NEXT, "tools": [1]}).encode()
    flow = door.flow(body)
    del flow.request.headers["authorization"]
    for name, value in headers.items():
        flow.request.headers[name.replace("_", "-")] = value
    door.addon.requestheaders(flow)
    door.addon.request(flow)
    return flow


def restored(flow: http.HTTPFlow) -> bool:
    return bool(json.loads(flow.request.content or b"")["messages"][1].get("reasoning_content") == "R")


SCHEMES = {
    "the scheme in small letters": {"authorization": "bearer sk-one"},
    "the scheme in capitals": {"authorization": "BEARER sk-one"},
    "white space around it": {"authorization": "  Bearer   sk-one \t"},
    "no scheme": {"authorization": "sk-one"},
    "the header of Anthropic's clients": {"x_api_key": "sk-one"},
    "the header of Azure's clients": {"api_key": "sk-one"},
    "an empty header before it": {"authorization": "", "x_api_key": "sk-one"},
}


@pytest.mark.parametrize("headers", SCHEMES.values(), ids=SCHEMES)
def test_one_key_is_one_scope_however_it_is_sent(door: Door, headers: dict[str, str]) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    assert restored(asks(door, **headers))


STRANGERS = {
    "another case": {"authorization": "Bearer SK-ONE"},
    "white space within": {"authorization": "Bearer sk -one"},
    "a character more": {"authorization": "Bearer sk-one1"},
    "a zero-width space": {"authorization": "Bearer sk-one\u200b"},
    "another scheme": {"authorization": "Basic sk-one"},
    "two keys in one": {"authorization": "Bearer sk-one, Bearer sk-one"},
    "the name of an anonymous caller": {"authorization": "Bearer anonymous\\ndeepseek\\n127.0.0.1"},
    "none": {},
    "none, with its conversation": {"x_session_id": "sk-one"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_a_key_that_differs_at_all_is_another_scope(door: Door, headers: dict[str, str]) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    flow = asks(door, **headers)
    assert not restored(flow)
    assert b'"R"' not in (flow.request.content or b"")


# ---- A JWT with someone else's claims ----------------------------------------------------------------------


def jwt(alg: str, signature: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': alg})}.{part({'iss': 'https://login.example', 'sub': 'victim'})}.{signature}"


GENUINE, FORGED = jwt("RS256", "Z2VudWluZQ"), jwt("none", "Zm9yZ2Vk")


def test_a_forged_jwt_shows_its_sender_nothing(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """Its claims name the victim's scope, so what is restored goes to the provider, which refuses it."""
    caplog.set_level(logging.DEBUG)
    door.answer(door.ask(HISTORY[:1], key=GENUINE), ANSWER | {"reasoning_content": "SECRET"})
    flow = door.ask(NEXT, key=FORGED)
    assert b"SECRET" in (flow.request.content or b"")
    door.answer(flow, {"role": "assistant", "content": "401"}, status=401)
    assert flow.response is not None
    told = [flow.comment, caplog.text, repr(flow.metadata), repr(flow.response.headers)]
    assert not [text for text in (*told, str(flow.response.raw_content)) if "SECRET" in text]


@pytest.mark.parametrize("status", [401, 403, 400, 500])
def test_a_forged_jwt_teaches_nothing(door: Door, status: int) -> None:
    """Neither what the provider answers it nor what its sender says the model thought."""
    planted = [HISTORY[0], HISTORY[1] | {"reasoning_content": "PLANTED"}, NEXT[2]]
    door.answer(door.ask(planted, key=FORGED), turn("Said.", reasoning_content="PLANTED"), status)
    flow = door.ask([*NEXT, turn("Said."), user("and?")], key=GENUINE)
    assert b"PLANTED" not in (flow.request.content or b"")
    assert flow.comment.startswith("filled 2 of 2")


def test_a_refusal_in_a_200_teaches_nothing_either(door: Door) -> None:
    """MiniMax and some relays refuse a key with status 200."""
    planted = [HISTORY[0], HISTORY[1] | {"reasoning_content": "PLANTED"}, NEXT[2]]
    flow = door.ask(planted, key=FORGED)
    body = b'{"choices":null,"base_resp":{"status_code":1004,"status_msg":"login fail"}}'
    flow.response = http.Response.make(200, body, {"content-type": "application/json"})
    door.addon.responseheaders(flow)
    asyncio.run(door.addon.response(flow))
    assert b"PLANTED" not in (door.ask(NEXT, key=GENUINE).request.content or b"")


# ---- Where a request goes ----------------------------------------------------------------------------------

DESTINATIONS = {
    "the header is a claim": ("regular", "http", "evil.example", "api.deepseek.com", "", "evil.example"),
    "so it is through a proxy": (
        "upstream:http://x", "https", "evil.example", "api.deepseek.com", "", "evil.example"),
    "so it is in a transparent mode": (
        "transparent", "http", "192.0.2.1", "api.deepseek.com", "", "192.0.2.1"),
    "the handshake of a tunnel to an address counts": (
        "socks5", "https", "192.0.2.1", "evil.example", "API.DeepSeek.com", "api.deepseek.com"),
    "without TLS there is no handshake": (
        "socks5", "http", "192.0.2.1", "api.deepseek.com", "api.deepseek.com", "192.0.2.1"),
    "a name beside the handshake is a name": (
        "regular", "https", "evil.example", "api.deepseek.com", "api.deepseek.com", "evil.example"),
    "of a reverse port the owner chose the destination": (
        "reverse:http://10.0.0.5", "http", "10.0.0.5", "llm.example", "", "llm.example"),
    "to local capture only this machine's programs come": (
        "local", "http", "192.0.2.1", "llm.example", "", "llm.example"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "scheme", "host", "header", "sni", "expected"), DESTINATIONS.values(), ids=DESTINATIONS
)
def test_a_host_header_is_a_claim(
    door: Door, mode: str, scheme: str, host: str, header: str, sni: str, expected: str
) -> None:
    flow = door.flow(b"", host=host)
    flow.request.scheme = scheme
    flow.request.headers["host"] = header
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    flow.client_conn.sni = sni
    assert callers.host_of(flow) == expected


def test_a_request_that_names_its_destination_has_no_handshake_with_it(door: Door) -> None:
    """TLS to the proxy itself, with a provider's name in it, says nothing about an absolute URL inside."""
    flow = door.flow(b"", host="192.0.2.1")
    flow.client_conn.sni = "api.deepseek.com"
    flow.server_conn.address = None
    assert callers.host_of(flow) == "192.0.2.1"
    assert callers.route(flow, load_table()) is None


class Anywhere:
    """A plain HTTP server that any name leads to; keeps the bodies it got, by Host header."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(b"")
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            with one, one.makefile("rb") as file:
                length = 0
                while (line := file.readline().lower()) not in (b"\r\n", b""):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.bodies.append(file.read(length))
                body = json.dumps({"choices": [{"message": ANSWER, "finish_reason": "stop"}]}).encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                one.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)


@pytest.fixture
def anywhere(tmp_path: Path) -> Iterator[Anywhere]:
    server = Anywhere(tmp_path)
    yield server
    server.close()


def test_nothing_is_restored_for_a_server_of_the_senders_own(anywhere: Anywhere, tmp_path: Path) -> None:
    """With a real mitmdump: the same credential and history, but an absolute URL that leads elsewhere."""
    proxy = Proxy(anywhere, tmp_path / "home", "--set", "ssl_insecure=true")

    def post(url: str, messages: list[Message]) -> bytes:
        body = json.dumps({"model": "deepseek-flash", "messages": messages, "tools": [1]}).encode()
        with socket.create_connection(("127.0.0.1", proxy.port), 20) as one, one.makefile("rb") as file:
            head = f"POST {url}/chat/completions HTTP/1.1\r\nHost: api.deepseek.com\r\nConnection: close\r\n"
            head += "Content-Type: application/json\r\nAuthorization: Bearer sk-one\r\n"
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert file.readline().startswith(b"HTTP/1.1 200")
            file.read()
        return anywhere.bodies[-1]

    try:
        post("http://api.deepseek.com", HISTORY[:1])
        assert reasoning(json.loads(post("http://api.deepseek.com", NEXT))["messages"]) == ["R"]
        for elsewhere in ("http://evil.example", "http://192.0.2.1"):
            assert reasoning(json.loads(post(elsewhere, NEXT))["messages"]) == [...]
    finally:
        proxy.stop()


# ---- Malicious answers -------------------------------------------------------------------------------------

MEGABYTE = b"x" * 1_000_000
type Chunks = Callable[[], Iterator[bytes]]


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(**members: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": members}]})


def ids_without_end() -> Iterator[bytes]:
    for at in range(60):
        yield delta(tool_calls=[{"index": at, "id": f"{at}" + "i" * 1_000_000}])


def names_without_end() -> Iterator[bytes]:
    for at in range(60):
        yield delta(tool_calls=[{"index": at, "function": {"name": f"{at}" + "n" * 1_000_000}}])


def small_calls_without_end() -> Iterator[bytes]:
    for at in range(0, 60_000, 20):
        yield delta(tool_calls=[{"index": at + i, "function": {"arguments": ""}} for i in range(20)])


def choices_without_end() -> Iterator[bytes]:
    for at in range(0, 60_000, 20):
        yield event({"choices": [{"index": at + i, "delta": {"content": "a"}} for i in range(20)]})


def many_long_choices() -> Iterator[bytes]:
    for at in range(60):
        yield event({"choices": [{"index": at, "delta": {"reasoning_content": "r" * 1_000_000}}]})


ENDLESS: dict[str, tuple[str, Chunks]] = {
    "one line without an end": ("", lambda: (b"data: x" if i == 0 else MEGABYTE for i in range(60))),
    "a comment without an end": ("", lambda: (b": x" if i == 0 else MEGABYTE for i in range(60))),
    "data lines without a blank one": ("", lambda: (b"data: " + MEGABYTE + b"\n" for _ in range(60))),
    "reasoning without an end": ("", lambda: (delta(reasoning_content="r" * 1_000_000) for _ in range(60))),
    "details without an end": (
        "", lambda: (delta(reasoning_details=[{"index": i, "text": "r" * 1_000_000}]) for i in range(60))),
    "ids without an end": ("", ids_without_end),
    "names without an end": ("", names_without_end),
    "calls that say nothing without an end": ("", small_calls_without_end),
    "choices without an end": ("", choices_without_end),
    "many long choices": ("", many_long_choices),
    "a gzip bomb": ("gzip", lambda: iter([gzip.compress(b"\0" * 200_000_000)])),
    "a deflate bomb": ("deflate", lambda: iter([zlib.compress(b"\n" * 200_000_000)])),
    "a br bomb": ("br", lambda: iter([brotli.compress(b"\n" * 200_000_000, quality=1)])),
    "a zstd bomb": ("zstd", lambda: iter([zstandard.compress(b"\n" * 200_000_000)])),
    "a bomb in a bomb": ("gzip, gzip", lambda: iter([gzip.compress(gzip.compress(b"\0" * 200_000_000))])),
}  # fmt: skip


@pytest.mark.parametrize(("coding", "chunks"), ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_is_bounded_and_passes_untouched(coding: str, chunks: Chunks) -> None:
    """Beyond the bounds (16 MB a turn and an event, 64 MB unfolded) it is given up, and goes on passing."""
    scene = Scene()
    given = list(chunks())
    tap = scene.restore([user("go")]).tap(coding, streamed=True, keep=100_000)
    tracemalloc.start()
    try:
        for chunk in given:
            assert tap(chunk) is chunk
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000
    tap.finish(complete=False)
    assert scene.records() == []


ODD = {
    "control characters": "\0\x01\x1b[2J\x7f\u202e\u2028",
    "a pair in two fragments": "\ud83d\ude00",
    "brackets and quotes": '"}]}\\"\n\ndata: [DONE]\n\n',
    "our own separators": "\nanonymous\n16:16:",
    "nesting": "[" * 10_000,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_reasoning_goes_back_as_it_came(text: str) -> None:
    scene = Scene()
    said = [delta(reasoning_content=piece) for piece in text] if len(text) == 2 else [
        delta(reasoning_content=text)
    ]  # fmt: skip
    finish = event({"choices": [{"index": 0, "delta": {"content": "Hello there."}, "finish_reason": "stop"}]})
    scene.watch(scene.restore([user("go")]), [*said, finish])
    (sent,) = reasoning(scene.sent([user("go"), turn("Hello there."), user("next")]))
    assert sent == text.encode("utf-16", "surrogatepass").decode("utf-16")


def test_half_a_character_is_never_put_into_a_request() -> None:
    scene = Scene()
    body = b'data: {"choices":[{"delta":{"reasoning_content":"a\\ud83d","content":"Hello there."},'
    scene.watch(scene.restore([user("go")]), [body + b'"finish_reason":"stop"}]}\n\n'])
    restored = scene.restore([user("go"), turn("Hello there."), user("next")])
    assert restored.is_changed and b"ud83d" not in restored.body
    json.loads(restored.body)


@pytest.mark.parametrize("name", ["details", "messages", "responses"])
def test_reasoning_that_is_no_utf8_is_not_recorded(name: str) -> None:
    """In values that are kept as they came; put into a request it would spoil all of it."""
    bodies = {
        "details": b'{"choices":[{"message":{"reasoning_details":[{"x":"\xff"}]},"finish_reason":"stop"}]}',
        "messages": b'{"type":"message","content":[{"type":"thinking","thinking":"a","signature":"\xff"}]}',
        "responses": b'{"output":[{"type":"reasoning","encrypted_content":"\xff"}],"status":"completed"}',
    }  # fmt: skip
    assert targets._recorded(name, [bodies[name]], "", False, None, True, False) == []


def test_nesting_beyond_all_bounds_is_passed_on() -> None:
    deep = b"[" * 200_000
    for name, world in worlds().items():
        for body in (
            deep,
            b'{"choices":' + deep,
            b'{"type":"message","content":' + deep,
            b'{"output":' + deep,
        ):
            for streamed in (True, False):
                tap = world.exchange().tap("", streamed=streamed)
                chunk = b"data: " + body + b"\n\n" if streamed else body
                assert tap(chunk) is chunk, name
                tap.finish(complete=True)


WHOLE: dict[str, tuple[Path, str]] = {
    "chat": (SAMPLES / "deepseek-chat-tool.sse", "chat"),
    "messages": (SAMPLES / "messages" / "deepseek-messages-tool.sse", "messages"),
    "responses": (SAMPLES / "responses" / "deepseek-responses-tool.sse", "responses"),
}


@pytest.mark.parametrize(("path", "name"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("blank", [b"data:\n\n", b"data\n\n", b"data:  \n\n", b"data:\ndata:\n\n"])
def test_events_without_data_do_not_end_the_recording(path: Path, name: str, blank: bytes) -> None:
    def recorded(body: bytes) -> list[tuple[object, bool]]:
        return targets._recorded(name, [body], "", True, None, True, False)

    body = path.read_bytes()
    plain = recorded(body)
    assert len(plain) == 1
    assert recorded(blank + body.replace(b"\n\n", b"\n\n" + blank)) == plain


CONFUSED = {
    "events of another wire": b'data: {"type":"message_stop"}\n\ndata: {"type":"response.completed"}\n\n',
    "an error after the thought": b'data: {"error":{"message":"x"}}\n\n',
    "types that are no texts": b'data: {"type":{"a":1},"choices":{"a":1},"delta":[],"item":3}\n\n',
    "an index that is no number": b'data: {"choices":[{"index":[],"delta":{"content":["a"]}}]}\n\n',
}


@pytest.mark.parametrize("odd", CONFUSED.values(), ids=CONFUSED)
@pytest.mark.parametrize("name", ["chat", "messages", "responses"])
def test_confusing_events_are_no_fault(name: str, odd: bytes) -> None:
    body = WHOLE[name][0].read_bytes()
    cut = body.index(b"\n\n", len(body) // 2) + 2
    # The target sees to it that the tap hands on every chunk and has no fault of its own.
    targets._recorded(name, [body[:cut], odd, body[cut:]], "", True, None, True, False)


def test_content_of_an_unknown_kind_is_left_alone() -> None:
    """Where thinking blocks could not be put without losing what the client said."""
    world = worlds()["messages"]
    odd = {"role": "assistant", "content": {"a": 1}}
    body = world.scene.body([user("go"), odd, user("next")])
    assert not world.fresh().restore_body(body, world.caller).is_changed


def test_a_member_name_that_is_no_utf8_is_a_name_like_others() -> None:
    assert members(b'{"a\xff":1}') == {"a?": (1, 6, 7)}
    with pytest.raises(SpliceError, match="twice"):
        members(b'{"a\xff":1,"a\xfe":2}')


def test_every_wire_is_among_the_targets() -> None:
    assert {world.caller.endpoint.dialect for world in worlds().values()} == set(DIALECTS)
    assert all(THOUGHT.encode() in (restored_body(name) or b"") for name in worlds())


def restored_body(name: str) -> Any:
    world = worlds()[name]
    return world.fresh().restore_body(world.body, world.caller).body


def test_half_a_character_in_an_id_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    call = b'{"index":0,"id":"\\ud800","function":{"name":"f","arguments":"{}"}}'
    event = b'data: {"choices":[{"index":"0","delta":{"tool_calls":[%b]},"finish_reason":"tool_calls"}]}\n\n'
    scene.watch(scene.restore([user("go")]), [event % call])
    assert scene.records() == []
    assert "forwarded but not recorded: the answer holds what is not UTF-8" in caplog.text
