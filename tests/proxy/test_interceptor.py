"""The hooks: what is touched, what is streamed, what a person sees, and what bad options say."""

import asyncio
import gc
import gzip
import json
import logging
import re
import weakref
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Optional

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.onboarding import Onboarding as OnboardingAddon
from mitmproxy.flow import Error
from mitmproxy.log import ALERT
from mitmproxy.test import taddons, tflow, tutils

from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import callers
from reasoning_fix.proxy.interceptor import MARK, Interceptor
from tests.conversations import TOOLS, Message, call, tool, turn, user

ANSWER = turn("Let me look.", [call("call_00_abcdefgh", '{"city":"Paris"}')], reasoning_content="R")
HISTORY = [user("Weather?"), {k: v for k, v in ANSWER.items() if k != "reasoning_content"}]
NEXT = [*HISTORY, tool("call_00_abcdefgh", "mild")]


class Door:
    """An interceptor in a mitmproxy without a network."""

    def __init__(self, context: taddons.context, addon: Interceptor) -> None:
        self.context = context
        self.addon = addon

    def flow(
        self,
        body: bytes,
        host: str = "api.deepseek.com",
        path: str = "/chat/completions",
        key: str = "sk-one",
        **headers: str,
    ) -> http.HTTPFlow:
        flow = tflow.tflow(req=tutils.treq(host=host, port=443, scheme=b"https", path=path.encode()))
        flow.request.method = "POST"
        flow.request.headers = http.Headers(
            host=host, authorization=f"Bearer {key}", content_type="application/json"
        )
        flow.request.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        flow.request.raw_content = body
        return flow

    def ask(self, messages: list[Message], **options: str) -> http.HTTPFlow:
        body = json.dumps({"model": "deepseek-flash", "messages": messages, "tools": TOOLS}).encode()
        flow = self.flow(body, **options)
        self.addon.requestheaders(flow)
        self.request(flow)
        return flow

    def request(self, flow: http.HTTPFlow) -> None:
        """Let the addon see a request, and wait for it where it takes its time, as mitmproxy does."""

        async def wait(work: Awaitable[None]) -> None:
            await work

        if (work := self.addon.request(flow)) is not None:
            asyncio.run(wait(work))

    def answer(self, flow: http.HTTPFlow, message: Message, status: int = 200, chunked: bool = False) -> None:
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        body = json.dumps({"choices": [choice]}).encode()
        flow.response = http.Response.make(status, body, {"content-type": "application/json"})
        if chunked:
            del flow.response.headers["content-length"]
        self.addon.responseheaders(flow)
        stream = flow.response.stream
        assert callable(stream) == (chunked and status == 200)
        if callable(stream):
            flow.response.raw_content = None
            assert stream(body) == body
            assert stream(b"") == []
        asyncio.run(self.addon.response(flow))


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    addon = Interceptor()
    with taddons.context(OnboardingAddon(), addon) as context:
        yield Door(context, addon)
        addon.done()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_person_sees_what_was_restored(door: Door, caplog: pytest.LogCaptureFixture, chunked: bool) -> None:
    caplog.set_level(logging.INFO)
    first = door.ask(HISTORY[:1])
    door.answer(first, ANSWER, chunked=chunked)
    assert json.loads(first.response.content)["choices"]  # type: ignore[union-attr,arg-type]
    second = door.ask(NEXT)
    assert json.loads(second.request.content or b"")["messages"][1]["reasoning_content"] == "R"
    assert second.comment == "restored 1 of 1 turns: 1 by context"
    assert second.marked == MARK
    assert second.metadata["reasoning_fix"]["restored"] == 1
    assert "api.deepseek.com deepseek-flash: restored 1 of 1 turns: 1 by context" in caplog.text
    assert first.comment == ""
    for secret in ("sk-one", "Let me look", "Weather"):
        assert secret not in caplog.text


def test_what_a_request_leaves_for_later_is_done_when_it_is_on_its_way(door: Door) -> None:
    complete = [HISTORY[0], ANSWER, *NEXT[2:]]

    async def ask() -> http.HTTPFlow:
        flow = door.ask(complete)
        assert "reasoning_fix" not in flow.metadata
        while "reasoning_fix" not in flow.metadata:
            await asyncio.sleep(0.001)
        assert [turn[1] for turn in flow.metadata["reasoning_fix"]["turns"]] == ["sent"]
        return flow

    door.answer(asyncio.run(ask()), {"role": "assistant", "content": "Well."})
    assert json.loads(door.ask(NEXT).request.content or b"")["messages"][1]["reasoning_content"] == "R"


