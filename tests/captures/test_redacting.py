"""A capture that can be shared: nothing of the original is in it, and a replay of it says the same."""

import base64
import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import flow, http
from mitmproxy.flow import Error
from mitmproxy.test import tflow

from reasoning_fix import cli
from reasoning_fix.captures import flow_files
from reasoning_fix.captures.redacting.bodies import Bodies
from reasoning_fix.captures.redacting.documents import Document
from reasoning_fix.captures.redacting.flows import redact
from reasoning_fix.captures.redacting.pseudonyms import Pseudonyms, respelled
from reasoning_fix.captures.replaying import replay
from reasoning_fix.dialects.turns import Call
from reasoning_fix.engine.history import canonical_arguments, counts_up
from reasoning_fix.providers.refusals import recognise
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import metadata
from reasoning_fix.proxy.chat_request import chat_request
from tests.captured import Studio, told, write
from tests.end_to_end import test_chat as test_end_to_end
from tests.end_to_end import test_dialects as test_dialects_end_to_end
from tests.provider.providers import DEEPSEEK, GLM, KIMI, MINIMAX, OPENROUTER, ZEN, Provider
from tests.provider.refusals import DIALECTS
from tests.provider.settings import Settings
from tests.provider.simulator import Simulator
from tests.provider.turns import Answer, Text, Thought
from tests.provider.turns import Call as Called

TABLE = load_table()
type Message = dict[str, Any]


def pseudonyms(*texts: str) -> Pseudonyms:
    """Stand-ins that have learned these texts."""
    made = Pseudonyms(TABLE.is_placeholder)
    for text in texts:
        made.text(text)
        made.arguments(text)
        made.id(text)
    made.learning = False
    return made


# ---- Words -------------------------------------------------------------------------------------------------

WORDS = st.text(st.sampled_from('abAB01éß天地 \n.,-_<>/"\\😀'), max_size=40)


@given(WORDS, WORDS)
def test_equal_texts_stay_equal_and_others_do_not(one: str, other: str) -> None:
    to = pseudonyms(one, other)
    assert (to.text(one) == to.text(other)) == (one == other)
    assert to.text(one) == to.text(one)


@given(WORDS)
def test_length_white_space_and_punctuation_stay(text: str) -> None:
    new = pseudonyms(text).text(text)
    assert len(new) == len(text) and len(new.encode()) == len(text.encode())
    for old, now in zip(text, new, strict=True):
        assert old.isalnum() == now.isalnum() and old.isupper() == now.isupper()
        assert old.isalnum() or old == now


@given(WORDS, WORDS)
def test_what_begins_alike_begins_alike(head: str, tail: str) -> None:
    to = pseudonyms(head, head + tail)
    assert to.text(head + tail).startswith(to.text(head)) or TABLE.is_placeholder(head)


@given(WORDS, WORDS, WORDS)
def test_a_text_within_another_stays_within_it(before: str, text: str, after: str) -> None:
    whole = f"{before} {text} {after}"
    to = pseudonyms(whole, text)
    assert to.text(text) in to.text(whole)


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<mm:think>", "</mm:think>", "<system-reminder>"])
def test_tags_stay(tag: str) -> None:
    new = pseudonyms("Secret words").text(f"Secret{tag}words secretthink>")
    assert tag in new and new.endswith("think>") and "ecret" not in new


def test_placeholders_stay() -> None:
    for text in ("", " ", "\n", *TABLE.placeholders, TABLE.stand_in.replace("{turn}", "1f3a9c2b")):
        assert pseudonyms("some words").text(text) == text


def test_no_stand_in_is_a_word_of_the_originals() -> None:
    """Short words fill their whole alphabet, so a blind choice would hit some of them."""
    words = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=4)) for n in range(20000)]
    text = " ".join(words)
    new = pseudonyms(text).text(text)
    assert not set(new.split()) & set(words)
    assert len(set(new.split())) == len(set(words))


def test_long_words_take_linear_time_and_stay_apart() -> None:
    one, other = "a" * 100_000, "a" * 99_999 + "b"
    to = pseudonyms(one, other)
    assert to.text(one) != to.text(other) and to.text(other).startswith(to.text(one[:99_999]))


def test_two_files_share_no_stand_in() -> None:
    text = "the very same words in two captures of one person"
    assert pseudonyms(text).text(text) != pseudonyms(text).text(text)


