"""People who talk through the official client libraries, one class per dialect, streamed or not.

With `keeps` everything the model said goes back as it came; without, its reasoning is dropped, as plain
clients do. `history` is what the next request sends: a test may change it in between.
"""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, cast

import anthropic
import openai

from tests.mitmdump import Proxy, client, direct_client, direct_messages_client, messages_client
from tests.provider.providers import Provider
from tests.provider.simulator import Simulator
from tests.provider.turns import Dialect

type Message = dict[str, Any]

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
NAMED = {"name": "get_weather", "description": "Weather of a city"}
RESULT = "21 °C, dry"
KEY = "sk-0123456789abcdef-somebody"
# OpenCode answers nobody without a session: sent to every provider, which ignores it.
SESSION = {"x-opencode-session": "ses_1"}
_CHAT_FIELDS = ("reasoning", "reasoning_content", "reasoning_details")


def script_four_turns(simulator: Simulator, conversation: str | None = None) -> None:
    """Two calls at once, one more with text, an answer, and one to a follow-up by `says`."""
    say = functools.partial(simulator.say, conversation=conversation)
    city = '{"city": "Zürich"}'
    say(
        reasoning="Zürich first.\nThen Oslo (奥斯陆).",
        calls=[("call_00_a", "get_weather", city), ("call_01_b", "get_weather", '{"city":"Oslo"}')],
    )
    say(reasoning="And Bern?  ", text="One more.", calls=[("call_00_c", "get_weather", "{}")])
    say(reasoning="All dry. 好。", text="All are dry.")
    say(reasoning="Polite.", text="Welcome.")


class Person(ABC):
    """`ask` sends the history and appends the answer, with a result for every call in it."""

    def __init__(
        self,
        model: str,
        opening: str,
        *,
        streamed: bool = True,
        keeps: bool = True,
        tools: bool = True,
        **more: Any,
    ) -> None:
        self.streamed, self.keeps = streamed, keeps
        self.more = {"model": model} | ({"tools": self.tools()} if tools else {}) | more
        self.history: list[Message] = [self.user(opening)]

    def user(self, text: str) -> Message:
        return {"role": "user", "content": text}

    def says(self, text: str) -> None:
        self.history.append(self.user(text))

    @abstractmethod
    def tools(self) -> list[Message]: ...

    @abstractmethod
    def ask(self) -> str:
        """One request; the visible text of its answer."""


class ChatPerson(Person):
    def __init__(self, api: openai.OpenAI, model: str, opening: str, **more: Any) -> None:
        super().__init__(model, opening, **more)
        self.create = cast(Any, api.chat.completions.create)

    def tools(self) -> list[Message]:
        return [{"type": "function", "function": NAMED | {"parameters": PARAMETERS}}]

    def ask(self) -> str:
        if self.streamed:
            message = _folded(self.create(stream=True, messages=self.history, **self.more))
        else:
            message = (
                self.create(messages=self.history, **self.more).choices[0].message.to_dict(warnings=False)
            )
        if not self.keeps:
            message = {key: value for key, value in message.items() if key not in _CHAT_FIELDS}
            if isinstance(message["content"], list):
                message["content"] = "".join(item.get("text", "") for item in message["content"])
        self.history.append(message)
        for call in message.get("tool_calls") or ():
            self.history.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})
        content = message["content"]
        return content if isinstance(content, str) else "".join(item.get("text", "") for item in content)


def _folded(events: Iterable[Any]) -> Message:
    """The message a stream of deltas makes: texts are joined, lists kept one after the other."""
    message: Message = {"role": "assistant", "content": ""}
    calls: dict[int, Message] = {}
    for event in events:
        for choice in event.to_dict(warnings=False)["choices"]:
            delta = choice["delta"]
            for key in ("content", *_CHAT_FIELDS):
                if (value := delta.get(key)) is not None:
                    said = message.get(key) or type(value)()
                    if isinstance(said, str) and isinstance(value, list):
                        said = [{"type": "text", "text": said}] if said else []
                    elif isinstance(said, list) and isinstance(value, str):
                        value = [{"type": "text", "text": value}] if value else []
                    message[key] = said + value
            for part in delta.get("tool_calls") or ():
                empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                call = calls.setdefault(part["index"], empty)
                function = part["function"]
                call["id"] = call["id"] or part.get("id") or ""
                call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
                call["function"]["arguments"] += function.get("arguments") or ""
    return message | ({"tool_calls": list(calls.values())} if calls else {})


