"""Whole programs, as requests of theirs: claude-code-router, OpenClaw and smolagents, over several turns.

Each shape below was seen from the real program (claude-code-router 2.0.0 behind Claude Code 2.1, OpenClaw
2026.9.6, smolagents 1.26), with names made up and prompts cut short. A conversation goes raw through a real
mitmdump to the strict provider: every request is answered, and every earlier turn has its own thought again.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.conftest import StartProxy
from tests.mitmdump import Proxy, raw_post
from tests.provider.simulator import DEEPSEEK, KIMI, Provider, Simulator

type Message = dict[str, Any]
type Shape = Callable[["Memory", str, bool], Message]

CITIES = ("Bern", "Oslo", "L'Aquila", "Lima", "Rome", "Quito")
PROVIDERS = pytest.mark.parametrize("maker", [DEEPSEEK, KIMI], ids=["DeepSeek", "Kimi"])
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


# ---- What a program remembers, and how it writes it --------------------------------------------------------


class Turn:
    """One turn as the program got it, and the model that gave it."""

    def __init__(self, model: str, thought: str, text: str, calls: Sequence[tuple[str, str, str]]) -> None:
        self.model = model
        self.thought = thought
        self.text = text
        self.calls = calls


class Memory:
    """A conversation: questions, turns and results, in order."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Any]] = []

    def ask(self, question: str) -> None:
        self.steps.append(("question", question))

    @property
    def turns(self) -> list[Turn]:
        return [step for kind, step in self.steps if kind == "turn"]

    def keep(self, turn: Turn) -> None:
        self.steps.append(("turn", turn))
        self.steps += [("result", call) for call in turn.calls]


def result_of(call: tuple[str, str, str]) -> str:
    return f"sunny in {json.loads(call[2])['city']}"


def function(name: str, argument: str, **more: object) -> Message:
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {
        "type": "function",
        "function": {"name": name, "description": f"{name}.", "parameters": schema | more},
    }


def router(memory: Memory, model: str, stream: bool) -> Message:
    """claude-code-router: thinking blocks are lost, and `{"type": "adaptive"}` becomes `enabled: false`.

    https://github.com/musistudio/llms/blob/main/src/transformer/anthropic.transformer.ts
    """
    messages: list[Message] = [
        {
            "role": "system",
            "content": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0; cc_entrypoint=cli;"},
                {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
            ],
        }
    ]
    for kind, step in memory.steps:
        if kind == "question" and len(messages) == 1:
            note = "<system-reminder>\nToday's date is 2026-11-27.\n</system-reminder>\n\n"
            parts = [{"type": "text", "text": note}, {"type": "text", "text": step}]
            messages.append({"role": "user", "content": parts})
        elif kind == "question":
            messages.append({"role": "user", "content": step})
        elif kind == "turn":
            messages.append({"role": "assistant", "content": step.text} | called(step.calls))
        else:
            messages.append({"role": "tool", "content": result_of(step), "tool_call_id": step[0]})
    # The mark of the cache stands on the last message, whichever that is.
    mark = {"cache_control": {"type": "ephemeral"}}
    if isinstance(messages[-1]["content"], str) and messages[-1]["role"] == "user":
        messages[-1] = {"role": "user", "content": [{"type": "text", "text": messages[-1]["content"]} | mark]}
    elif messages[-1]["role"] == "tool":
        messages[-1] |= mark
    schema = "https://json-schema.org/draft/2020-12/schema"
    return {
        "messages": messages,
        "model": model,
        "max_tokens": 8192,
        "stream": stream,
        "tools": [function("get_weather", "city", **{"$schema": schema, "additionalProperties": False})],
        "reasoning": {"effort": "high", "enabled": False},
    }


def router_reasoning(memory: Memory, model: str, stream: bool) -> Message:
    """The same with the router's `reasoning` transformer, which adds two switches and leaves the third."""
    return router(memory, model, stream) | {"thinking": {"type": "enabled"}, "enable_thinking": True}


def called(calls: Sequence[tuple[str, str, str]], rename: Callable[[str], str] = str) -> Message:
    if not calls:
        return {}
    return {
        "tool_calls": [
            {"id": rename(name), "type": "function", "function": {"name": tool, "arguments": arguments}}
            for name, tool, arguments in calls
        ]
    }


def stripped(name: str) -> str:
    """OpenClaw takes the punctuation out of ids, except out of Kimi's own (`functions.read:0`)."""
    return name if re.fullmatch(r"functions\.\w+:\d+", name) else re.sub(r"[^a-zA-Z0-9]", "", name)


