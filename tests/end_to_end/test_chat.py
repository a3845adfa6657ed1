"""A client that copies only role, content and tool calls, a real mitmdump, and providers that refuse that."""

import gzip
import http.client
import json
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import brotli
import openai
import pytest
import zstandard
from cryptography import x509
from openai.types.chat import ChatCompletion

from tests.conftest import StartProxy
from tests.mitmdump import Proxy, client, direct_client, open_connection, raw_post
from tests.provider.simulator import (
    DEEPSEEK,
    DEEPSEEK_MISSING,
    FOREIGN_HOST,
    GLM,
    KIMI,
    MIMO,
    MIMO_MISSING,
    MINIMAX,
    PROVIDERS,
    Provider,
    Simulator,
    dump,
    refusal,
)

type Message = dict[str, Any]
type Spoken = tuple[str, list[Message]]

KEY = "sk-0123456789abcdef-first-person"
OTHER_KEY = "sk-fedcba9876543210-second-person"
THOUGHT = "The user wants the weather in Zürich (苏黎世).\nCall get_weather — °C 🌦."
TOOLS: list[Message] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
IDS = {
    DEEPSEEK: ("call_00_9V0vrf86Pc9aelHCJMZqnJBo", "call_00_Qly4ZbWbBb6iInGZQBD3M394"),
    KIMI: ("functions.get_weather:0", "functions.get_weather:1"),
    GLM: ("call_7cf82e40309b4ccda0cf9448", "call_7cf82e40309b4ccda0cf9449"),
    MIMO: ("call_01e4f0c2a9b84d7f9c3e5a61", "call_01e4f0c2a9b84d7f9c3e5a62"),
    MINIMAX: ("call_function_8p2xkq4m1zta_1", "call_function_8p2xkq4m1ztb_1"),
}
CODINGS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
    "br": (brotli.compress, brotli.decompress),
    "zstd": (zstandard.compress, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
}


class Person:
    """A client of the common kind: it keeps role, content and tool calls, and forgets the rest."""

    def __init__(
        self, api: openai.OpenAI, provider: Provider, opening: str, streamed: bool, **more: Any
    ) -> None:
        self.api, self.provider, self.streamed, self.more = api, provider, streamed, more
        self.history: list[Message] = [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": opening},
        ]

    def ask(self) -> str:
        """One request; its answer is appended to the history. Returns the visible text."""
        arguments = {"model": self.provider.model, "messages": self.history, "tools": TOOLS}
        create = cast(Any, self.api.chat.completions.create)
        if self.streamed:
            text, calls = _collect(create(stream=True, **arguments | self.more))
        else:
            text, calls = _copy(create(**arguments | self.more))
        turn: Message = {"role": "assistant", "content": text}
        if calls:
            turn["tool_calls"] = calls
        self.history.append(turn)
        self.history.extend(
            {"role": "tool", "tool_call_id": call["id"], "content": "21 °C, dry"} for call in calls
        )
        return text

    def says(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})