class MessagesPerson(Person):
    def __init__(self, api: anthropic.Anthropic, model: str, opening: str, **more: Any) -> None:
        super().__init__(model, opening, **({"max_tokens": 1000} | more))
        self.api = cast(Any, api.messages)

    def tools(self) -> list[Message]:
        return [NAMED | {"input_schema": PARAMETERS}]

    def ask(self) -> str:
        if self.streamed:
            with self.api.stream(messages=self.history, **self.more) as stream:
                answer = stream.get_final_message()
        else:
            answer = self.api.create(messages=self.history, **self.more)
        blocks = [block.to_dict() for block in answer.content]
        if not self.keeps:
            blocks = [block for block in blocks if "thinking" not in block["type"]]
        self.history.append({"role": "assistant", "content": blocks})
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": call, "content": RESULT} for call in calls]
        if results:
            self.history.append({"role": "user", "content": results})
        return "".join(block["text"] for block in blocks if block["type"] == "text")


class ResponsesPerson(Person):
    """`stateful`: only what is new goes out, with the id of the response before it."""

    def __init__(
        self, api: openai.OpenAI, model: str, opening: str, stateful: bool = False, **more: Any
    ) -> None:
        super().__init__(model, opening, **more)
        self.api, self.stateful = cast(Any, api.responses), stateful

    def tools(self) -> list[Message]:
        return [NAMED | {"type": "function", "parameters": PARAMETERS, "strict": False}]

    def ask(self) -> str:
        answer = self.api.create(input=self.history, stream=self.streamed, **self.more)
        if self.streamed:
            answer = next(event.response for event in answer if event.type == "response.completed")
        if self.stateful:
            self.history.clear()
            self.more["previous_response_id"] = answer.id
        else:
            items = [item.to_dict() for item in answer.output]
            self.history += [item for item in items if self.keeps or item["type"] != "reasoning"]
        for item in answer.output:
            if item.type == "function_call":
                json.loads(item.arguments)
                output = {"type": "function_call_output", "call_id": item.call_id, "output": RESULT}
                self.history.append(output)
        return cast(str, answer.output_text)


def through(
    proxy: Proxy, provider: Provider, dialect: Dialect, opening: str, *, key: str = KEY, **more: Any
) -> Person:
    """Somebody who reaches this provider through the proxy; `more` as for `Person`, or parameters."""
    if dialect == "messages":
        messages = messages_client(proxy, provider.host, key, provider.messages_url, SESSION)
        return _made(provider, dialect, opening, messages, more)
    base_url = provider.responses_url if dialect == "responses" else provider.base_url
    api = client(proxy, provider.host, key, base_url, SESSION)
    return _made(provider, dialect, opening, api, more)


def directly(
    simulator: Simulator, provider: Provider, dialect: Dialect, opening: str = "Weather?", **more: Any
) -> Person:
    """Somebody who reaches the simulator without a proxy."""
    if dialect == "messages":
        messages = direct_messages_client(simulator, provider.host, KEY, provider.messages_url, SESSION)
        return _made(provider, dialect, opening, messages, more)
    base_url = provider.responses_url if dialect == "responses" else provider.base_url
    api = direct_client(simulator, provider.host, KEY, base_url, SESSION)
    return _made(provider, dialect, opening, api, more)


def _made(provider: Provider, dialect: Dialect, opening: str, api: Any, more: dict[str, Any]) -> Person:
    kinds: dict[Dialect, Any] = {
        "chat": ChatPerson,
        "messages": MessagesPerson,
        "responses": ResponsesPerson,
    }
    return cast(Person, kinds[dialect](api, opening=opening, **({"model": provider.model} | more)))