# ---- Arguments, ids, signatures ----------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | WORDS | st.integers(0, 9**9).map(float),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_arguments_are_alike_however_they_are_spelled(one: object, other: object) -> None:
    spelled = [
        json.dumps(one),
        json.dumps(one, ensure_ascii=False, indent=1),
        msgspec.json.encode(one).decode(),
    ]
    written = json.dumps(other)
    to = pseudonyms(*spelled, written)
    made = {canonical_arguments(to.arguments(text)) for text in spelled}
    assert len(made) == 1
    assert all(len(to.arguments(text)) == len(text) for text in spelled)
    same = canonical_arguments(spelled[0]) == canonical_arguments(written)
    assert (canonical_arguments(to.arguments(written)) in made) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [('{"a": 123456}', '{"a":123456.0}'), ('{"a": 1234.50}', '{"a":1234.5}'), ("  ", "null"), ("{}", "")],
)
def test_numbers_keep_their_value_whatever_their_spelling(one: str, other: str) -> None:
    to = pseudonyms(one, other)
    assert canonical_arguments(to.arguments(one)) == canonical_arguments(to.arguments(other))


def test_declared_names_stay_in_arguments() -> None:
    to = pseudonyms()
    to.property_names = {"city"}
    new = to.arguments('{"city": "Bielefeld", "whoever": {"city": 12345678}, "n": 21}')
    assert re.fullmatch(r'\{"city": "[A-Z][a-z]{8}", "[a-z]{7}": \{"city": \d{8}\}, "[a-z]": 21\}', new)
    assert "Bielefeld" not in new and "whoever" not in new and "12345678" not in new


def test_arguments_that_were_cut_short_are_texts() -> None:
    to = pseudonyms('{"city": "Bielefeld"', '{"city": "Biele')
    assert to.arguments('{"city": "Bielefeld"').startswith(to.arguments('{"city": "Biele'))


IDS = {
    "call_00_9V0vrf86Pc9aelHCJMZqnJBo": r"call_00_[0-9A-Za-z]{24}",
    "functions.get_weather:0": r"functions\.get_weather:0",
    "get_weather_0": "get_weather_0",
    "toolu_01A09q90qw90lq917835lq9": r"toolu_[0-9A-Za-z]{23}",
    "call_7cf82e40309b4ccda0cf9448": r"call_[0-9a-z]{24}",
    "call_function_8p2xkq4m1zta_1": r"call_function_[0-9a-z]{12}_1",
    "call_3": "call_3",
}


@pytest.mark.parametrize(("given_id", "make"), IDS.items(), ids=IDS)
def test_the_make_of_an_id_stays(given_id: str, make: str) -> None:
    to = pseudonyms(given_id)
    to.name_tool("get_weather")
    new = to.id(given_id)
    assert re.fullmatch(make, new)
    counter = counts_up(Call(given_id, "get_weather", "{}"))
    assert counts_up(Call(new, "get_weather", "{}")) == counter
    assert counter or new != given_id


def test_signatures_and_images() -> None:
    to = pseudonyms()
    image = "data:image/png;base64," + base64.b64encode(bytes(range(200))).decode()
    assert to.blob(image).startswith("data:image/png;base64,") and len(to.blob(image)) == len(image)
    assert to.blob(image) == to.blob(image) != image
    assert to.blob("ErUBCkYIBRgC==") != to.blob("ErUBCkYIBRgD==")


@given(WORDS, st.booleans())
def test_characters_are_spelled_as_before(text: str, ascii_only: bool) -> None:
    inner = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
    to = pseudonyms(text)
    new = respelled(inner, to.text)
    assert json.loads(f'"{new}"') == to.text(text)
    assert len(new) == len(inner) and new.isascii() == inner.isascii()


@given(VALUES)
def test_a_document_that_is_not_changed_stays_as_it_is(value: object) -> None:
    text = json.dumps([value], indent=1)
    assert Document(text).written() == text


def test_what_is_nested_deep_is_redacted_as_the_rest() -> None:
    inside = '"a secret", -1.5, {"its name": [true, "another secret"]}'
    deep = f'{{"role": "user", "content": {"[" * 5000}{inside}{"]" * 5000}, "model": "deepseek-flash"}}'
    written = Bodies(pseudonyms("a secret", "its name", "another secret")).request(deep.encode()).decode()
    assert not any(word in written for word in ("secret", "another", "its name"))
    assert len(written) == len(deep) and written.count("[") == deep.count("[")
    assert written.startswith('{"role": "user"') and written.endswith('"model": "deepseek-flash"}')