@pytest.mark.parametrize(("status", "taught"), [(200, "R"), (401, " "), (400, " "), (429, " ")])
def test_a_client_teaches_only_what_the_provider_took(door: Door, status: int, taught: str) -> None:
    complete = [HISTORY[0], ANSWER, *NEXT[2:]]
    door.answer(door.ask(complete), {"role": "assistant", "content": "Well."}, status)
    assert json.loads(door.ask(NEXT).request.content or b"")["messages"][1]["reasoning_content"] == taught


@pytest.mark.parametrize("answered", [False, True])
def test_a_flow_that_mitmproxy_forgets_is_let_go(door: Door, answered: bool) -> None:
    flow = door.ask(HISTORY[:1])
    if answered:
        flow.response = http.Response.make(200, b"{}", {"content-type": "application/json"})
        door.addon.responseheaders(flow)
    kept = weakref.ref(flow)
    del flow
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("status", [400, 429, 500])
def test_refusals_are_no_turns(door: Door, status: int) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER, status)
    second = door.ask(NEXT)
    assert json.loads(second.request.content or b"")["messages"][1]["reasoning_content"] == " "
    assert second.comment == "filled 1 of 1 turns that were not on record"


def test_compressed_request_bodies_stay_compressed(door: Door) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    body = json.dumps({"model": "deepseek-flash", "messages": NEXT, "tools": TOOLS}).encode()
    flow = door.flow(gzip.compress(body), content_encoding="gzip")
    door.request(flow)
    sent = json.loads(gzip.decompress(flow.request.raw_content or b""))
    assert sent["messages"][1]["reasoning_content"] == "R"


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"{", {}, "the body is not a JSON object"),
        (b"", {}, "the body is not a JSON object"),
        (b"[" * 200_000, {}, "the body is not a JSON object"),
        (b'{"messages":{}}', {}, "messages is not an array"),
        (b'{"messages":["\\q"]}', {}, "the body is not a JSON object"),
        (b'{"messages":"\\ud800"}', {}, "messages is not an array"),
        (b"\x1f\x8bnot gzip", {"content_encoding": "gzip"}, "its body does not decompress"),
        (b"{}", {"content_encoding": "snappy"}, "its body does not decompress"),
    ],
)
def test_bad_bodies_go_on_untouched_with_one_line(
    door: Door, caplog: pytest.LogCaptureFixture, body: bytes, headers: dict[str, str], said: str
) -> None:
    caplog.set_level(logging.INFO)
    flow = door.flow(body, **headers)
    door.request(flow)
    assert flow.request.raw_content == body
    lines = [entry for entry in caplog.records if "forwarded untouched" in entry.getMessage()]
    assert len(lines) == 1 and said in lines[0].getMessage() and lines[0].exc_info is None


def test_a_fault_of_ours_leaves_the_request_as_it_was(
    door: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("text of the conversation")

    monkeypatch.setattr("reasoning_fix.engine.engine.restore", broken)
    caplog.set_level(logging.INFO)
    flow = door.ask(NEXT)
    assert json.loads(flow.request.content or b"")["messages"] == NEXT
    assert "request forwarded untouched: RuntimeError" in caplog.text
    assert "text of the conversation" not in caplog.text


def test_fifty_megabytes(door: Door) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "A" * 50_000_000}}]}
    flow = door.ask([*NEXT, image])
    assert json.loads(flow.request.content or b"")["messages"][1]["reasoning_content"] == "R"


def test_a_streamed_request_body_is_left_alone(door: Door) -> None:
    flow = door.flow(b"")
    flow.request.raw_content = None
    door.request(flow)
    assert flow.request.raw_content is None


@pytest.mark.parametrize(
    ("host", "path", "streamed"),
    [
        ("example.com", "/chat/completions", True),
        ("api.deepseek.com", "/files", True),
        ("api.deepseek.com", "/chat/completions", False),
        ("mitm.it", "/", False),
    ],
)
def test_what_is_not_ours_is_streamed(door: Door, host: str, path: str, streamed: bool) -> None:
    flow = door.flow(b"", host=host, path=path)
    door.addon.requestheaders(flow)
    assert bool(flow.request.stream) is streamed
    flow.response = http.Response.make(200, b"", {"content-type": "application/octet-stream"})
    door.addon.responseheaders(flow)
    assert bool(flow.response.stream) is streamed


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("reasoning_fallback", "maybe", "allowed are auto, disable-thinking, none."),
        ("reasoning_decrypt", "some", "reasoning_decrypt: 'some' was given; allowed are providers, all."),
        ("reasoning_keep_days", "-1", "reasoning_keep_days: '-1' was given; a whole number from 1 up"),
        ("reasoning_keep_days", "0", "reasoning_keep_days: '0' was given; a whole number from 1 up"),
        ("reasoning_view_kilobytes", "-1", "reasoning_view_kilobytes: '-1' was given; a whole number from 0"),
        ("reasoning_disable", "[", "reasoning_disable: '[' was given; a regular expression is allowed"),
        ("reasoning_keep_megabytes", "big", "reasoning_keep_megabytes: 'big' was given; a whole number"),
        ("reasoning_providers", "/nowhere.toml", "reasoning_providers: there is no file '/nowhere.toml'"),
    ],
)
def test_bad_options_say_what_is_allowed(door: Door, option: str, value: str, said: str) -> None:
    with pytest.raises(exceptions.OptionsError, match=re.escape(said)):
        door.context.configure(door.addon, **{option: value})


