"""Many people who talk at the same time, in words that are alike, and clients that drop what was thought.

Every conversation of one credential says the same as many others, and differs from them in one thing only
(`Apart`). Every one is had word for word under every other credential too. What nobody could tell apart is
left out: two conversations of one credential without any difference.
"""

import asyncio
import json
import random
import re
import ssl
import time
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import msgspec

from tests.mitmdump import Proxy
from tests.provider.providers import DEEPSEEK, KIMI

type Message = dict[str, Any]
type Apart = Literal["prompt", "first answer", "session", "system prompt"]

KEYS = 8
STREAMS = 64
# Nobody waits longer for anything (seconds).
_PATIENCE = 40.0
_HOSTS = (KIMI, DEEPSEEK)
_APART: tuple[Apart, ...] = ("prompt", "first answer", "session", "system prompt")
# So many conversations of a credential are the same but for the one thing.
_ALIKE = 4
_SENT = re.compile(rb"^: sent (\d+)$")
TOOLS = [
    {
        "type": "function",
        "function": {"name": "read", "description": "Read a file", "parameters": {"type": "object"}},
    }
]


class Said(msgspec.Struct):
    """One answer of the model: its text, and its calls as (id, name, arguments)."""

    text: str
    calls: list[tuple[str, str, str]]


class Conversation:
    """The `number`th: its words depend on `number // KEYS`, its credential on the rest."""

    def __init__(self, number: int, turns: int) -> None:
        self.number, self.turns, self.done = number, turns, 0
        words = number // KEYS
        self.provider = _HOSTS[words % len(_HOSTS)]
        alone = words // len(_HOSTS)
        self.apart = _APART[alone % len(_APART)]
        self._own = alone // len(_APART)
        self._calls = 0
        group = self._own if self.apart == "prompt" else self._own // _ALIKE
        self.headers = {
            "authorization": f"Bearer sk-load-{number % KEYS}",
            "x-conversation": str(number),
        }
        system = "You are terse."
        if self.apart == "session":
            self.headers["x-session-id"] = f"session {self._own}"
        elif self.apart == "system prompt":
            system += f" You are helper {self._own}."
        self.messages: list[Message] = [
            {"role": "system", "content": system},
            {"role": "user", "content": f"{self.apart} {group}: read the notes."},
        ]

    def next_answer(self) -> Said:
        """What the model is to say next: a call, two calls beside words, "Done.", and so on."""
        kind = self.done % 3
        own = self._own if self.done == 0 and self.apart == "first answer" else 0
        arguments = json.dumps({"path": f"notes/{own}.txt"})
        calls = [(f"functions.read:{self._calls + i}", "read", arguments) for i in range((1, 2, 0)[kind])]
        return Said(("", "Looking.", "Done.")[kind], calls)

    def take(self, said: Said) -> None:
        """Keep what a plain client keeps of the answer, and say the next thing, the same in all of them."""
        self.done += 1
        self._calls += len(said.calls)
        message: Message = {"role": "assistant", "content": said.text}
        if said.calls:
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for call_id, name, arguments in said.calls
            ]
        self.messages.append(message)
        self.messages += [
            {"role": "tool", "tool_call_id": call_id, "content": "ok"} for call_id, _, _ in said.calls
        ] or [{"role": "user", "content": "Go on."}]


class Crowd:
    """Streams through whichever of the proxies; every conversation hops between them.

    So far `turns` were answered, in requests that should have `carried` so many thoughts; `delays` are those
    of their chunks. All times are seconds.
    """

    def __init__(self, proxies: Sequence[Proxy], conversations: int, turns_each: int) -> None:
        self._random = random.Random(20261121)
        self._turns_each = turns_each
        self._next = conversations
        self._idle = [Conversation(number, turns_each) for number in range(conversations)]
        self._proxies = proxies
        self._clients: list[httpx.AsyncClient] = []
        self.turns = self.carried = 0
        self.seconds = 0.0
        self.delays: list[float] = []

    async def __aenter__(self) -> "Crowd":
        for proxy in self._proxies:
            self._clients.append(
                httpx.AsyncClient(
                    proxy=proxy.url,
                    verify=ssl.create_default_context(cafile=str(proxy.ca)),
                    trust_env=False,
                    timeout=_PATIENCE,
                    # httpcore may close an idle connection that it has just given to a request; so none is.
                    limits=httpx.Limits(keepalive_expiry=None),
                )
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()

    async def talk(self, turns: int, seconds: float = 0.0, streams: int = STREAMS, in_a_row: int = 3) -> None:
        """So many streams at a time, until there were so many turns in all, and at least for so long.

        A conversation has at most so many turns in a row, then others have their say.
        """
        began = time.monotonic()
        end = began + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._stream_on(turns, end, in_a_row))
        self.seconds += time.monotonic() - began

    async def _stream_on(self, turns: int, end: float, in_a_row: int) -> None:
        while self.turns < turns or time.monotonic() < end:
            conversation = self._idle.pop(self._random.randrange(len(self._idle)))
            for _ in range(self._random.randint(1, in_a_row)):
                if conversation.done < conversation.turns:
                    await self._ask(conversation)
            if conversation.done == conversation.turns:
                conversation = Conversation(self._next, self._turns_each)
                self._next += 1
            self._idle.append(conversation)

    async def _ask(self, conversation: Conversation) -> None:
        wanted = conversation.next_answer()
        provider = conversation.provider
        body = {
            "model": provider.model,
            "stream": True,
            "tools": TOOLS,
            "messages": conversation.messages,
        }
        headers = conversation.headers | {"x-say": msgspec.json.encode(wanted).decode()}
        url = f"https://{provider.host}{provider.chat_path}"
        client = self._random.choice(self._clients)
        async with client.stream("POST", url, json=body, headers=headers) as response:
            if response.status_code != 200:
                raise AssertionError((await response.aread()).decode())
            said = await self._read(response)
        assert said == wanted, f"conversation {conversation.number}: {said} came, not {wanted}"
        self.turns += 1
        self.carried += conversation.done
        conversation.take(said)

    async def _read(self, response: httpx.Response) -> Said:
        """The answer, folded; the delay of each of its chunks."""
        said, calls, rest, ended = Said("", []), dict[int, list[str]](), b"", False
        async for data in response.aiter_raw():
            now = time.monotonic_ns()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if sent := _SENT.match(line):
                    self.delays.append((now - int(sent[1])) / 1e9)
                elif line == b"data: [DONE]":
                    ended = True
                elif line.startswith(b"data: "):
                    _fold(json.loads(line[6:]), said, calls)
        assert ended, "a stream was cut"
        said.calls = [(call_id, name, arguments) for call_id, name, arguments in calls.values()]
        return said


def _fold(event: Message, said: Said, calls: dict[int, list[str]]) -> None:
    for choice in event["choices"]:
        said.text += choice["delta"].get("content") or ""
        for part in choice["delta"].get("tool_calls") or ():
            call = calls.setdefault(part["index"], ["", "", ""])
            for place, piece in enumerate(
                (part.get("id"), part["function"].get("name"), part["function"].get("arguments"))
            ):
                call[place] += piece or ""
