"""The Responses API: what the turns of an `input` carry, and one answer as items, streamed or whole.

Shapes: https://api-docs.deepseek.com/guides/responses_api and clients' threads (`reasoning_text`, UUIDs);
lm15-dev/lm15-contract changes/2026-09-03-moonshotai-wires.md (`summary_text`); event names as OpenAI's.
"""

import base64
import itertools
import uuid
from collections.abc import Iterator

from tests.provider.providers import Provider
from tests.provider.settings import Settings
from tests.provider.turns import (
    CREATED,
    Answer,
    Call,
    Event,
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

# --- what came in -------------------------------------------------------------------------------------------


def fits(body: Event) -> bool:
    given = body.get("input")
    return isinstance(given, str) or (
        isinstance(given, list) and all(isinstance(item, dict) for item in given)
    )


def items(body: Event) -> list[Event]:
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def position(body: Event) -> int:
    """Places are counted without reasoning items, which a client may have dropped."""
    return sum(item.get("type") != "reasoning" for item in items(body))


def opening(body: Event) -> str:
    return next((_text(item) for item in items(body) if item.get("role") == "user"), "")


def _text(item: Event) -> str:
    content = item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def turns(provider: Provider, body: Event) -> list[Sent]:
    """A turn is a run of items the model made; an output or a user's message ends it."""
    found: list[Sent] = []
    place = 0
    for is_turn, group in itertools.groupby(items(body), _made_by_model):
        run = list(group)
        if is_turn:
            found.append(_turn(provider, place, run))
        place += sum(item.get("type") != "reasoning" for item in run)
    return found


def _made_by_model(item: Event) -> bool:
    kind = item.get("type", "message")
    return (
        kind == "reasoning"
        or kind.endswith("_call")
        or (kind == "message" and item.get("role") == "assistant")
    )


def _turn(provider: Provider, place: int, run: list[Event]) -> Sent:
    thoughts = [item for item in run if item.get("type") == "reasoning"]
    texts = [
        "".join(part.get("text") or "" for part in item.get(provider.thoughts) or ()) for item in thoughts
    ]
    return Sent(
        place,
        tuple(_text(item) for item in run if item.get("role") == "assistant"),
        tuple(item["call_id"] for item in run if "call_id" in item),
        "".join(texts) if thoughts else None,
        next(iter(thoughts), run[0]),
        _pieces(provider, run),
    )


def _pieces(provider: Provider, run: list[Event]) -> tuple[Piece, ...]:
    """Each reasoning item, with what it must precede: a call by its id, else the message.

    Where a summary must not be there, the item must come back with its id and status, and without one.
    """
    found: list[Piece] = []
    before = ""
    for item in reversed(run):
        if item.get("type") != "reasoning":
            before = item.get("call_id") or "message"
            continue
        parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
        text = dump([[part.get("type"), part.get("text")] for part in parts]).decode()
        if provider.summary == "never":
            text += dump([item.get("id"), item.get("status"), "summary" in item]).decode()
        found.append(Piece("reasoning", text, item.get("encrypted_content"), before))
    return tuple(reversed(found))


# --- what goes out ------------------------------------------------------------------------------------------


def render(provider: Provider, body: Event, answer: Answer, settings: Settings, number: int) -> Rendered:
    model = body.get("model") or provider.model
    output = [_item(provider, part, f"{number} {index}") for index, part in enumerate(answer.parts)]
    head: Event = {"id": _name(provider, "resp", str(number)), "object": "response", "created_at": CREATED}
    head |= {"model": model}
    tail = {"store": body.get("store", False), "previous_response_id": body.get("previous_response_id")}
    done = head | {"status": "completed", "output": output, **tail, "usage": _usage(answer)}
    kept = (head["id"], [*items(body), *output])
    if not body.get("stream"):
        return Rendered(_pieces(provider, output), [dump(done)], kept)
    begun = head | {"status": "in_progress", "output": [], **tail}
    events = itertools.chain(
        [{"type": "response.created", "response": begun}],
        itertools.chain.from_iterable(
            _item_events(index, part, item)
            for index, (part, item) in enumerate(zip(answer.parts, output, strict=True))
        ),
        [{"type": "response.completed", "response": done}],
    )
    chunks = [sse(event | {"sequence_number": at}, event["type"]) for at, event in enumerate(events)]
    return Rendered(_pieces(provider, output), chunks, kept)


def _name(provider: Provider, prefix: str, seed: str) -> str:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{provider.name} {prefix} {seed}"))
    return name if provider.family == "deepseek" else f"{prefix}_{name[:8]}"


def _item(provider: Provider, part: object, seed: str) -> Event:
    if isinstance(part, Call):
        item: Event = {"id": _name(provider, "fc", seed), "type": "function_call", "call_id": part.id}
        return item | {"name": part.name, "arguments": part.arguments, "status": "completed"}
    if isinstance(part, Text):
        item = {"id": _name(provider, "msg", seed), "type": "message", "role": "assistant"}
        item |= {"status": "completed", "phase": "final_answer"} if provider.family == "deepseek" else {}
        text = {"type": "output_text", "text": part.text, "annotations": []}
        return item | {"status": "completed", "content": [text]}
    assert isinstance(part, Thought)
    item = {"id": _name(provider, "rs", seed), "type": "reasoning"}
    item |= {} if provider.summary == "never" else {"summary": []}
    if provider.thoughts == "summary":
        return item | {"summary": [{"type": "summary_text", "text": part.text}], "status": "completed"}
    if part.text or not part.redacted:
        item["content"] = [{"type": "reasoning_text", "text": part.text}]
    own = base64.b64encode(seed.encode()).decode() if provider.family == "deepseek" else ""
    if sealed := part.redacted or (own if part.signature is None else part.signature):
        item["encrypted_content"] = sealed
    return item | {"status": "completed"}


def _item_events(index: int, part: object, item: Event) -> Iterator[Event]:
    """One item, from its empty beginning to its end."""

    def event(kind: str, **more: object) -> Event:
        return {"type": f"response.{kind}", "output_index": index, **more}

    def inner(kind: str, **more: object) -> Event:
        return event(kind, item_id=item["id"], **more)

    hidden = ("content", "encrypted_content") if item["type"] == "reasoning" else ()
    empty = {"summary": [], "content": [], "arguments": "", "status": "in_progress"}
    start = {key: empty.get(key, value) for key, value in item.items() if key not in hidden}
    yield event("output_item.added", item=start)
    if isinstance(part, Thought):
        kind, place = ("reasoning_text", "content_index")
        if item.get("summary"):
            kind, place = ("reasoning_summary_text", "summary_index")
        for one in tokens(part.text):
            yield inner(f"{kind}.delta", **{place: 0}, delta=one)
        yield inner(f"{kind}.done", **{place: 0}, text=part.text)
    elif isinstance(part, Text):
        blank = {"type": "output_text", "text": "", "annotations": []}
        yield inner("content_part.added", content_index=0, part=blank)
        for one in tokens(part.text):
            yield inner("output_text.delta", content_index=0, delta=one, logprobs=[])
        yield inner("output_text.done", content_index=0, text=part.text, logprobs=[])
        yield inner("content_part.done", content_index=0, part=blank | {"text": part.text})
    elif isinstance(part, Call):
        for half in halves(part.arguments):
            yield inner("function_call_arguments.delta", delta=half)
        yield inner("function_call_arguments.done", arguments=part.arguments)
    yield event("output_item.done", item=item)


def _usage(answer: Answer) -> Event:
    thought, said = counted(answer)
    return {
        "input_tokens": 64,
        "input_tokens_details": {"cached_tokens": answer.cached},
        "output_tokens": thought + said,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": 64 + thought + said,
    }