def _copy(answer: ChatCompletion) -> Spoken:
    message = answer.choices[0].message
    calls = [
        _call(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
        if call.type == "function"
    ]
    return message.content or "", calls


def _collect(events: Iterator[Any]) -> Spoken:
    text, calls = "", cast(dict[int, Message], {})
    for event in events:
        for choice in event.choices:
            text += choice.delta.content or ""
            for part in choice.delta.tool_calls or ():
                call = calls.setdefault(part.index, _call("", "", ""))
                call["id"] = call["id"] or part.id
                call["function"]["name"] = call["function"]["name"] or part.function.name
                call["function"]["arguments"] += part.function.arguments or ""
    return text, list(calls.values())


def _call(call_id: str, name: str, arguments: str) -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def script_three_turns(simulator: Simulator, provider: Provider, conversation: str | None = None) -> None:
    """A tool call, another with text beside it, and the answer."""
    first, second = IDS[provider]
    arguments = '{"city": "Zürich", "days": 2}'
    simulator.say(reasoning=THOUGHT, calls=[(first, "get_weather", arguments)], conversation=conversation)
    simulator.say(
        reasoning="Dry today.\nAnd Oslo?  ",
        text="Let me look at Oslo too.",
        calls=[(second, "get_weather", '{"city":"Oslo"}')],
        conversation=conversation,
    )
    simulator.say(reasoning="Both dry. 好。", text="Both are dry.", conversation=conversation)


def chat(*messages: Message, provider: Provider = DEEPSEEK, **more: Any) -> bytes:
    return dump({"model": provider.model, "messages": list(messages), "tools": TOOLS, **more})


def bearer(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


USER: Message = {"role": "user", "content": "Weather?"}

each_provider = pytest.mark.parametrize("which", PROVIDERS, ids=lambda provider: provider.name)
streamed_or_not = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


# --- without the proxy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "model", "body"),
    [
        (
            DEEPSEEK,
            "deepseek-flash",
            '{"error":{"message":"' + DEEPSEEK_MISSING + '","type":"invalid_request_error","param":null,'
            '"code":"invalid_request_error"}}',
        ),
        *(
            (
                KIMI,
                model,
                '{"error":{"message":"thinking is enabled but reasoning_content is missing in assistant '
                'tool call message at index 2","type":"invalid_request_error"}}',
            )
            for model in ("kimi-k2.6", "kimi-k2.7-code")
        ),
        (
            MIMO,
            "mimo-v2.5-pro",
            'data:{"error":{"code":"400","message":"Param Incorrect","param":"'
            + MIMO_MISSING
            + '","type":""}}',
        ),
    ],
    ids=["deepseek", "kimi-k2.6", "kimi-k2.7", "mimo"],
)
@streamed_or_not
def test_the_second_turn_is_refused_without_the_proxy(
    provider: Simulator, which: Provider, model: str, body: str, streamed: bool
) -> None:
    script_three_turns(provider, which)
    person = Person(direct_client(provider, which.host, KEY), which, "direct", streamed, model=model)
    person.ask()
    with pytest.raises(openai.BadRequestError) as refused:
        person.ask()
    assert refused.value.response.text == body
    assert provider.requests[-1].verdicts == ["missing"]


@pytest.mark.parametrize("which", [GLM, MINIMAX], ids=lambda provider: provider.name)
def test_glm_and_minimax_never_refuse(provider: Simulator, which: Provider) -> None:
    script_three_turns(provider, which)
    more = {"extra_body": {"reasoning_split": True}} if which is MINIMAX else {}
    person = Person(direct_client(provider, which.host, KEY), which, "direct", True, **more)
    person.ask()
    person.ask()
    assert provider.requests[-1].verdicts == ["missing"]


@pytest.mark.parametrize(
    ("which", "body", "refused"),
    [
        (DEEPSEEK, {"tools": TOOLS}, True),
        (DEEPSEEK, {}, False),
        (DEEPSEEK, {"tools": TOOLS, "thinking": {"type": "disabled"}}, False),
        (KIMI, {"model": "kimi-k2.6"}, False),
        (KIMI, {"model": "kimi-k2.7-code"}, True),
        (KIMI, {"model": "kimi-k3"}, False),
        (MIMO, {"tools": TOOLS}, False),
        (GLM, {"tools": TOOLS}, False),
    ],
)
def test_who_refuses_a_plain_turn_without_reasoning(which: Provider, body: Message, refused: bool) -> None:
    messages = [USER, {"role": "assistant", "content": "Dry."}, USER]
    assert (refusal(which, {"messages": messages, **body}) is not None) == refused


def test_deepseek_takes_a_prefix_without_reasoning() -> None:
    messages = [USER, {"role": "assistant", "content": "It", "prefix": True}]
    assert refusal(DEEPSEEK, {"messages": messages, "tools": TOOLS}) is None


# --- through the proxy ----------------------------------------------------------------------------------


@each_provider
@streamed_or_not
def test_three_turns_with_tools_work(
    provider: Simulator, proxy: Proxy, which: Provider, streamed: bool
) -> None:
    script_three_turns(provider, which)
    person = Person(client(proxy, which.host, KEY), which, f"three turns {which.name} {streamed}", streamed)
    texts = [person.ask() for _ in range(3)]
    assert texts[-1].endswith("Both are dry.")
    person.says("Thanks!")
    provider.say(reasoning="Polite.", text="Welcome.")
    person.ask()
    assert [request.verdicts for request in provider.requests] == [[], *(["exact"] * n for n in (1, 2, 3))]


@streamed_or_not
def test_minimax_with_split_reasoning_gets_it_back(provider: Simulator, proxy: Proxy, streamed: bool) -> None:
    script_three_turns(provider, MINIMAX)
    more = {"extra_body": {"reasoning_split": True}}
    person = Person(client(proxy, MINIMAX.host, KEY), MINIMAX, f"split {streamed}", streamed, **more)
    for _ in range(3):
        person.ask()
    assert [request.verdicts for request in provider.requests] == [[], ["exact"], ["exact", "exact"]]


def test_minimax_with_stripped_think_tags_gets_them_back(provider: Simulator, proxy: Proxy) -> None:
    script_three_turns(provider, MINIMAX)
    person = Person(client(proxy, MINIMAX.host, KEY), MINIMAX, "stripped", True)
    for _ in range(3):
        text = person.ask()
        turn = next(message for message in reversed(person.history) if message["role"] == "assistant")
        turn["content"] = text.rpartition("</think>")[2].strip()
    assert [request.verdicts for request in provider.requests] == [[], ["exact"], ["exact", "exact"]]


@streamed_or_not
def test_kimi_k27_gets_an_empty_reasoning_back_as_empty(
    provider: Simulator, proxy: Proxy, streamed: bool
) -> None:
    provider.say(reasoning="", text="Done.")
    provider.say(reasoning="", text="Again.")
    person = Person(
        client(proxy, KIMI.host, KEY), KIMI, f"empty {streamed}", streamed, model="kimi-k2.7-code"
    )
    for saying in ("more", "and more"):
        person.ask()
        person.says(saying)
    assert provider.requests[-1].json["messages"][2]["reasoning_content"] == ""


def test_the_log_says_what_was_restored(provider: Simulator, proxy: Proxy) -> None:
    script_three_turns(provider, DEEPSEEK)
    person = Person(client(proxy, DEEPSEEK.host, KEY), DEEPSEEK, "the log", True)
    person.ask()
    before = len(proxy.lines)
    person.ask()
    proxy.wait_for("restored 1 of 1 turns", after=before)


def test_the_same_request_is_restored_to_the_same_bytes(provider: Simulator, proxy: Proxy) -> None:
    script_three_turns(provider, DEEPSEEK)
    person = Person(client(proxy, DEEPSEEK.host, KEY), DEEPSEEK, "same bytes", True)
    person.ask()
    for _ in range(2):
        provider.say(text="Fine.", reasoning="x")
        del person.history[4:]
        person.ask()
    assert provider.requests[-1].body == provider.requests[-2].body
    assert provider.requests[-1].verdicts == ["exact"]


@pytest.mark.parametrize(
    "body",
    [
        b'{ "model":"deepseek-flash",\t"temperature":1.0e0, '
        b'"messages":[ {"role":"user","content":"\\u00e9 \xc3\xa9"} ] }\n',
        chat(USER, {"role": "assistant", "content": "Dry.", "reasoning_content": "Mine."}, USER),
        chat(USER, {"role": "assistant", "content": "Dry.", "reasoning_content": "Mine."}, USER, stream=True),
    ],
    ids=["odd spelling", "own reasoning", "own reasoning, streamed"],
)
def test_a_body_with_nothing_to_restore_stays_as_it_is(
    provider: Simulator, proxy: Proxy, body: bytes
) -> None:
    provider.say(reasoning="x", text="y")
    status, _, _ = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, body, bearer())
    assert (status, provider.requests[-1].body) == (200, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"[]",
        b"null",
        b'{"messages": 3}',
        b'{"messages": [3, null, {"role": "assistant"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"cut',
        b"\xff\xfe\x00broken",
        b'{"messages":' + b"[" * 5000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_chat_request_stays_as_it_is(provider: Simulator, proxy: Proxy, body: bytes) -> None:
    provider.answer_raw(400, [("content-length", "2")], [b"no"])
    status, _, answer = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, body, bearer())
    assert (status, answer, provider.requests[-1].body) == (400, b"no", body)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