DEEP = "[" * 300


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "{]", '{"a" 1}', "[1 2]", '["a]', "[1],", "nonsense", '{"a":b}'),
        *(DEEP, DEEP + "nonsense" + "]" * 300, DEEP + '"a'),
    ],
)
def test_what_is_no_document_is_said_so(text: str) -> None:
    with pytest.raises(ValueError):
        Document(text)


# ---- Conversations that are made up ------------------------------------------------------------------------

HOSTS: list[tuple[Provider, str, str]] = [
    (DEEPSEEK, "chat", "deepseek-flash"),
    (DEEPSEEK, "messages", "deepseek-flash"),
    (DEEPSEEK, "responses", "deepseek-flash"),
    (KIMI, "chat", "kimi-k2.6"),
    (KIMI, "messages", "kimi-k2.6"),
    (MINIMAX, "chat", "minimax-m2.7"),
    (MINIMAX, "messages", "minimax-m2.7"),
    (GLM, "chat", "glm-5.3-flash"),
    (OPENROUTER, "chat", "moonshotai/kimi-k2.6"),
    (ZEN, "responses", "gpt-5"),
]
TEXTS = [
    "Done.",
    "Let me look it up for you.",
    "It is dry in Zürich (苏黎世).",
    "ok",
    "One two three four five six",
]
THOUGHTS = ["Hm.", "Somebody wants\nthe weather.", "天气。Look there.", ""]
ARGUMENTS = ["{}", '{"city": "Zürich", "days": 2}', '{"city":"Oslo","near":{"town":"Bergen"},"zip":123456.0}']
CALL_IDS = [
    "call_00_9V0vrf86Pc9aelHCJMZqnJBo",
    "call_00_9V0vrf86Pc9aelHCJMZqnJBx",
    "functions.look:0",
    "look_1",
]
TOOL = {"city": {"type": "string", "description": "Which town"}, "days": {"type": "integer"}}


