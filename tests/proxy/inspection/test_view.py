"""The content view in mitmproxy: for which flows, after which ends, and what a saved file keeps and finds."""

import asyncio
import contextlib
import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import brotli
import pytest
from mitmproxy import contentviews, exceptions, flow, flowfilter, http, io
from mitmproxy.contentviews import prettify_message, registry
from mitmproxy.test import taddons, tflow, tutils

from reasoning_fix.proxy.inspection.view import ChatView
from reasoning_fix.proxy.interceptor import Interceptor
from tests import ROOT
from tests.clients import script_four_turns, through
from tests.conftest import StartProxy
from tests.conversations import TOOLS, Message, call, tool, turn, user
from tests.mitmdump import client
from tests.provider.simulator import DEEPSEEK, KIMI, Simulator
from tests.provider.turns import Dialect

ANSWER = turn("Let me look.", [call("call_00_abcdefgh", '{"city":"Paris"}')], reasoning_content="A thought.")
HISTORY = [user("Weather?"), {k: v for k, v in ANSWER.items() if k != "reasoning_content"}]
NEXT = [*HISTORY, tool("call_00_abcdefgh", "mild")]


def event(**delta: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


EVENTS = [event(reasoning_content=f"thought {n} ") for n in range(2000)] + [event(content="The answer.")]
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class Door:
    """An interceptor in a mitmproxy without a network."""

    def __init__(self, context: taddons.context, addon: Interceptor) -> None:
        self.context, self.addon = context, addon

    def ask(
        self, messages: list[Message], host: str = "api.deepseek.com", path: str = "/chat/completions"
    ) -> http.HTTPFlow:
        one = tflow.tflow(req=tutils.treq(host=host, port=443, scheme=b"https", path=path.encode()))
        one.request.method = "POST"
        one.request.headers = http.Headers(
            host=host, authorization="Bearer k", content_type="application/json"
        )
        body = {"model": "deepseek-flash", "messages": messages, "tools": TOOLS}
        one.request.raw_content = json.dumps(body).encode()
        self.addon.requestheaders(one)
        self.addon.request(one)
        return one

    def stream(self, one: http.HTTPFlow, chunks: list[bytes], coding: str = "", error: str = "") -> None:
        headers = {"content-type": "text/event-stream"} | ({"content-encoding": coding} if coding else {})
        one.response = http.Response.make(200, b"", headers)
        del one.response.headers["content-length"]
        self.headers = dict(one.response.headers)
        one.response.raw_content = None
        self.addon.responseheaders(one)
        tap = one.response.stream
        assert callable(tap)
        for chunk in chunks:
            assert tap(chunk) is chunk
        if error:
            one.error = flow.Error(error)
            self.addon.error(one)
            return
        tap(b"")
        asyncio.run(self.addon.response(one))


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    addon = Interceptor()
    with taddons.context(addon) as context:
        yield Door(context, addon)
        addon.done()


def shown(message: http.Message | None, one: http.HTTPFlow) -> tuple[str | None, str]:
    assert message is not None
    result = prettify_message(message, one)
    return result.view_name, result.text


def answered(door: Door, chunks: list[bytes], coding: str = "", error: str = "") -> str:
    one = door.ask(HISTORY[:1])
    door.stream(one, chunks, coding, error)
    view, text = shown(one.response, one)
    assert view == "LLM chat"
    return text


def test_a_request_shows_what_was_restored_and_an_answer_what_was_said(door: Door) -> None:
    first = door.ask(HISTORY[:1])
    calls = [dict(call("call_00_abcdefgh", '{"city":"Paris"}'), index=0)]
    door.stream(
        first, [event(reasoning_content="A thought."), event(content="Let me look.", tool_calls=calls), END]
    )
    view, text = shown(first.response, first)
    assert view == "LLM chat" and "|     A thought.\n    Let me look.\n    call f (call_00_abcdefgh):" in text
    second = door.ask(NEXT)
    view, text = shown(second.request, second)
    assert view == "LLM chat"
    assert re.search(
        r"^\[1\] assistant: reasoning restored by context, recorded 20[-\d]+ [:\d]+ UTC$", text, re.M
    )
    assert "+     A thought.\n" in text


@pytest.mark.parametrize(
    ("host", "path", "view"),
    [
        ("api.deepseek.com", "/chat/completions", "LLM chat"),
        ("api.deepseek.com", "/anthropic/v1/messages", "LLM chat"),
        ("api.deepseek.com", "/user/balance", "JSON"),
        ("example.com", "/chat/completions", "JSON"),
    ],
)
def test_only_chat_exchanges_are_shown_so(door: Door, host: str, path: str, view: str) -> None:
    one = tflow.tflow(
        req=tutils.treq(host=host, port=443, scheme=b"https", path=path.encode(), method=b"POST")
    )
    one.request.headers = http.Headers(host=host, content_type="application/json")
    one.request.content = b'{"messages":[{"role":"user","content":"hi"}]}'
    one.response = http.Response.make(200, b'{"choices":[]}', {"content-type": "application/json"})
    assert shown(one.request, one)[0] == view
    assert shown(one.response, one)[0] == view


def test_an_empty_body_and_foreign_messages_are_left_to_others(door: Door) -> None:
    one = door.ask(HISTORY[:1])
    view = door.addon._view
    assert view.render_priority(b"  ", contentviews.Metadata(flow=one, http_message=one.request)) < 0
    assert view.render_priority(b"x", contentviews.Metadata()) < 0
    assert view.render_priority(b"x", contentviews.Metadata(flow=tflow.ttcpflow())) < 0
    one.metadata["reasoning_fix"] = {"dialect": 7, "turns": "?"}
    assert view.render_priority(b"x", contentviews.Metadata(flow=one, http_message=one.request)) > 0


@pytest.mark.parametrize("body", [b"\xff\x00", b"{", b"data: {", b"null", b"[" * 10_000])
def test_any_body_is_shown(door: Door, body: bytes) -> None:
    one = door.ask(HISTORY[:1])
    one.request.raw_content = body
    one.response = http.Response.make(200, body)
    for message in (one.request, one.response):
        view, text = shown(message, one)
        assert view == "LLM chat" and text


def test_a_reload_of_the_script_leaves_one_view(door: Door) -> None:
    before = len(registry)
    with taddons.context(again := Interceptor()):
        assert len(registry) == before
        assert registry["llm chat"] is again._view


def test_a_providers_file_of_ones_own_counts_for_the_view(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[[provider]]\nname = "mine"\nhosts = ["llm.internal"]\nsource = "https://x.example/"\n')
    door.context.configure(door.addon, reasoning_providers=str(path))
    assert door.addon._view.table.provider("llm.internal") is not None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Client disconnected.", "end: cut by the client (Client disconnected.)"),
        ("stream reset by client (CANCEL)", "end: cut by the client"),
        (
            "HTTP/1 protocol error: peer closed connection without sending complete message body"
            " (incomplete chunked read)",
            "end: provider stopped (HTTP/1 protocol error",
        ),
        ("stream reset by client (INTERNAL_ERROR)", "end: provider stopped"),
        ("Connection killed.", "end: cut in the proxy"),
    ],
)
@pytest.mark.parametrize("coding", ["", "br", "gzip"])
def test_partial_streams_say_who_cut_them(door: Door, error: str, said: str, coding: str) -> None:
    match coding:
        case "br":
            press = brotli.Compressor()
            chunks = [press.process(chunk) + press.flush() for chunk in EVENTS[:5]]
        case "gzip":
            chunks = [gzip.compress(b"".join(EVENTS[:5]))[:-8]]
        case _:
            chunks = EVENTS[:5]
    text = answered(door, chunks, coding, error)
    assert said in text and "|     thought 0 thought 1 thought 2 thought 3 thought 4" in text


