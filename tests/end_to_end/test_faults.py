"""Whoever dies, and whatever is taken away, while a real mitmdump works: streams go on, and nothing is lost.

The store's own faults are in test_store_faults.py.
"""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import SAMPLES
from tests.conftest import StartProxy
from tests.mitmdump import ADDON, Proxy, open_connection, raw_post
from tests.provider.refusals import Asked
from tests.provider.simulator import DEEPSEEK, Simulator, dump
from tests.provider.turns import Answer, Text, Thought

type Message = dict[str, Any]

KEY = "sk-0123456789abcdef-unlucky"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
STREAM = [("content-type", "text/event-stream")]
DATA = Path(".local/share/reasoning-fix")


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def chat(*messages: Message, **more: Any) -> bytes:
    return dump({"model": DEEPSEEK.model, "messages": list(messages), "tools": TOOLS, **more})


def ask(proxy: Proxy, *messages: Message, **more: Any) -> tuple[int, bytes]:
    headers = {"authorization": f"Bearer {KEY}"}
    status, _, body = raw_post(proxy, DEEPSEEK.host, DEEPSEEK.chat_path, chat(*messages, **more), headers)
    return status, body


def begin(proxy: Proxy, body: bytes, path: str = DEEPSEEK.chat_path) -> http.client.HTTPSConnection:
    connection = open_connection(proxy, DEEPSEEK.host)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", path, body, headers)
    return connection


def read_to_the_end(response: http.client.HTTPResponse) -> bytes:
    """What came, however it ended."""
    seen = b""
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        while part := response.read1():
            seen += part
    return seen


def read_so_far(response: http.client.HTTPResponse, length: int) -> bytes:
    """As many bytes, and then no more of them."""
    seen = b""
    while len(seen) < length:
        seen += response.read1(length - len(seen))
    return seen


def think(provider: Simulator, opening: str, turns: int = 8, **more: Any) -> None:
    """Script turns of a conversation: each answer is its number, each thought is about it."""
    for number in range(turns):
        provider.say(reasoning=f"About {number}.", text=f"It is {number}.", conversation=opening, **more)


def history(opening: str, turns: int) -> list[Message]:
    messages = [user(opening)]
    for number in range(turns):
        messages += [said(f"It is {number}."), user("And then?")]
    return messages


def exact(provider: Simulator, opening: str) -> bool:
    """Whether the last request of this conversation had every thought as it was."""
    return set(provider.asked(opening)[-1].verdicts) == {"exact"}


# ---- One side dies -----------------------------------------------------------------------------------------