class Chatter:
    """Random conversations of forgetful clients, as flows: nothing is sent anywhere."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.flows: list[flow.Flow] = []
        self.time = 1_700_000_000.0
        self.number = 0

    def flow(self, provider: Provider, dialect: str, body: Message, key: str, answer: Answer | None) -> None:
        paths: dict[str, Sequence[str]] = {
            "chat": provider.chat,
            "messages": provider.messages,
            "responses": provider.responses,
        }
        made = tflow.tflow(err=False)
        made.request = http.Request.make("POST", f"https://{provider.host}{paths[dialect][0]}")
        made.request.headers["authorization"] = f"Bearer {key}"
        made.request.content = self.spelled(body)
        self.time += 10
        made.request.timestamp_start = made.request.timestamp_end = self.time
        if answer is not None:
            self.number += 1
            speaks = DIALECTS[dialect]
            said = speaks.render(provider, body, answer, Settings(), self.number)
            kind = "text/event-stream" if body.get("stream") else "application/json"
            made.response = http.Response.make(200, b"".join(said.chunks), {"content-type": kind})
            made.response.timestamp_start = self.time
            made.response.timestamp_end = self.time + self.random.choice([5, 5, 5, 15])
            if body.get("stream") and self.random.random() < 0.2:
                kept = said.chunks[: self.random.randrange(len(said.chunks) + 1)]
                made.response.raw_content = b"".join(kept)
                made.error = Error("cut", self.time + 4)
        self.flows.append(made)

    def spelled(self, body: Message) -> bytes:
        return json.dumps(
            body, ensure_ascii=self.random.random() < 0.5, indent=self.random.choice([None, 1])
        ).encode()

    def answer(self) -> Answer:
        pick = self.random.choice
        parts: list[Any] = [Thought(pick(THOUGHTS))] if self.random.random() < 0.9 else []
        if self.random.random() < 0.7:
            parts.append(Text(pick(TEXTS)))
        for _ in range(pick([0, 0, 1, 1, 2])):
            parts.append(Called(pick(CALL_IDS), "survey", pick(ARGUMENTS)))
        return Answer(tuple(parts or [Text("Fine then.")]))

    def converse(self) -> None:
        provider, dialect, model = self.random.choice(HOSTS)
        key = self.random.choice(["sk-one-0123456789abcdef", "sk-two-0123456789abcdef"])
        streamed = self.random.random() < 0.6
        history: list[Message] = [{"role": "user", "content": self.random.choice(TEXTS)}]
        tool: Message = {"name": "survey", "description": "Looks around"}
        schema = {"type": "object", "properties": TOOL, "required": ["city"]}
        tools: Message = {
            "chat": {"type": "function", "function": tool | {"parameters": schema}},
            "messages": tool | {"input_schema": schema},
            "responses": tool | {"type": "function", "parameters": schema},
        }[dialect]
        for _ in range(self.random.randrange(2, 5)):
            sent = history if self.random.random() < 0.7 else self.edited(history)
            member = "input" if dialect == "responses" else "messages"
            body = {"model": model, "stream": streamed, member: sent, "tools": [tools]}
            if dialect == "messages":
                body |= {"max_tokens": 99}
            answer = self.answer() if self.random.random() < 0.95 else None
            self.flow(provider, dialect, body, key, answer)
            if answer is not None:
                history = [*history, *self.kept(dialect, answer)]
            history = [*history, {"role": "user", "content": self.random.choice(TEXTS)}]

    def kept(self, dialect: str, answer: Answer) -> list[Message]:
        """What a client that forgets reasoning keeps of an answer."""
        if dialect == "chat":
            calls = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": self.again(c)}}
                for c in answer.calls
            ]
            text = answer.text.strip() if self.random.random() < 0.3 else answer.text
            content: Any = text or None
            if text and self.random.random() < 0.3:
                at = self.random.randrange(len(text) + 1)
                content = [{"type": "text", "text": text[:at]}, {"type": "text", "text": text[at:]}]
            message = {"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {})
            return [
                message,
                *({"role": "tool", "tool_call_id": c.id, "content": "21 °C"} for c in answer.calls),
            ]
        if dialect == "messages":
            blocks: list[Message] = [{"type": "text", "text": answer.text}] if answer.text else []
            blocks += [
                {"type": "tool_use", "id": c.id, "name": c.name, "input": json.loads(c.arguments)}
                for c in answer.calls
            ]
            results = [
                {"type": "tool_result", "tool_use_id": c.id, "content": [{"type": "text", "text": "21 °C"}]}
                for c in answer.calls
            ]
            found: list[Message] = [{"role": "assistant", "content": blocks or ""}]
            return found + ([{"role": "user", "content": results}] if results else [])
        items: list[Message] = []
        if answer.text:
            part = {"type": "output_text", "text": answer.text, "annotations": []}
            items.append({"type": "message", "role": "assistant", "content": [part]})
        for c in answer.calls:
            call = {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": self.again(c)}
            items += [call, {"type": "function_call_output", "call_id": c.id, "output": "21 °C"}]
        return items

    def again(self, call: Called) -> str:
        """Arguments, printed again by some clients."""
        if self.random.random() < 0.5:
            return call.arguments
        return json.dumps(json.loads(call.arguments), indent=2, sort_keys=True)

    def edited(self, history: list[Message]) -> list[Message]:
        """What clients do to a history: compact it, cut a turn short, open it anew."""
        match self.random.randrange(4):
            case 0:
                return [{"role": "user", "content": "In brief: " + TEXTS[0]}, *history[2:]]
            case 1:
                return [{"role": "system", "content": f"Today is {self.random.choice(TEXTS)}"}, *history]
            case 2:
                cut = [dict(message) for message in history]
                for message in cut:
                    if message.get("role") == "assistant" and isinstance(message["content"], str):
                        message["content"] = message["content"][: self.random.randrange(20)]
                return cut
            case _:
                return history[:-1]


def chatter(seed: int) -> list[flow.Flow]:
    made = Chatter(seed)
    for _ in range(4):
        made.converse()
    return made.flows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_a_replay_says_the_same_of_a_redacted_capture(seed: int) -> None:
    flows = chatter(seed)
    redacted = redact(flows, TABLE)
    assert told(replay(redacted.flows, TABLE)) == told(replay(flows, TABLE))
    assert len(redacted.flows) == len(flows)


def test_the_made_up_conversations_are_worth_something() -> None:
    """Or the property above would hold of nothing."""
    statuses: set[str] = set()
    ways: set[str] = set()
    answers: set[str] = set()
    for seed in range(60):
        summary = replay(chatter(seed), TABLE).summary
        statuses |= summary.turns.keys()
        ways |= summary.evidence.keys()
        answers |= summary.answers.keys()
    assert statuses >= {"restored", "filled", "absent", "empty"}
    assert ways == {"context", "tool-call id", "neighbouring turn", "distinctive turn"}
    assert answers >= {"recorded", "none"}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9))
def test_no_word_of_a_conversation_is_left(seed: int) -> None:
    flows = chatter(seed)
    left = " ".join(bodies(redact(flows, TABLE).flows))
    for text in (*TEXTS, *THOUGHTS, "Bergen", "Oslo", "Which town", "Looks around", "brief Today"):
        for word in re.findall(r"[^\W_]{4,}", text):
            assert not re.search(rf"(?<![^\W_]){word}(?![^\W_])", left), word
    for call_id in CALL_IDS[:2]:
        assert call_id not in left and call_id[-24:] not in left
    assert "sk-one" not in left and "sk-two" not in left and "0123456789abcdef" not in left


def bodies(flows: Sequence[flow.Flow]) -> Iterator[str]:
    """Everything that flows hold, escapes undone; deltas of texts put together."""
    for one in flows:
        assert isinstance(one, http.HTTPFlow)
        parts = [one.request.url, repr(one.request.headers.fields), (one.request.content or b"").decode()]
        if one.response is not None:
            parts += [repr(one.response.headers.fields), (one.response.content or b"").decode()]
        for part in parts:
            yield re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), part).replace('\\\\"', '"')
            fragments = re.findall(
                r'"(?:content|text|thinking|reasoning_content|reasoning|delta)": ?"([^"]*)"', part
            )
            yield "".join(fragments)


# ---- What is not said, but known ---------------------------------------------------------------------------

CANARIES = {
    "authorization": "Bearer sk-canarykey0123456789",
    "x-api-key": "sk-ant-canarykey987",
    "api-key": "canaryazurekey",
    "cookie": "session=canarycookie",
    "msh-org-id": "org-canary",
    "x-forwarded-for": "203.0.113.77",
    "openai-organization": "org-canaryorg",
    "http-referer": "https://canary.example",
    "x-title": "canary title",
    "x-opencode-session": "ses_canarysession",
    "user-agent": "tool/1.0 (canary@example.org; canarycanarycanary1)",
    "traceparent": "00-canarytrace-01",
}
SECRET_BODY: dict[str, Any] = {
    "model": "deepseek-flash",
    "user": "canaryuser",
    "metadata": {"user_id": "user_canaryhash_account__session_canary", "canarykey": "canaryvalue"},
    "prompt_cache_key": "canary-cache",
    "safety_identifier": "canarysafety",
    "canary_free": ["canary in a list", {"deep": "canary deep"}],
    "stop": ["canarystop"],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "canary description",
                "parameters": {
                    "type": "object",
                    "title": "canary title",
                    "properties": {"city": {"enum": ["canarycity"], "default": "canarydefault"}},
                },
            },
        },
        {
            "type": "mcp",
            "server_url": "https://canary.example/?key=canary",
            "headers": {"canaryauth": "canary"},
        },
    ],
    "messages": [
        {"role": "system", "content": "canary system"},
        {"role": "user", "name": "canaryname", "content": "canary", "content": "canary again"},  # noqa: F601
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "canary part"},
                {"type": "image_url", "image_url": {"url": "https://canary.example/canary.png"}},
                {"type": "file", "file": {"filename": "canary.pdf", "file_data": "Y2FuYXJ5Y2FuYXJ5"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_00_canarycanarycanary",
                    "type": "function",
                    "function": {
                        "name": "look",
                        "arguments": '{"canaryarg": "canary\\nvalue", "n": 5551234567}',
                    },
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_00_canarycanarycanary", "content": '{"canary": "canary"}'},
    ],
}


def secret_flow() -> http.HTTPFlow:
    made = tflow.tflow()
    made.request = http.Request.make(
        "POST", "https://api.deepseek.com/chat/completions?api_key=canaryquery&beta=true&canarys=1"
    )
    for name, value in CANARIES.items():
        made.request.headers[name] = value
    made.request.content = (
        json.dumps(SECRET_BODY).replace('"canary again"', '"x", "content": "canary twice"').encode()
    )
    made.response = http.Response.make(
        200,
        b": canary comment\nevent: canary event\nid: canaryid\ndata: canary nonsense\n\n"
        b'data: {"id":"canaryanswer","model":"deepseek-flash","choices":[{"index":0,"delta":'
        b'{"content":"can","canary_more":"canary"}}]}\n\ndata: {"choices":[{"delta":{"content":"ary"}}],\n'
        b'data: "usage":{"total_tokens":12345}}\n\ndata: {"choices":[{"delta":{"content":"canary cut',
        {"content-type": "text/event-stream", "set-cookie": "canary=1", "x-ds-trace-id": "canarytrace"},
    )
    made.response.reason = "canary reason"
    made.comment = "a comment of canary"
    made.metadata["canary"] = "canary"
    made.metadata[metadata.KEY] = {
        "model": "canary of somebody",
        "turns": [[3, "canary, of 7!", "", 0]],
        "refused": "CANARY",
        "changed": ["canary value!", "temperature"],
        "lessons": [["missing", "Canary 7"], ["missing", " "]],
        "wishes": ["Canary!", "canary", False],
        "evidence": {"Canary": 1},
    }
    made.client_conn.peername = ("203.0.113.77", 55555)
    made.server_conn.peername = ("198.51.100.99", 443)
    made.server_conn.sni = "canary.example"
    made.error = Error("canary error at 203.0.113.77")
    return made


PRIVATE = (b"canary", b"203.0.113.77", b"198.51.100.99", b"5551234567", b"Y2FuYXJ5", b"0123456789")


def test_nothing_private_is_left_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "secret.mitm", [secret_flow(), tflow.ttcpflow(), tflow.tflow(resp=True)])
    out = tmp_path / "shared.mitm"
    assert path.read_bytes().lower().count(b"canary") > 50
    assert cli.main(["redact", str(path), str(out)]) == 0
    assert "1 chat requests; 2 other flows were left out" in capsys.readouterr().out
    written = out.read_bytes().lower()
    # Names of members are no texts: the wire formats have them, or a client of its own.
    written = written.replace(b"canary_free", b"").replace(b"canary_more", b"")
    for private in PRIVATE:
        assert private.lower() not in written
    assert out.stat().st_mode & 0o777 == 0o600
    (one,) = flow_files.load(out)
    assert isinstance(one, http.HTTPFlow) and one.request.content is not None and one.response is not None
    body = json.loads(one.request.content)
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "user",
        "assistant",
        "tool",
    ]
    assert body["messages"][3]["tool_calls"][0]["function"]["name"] == "look"
    assert body["tools"][0]["function"]["parameters"]["properties"].keys() == {"city"}
    assert one.request.query["beta"] == "true" and set(one.request.query.keys()) >= {"api_key", "beta"}
    assert b'"total_tokens":12345' in (one.response.content or b"")
    noted = metadata.read(one.metadata)
    assert noted is not None and noted.changed == ["temperature"] and noted.lessons == [("missing", " ")]
    assert one.response.headers.fields == ((b"content-type", b"text/event-stream"),)


def test_a_word_cut_across_deltas_is_one_word() -> None:
    to = pseudonyms("Bielefeld")
    bodies_of = Bodies(to)
    events = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % part
        for part in (b"Bie", b"lefel", b"d")
    )
    new = bodies_of.answer(events, "chat_completions", True, False)
    assert "".join(re.findall(r'"content":"(\w*)"', new.decode())) == to.text("Bielefeld")


def test_a_tools_schema_keeps_its_names_and_nothing_of_its_texts() -> None:
    city = {
        "type": ["string", "null"],
        "description": "canary",
        "enum": ["canary one", 90210, {"canarykey": ["canary two"]}, True],
        "anyOf": [{"type": "string", "title": "canary", "properties": {"zip": {"default": "canary"}}}],
        "default": {"canarykey": 90210},
        "const": 90210,
        "maxLength": 40,
    }
    # Also a property that is named like a keyword.
    example = {"type": "string", "description": "canary"}
    properties = {"city": city, "example": example}
    schema = {"type": "object", "properties": properties, "required": ["city"], "examples": ["canary"]}
    look = {"name": "look", "description": "canary", "parameters": schema}
    body = json.dumps({"model": "m", "messages": [], "tools": [{"type": "function", "function": look}]})
    to = Pseudonyms(TABLE.is_placeholder)
    Bodies(to).request(body.encode())
    to.learning = False
    made = Bodies(to).request(body.encode())
    assert b"canary" not in made and b"90210" not in made
    kept = json.loads(made)["tools"][0]["function"]
    assert kept["name"] == "look"
    parameters = kept["parameters"]
    assert parameters["properties"]["example"]["type"] == "string"
    assert (parameters["type"], parameters["required"]) == ("object", ["city"])
    assert parameters["properties"]["city"]["type"] == ["string", "null"]
    assert parameters["properties"]["city"]["maxLength"] == 40
    assert parameters["properties"]["city"]["anyOf"][0]["properties"].keys() == {"zip"}


def test_answers_in_parts_and_legacy_calls_lose_their_texts() -> None:
    said = {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "canary one"}]},
            {"type": "text", "text": "canary two"},
        ],
        "function_call": {"name": "look", "arguments": '{"city": "canary three"}'},
    }
    body = json.dumps({"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}).encode()
    to = pseudonyms("canary one", "canary two", "canary three")
    made = Bodies(to).answer(body, "chat_completions", False, False)
    assert b"canary" not in made
    message = json.loads(made)["choices"][0]["message"]
    thought, text = message["content"]
    assert (thought["type"], thought["thinking"][0]["text"]) == ("thinking", to.text("canary one"))
    assert text["text"] == to.text("canary two")
    assert message["function_call"]["name"] == "look"


def test_snapshots_stay_snapshots() -> None:
    to = pseudonyms("Bielefeld is here")
    parts = [b"Bie", b"Bielefeld", b"Bielefeld is here"]
    events = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % p for p in parts)
    new = Bodies(to).answer(events, "chat_completions", True, True).decode()
    assert re.findall(r'"content":"([\w ]*)"', new) == [to.text(part.decode()) for part in parts]


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"The `reasoning_content` in the thinking mode must be passed back to the API. '
        b'Request of canary: canarytext","type":"invalid_request_error","code":null}}',
        b'data:{"error":{"code":"400","message":"Param Incorrect","param":"The reasoning_content in the '
        b'thinking mode must be passed back to the API canary","type":""}}',
        b"<html>canary: reasoning_content in the thinking mode must be passed back canary</html>",
    ],
)
def test_a_refusal_is_known_by_its_words_alone(body: bytes) -> None:
    to = Pseudonyms(TABLE.is_placeholder, frozenset())
    assert b"canary" not in Bodies(_learned(to, body)).refusal(body)
    one = secret_flow()
    assert one.response is not None
    one.response.status_code, one.response.raw_content = 400, body
    (made,) = redact([one], TABLE).flows
    assert isinstance(made, http.HTTPFlow) and made.response is not None and made.response.content is not None
    assert recognise(made.response.content, TABLE) == recognise(body, TABLE) != None  # noqa: E711
    assert b"canary" not in made.response.content


def _learned(to: Pseudonyms, body: bytes) -> Pseudonyms:
    Bodies(to).refusal(body)
    to.learning = False
    return to


def test_people_and_conversations_stay_apart() -> None:
    """Tokens that are renewed are one person, as they are to the store."""

    def token(subject: str, issued: int) -> str:
        parts = [{"alg": "none"}, {"iss": "canary", "sub": subject, "iat": issued}, {"x": issued}]
        return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)

    keys = ["sk-a", "sk-b", "sk-a", token("one", 1), token("one", 2), token("two", 1)]
    flows = []
    for number, key in enumerate(keys):
        one = secret_flow()
        del one.request.headers["x-api-key"], one.request.headers["api-key"]
        one.request.headers["authorization"] = f"Bearer {key}"
        one.request.headers["x-session-id"] = f"session-{number % 2}-of-somebody"
        one.client_conn.peername = (f"203.0.113.{number % 3}", 1)
        flows.append(one)
    made = [one for one in redact(flows, TABLE).flows if isinstance(one, http.HTTPFlow)]
    sent = [one.request.headers["authorization"] for one in made]
    assert [sent.index(key) for key in sent] == [0, 1, 0, 3, 3, 5]
    named = [one.request.headers["x-session-id"] for one in made]
    assert [named.index(name) for name in named] == [0, 1, 0, 1, 0, 1]
    peers = [one.client_conn.peername[0] for one in made]
    assert [peers.index(peer) for peer in peers] == [0, 1, 2, 0, 1, 2]


def test_account_names_in_hosts_and_paths_go(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[provider]]\nname = "mine"\nhosts = ["*.azuredatabricks.net"]\n')
    table = load_table(own)
    one = secret_flow()
    one.request.url = (
        "https://adb-1234567890123456.7.azuredatabricks.net/accounts/0a1b2c3d4e5f6a7b/v1/chat/completions"
    )
    one.request.headers["host"] = "adb-1234567890123456.7.azuredatabricks.net"
    (made,) = redact([one], table).flows
    assert isinstance(made, http.HTTPFlow)
    assert re.fullmatch(
        r"https://[a-z]{3}-\d{16}\.7\.azuredatabricks\.net/accounts/\w{16}/v1/chat/completions",
        made.request.url,
    )
    assert "1234567890123456" not in made.request.url and "0a1b2c3d4e5f6a7b" not in made.request.url
    assert chat_request(1, made, table) is not None


@pytest.mark.parametrize("coding", ["gzip", "odd"])
def test_compressed_answers(coding: str) -> None:
    one = secret_flow()
    assert one.response is not None
    one.response.headers["content-encoding"] = coding
    one.response.raw_content = gzip.compress(one.response.raw_content or b"")
    (made,) = redact([one], TABLE).flows
    assert isinstance(made, http.HTTPFlow) and made.response is not None
    assert "content-encoding" not in made.response.headers
    assert (made.response.raw_content is None) == (coding == "odd")


@given(st.binary(max_size=200) | WORDS.map(str.encode), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_can_be_redacted(body: bytes, streamed: bool) -> None:
    to = Pseudonyms(TABLE.is_placeholder)
    made = Bodies(to)
    for _ in range(2):
        for dialect in ("chat_completions", "messages", "responses"):
            made.answer(body, dialect, streamed, True)
            made.answer(b"data: " + body + b"\n\ndata: {}\n\n", dialect, True, False)
        made.request(body)
        made.refusal(body)
        to.learning = False


# ---- Real captures -----------------------------------------------------------------------------------------

REAL = {
    "chat": ("test_what_a_client_drops_goes_back_exactly", "chat/deepseek"),
    "messages": ("test_what_a_client_drops_goes_back_exactly", "messages/minimax"),
    "responses": ("test_what_a_client_drops_goes_back_exactly", "responses/deepseek"),
    "details": ("test_what_a_client_drops_goes_back_exactly", "chat/minimax split"),
    "kept": ("test_what_a_client_keeps_is_not_touched", "messages/deepseek"),
}


@pytest.mark.parametrize(("name", "which"), REAL.values(), ids=REAL)
def test_a_real_capture(
    provider: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, which: str
) -> None:
    scenario = getattr(test_dialects_end_to_end, name)
    more = {"streamed": True} if "drops" in name else {}
    studio = Studio(provider, tmp_path)
    captured = studio.take(scenario, name=which, who=test_dialects_end_to_end.EVERY[which], **more)
    out = tmp_path / "out.mitm"
    assert cli.main(["redact", str(studio.files[0]), str(out)]) == 0
    before, after = replay(captured.flows, TABLE), replay(flow_files.load(out), TABLE)
    assert told(before) == told(after) and before.summary == after.summary
    left = " ".join(bodies(flow_files.load(out)))
    # The names of tools are part of the format, and this one is called after its subject.
    for word in ("Zürich", "Oslo", "奥斯陆", "Polite", "Welcome", "dry", "Thanks", "0123456789abcdef"):
        assert not re.search(rf"(?<![^\W_]){word}(?![^\W_])", left), word
    assert not chat_request(1, flow_files.load(out)[-1], TABLE).altered  # type: ignore[union-attr]


def test_a_capture_of_refusals(provider: Simulator, tmp_path: Path) -> None:
    row = test_dialects_end_to_end.MISSING["kimi wants plain turns too"]
    captured = Studio(provider, tmp_path).take(
        test_dialects_end_to_end.test_missing_reasoning_is_repaired_and_learned,
        opening="kimi wants plain turns too",
        row=row,
        streamed=True,
    )
    made = redact(captured.flows, TABLE)
    before, after = replay(captured.flows, TABLE), replay(made.flows, TABLE)
    assert told(before) == told(after)
    assert [one.remarks for one in before.requests] == [one.remarks for one in after.requests]
    assert before.requests[0].remarks == ["it was refused at first, repaired and sent again"]


def test_the_copy_is_never_written_over_another_file(
    provider: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = Studio(provider, tmp_path)
    studio.take(
        test_end_to_end.test_three_turns_with_tools_work, which=test_end_to_end.DEEPSEEK, streamed=False
    )
    path = studio.files[0]
    before = path.read_bytes()
    assert cli.main(["redact", str(path), str(path)]) == 2
    assert path.read_bytes() == before
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["redact", str(path), str(tmp_path / "no" / "such")]) == 2
    other = write(tmp_path / "other.mitm", [tflow.tflow(resp=True)])
    assert cli.main(["redact", str(other), str(tmp_path / "new.mitm")]) == 2
    assert "holds no chat request" in capsys.readouterr().err and not (tmp_path / "new.mitm").exists()