@pytest.mark.parametrize(
    ("client", "server", "said"),
    [
        (5.0, 6.0, "cut by the client"),
        (5.0, None, "cut by the client"),
        (6.0, 5.0, "provider stopped"),
        (None, 5.0, "provider stopped"),
        (None, None, "cut"),
    ],
)
def test_where_the_words_do_not_tell_the_order_of_the_ends_does(
    door: Door, client: float | None, server: float | None, said: str
) -> None:
    one = door.ask(HISTORY[:1])
    one.client_conn.timestamp_end, one.server_conn.timestamp_end = client, server
    door.stream(one, EVENTS[:2], error="peer closed connection")
    assert f"\nend: {said} (peer closed connection)\n" in shown(one.response, one)[1]


def test_a_client_that_leaves_after_the_end_cut_nothing(door: Door) -> None:
    text = answered(door, [*EVENTS[:2], END], error="Client disconnected.")
    assert "end: complete; after it: cut by the client" in text


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_long_stream_keeps_both_its_ends(door: Door, coding: str) -> None:
    body = b"".join([*EVENTS, END])
    door.context.configure(door.addon, reasoning_view_kilobytes="4")
    chunks = [*EVENTS, END] if not coding else [gzip.compress(body)]
    text = answered(door, chunks, coding)
    assert "|     thought 0 thought 1 " in text and "    The answer." in text and "finish: stop" in text
    assert re.search(r"^\[… [\d.]+ kB of the answer were not kept …\]$", text, re.M)
    assert "thought 1000" not in text and "unread" not in text