def event(**delta: str) -> bytes:
    return b"data: " + dump({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) + b"\n\n"


CHAT = [
    event(role="assistant"),
    *(event(reasoning_content=word) for word in ("First ", "think. ", "好.")),
    *(event(content=word) for word in ("Then ", "speak ", "a word.")),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]


def text_of(events: Sequence[bytes], name: str) -> str:
    found = [json.loads(one[6:]) for one in events if one.startswith(b"data: {")]
    return "".join(one["choices"][0]["delta"].get(name, "") for one in found)


@pytest.mark.parametrize("length", range(len(CHAT) + 1))
@pytest.mark.parametrize("who", ["provider", "client"])
def test_who_dies_after_any_event_leaves_what_came(
    provider: Simulator, proxy: Proxy, who: str, length: int
) -> None:
    opening = f"the {who} dies after {length}"
    came = CHAT[:length]
    provider.answer_raw(
        200, STREAM, came, cut=True, hold_open=0.0 if who == "provider" else 1.0, conversation=opening
    )
    logged = len(proxy.lines)
    connection = begin(proxy, chat(user(opening), stream=True))
    response = connection.getresponse()
    if who == "provider":
        assert read_to_the_end(response) == b"".join(came)
        connection.close()
    else:
        assert read_so_far(response, len(b"".join(came))) == b"".join(came)
        # As suddenly as a process that was killed.
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sock.close()
        response.close()
    proxy.wait_for("client disconnect", 10, after=logged)
    text, thought = text_of(came, "content"), text_of(came, "reasoning_content")
    messages = [user(opening), *([said(text)] if text else []), user("Go on.")]
    provider.say(reasoning="Hm.", text="Fine.", conversation=opening)
    assert ask(proxy, *messages)[0] == 200
    if text:
        assert provider.asked(opening)[-1].json["messages"][1]["reasoning_content"] == thought


STREAMS = [
    ("messages/deepseek-messages-tool.sse", "/anthropic/v1/messages"),
    ("responses/deepseek-responses-tool.sse", "/v1/responses"),
    ("deepseek-chat-tool.sse", DEEPSEEK.chat_path),
]
SHAPES: dict[str, Message] = {
    "messages": {"messages": [user("x")], "max_tokens": 100},
    "responses": {"input": [user("x")]},
    "completions": {"messages": [user("x")]},
}


@pytest.mark.in_full("step", [12], [1])
@pytest.mark.parametrize(("name", "path"), STREAMS)
@pytest.mark.parametrize("who", ["provider", "client"])
def test_who_dies_in_any_dialect_harms_no_byte_and_no_other(
    provider: Simulator, proxy: Proxy, name: str, path: str, who: str, step: int
) -> None:
    events = [part + b"\n\n" for part in (SAMPLES / name).read_bytes().split(b"\n\n") if part]
    body = dump({"model": DEEPSEEK.model, "stream": True} | SHAPES[path.rpartition("/")[2]])
    for length in range(0, len(events) + 1, step):
        came = b"".join(events[:length])
        hold = 0.0 if who == "provider" else 0.5
        provider.answer_raw(200, STREAM, events[:length], cut=True, hold_open=hold)
        connection = begin(proxy, body, path)
        response = connection.getresponse()
        got = read_to_the_end(response) if who == "provider" else read_so_far(response, len(came))
        assert got == came
        response.close()
        connection.close()
    provider.answer_raw(200, STREAM, events)
    response = begin(proxy, body, path).getresponse()
    assert read_to_the_end(response) == b"".join(events)


# ---- The proxy dies ----------------------------------------------------------------------------------------


@pytest.mark.in_full("lives", [2], [12])
def test_nothing_that_was_answered_is_lost_when_the_proxy_is_killed(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path, lives: int
) -> None:
    """Killed while many answers are on their way: what a client had whole is restored by the next proxy."""
    answered: list[str] = []

    def improvise(asked: Asked) -> Answer:
        return Answer((Thought(f"Thought of {asked.conversation}."), Text(f"Said to {asked.conversation}.")))

    def go_on_asking(proxy: Proxy, person: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            for number in range(1000):
                opening = f"{person} {number}"
                status, body = ask(proxy, user(opening), stream=True)
                if status == 200 and b"data: [DONE]" in body:
                    answered.append(opening)

    provider.improvise = improvise
    for life in range(lives):
        proxy = start_proxy(home=tmp_path / "home")
        people = [
            threading.Thread(target=go_on_asking, args=(proxy, f"life {life} person {number}"))
            for number in range(4)
        ]
        for person in people:
            person.start()
        enough = len(answered) + 20
        deadline = time.monotonic() + 30
        while len(answered) < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(proxy.pid, signal.SIGKILL)
        for person in people:
            person.join(30)
        assert len(answered) >= enough
    proxy = start_proxy(home=tmp_path / "home")
    for opening in answered:
        assert ask(proxy, user(opening), said(f"Said to {opening}."), user("And then?"))[0] == 200
        assert exact(provider, opening), opening


# ---- The disk ----------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_for_a_while(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    """No file of the process may grow (RLIMIT_FSIZE, which needs no rights and can be lifted again).

    The kernel then says EFBIG where a full disk says ENOSPC; SQLite fails at the same places.
    """
    opening = "a full disk"
    think(provider, opening)
    proxy = start_proxy(home=tmp_path / "home")
    assert ask(proxy, *history(opening, 0), stream=True)[0] == 200
    _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, hard))
    for turns in (1, 2, 3):
        assert ask(proxy, *history(opening, turns), stream=True)[0] == 200
        assert exact(provider, opening)
    proxy.wait_for(r"The store .*turns\.sqlite3 cannot be used now .* See that its disk works and has room")
    assert "".join(proxy.lines).count("The store") == 1
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (hard, hard))
    proxy.wait_for("turns.sqlite3 can be used again", 20)
    os.kill(proxy.pid, signal.SIGKILL)
    proxy = start_proxy(home=tmp_path / "home")
    assert ask(proxy, *history(opening, 4))[0] == 200
    assert exact(provider, opening)


def _without_leave() -> Sequence[str]:
    """A prefix under which permissions hold: for root, a process without the right to pass over them."""
    if os.geteuid() != 0:
        return ()
    command = shutil.which("setpriv")
    if command is None:
        pytest.skip("permissions do not hold for root, and setpriv is not there")
    rights = "-dac_override,-dac_read_search"
    return command, "--bounding-set", rights, "--inh-caps", rights


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of another kind")
def test_a_folder_that_cannot_be_written(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    under = _without_leave()
    folder = tmp_path / "home" / DATA
    first = start_proxy(home=tmp_path / "home")
    think(provider, "before")
    assert ask(first, *history("before", 0))[0] == 200
    first.stop()
    folder.chmod(0o500)
    try:
        proxy = start_proxy(home=tmp_path / "home", under=under)
        proxy.wait_for("The store .*cannot be written.*only while the proxy runs.*See that you may write it")
        think(provider, "during")
        for turns in range(3):
            assert ask(proxy, *history("during", turns), stream=True)[0] == 200
        assert exact(provider, "during")
        proxy.stop()
    finally:
        folder.chmod(0o700)
    last = start_proxy(home=tmp_path / "home")
    assert ask(last, *history("before", 1))[0] == 200
    assert exact(provider, "before")


def test_a_store_that_is_deleted_while_the_proxy_runs(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = start_proxy(home=tmp_path / "home")
    think(provider, "before")
    assert ask(proxy, *history("before", 0))[0] == 200
    for file in (tmp_path / "home" / DATA).glob("turns.sqlite3*"):
        file.unlink()
    think(provider, "after")
    for turns in range(3):
        assert ask(proxy, *history("after", turns))[0] == 200
    assert exact(provider, "after")
    proxy.wait_for(r"The store .* is gone: it was deleted or moved while in use. A new one is begun")
    proxy.stop()
    proxy = start_proxy(home=tmp_path / "home")
    assert ask(proxy, *history("after", 3))[0] == 200
    assert exact(provider, "after")


@pytest.mark.in_full("seconds", [1.5], [30.0])
def test_a_store_that_another_program_holds_stops_nobody(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path, seconds: float
) -> None:
    proxy = start_proxy(home=tmp_path / "home")
    turns = 8
    think(provider, "before", 2)
    assert ask(proxy, *history("before", 0))[0] == 200
    provider.say(reasoning="a " * 20, text="b " * 20, pause=seconds / 40, conversation="a slow stream")
    think(provider, "during", turns)
    locker = sqlite3.connect(tmp_path / "home" / DATA / "turns.sqlite3", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    longest = [0.0]

    def watch() -> None:
        connection = begin(proxy, chat(user("a slow stream"), stream=True))
        response = connection.getresponse()
        last = time.monotonic()
        while response.read1():
            longest[0] = max(longest[0], time.monotonic() - last)
            last = time.monotonic()
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(turns):
        assert ask(proxy, *history("during", number), stream=True)[0] == 200
        assert exact(provider, "during") or number == 0
        time.sleep(seconds / turns / 2)
    assert ask(proxy, *history("before", 1))[0] == 200
    assert exact(provider, "before")
    watcher.join(seconds + 30)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    assert 0 < longest[0] < 2.0
    locker.close()
    proxy.wait_for("turns.sqlite3 can be used again", 20)
    assert "".join(proxy.lines).count("has locked it") == 1
    os.kill(proxy.pid, signal.SIGKILL)
    proxy = start_proxy(home=tmp_path / "home")
    provider.say(reasoning="x", text="y", conversation="during")
    assert ask(proxy, *history("during", turns))[0] == 200
    assert exact(provider, "during")


# ---- The script --------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The addon's script as a file of its own, so that no other proxy loads it again."""
    return Path(shutil.copy(ADDON, tmp_path / "addon.py"))


@pytest.fixture
def own_script(provider: Simulator, script: Path, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(provider, tmp_path / "home", "-s", str(script), addon=False)
    yield proxy
    proxy.stop()


def test_a_script_that_is_loaded_again_in_mid_stream(
    provider: Simulator, own_script: Proxy, script: Path
) -> None:
    proxy, opening = own_script, "loaded again"
    proxy.wait_for("reasoning-fix is ready", 10)
    think(provider, opening, 1)
    think(provider, "in mid-stream", 1, pause=0.6)
    assert ask(proxy, *history(opening, 0))[0] == 200
    connection = begin(proxy, chat(user("in mid-stream"), stream=True))
    response = connection.getresponse()
    seen = response.read1()
    logged = len(proxy.lines)
    later = time.time() + 60
    os.utime(script, (later, later))
    proxy.wait_for("reasoning-fix is ready", 10, after=logged)
    assert b"[DONE]" not in seen
    seen += read_to_the_end(response)
    connection.close()
    assert b"It" in seen and seen.endswith(b"data: [DONE]\n\n")
    for asked in ("in mid-stream", opening):
        provider.say(reasoning="x", text="y", conversation=asked)
        assert ask(proxy, *history(asked, 1))[0] == 200
        assert exact(provider, asked), asked