@pytest.mark.parametrize("turns", [0, 1])
def test_an_error_that_says_nothing_of_reasoning_passes_untouched(
    provider: Simulator, proxy: Proxy, status: int, turns: int
) -> None:
    error = b'{"error": {"message":"Thinking mode does not support this tool_choice","code":null}}\n'
    headers = [
        ("content-type", "application/json"),
        ("retry-after", "7"),
        ("content-length", str(len(error))),
    ]
    provider.answer_raw(status, headers, [error])
    history = [USER, *([{"role": "assistant", "content": "Hm.", "reasoning_content": "h"}, USER] * turns)]
    body = chat(*history, stream=True)
    got, got_headers, answer = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, body, bearer())
    assert (got, got_headers["retry-after"], answer) == (status, "7", error)
    assert [request.body for request in provider.requests] == [body]


def test_the_stream_reaches_the_client_byte_for_byte(provider: Simulator, proxy: Proxy) -> None:
    events = [
        b": keep-alive\r\n",
        b'\r\ndata: {"choices":[{"index":0,"de',
        b'lta":{"reasoning_content":"\xe6',
    ]
    events += [b'\x97\xa5"}}]}\n\n', b"data: nonsense\n\nid: 3\nevent: odd\ndata:\n\n", b"data: [DONE]\n\n"]
    provider.answer_raw(200, [("content-type", "text/event-stream"), ("x-ds-trace-id", "t")], events)
    body = chat(USER, stream=True)
    status, headers, answer = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, body, bearer())
    assert (status, headers["x-ds-trace-id"], answer) == (200, "t", b"".join(events))


