"""Anthropic messages: what a request's turns carry, and one answer, streamed or whole.

Shapes: lm15-dev/lm15-contract bodies/deepseek-anthropic.streaming_tool_call (signature: the message's id)
and changes/2026-09-03-moonshotai-wires.md (no signature at all).
"""

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterator

from tests.provider.chat import content_text, fits, opening, position
from tests.provider.providers import Family, Provider
from tests.provider.settings import Settings
from tests.provider.turns import (
    Answer,
    Call,
    Event,
    Part,
    Piece,
    Rendered,
    Sent,
    Text,
    Thought,
    counted,
    dump,
    halves,
    sse,
    tokens,
)

__all__ = ["fits", "opening", "position", "render", "turns"]

_THINKING = ("thinking", "redacted_thinking")

# --- what came in -------------------------------------------------------------------------------------------


def turns(provider: Provider, body: Event) -> list[Sent]:
    """Assistant messages that follow each other are one turn: https://docs.claude.com/en/api/messages."""
    numbered = enumerate(body["messages"])
    runs = itertools.groupby(numbered, lambda pair: pair[1].get("role") == "assistant")
    return [_turn(list(run)) for is_turn, run in runs if is_turn]


def _turn(run: list[tuple[int, Event]]) -> Sent:
    blocks = [_blocks(message) for _, message in run]
    flat = list(itertools.chain(*blocks))
    thinking = [[_piece(block) for block in some if block.get("type") in _THINKING] for some in blocks]
    carried = [pieces for pieces in thinking if pieces]
    # A client that splits a turn may have its thought put before each part of it.
    once = carried[:1] if all(pieces == carried[0] for pieces in carried) else carried
    pieces = tuple(itertools.chain(*once))
    if pieces and flat[0].get("type") not in _THINKING:
        pieces = (Piece("late", ""), *pieces)  # thinking comes first, or it is not what was issued
    return Sent(
        run[0][0],
        tuple(content_text(message) for _, message in run),
        tuple(block.get("id", "") for block in flat if block.get("type") == "tool_use"),
        "".join(piece.text for piece in pieces) if pieces else None,
        run[0][1],
        pieces,
    )


def _blocks(message: Event) -> list[Event]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _piece(block: Event) -> Piece:
    if block["type"] == "redacted_thinking":
        return Piece("redacted_thinking", "", block.get("data"))
    # An absent signature and an empty one are the same: clients' types demand the key.
    return Piece("thinking", block.get("thinking") or "", block.get("signature") or "")


# --- what goes out ------------------------------------------------------------------------------------------


def render(provider: Provider, body: Event, answer: Answer, settings: Settings, number: int) -> Rendered:
    model = body.get("model") or provider.model
    family = provider.family_of(model)
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{provider.name} {number}"))
    message_id = name if family == "deepseek" else f"msg_{name[:8]}"
    blocks = [_block(part, family, message_id) for part in answer.parts]
    pieces = tuple(_piece(block) for block in blocks if block["type"] in _THINKING)
    message: Event = {"id": message_id, "type": "message", "role": "assistant", "model": model}
    stop = {"stop_reason": "tool_use" if answer.calls else "end_turn", "stop_sequence": None}
    figures = _usage(answer, family)
    if not body.get("stream"):
        return Rendered(pieces, [dump(message | {"content": blocks, **stop, "usage": figures})])
    begun: Event = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": figures | {"output_tokens": 0},
    }
    events: Iterator[Event] = itertools.chain(
        [{"type": "message_start", "message": message | begun}],
        itertools.chain.from_iterable(
            _block_events(index, part, block, ping=index == 0 and family != "kimi")
            for index, (part, block) in enumerate(zip(answer.parts, blocks, strict=True))
        ),
        [{"type": "message_delta", "delta": stop, "usage": figures}, {"type": "message_stop"}],
    )
    return Rendered(pieces, [sse(event, event["type"]) for event in events])


def _block(part: Part, family: Family, message_id: str) -> Event:
    if isinstance(part, Thought):
        if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted}
        signature = part.signature
        if signature is None:
            own = {"deepseek": message_id, "minimax": hashlib.sha256(part.text.encode()).hexdigest()}
            signature = own.get(family)
        return {"type": "thinking", "thinking": part.text} | (
            {} if signature is None else {"signature": signature}
        )
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": json.loads(part.arguments)}


def _block_events(index: int, part: Part, block: Event, ping: bool) -> Iterator[Event]:
    """One block, from its empty beginning to its end."""

    def delta(kind: str, key: str, value: str) -> Event:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: value}}

    empty = {"thinking": "", "signature": "", "text": "", "input": {}}
    start = {key: empty.get(key, value) for key, value in block.items()}
    yield {"type": "content_block_start", "index": index, "content_block": start}
    if ping:
        yield {"type": "ping"}
    if block["type"] == "thinking":
        yield from (delta("thinking_delta", "thinking", one) for one in tokens(block["thinking"]))
        if block.get("signature"):
            yield delta("signature_delta", "signature", block["signature"])
    elif block["type"] == "text":
        yield from (delta("text_delta", "text", one) for one in tokens(block["text"]))
    elif isinstance(part, Call):
        yield from (delta("input_json_delta", "partial_json", half) for half in halves(part.arguments))
    yield {"type": "content_block_stop", "index": index}


def _usage(answer: Answer, family: Family) -> Event:
    figures: Event = {"input_tokens": 64 - answer.cached, "cache_read_input_tokens": answer.cached}
    figures |= {"output_tokens": sum(counted(answer))}
    if family == "kimi":
        return figures | {"output_tokens_details": {"thinking_tokens": counted(answer)[0]}}
    return figures | {"cache_creation_input_tokens": 0, "service_tier": "standard"}
