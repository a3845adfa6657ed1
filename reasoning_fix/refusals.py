"""What a refusal means: the texts of providers.toml, looked for wherever a provider or a relay may put them.

Providers wrap their refusals: in an envelope, in a body that begins with `data:`, in a string that is JSON
itself (OpenRouter's `metadata.raw`), with back-quotes or without, under any content type. So every text in
the body counts. This file knows no flow and no mitmproxy.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from reasoning_fix.provider_rows import Means, Refusal
from reasoning_fix.providers import Table

# The statuses by which requests are refused for what they say.
STATUSES = (400, 422)
LONGEST = 64 * 1024
_DEPTH = 3


class Recognised(msgspec.Struct, frozen=True):
    """A refusal that is known; `detail` is the field or the parameter that it names, else empty."""

    means: Means
    detail: str = ""


def recognise(body: bytes, table: Table) -> Recognised | None:
    """What a refusal's body means; None for all that is not known."""
    texts = "\n".join(_texts(body[:LONGEST].decode("utf-8", "replace"), _DEPTH))
    for refusal in table.refusals:
        if found := _pattern(refusal).search(texts):
            return Recognised(refusal.means, next(filter(None, found.groupdict().values()), ""))
    return None


@lru_cache(maxsize=256)
def _pattern(refusal: Refusal) -> re.Pattern[str]:
    return re.compile(refusal.text, re.IGNORECASE | re.DOTALL)


def _texts(text: str, depth: int) -> Iterator[str]:
    """The text itself, every string in it where it is JSON, and the strings in those, `depth` levels down."""
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