# --- who may see what -----------------------------------------------------------------------------------


@each_provider
def test_another_credential_gets_nothing_restored(provider: Simulator, proxy: Proxy, which: Provider) -> None:
    thought = f"A secret thought about {which.name}."
    provider.say(reasoning=thought, calls=[(IDS[which][0], "get_weather", '{"city":"Bern"}')])
    provider.say(reasoning="Hm.", text="Fine.")
    opening = f"another credential {which.name}"
    more = {"extra_body": {"reasoning_split": True}} if which is MINIMAX else {}
    first = Person(client(proxy, which.host, KEY), which, opening, True, **more)
    first.ask()
    second = Person(client(proxy, which.host, OTHER_KEY), which, opening, True, **more)
    second.history = first.history
    second.ask()
    assert thought.encode() not in provider.requests[-1].body
    assert provider.requests[-1].verdicts != ["exact"]


def test_no_thought_crosses_between_a_hundred_conversations(provider: Simulator, proxy: Proxy) -> None:
    """All alike but for the opening: same texts, same counting ids, interleaved, two people."""

    def canary(number: int, turn: int) -> str:
        return f"canary-{number:03}-{turn}."

    opening = "Conversation {} of many."
    for number in range(100):
        for turn in range(2):
            provider.say(
                reasoning=canary(number, turn),
                calls=[(f"functions.get_weather:{turn}", "get_weather", '{"city":"Bern"}')],
                conversation=opening.format(number),
            )
        for turn in (2, 3):
            provider.say(reasoning=canary(number, turn), text="Done.", conversation=opening.format(number))
    apis = [client(proxy, KIMI.host, key) for key in (KEY, OTHER_KEY)]
    people = [
        Person(apis[number % 2], KIMI, opening.format(number), streamed=number % 3 > 0)
        for number in range(100)
    ]
    with ThreadPoolExecutor(8) as pool:
        for turn in range(4):
            list(pool.map(Person.ask, people))
            for person in people if turn == 2 else ():
                person.says("Once more.")
    assert len(provider.requests) == 400
    for request in provider.requests:
        number = int(request.conversation.split()[1])
        said = request.body.decode()
        assert said.count("canary-") == said.count(f"canary-{number:03}-"), request.conversation
        assert set(request.verdicts) <= {"exact"}, (request.conversation, request.verdicts)