def test_the_headers_stay_those_that_were_sent(door: Door) -> None:
    one = door.ask(HISTORY[:1])
    door.context.configure(door.addon, reasoning_view_kilobytes="1")
    door.stream(one, [gzip.compress(b"".join([*EVENTS, END]))], "gzip")
    assert one.response is not None
    assert dict(one.response.headers) == door.headers
    assert b"reasoning-fix kept no copy of" in (one.response.content or b"")


def test_nothing_is_kept_where_nothing_is_wanted(door: Door) -> None:
    door.context.configure(door.addon, reasoning_view_kilobytes="0")
    one = door.ask(HISTORY[:1])
    door.stream(one, [*EVENTS, END])
    assert one.response is not None and one.response.raw_content is None


@pytest.mark.parametrize("given", ["-1", "1.5", "many", "", "²", "9" * 10])
def test_a_bound_that_is_no_number_is_refused(door: Door, given: str) -> None:
    said = f"reasoning_view_kilobytes: {given!r} was given; a whole number from 0 up is allowed."
    with pytest.raises(exceptions.OptionsError, match=re.escape(said)):
        door.context.configure(door.addon, reasoning_view_kilobytes=given)


# ---- Saved files -------------------------------------------------------------------------------------------


@pytest.fixture
def saved(provider: Simulator, start_proxy: StartProxy, tmp_path: Path) -> list[http.HTTPFlow]:
    """A real capture: two requests restored, one filled by rule, one that turns thinking off."""
    path = tmp_path / "capture.flows"
    proxy = start_proxy("-w", str(path))
    script_four_turns(provider)
    person = through(proxy, DEEPSEEK, "chat", "Weather?", keeps=False)
    for _ in range(3):
        person.ask()
    provider.reset()
    provider.say(reasoning="New.", text="So?", conversation=None)
    provider.say(text="Off.", conversation=None)
    other = through(proxy, KIMI, "chat", "Earlier", keeps=False, streamed=False)
    other.history += [turn("", [call("call_7_zzzzzzzzzz")]), tool("call_7_zzzzzzzzzz", "ok")]
    other.ask()
    off = through(proxy, DEEPSEEK, "chat", "Off", extra_body={"thinking": {"type": "disabled"}})
    off.ask()
    proxy.stop()
    with path.open("rb") as file:
        flows = list(io.FlowReader(file).stream())
    assert all(isinstance(one, http.HTTPFlow) for one in flows)
    return [one for one in flows if isinstance(one, http.HTTPFlow)]


