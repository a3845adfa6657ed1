"""What a refusal means: searches it for the texts of providers.toml, wherever a provider or relay puts them.

A refusal may also come with status 200, as the document or as the first event of a stream.

Providers wrap refusals in an envelope, in a body that begins with `data:`, in a string that is itself JSON
(OpenRouter's `metadata.raw`), under any content type. So every text in the body counts. This file knows
nothing of flows and mitmproxy.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from reasoning_fix.providers.rows import Means, Refusal
from reasoning_fix.providers.table import Table
from reasoning_fix.streams.events import EventReader

# The statuses with which a request is refused for what it says,
STATUSES = (400, 404, 413, 422)
# and those with which gateways pass such a refusal on: https://github.com/continuedev/continue/issues/13260
PASSED_ON = (502, 503, 529)
LONGEST = 64 * 1024
_DEPTH = 3


_NOTHING = (b"null", b'""', b"{}", b"[]")


class _BaseResp(msgspec.Struct):
    status_code: int | None = None


class _Document(msgspec.Struct):
    type: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    # MiniMax: https://github.com/MiniMax-AI/MiniMax-M2/issues/105
    base_resp: _BaseResp | None = None
    # SiliconFlow: https://github.com/agentscope-ai/QwenPaw/issues/433
    code: msgspec.Raw = msgspec.Raw(b"null")
    message: msgspec.Raw = msgspec.Raw(b"null")
    choices: msgspec.Raw = msgspec.Raw(b"null")
    content: msgspec.Raw = msgspec.Raw(b"null")


_decode_document = msgspec.json.Decoder(_Document).decode
# Every refusal that comes in place of an answer contains one of these.
_SIGNS = (b"error", b"base_resp", b'"code"', b"failed")


class Recognised(msgspec.Struct, frozen=True):
    """A known refusal; `detail` is the field or parameter that it names, or empty."""

    means: Means
    detail: str = ""


def recognise(body: bytes, table: Table) -> Recognised | None:
    """What a refusal's body means; None if it is not known."""
    texts = said(body)
    for refusal in table.refusals:
        if found := _pattern(refusal).search(texts):
            return Recognised(refusal.means, ".".join(filter(None, found.groupdict().values())))
    return None


def said(body: bytes) -> str:
    """All texts in a refusal, however they are wrapped."""
    return "\n".join(_texts(body[:LONGEST].decode("utf-8", "replace"), _DEPTH))


def may_be_in_place_of_answer(begin: bytes) -> bool:
    """Whether a payload with this beginning may be an error. Only a scan for a few words."""
    return any(sign in begin for sign in _SIGNS)


def decides_nothing(payload: bytes) -> bool:
    """Whether this payload of a stream only keeps it open, like Anthropic's pings."""
    return b"ping" in payload[:64] and re.search(rb'"type"\s*:\s*"ping"', payload) is not None


def is_in_place_of_answer(payload: bytes) -> bool:
    """Whether a document, or the first event of a stream, is an error and not (part of) an answer."""
    if not may_be_in_place_of_answer(payload):
        return False
    try:
        document = _decode_document(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    if bytes(document.error) not in _NOTHING or document.type in ("error", "response.failed"):
        return True
    if document.base_resp is not None and document.base_resp.status_code:
        return True
    is_empty = bytes(document.choices) in _NOTHING and bytes(document.content) in _NOTHING
    has_code = bytes(document.code) not in (*_NOTHING, b"0", b"200")
    return is_empty and has_code and bytes(document.message) not in _NOTHING


def in_place_of_answer(body: bytes) -> bytes | None:
    """The error that a body with status 200 is, as a document or as a stream; None if it is an answer."""
    if not may_be_in_place_of_answer(body[:LONGEST]):
        return None
    payloads = [body] if body.lstrip()[:1] == b"{" else EventReader().feed(body[:LONGEST] + b"\n\n")
    first = next((payload for payload in payloads if payload.strip()), b"")
    return first if is_in_place_of_answer(first) else None


@lru_cache(maxsize=256)
def _pattern(refusal: Refusal) -> re.Pattern[str]:
    return re.compile(refusal.text, re.IGNORECASE | re.DOTALL)


def _texts(text: str, depth: int) -> Iterator[str]:
    """The text itself and, if it is JSON, every string in it and in those strings, down to `depth` levels."""
    yield text
    bare = text.strip().removeprefix("data:").strip()
    if depth and bare[:1] in ("{", "[", '"'):
        try:
            yield from _strings(msgspec.json.decode(bare.encode("utf-8", "replace")), depth)
        except (msgspec.MsgspecError, RecursionError):
            return


def _strings(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield from _texts(value, depth - 1)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner, depth)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, depth)