def test_nothing_readable_is_kept_on_disk_or_in_the_log(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = start_proxy()
    script_three_turns(provider, DEEPSEEK)
    person = Person(client(proxy, DEEPSEEK.host, KEY), DEEPSEEK, "An opening nobody should read.", True)
    for _ in range(3):
        person.ask()
    private = (KEY, KEY[3:20], THOUGHT[:24], "Both dry", "Both are dry", "nobody should read", "Let me look")
    files = [path for path in proxy.home.rglob("*") if path.is_file()]
    assert any(path.name.endswith((".db", ".sqlite", ".sqlite3")) for path in files), files
    # While it runs too: the store's journal is gone afterwards.
    kept = [(path, path.read_bytes()) for path in files if path.exists()]
    assert any(path.name.endswith("-wal") and content for path, content in kept)
    proxy.stop()
    kept += [(path, path.read_bytes()) for path in proxy.home.rglob("*") if path.is_file()]
    for path, content in kept:
        assert not [text for text in private if text.encode() in content], path
    assert not [text for text in private if text in "".join(proxy.lines)]


def test_a_foreign_host_keeps_its_own_certificate(provider: Simulator, proxy: Proxy) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        raw_post(proxy, FOREIGN_HOST, "/", b"x")  # trusts the proxy's CA only
    connection = open_connection(proxy, FOREIGN_HOST)
    connection._context = ssl.create_default_context(cafile=str(provider.ca))  # type: ignore[attr-defined]
    connection.request("POST", "/", b"x")
    assert connection.getresponse().read() == b"foreign"
    connection.close()


def test_only_provider_hosts_are_signed_by_the_proxy(provider: Simulator, proxy: Proxy) -> None:
    def issuer(host: str) -> str:
        connection = open_connection(proxy, host)
        connection._context = ssl._create_unverified_context()  # type: ignore[attr-defined]
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert(binary_form=True)
        connection.close()
        assert certificate is not None
        return x509.load_der_x509_certificate(certificate).issuer.rfc4514_string()

    assert "provider simulator" in issuer(FOREIGN_HOST)
    assert "provider simulator" not in issuer(DEEPSEEK.host)


# --- time -----------------------------------------------------------------------------------------------


def test_a_restart_between_two_turns_loses_nothing(provider: Simulator, start_proxy: StartProxy) -> None:
    script_three_turns(provider, DEEPSEEK)
    first = start_proxy()
    person = Person(client(first, DEEPSEEK.host, KEY), DEEPSEEK, "restart", True)
    person.ask()
    first.stop()
    for _ in range(2):
        proxy = start_proxy(home=first.home)
        person.api = client(proxy, DEEPSEEK.host, KEY)
        person.ask()
        proxy.stop()
    assert [request.verdicts for request in provider.requests] == [[], ["exact"], ["exact", "exact"]]


@each_provider
@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_stream_is_read_and_passed_on_as_it_is(
    provider: Simulator, proxy: Proxy, which: Provider, coding: str
) -> None:
    script_three_turns(provider, which)
    compress, decompress = CODINGS[coding]
    provider.script_coding(coding, compress)
    opening = {"role": "user", "content": f"{coding} {which.name}"}
    split = {"reasoning_split": True} if which is MINIMAX else {}
    body = chat(opening, provider=which, stream=True, **split)
    _, headers, answer = raw_post(
        proxy, which.host, which.chat_path, body, bearer() | {"accept-encoding": "gzip, br, zstd"}
    )
    assert headers["content-encoding"] == coding
    assert b"data: [DONE]" in decompress(answer)
    assert provider.requests[-1].headers["accept-encoding"] == "gzip, br, zstd"
    turn = {"role": "assistant", "content": "", "tool_calls": [_scripted_call(provider)]}
    result = {"role": "tool", "tool_call_id": IDS[which][0], "content": "21"}
    raw_post(
        proxy, which.host, which.chat_path, chat(opening, turn, result, provider=which, **split), bearer()
    )
    assert provider.requests[-1].verdicts == ["exact"]


def _scripted_call(provider: Simulator) -> Message:
    call = provider.ledger.turns[0].calls[0]
    return _call(call.id, call.name, call.arguments)


def test_a_turn_is_on_record_before_its_stream_ends(provider: Simulator, proxy: Proxy) -> None:
    """The provider holds the connection open after `[DONE]`, and the next request does not wait for it."""
    provider.say(
        reasoning=THOUGHT, calls=[(IDS[DEEPSEEK][0], "get_weather", '{"city":"Rome"}')], hold_open=3.0
    )
    provider.say(reasoning="Hm.", text="Fine.")
    connection = open_connection(proxy, DEEPSEEK.host)
    opening = {"role": "user", "content": "held open"}
    headers = bearer() | {"content-type": "application/json"}
    connection.request("POST", DEEPSEEK.chat_path, chat(opening, stream=True), headers)
    response = connection.getresponse()
    seen = b""
    while b"data: [DONE]" not in seen:
        seen += response.read1()
    started = time.monotonic()
    turn = {"role": "assistant", "content": "", "tool_calls": [_scripted_call(provider)]}
    result = {"role": "tool", "tool_call_id": IDS[DEEPSEEK][0], "content": "21"}
    raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, chat(opening, turn, result), bearer())
    assert time.monotonic() - started < 2
    assert provider.requests[-1].verdicts == ["exact"]
    connection.close()