def test_a_saved_file_keeps_what_was_done_and_filters_find_it(saved: list[http.HTTPFlow]) -> None:
    def found(expression: str) -> list[int]:
        matches = flowfilter.parse(expression)
        assert matches is not None
        return [number for number, one in enumerate(saved) if matches(one)]

    expected = {
        "~meta reasoning_fix": [0, 1, 2, 3, 4],
        "~marked": [1, 2, 3],
        "~comment restored": [1, 2],
        "~comment filled": [3],
        "~comment refused": [],
        '~comment "thinking is off"': [4],
        "~meta \"'absent'\"": [],
        "~meta reasoning_fix & ~c 400": [],
        "~meta reasoning_fix & ~e": [],
    }
    listed = re.findall(r"^\| `(~[^`]+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert {expression: found(expression) for expression in listed} == expected
    assert found("~marker adhesive") == [1, 2, 3]
    assert found("~meta \"'restored', 'context'\"") == [1, 2]
    assert found("~meta \"'filled', ''\"") == [3]
    saved[0].error = flow.Error("Client disconnected.")
    assert found("~meta reasoning_fix & ~e") == [0]


def test_a_saved_file_shows_the_same_transcripts(saved: list[http.HTTPFlow]) -> None:
    view = ChatView(Interceptor()._table)

    def text(one: http.HTTPFlow, message: http.Message | None) -> str:
        assert message is not None
        metadata = contentviews.Metadata(flow=one, http_message=message)
        assert view.render_priority(message.content or b"", metadata) > 2
        return view.prettify(message.content or b"", metadata)

    restored = text(saved[2], saved[2].request)
    assert restored.count("assistant: reasoning restored by context, recorded ") == 2
    assert "+     Zürich first.\n+     Then Oslo (奥斯陆).\n" in restored
    assert "|     All dry. 好。\n    All are dry." in text(saved[2], saved[2].response)
    assert "assistant: reasoning not on record, filled by rule" in text(saved[3], saved[3].request)
    assert "|     New.\n    So?" in text(saved[3], saved[3].response)
    assert "reasoning-fix: thinking is off: no turn was touched" in text(saved[4], saved[4].request)


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_every_wire_shows_what_became_of_each_turn(
    dialect: Dialect, provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    path = tmp_path / "capture.flows"
    proxy = start_proxy("-w", str(path))
    script_four_turns(provider)
    person = through(proxy, DEEPSEEK, dialect, "Weather?", keeps=False)
    for _ in range(3):
        person.ask()
    person.says("Thanks.")
    person.ask()
    proxy.stop()
    with path.open("rb") as file:
        last = list(io.FlowReader(file).stream())[-1]
    assert isinstance(last, http.HTTPFlow)
    view, text = shown(last.request, last)
    assert view == "LLM chat"
    assert text.count("] assistant: reasoning restored by context, recorded ") == 3
    assert "reasoning-fix: 3 turns: 3 restored (3 by context)" in text
    added = [line.strip("+ ") for line in text.splitlines() if line.startswith("+     ")]
    assert [line for line in added if line[0] != "["] == [
        "Zürich first.",
        "Then Oslo (奥斯陆).",
        "And Bern?",
        "All dry. 好。",
    ]
    view, text = shown(last.response, last)
    assert view == "LLM chat" and "|     Polite.\n" in text and "\n    Welcome.\n" in text
    assert "\nend: " not in text and "\nunread: " not in text


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a_stream_that_the_provider_drops_says_so(
    dialect: Dialect, provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    path = tmp_path / "capture.flows"
    proxy = start_proxy("-w", str(path))
    provider.say(reasoning="Count up to ten, slowly and aloud.", text="One two three four.", cut_after=6)
    with contextlib.suppress(Exception):  # each library complains in its own words
        through(proxy, DEEPSEEK, dialect, "Count.", keeps=False).ask()
    proxy.stop()
    with path.open("rb") as file:
        last = list(io.FlowReader(file).stream())[-1]
    assert isinstance(last, http.HTTPFlow)
    _, text = shown(last.response, last)
    assert "\nend: provider stopped (" in text and "|     Count" in text


def test_a_stream_that_the_client_leaves_says_so(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    path = tmp_path / "capture.flows"
    proxy = start_proxy("-w", str(path))
    provider.say(reasoning="Count up to ten, slowly and aloud.", text="One two three four.", pause=0.2)
    api = client(proxy, DEEPSEEK.host, "sk-somebody")
    create = cast(Any, api.chat.completions.create)
    stream = create(model=DEEPSEEK.model, messages=[user("Count.")], stream=True)
    for _ in itertools.islice(stream, 3):
        pass
    stream.close()
    proxy.wait_for("client disconnect")
    proxy.stop()
    with path.open("rb") as file:
        last = list(io.FlowReader(file).stream())[-1]
    assert isinstance(last, http.HTTPFlow)
    assert "\nend: cut by the client (" in shown(last.response, last)[1]