def claw(memory: Memory, model: str, stream: bool, *, thinks: bool = True, resumed: bool = False) -> Message:
    """OpenClaw: what another model thought stands before what it said, as text, and the field is empty.

    `thinks`: its configuration says of the model that it reasons; else it drops all thoughts. `resumed`: the
    line about the running session has gone from the earlier questions. The last message is its own.
    """
    messages: list[Message] = [{"role": "system", "content": "You are a personal assistant."}]
    last = max(number for number, (kind, _) in enumerate(memory.steps) if kind == "question")
    for number, (kind, step) in enumerate(memory.steps):
        if kind == "question":
            run = f"\n\nRuntime: agent=main | session=s1 | os=Linux | model=ds/{model}"
            line = run if number == last or not resumed else ""
            messages.append({"role": "user", "content": f"[Fri 2026-11-27 11:08 UTC] {step}{line}"})
        elif kind == "turn":
            messages.append(claw_turn(step, model, thinks))
        else:
            message = {"role": "tool", "content": result_of(step), "tool_call_id": stripped(step[0])}
            messages.append(message)
    context = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nnone\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    messages.append({"role": "user", "content": [{"type": "text", "text": context}]})
    body: Message = {
        "model": model,
        "messages": messages,
        "stream": stream,
        "tools": [function("get_weather", "city")],
        "tool_choice": "auto",
        "max_completion_tokens": 8192,
    }
    if thinks and model.startswith("deepseek"):
        body |= {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}
    return body


def claw_turn(turn: Turn, model: str, thinks: bool) -> Message:
    message: Message = {"role": "assistant", "content": turn.text or None}
    if thinks and turn.model == model:
        message["reasoning_content"] = turn.thought
    elif thinks:
        message["content"] = "\n".join(filter(None, (turn.thought, turn.text)))
        if model.startswith("deepseek"):
            message["reasoning_content"] = ""
    return message | called(turn.calls, stripped)


def claw_dropping(memory: Memory, model: str, stream: bool) -> Message:
    """OpenClaw where its configuration does not say of the model that it reasons."""
    return claw(memory, model, stream, thinks=False)


def claw_resumed(memory: Memory, model: str, stream: bool) -> Message:
    return claw(memory, model, stream, resumed=True)


def smol(memory: Memory, model: str, stream: bool) -> Message:
    """smolagents' ToolCallingAgent: calls are written as text, results are a user's, texts are joined.

    https://github.com/huggingface/smolagents/blob/main/src/smolagents/memory.py
    """
    messages: list[Message] = [{"role": "system", "content": said("You can solve any task with tools.")}]
    for kind, step in memory.steps:
        if kind == "question":
            join(messages, "user", f"New task:\n{step}")
        elif kind == "turn":
            calls = [
                {
                    "id": name,
                    "type": "function",
                    "function": {"name": tool, "arguments": json.loads(arguments)},
                }
                for name, tool, arguments in step.calls
            ]
            join(messages, "assistant", step.text.strip())
            if calls:
                join(messages, "assistant", f"Calling tools:\n{calls}")
        else:
            join(messages, "user", f"Observation:\n{result_of(step)}")
    body: Message = {"messages": messages, "model": model, "stop": ["Observation:", "Calling tools:"]}
    body |= {"tools": [function("get_weather", "city")], "tool_choice": "auto"}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def said(text: str) -> list[Message]:
    return [{"type": "text", "text": text}]


def join(messages: list[Message], role: str, text: str) -> None:
    """Two texts of one role in a row are one text, a line each."""
    if messages[-1]["role"] == role:
        messages[-1]["content"][-1]["text"] += "\n" + text
    else:
        messages.append({"role": role, "content": said(text)})


# ---- A conversation ----------------------------------------------------------------------------------------