def test_a_client_that_stops_in_mid_stream_gets_the_thought_back(provider: Simulator, proxy: Proxy) -> None:
    provider.say(reasoning=THOUGHT, text="One two three four five six seven eight nine ten.", pause=0.05)
    provider.say(reasoning="Hm.", text="Fine.")
    person = Person(client(proxy, DEEPSEEK.host, KEY), DEEPSEEK, "stops", True)
    create = cast(Any, person.api.chat.completions.create)
    text = ""
    events = create(model=DEEPSEEK.model, messages=person.history, tools=TOOLS, stream=True)
    for event in events:
        text += event.choices[0].delta.content or ""
        if "three" in text:
            events.close()
            break
    time.sleep(0.3)  # the proxy learns of it from the closed connection
    person.history.append({"role": "assistant", "content": text})
    person.says("Go on.")
    person.ask()
    assert text == "One two three"
    assert provider.requests[-1].json["messages"][2]["reasoning_content"] == THOUGHT
    assert provider.requests[-1].verdicts == ["exact"]


def test_a_stream_the_provider_drops_is_remembered_as_far_as_it_came(
    provider: Simulator, proxy: Proxy
) -> None:
    provider.say(reasoning="Count up.", text="One two three four five.", cut_after=8)
    provider.say(reasoning="Hm.", text="Fine.")
    opening = {"role": "user", "content": "dropped"}
    connection = open_connection(proxy, DEEPSEEK.host)
    headers = bearer() | {"content-type": "application/json"}
    connection.request("POST", DEEPSEEK.chat_path, chat(opening, stream=True), headers)
    response = connection.getresponse()
    seen = b""
    try:
        while part := response.read1():
            seen += part
    except (OSError, ValueError, http.client.HTTPException):
        pass
    connection.close()
    events = [json.loads(line[6:]) for line in seen.decode().splitlines() if line.startswith("data: ")]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert text and b"[DONE]" not in seen
    turn = {"role": "assistant", "content": text}
    raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, chat(opening, turn, USER), bearer())
    assert provider.requests[-1].json["messages"][1].get("reasoning_content") == "Count up."


def test_many_streams_at_once_do_not_wait_for_each_other(provider: Simulator, proxy: Proxy) -> None:
    for number in range(10):
        provider.say(reasoning="a b c d e", text="f g h i j", pause=0.05, conversation=f"at once {number}")
    people = [
        Person(client(proxy, DEEPSEEK.host, KEY), DEEPSEEK, f"at once {number}", True) for number in range(10)
    ]
    started = time.monotonic()
    threads = [threading.Thread(target=person.ask) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - started < 4
    assert all(person.history[-1]["content"] == "f g h i j" for person in people)
