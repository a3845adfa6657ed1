"""One chat answer as a stream of events, in each provider's own shape.

Sources: the INDEX of the samples, e.g. vercel/ai packages/deepseek (DeepSeek), lm15-dev/lm15-contract bodies
(Kimi, GLM), MiniMax-M2 issues 95 and 105 (MiniMax), OpenRouterTeam/ai-sdk-provider (OpenRouter).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.provider.providers import Provider
from tests.provider.settings import Settings
from tests.provider.turns import Answer, Call, Event, Text, Thought, counted, halves, numbered_calls, tokens


def usage(answer: Answer) -> Event:
    thought, said = counted(answer)
    return {
        "prompt_tokens": 64,
        "completion_tokens": thought + said,
        "total_tokens": 64 + thought + said,
        "prompt_tokens_details": {"cached_tokens": answer.cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _hits(answer: Answer) -> Event:
    return {"prompt_cache_hit_tokens": answer.cached, "prompt_cache_miss_tokens": 64 - answer.cached}


def function(call: Call) -> Event:
    return {"name": call.name, "arguments": call.arguments}


def finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _deepseek_stream(head: Event, answer: Answer, include_usage: bool) -> Iterator[Event]:
    def event(delta: Event, done: str | None = None, **more: Any) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": done}
        return {**head, "choices": [choice], "usage": None, **more}

    head |= {"system_fingerprint": "fp_9b1f3d2c7a_prod1017_fp8_kvcache"}
    yield event({"role": "assistant", "content": None, "reasoning_content": ""})
    for number, part in numbered_calls(answer):
        if isinstance(part, Thought):
            yield from (event({"content": None, "reasoning_content": one}) for one in tokens(part.text))
        elif isinstance(part, Text):
            yield from (event({"content": one, "reasoning_content": None}) for one in tokens(part.text))
        else:
            named = {"index": number, "id": part.id, "type": "function"}
            yield event({"tool_calls": [{**named, "function": {"name": part.name, "arguments": ""}}]})
            for half in halves(part.arguments):
                yield event({"tool_calls": [{"index": number, "function": {"arguments": half}}]})
    figures = usage(answer) | _hits(answer)
    last = {"content": "", "reasoning_content": None}
    if include_usage:
        yield event(last, finish(answer))
        yield {**head, "choices": [], "usage": figures}
    else:
        yield event(last, finish(answer), usage=figures)


def _kimi_stream(head: Event, answer: Answer, _: bool) -> Iterator[Event]:
    def event(delta: Event, done: str | None = None, **more: Any) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": done, **more}
        return {**head, "choices": [choice], "system_fingerprint": "fpv0_5de57c9a"}

    yield event({"role": "assistant", "content": ""})
    for number, part in numbered_calls(answer):
        if isinstance(part, Thought):
            yield from (event({"reasoning_content": one}) for one in (*tokens(part.text), ""))
        elif isinstance(part, Text):
            yield from (event({"content": one}) for one in tokens(part.text))
        else:
            named = {"index": number, "id": part.id, "type": "function"}
            yield event({"tool_calls": [{**named, "function": {"name": part.name, "arguments": ""}}]})
            for half in halves(part.arguments):
                yield event({"tool_calls": [{"index": number, "function": {"arguments": half}}]})
    figures = usage(answer) | {"cached_tokens": answer.cached}
    yield event({}, finish(answer), usage=figures)
    yield {**head, "choices": [], "usage": figures}


def _glm_stream(head: Event, answer: Answer, _: bool) -> Iterator[Event]:
    def event(delta: Event) -> Event:
        return {**head, "choices": [{"index": 0, "delta": delta}]}

    said = {"role": "assistant"}  # with everything but a call

    for number, part in numbered_calls(answer):
        if isinstance(part, Thought):
            yield from (event({**said, "reasoning_content": one}) for one in tokens(part.text))
        elif isinstance(part, Text):
            yield from (event({**said, "content": one}) for one in tokens(part.text))
        else:
            whole = {"id": part.id, "index": number, "type": "function", "function": function(part)}
            yield event({"tool_calls": [whole]})
    last = {"index": 0, "finish_reason": finish(answer), "delta": {"role": "assistant", "content": ""}}
    yield {**head, "choices": [last], "usage": usage(answer)}


def _mimo_stream(head: Event, answer: Answer, _: bool) -> Iterator[Event]:
    def event(done: str | None = None, **delta: Any) -> Event:
        empty = {"content": None, "role": None, "tool_calls": None, "reasoning_content": None}
        choice = {"index": 0, "delta": empty | delta, "finish_reason": done}
        return {**head, "choices": [choice], "usage": None}

    yield event(content="", role="assistant")
    for number, part in numbered_calls(answer):
        if isinstance(part, Thought):
            yield from (event(reasoning_content=one) for one in tokens(part.text))
        elif isinstance(part, Text):
            yield from (event(content=one) for one in tokens(part.text))
        else:
            named = {"index": number, "type": "function"}
            start = {"name": part.name, "arguments": ""}
            yield event(tool_calls=[{**named, "id": part.id, "function": start}])
            for half in halves(part.arguments):
                rest = {"name": None, "arguments": half}
                yield event(tool_calls=[{**named, "id": None, "function": rest}])
    yield event(finish(answer))
    yield {**head, "choices": [], "usage": usage(answer)}


STREAMS: dict[str, Callable[[Event, Answer, bool], Iterator[Event]]] = {
    "deepseek": _deepseek_stream,
    "kimi": _kimi_stream,
    "glm": _glm_stream,
    "mimo": _mimo_stream,
}


def plain_stream(head: Event, answer: Answer, details: list[Event], provider: Provider) -> Iterator[Event]:
    """What the many gateways share; they differ in the field of the thought and in what lies beside it."""

    def event(delta: Event, done: str | None = None) -> Event:
        extra = {"native_finish_reason": done} if routed else {}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": done, **extra}
        return {**head, "choices": [choice]}

    routed = provider.shape == "openrouter"
    same = {"role": "assistant"} if routed else {}
    empty, nothing = ({"content": ""}, {"content": None}) if routed else ({}, {})
    head |= {"provider": "Moonshot AI"} if routed else {}
    yield event({"role": "assistant", "content": ""})
    # Scripted details come whole, one by one, before the thought; others with it, token by token.
    for detail in answer.details:
        yield event({**same, **empty, "reasoning_details": [detail]})
    for number, part in numbered_calls(answer):
        if isinstance(part, Thought):
            for one in tokens(part.text):
                fragment = [details[0] | {"text": one}] if details and not answer.details else []
                extra = {"reasoning_details": fragment} if fragment else {}
                yield event({**same, **empty, **_thought(provider, one), **extra})
        elif isinstance(part, Text):
            yield from (event({**same, "content": one}) for one in tokens(part.text))
        else:
            named = {"index": number, "id": part.id, "type": "function"}
            start = {**named, "function": {"name": part.name, "arguments": ""}}
            again = {"type": "function"} if routed else {}
            rest = {"index": number, **again, "function": {"arguments": part.arguments}}
            yield event({**same, **nothing, "tool_calls": [start]})
            yield event({**same, **nothing, "tool_calls": [rest]})
    yield event({**same, "content": ""}, finish(answer))
    yield {**head, "choices": [], "usage": usage(answer)}


def _thought(provider: Provider, text: str) -> Event:
    return {"content": [item(provider, text)]} if provider.shape == "items" else {provider.writes: text}


def item(provider: Provider, text: str) -> Event:
    """A thought as an item of the content list."""
    if provider.name == "mistral":
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


def tagged(answer: Answer, tag: str = "think") -> str:
    return "".join(
        f"<{tag}>\n{part.text}\n</{tag}>\n\n" if isinstance(part, Thought) else part.text
        for part in answer.parts
        if isinstance(part, Thought | Text)
    )


def minimax_stream(head: Event, answer: Answer, details: list[Event], settings: Settings) -> Iterator[Event]:
    """The finish reason comes with the last delta."""
    flags = {"input_sensitive": False, "output_sensitive": False, "input_sensitive_type": 0}
    same = {"role": "assistant", "name": "MiniMax AI", "audio_content": ""}
    if details:
        said = list(_split_deltas(answer, details, settings.cumulative))
    else:
        said = list(_tagged_deltas(answer, settings.think_tag, mirrored="M3" in head["model"]))
    beside = {} if settings.cumulative else {"content": ""}
    for number, call in enumerate(answer.calls):
        first, rest = halves(call.arguments)
        named = {"index": number, "id": call.id, "type": "function"}
        said.append(
            {**beside, "tool_calls": [{**named, "function": {"name": call.name, "arguments": first}}]}
        )
        said.append({**beside, "tool_calls": [{"index": number, "function": {"arguments": rest}}]})
    said = said or [{"content": ""}]
    for left, delta in zip(range(len(said) - 1, -1, -1), said, strict=True):
        choice = {"index": 0, "delta": same | delta, "finish_reason": None if left else finish(answer)}
        yield {**head, "choices": [choice], "usage": None, **flags}
    status = {"status_code": 0, "status_msg": ""}
    yield {**head, "choices": [], "usage": usage(answer), **flags, "base_resp": status}


def _split_deltas(answer: Answer, details: list[Event], cumulative: bool) -> Iterator[Event]:
    thought = said = ""
    for part in answer.parts:
        for one in tokens(part.text) if isinstance(part, Thought) else ():
            thought = thought + one if cumulative else one
            plain = {} if cumulative else {"reasoning_content": one}
            yield {"content": "", **plain, "reasoning_details": [details[0] | {"text": thought}]}
        for one in tokens(part.text) if isinstance(part, Text) else ():
            said = said + one if cumulative else one
            again = {"reasoning_details": [details[0] | {"text": thought}]} if cumulative else {}
            yield {"content": said, **again}


def _tagged_deltas(answer: Answer, tag: str, mirrored: bool) -> Iterator[Event]:
    """The tags arrive in pieces; `mirrored`: the same thought also lies beside them."""
    if not mirrored:
        yield from ({"content": one} for one in re.findall(r"(?s).{1,5}", tagged(answer, tag)))
        return
    for part in answer.parts:
        if isinstance(part, Thought):
            yield {"content": f"<{tag}>\n"}
            yield from ({"content": one, "reasoning_content": one} for one in tokens(part.text))
            yield {"content": f"\n</{tag}>\n\n"}
        elif isinstance(part, Text):
            yield from ({"content": one} for one in tokens(part.text))