def test_a_wrong_table_says_where(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[[provider]]\nname = 1\n")
    with pytest.raises(exceptions.OptionsError, match=r"reasoning_providers: .*own\.toml, line 2"):
        door.context.configure(door.addon, reasoning_providers=str(path))


@pytest.mark.parametrize("state", ["answered", "failed", "saved", "streamed"])
def test_what_no_longer_waits_to_be_sent_is_left_alone(door: Door, state: str) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    body = json.dumps({"model": "deepseek-flash", "messages": NEXT, "tools": TOOLS}).encode()
    flow = door.flow(body)
    match state:
        case "answered":
            flow.response = http.Response.make(200, b"by another addon")
        case "failed":
            flow.error = Error("gone")
        case "saved":
            flow.live = False
        case "streamed":
            flow.request.raw_content = None
    door.addon.request(flow)
    assert flow.request.raw_content == (None if state == "streamed" else body)
    assert (flow.comment, flow.metadata) == ("", {})


def test_turns_stay_where_their_limits_are_changed(door: Door) -> None:
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    door.context.configure(door.addon, reasoning_keep_days="5", reasoning_keep_megabytes="64")
    assert door.ask(NEXT).comment == "restored 1 of 1 turns: 1 by context"


def test_connections_to_every_host_are_decrypted_only_when_asked_and_it_is_said(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(ALERT)
    assert caplog.text == ""
    door.context.configure(door.addon, reasoning_decrypt="all")
    assert "connections to every host are decrypted" in caplog.text
    caplog.clear()
    door.context.configure(door.addon, reasoning_decrypt="providers")
    assert caplog.text == ""


def test_requests_too_large_to_be_repaired_are_said(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(ALERT)
    door.context.options.add_option("stream_large_bodies", Optional[str], None, "")  # noqa: UP045
    door.context.configure(door.addon, stream_large_bodies="1m")
    assert "stream_large_bodies is set: requests larger than it cannot be repaired" in caplog.text


def test_providers_of_ones_own(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[[provider]]\nname = "mine"\nhosts = ["llm.example.internal"]\nsource = "https://x.example/"\n'
    )
    door.context.configure(door.addon, reasoning_providers=str(path))
    door.answer(door.ask(HISTORY[:1], host="llm.example.internal", path="/v1/chat/completions"), ANSWER)
    second = door.ask(NEXT, host="llm.example.internal", path="/v1/chat/completions")
    assert json.loads(second.request.content or b"")["messages"][1]["reasoning_content"] == "R"


def test_without_a_credential_people_are_kept_apart_by_conversation(door: Door) -> None:
    one = {"key": "public", "x_opencode_session": "ses_1"}
    door.answer(door.ask(HISTORY[:1], **one), ANSWER)
    mine = door.ask(NEXT, **one)
    theirs = door.ask(NEXT, key="public", x_opencode_session="ses_2")
    assert json.loads(mine.request.content or b"")["messages"][1]["reasoning_content"] == "R"
    assert json.loads(theirs.request.content or b"")["messages"][1]["reasoning_content"] == " "


def test_without_a_credential_one_provider_knows_nothing_of_another(door: Door) -> None:
    flow, table = door.flow(b"", key="public"), load_table()
    one, other = table.provider("api.deepseek.com"), table.provider("api.z.ai")
    assert one is not None and other is not None
    assert callers.credential(flow, one, "ses_1") != callers.credential(flow, other, "ses_1")


def test_a_damaged_secret_leaves_turns_in_memory(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    door.context.configure(door.addon, reasoning_store=str(tmp_path / "turns.sqlite3"))
    door.answer(door.ask(HISTORY[:1]), ANSWER)
    assert door.ask(NEXT).comment.startswith("restored 1 of 1")
    assert "holds 5 bytes where 32 are expected" in caplog.text


def test_an_agent_of_a_conversation_is_a_conversation_of_its_own() -> None:
    named = {"x-session-id": "one", "x-claude-code-agent-id": "two"}
    headers = http.Headers()
    headers.update(named)
    both = callers.session(headers)
    alone = callers.session(http.Headers(x_session_id="one"))
    assert alone == "one" and both != alone and "two" in both
    # An agent that names no conversation is no evidence for one.
    assert callers.session(http.Headers(x_claude_code_agent_id="two")) == ""