class Program:
    """One program in one conversation: `step` makes the provider think, and checks what came to it."""

    def __init__(
        self, provider: Simulator, maker: Provider, shape: Shape, stream: bool, name: str, key: str
    ) -> None:
        self.provider = provider
        self.maker = maker
        self.model = maker.model if maker is KIMI else "deepseek-v4-pro"
        self.shape = shape
        self.stream = stream
        self.name = name
        self.key = key
        self.memory = Memory()
        self.got: list[Message] = []

    def question(self, text: str) -> None:
        self.memory.ask(f"{text} ({self.name})")

    def step(self, proxy: Proxy, text: str = "", city: str = "") -> None:
        """One request, answered with this text, and with a call about the city if there is one."""
        number = len(self.memory.turns)
        thought = f"{self.name}, step {number}: {city or 'no city'} comes next, says number {number * 7919}."
        call_id = (
            f"functions.get_weather:{number}"
            if self.maker is KIMI
            else f"call_00_{self.name}_{number}aB-{number * 7919:012d}"
        )
        calls = [(call_id, "get_weather", json.dumps({"city": city}))] if city else []
        self.provider.say(reasoning=thought, text=text, calls=calls)
        body = self.shape(self.memory, self.model, self.stream)
        path, headers = self.maker.chat_path, {"authorization": f"Bearer {self.key}"}
        status, _, answer = raw_post(
            proxy, self.maker.host, path, json.dumps(body, ensure_ascii=False).encode(), headers
        )
        assert status == 200, (status, answer)
        self.got.append(self.provider.requests[-1].json)
        self.memory.keep(Turn(self.model, thought, text, calls))

    def talk(self, proxy: Callable[[], Proxy]) -> Iterator[None]:
        """Two questions, the first with two tool turns, the second with one; pauses after each request."""
        self.question("What is the weather?")
        self.step(proxy(), city=CITIES[0])
        yield
        self.step(proxy(), "Now the other one.", CITIES[1])
        yield
        self.step(proxy(), f"It is sunny in both, says {self.name}.")
        yield
        self.question("And what of L'Aquila?")
        self.step(proxy(), city=CITIES[2])
        yield
        self.step(proxy(), f"Sunny there too, says {self.name}.")
        yield
        self.question("Thank you.")
        self.step(proxy(), "You are welcome.")

    def brought(self) -> list[list[str | None]]:
        """The thoughts of each request, as they came to the provider."""
        return [
            [message.get("reasoning_content") for message in body["messages"] if is_turn(message)]
            for body in self.got
        ]

    def thoughts(self) -> list[list[str]]:
        """The thoughts that each request should bring: those of all turns before it."""
        given = [turn.thought for turn in self.memory.turns]
        return [given[:number] for number in range(len(given))]

    def check(self) -> None:
        assert self.brought() == self.thoughts()


def is_turn(message: Message) -> bool:
    return bool(message["role"] == "assistant")


def without_thoughts(body: Message) -> Message:
    """The request less what may be put in."""
    kept = [
        {name: value for name, value in message.items() if name != "reasoning_content"}
        for message in body["messages"]
    ]
    return body | {"messages": kept}


SHAPES = [
    pytest.param(router, id="claude-code-router"),
    pytest.param(router_reasoning, id="claude-code-router with its reasoning transformer"),
    pytest.param(claw, id="OpenClaw"),
    pytest.param(claw_dropping, id="OpenClaw that drops thoughts"),
    pytest.param(claw_resumed, id="OpenClaw, earlier questions changed"),
    pytest.param(smol, id="smolagents"),
]
PROGRAMS = pytest.mark.parametrize("shape", SHAPES)


@PROGRAMS
@PROVIDERS
@STREAMED
def test_every_turn_has_its_own_thought(
    provider: Simulator, proxy: Proxy, shape: Shape, maker: Provider, stream: bool
) -> None:
    program = Program(provider, maker, shape, stream, "One", f"sk-{shape.__name__}-{stream}")
    for _ in program.talk(lambda: proxy):
        pass
    program.check()
    assert set(provider.statuses()) == {200}


@PROGRAMS
def test_nothing_else_of_the_request_changes(provider: Simulator, proxy: Proxy, shape: Shape) -> None:
    program = Program(provider, DEEPSEEK, shape, True, "Rest", f"sk-{shape.__name__}-rest")
    for _ in program.talk(lambda: proxy):
        sent = shape(program.memory, program.model, True)
        del sent
    last = program.got[-1]
    memory = Memory()
    memory.steps = program.memory.steps[:-1]
    assert without_thoughts(last) == without_thoughts(shape(memory, program.model, True))


@PROGRAMS
def test_a_restart_in_the_middle(provider: Simulator, start_proxy: StartProxy, shape: Shape) -> None:
    program = Program(provider, DEEPSEEK, shape, True, "Two", "sk-restarted")
    proxies = [start_proxy()]
    for number, _ in enumerate(program.talk(lambda: proxies[-1])):
        if number in (1, 3):
            proxies[-1].stop()
            proxies.append(start_proxy())
    program.check()


@PROGRAMS
@PROVIDERS
@STREAMED
def test_a_second_conversation_in_between(
    provider: Simulator, proxy: Proxy, shape: Shape, maker: Provider, stream: bool
) -> None:
    key = f"sk-{shape.__name__}-{stream}-both"
    one, other = (Program(provider, maker, shape, stream, name, key) for name in ("Ann", "Bob"))
    turns = [one.talk(lambda: proxy), other.talk(lambda: proxy)]
    while turns:
        turns = [talk for talk in turns if next(talk, turns) is None]
    one.check()
    other.check()
