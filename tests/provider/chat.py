"""Chat completions: what a request's turns carry, and an answer as one body (streams: `chat_streams.py`)."""

import json
import re
from collections.abc import Sequence

from tests.provider.chat_streams import (
    STREAMS,
    finish,
    function,
    item,
    minimax_stream,
    plain_stream,
    tagged,
    usage,
)
from tests.provider.providers import Provider
from tests.provider.settings import Settings
from tests.provider.turns import CREATED, Answer, Event, Piece, Rendered, Sent, dump, sse

DONE = b"data: [DONE]\n\n"

# --- what came in -------------------------------------------------------------------------------------------


def fits(body: Event) -> bool:
    messages = body.get("messages")
    return isinstance(messages, list) and all(isinstance(message, dict) for message in messages)


def position(body: Event) -> int:
    return len(body["messages"])


def opening(body: Event) -> str:
    """A conversation is known by its first user message: tests give each its own."""
    return next((content_text(message) for message in body["messages"] if message.get("role") == "user"), "")


def content_text(message: Event) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content if part.get("type", "text") == "text")


def turns(provider: Provider, body: Event) -> list[Sent]:
    return [
        Sent(
            index,
            (content_text(message),),
            tuple(call.get("id", "") for call in message.get("tool_calls") or ()),
            _reasoning_of(message, provider.reads),
            message,
            _details_of(message) if "reasoning_details" in provider.reads else (),
        )
        for index, message in enumerate(body["messages"])
        if message.get("role") == "assistant"
    ]


def _reasoning_of(message: Event, reads: Sequence[str]) -> str | None:
    """The reasoning a message carries, in the field its provider reads."""
    for field in reads:
        if field == "think":
            tags = re.findall(r"(?s)<((?:mm:)?think)>\n(.*?)\n</\1>\n\n", content_text(message))
            found = "".join(text for _, text in tags) if tags else None
        elif field == "reasoning_details":
            details = message.get(field)
            found = "".join(detail.get("text") or "" for detail in details) if details else None
        elif field == "items":
            found = _items_text(message)
        else:
            found = message.get(field)
        if found is not None:
            return found
    return None


def _items_text(message: Event) -> str | None:
    content = message.get("content")
    items = [item for item in content if item.get("type") in _ITEMS] if isinstance(content, list) else []
    texts = [part["text"] for item in items for part in item[_ITEMS[item["type"]]]]
    return "".join(texts) if texts else None


# Where the text of a thought lies in a content item: Mistral's ThinkChunk, Databricks' reasoning item.
_ITEMS = {"thinking": "thinking", "reasoning": "summary"}


def _details_of(message: Event) -> tuple[Piece, ...]:
    """Fragments of one stream count as the item they make."""
    whole: list[Event] = []
    for detail in message.get("reasoning_details") or ():
        keys = ("type", "index", "id")
        if whole and "text" in detail and all(whole[-1].get(key) == detail.get(key) for key in keys):
            whole[-1] = whole[-1] | {"text": (whole[-1].get("text") or "") + detail["text"]}
        else:
            whole.append(detail)
    return tuple(map(_detail_piece, whole))


def _detail_piece(detail: Event) -> Piece:
    plain = detail.get("type") == "reasoning.text" and not detail.get("signature")
    return Piece("detail", json.dumps(detail, sort_keys=True, ensure_ascii=False), plain=plain)


# --- what goes out ------------------------------------------------------------------------------------------


def render(provider: Provider, body: Event, answer: Answer, settings: Settings, number: int) -> Rendered:
    """The answer as this provider sends it: a stream of events, or one body."""
    model = body.get("model") or provider.model
    shape = provider.shape or provider.family_of(model)
    details = _details(shape, body, answer)
    pieces = tuple(map(_detail_piece, details))
    if not body.get("stream"):
        return Rendered(pieces, [_whole(provider, shape, model, answer, details, settings)])
    head: Event = {"id": f"{number:08x}-3a53-4a57-9d6a-0d7a5c1e2b11", "object": "chat.completion.chunk"}
    head |= {"created": CREATED, "model": model}
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    if shape == "minimax":
        events = minimax_stream(head, answer, details, settings)
    elif shape in ("openrouter", "plain", "items", "none"):
        events = plain_stream(head, answer, details, provider)
    else:
        events = STREAMS[shape](head, answer, include_usage)
    comments = [_COMMENTS[shape]] * 2 if shape in _COMMENTS else []
    return Rendered(pieces, [*comments, *map(sse, events), DONE])


_COMMENTS = {"deepseek": b": keep-alive\n\n", "openrouter": b": OPENROUTER PROCESSING\n\n"}


def _details(shape: str, body: Event, answer: Answer) -> list[Event]:
    """The reasoning_details of the answer, where this provider has them."""
    if shape == "minimax":
        item: Event = {"type": "reasoning.text", "id": "reasoning-text-1", "format": "MiniMax-response-v1"}
        wanted = body.get("reasoning_split")
    else:
        item, wanted = {"type": "reasoning.text", "format": "unknown"}, shape == "openrouter"
    if answer.details or not wanted or answer.reasoning is None:
        return list(answer.details)
    return [item | {"index": 0, "text": answer.reasoning}]


def _whole(
    provider: Provider, shape: str, model: str, answer: Answer, details: list[Event], settings: Settings
) -> bytes:
    """The body of an answer that is not streamed."""
    message: Event = {"role": "assistant", "content": answer.text}
    thought = answer.reasoning
    if shape == "minimax":
        message |= {"name": "MiniMax AI", "audio_content": ""}
        if not details:
            message["content"] = tagged(answer, settings.think_tag)
    if shape == "items" and thought is not None:
        said = [{"type": "text", "text": answer.text}] if answer.text else []
        message["content"] = [item(provider, thought), *said]
    elif thought is not None and (shape != "minimax" or details or "M3" in model):
        message[provider.writes] = thought
    if details:
        message["reasoning_details"] = details
    if answer.calls:
        message["tool_calls"] = [
            ({} if shape == "mimo" else {"index": index})
            | {"id": call.id, "type": "function", "function": function(call)}
            for index, call in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": finish(answer)}
    result: Event = {"id": "7a630f5b-b7e6-4878-82f8-d77db164d42b", "object": "chat.completion"}
    result |= {"created": CREATED, "model": model, "choices": [choice], "usage": usage(answer)}
    if shape == "minimax":
        result["base_resp"] = {"status_code": 0, "status_msg": ""}
    # Blank lines are DeepSeek's keep-alive of answers that are not streamed.
    return (b"\n\n\n\n" if shape == "deepseek" else b"") + dump(result)
