"""What a provider says and hears, in no dialect's spelling: the values every other file here shares.

An `Answer` is scripted by a test, `Issued` is that answer once it was given, `Sent` is one assistant turn of
a request. Reasoning that is more than text (signed blocks, items, details) is compared as `Piece`s.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

type Dialect = Literal["chat", "messages", "responses"]
type Verdict = Literal["exact", "missing", "blank", "wrong", "unknown"]
type Event = dict[str, Any]

CREATED = 1795000001


class Thought(msgspec.Struct, frozen=True):
    """Reasoning. `signature` None: the provider's own. `redacted`: the data of a block without text."""

    text: str = ""
    signature: str | None = None
    redacted: str = ""


class Text(msgspec.Struct, frozen=True):
    text: str


class Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


type Part = Thought | Text | Call


class Answer(msgspec.Struct, frozen=True):
    """One scripted turn, its parts in the order of the wire; no `Thought` means that the model did not think.

    `details` are reasoning_details as they are to be sent, instead of those made from the thoughts.
    `cached` tokens of the prompt are said to come from the cache.
    `pause` seconds lie between events; `cut_after` events the connection drops; `hold_open` seconds it stays
    open after the last event without the end of the body; `coding` names what `compress` does to the stream.
    """

    parts: tuple[Part, ...] = ()
    details: tuple[Event, ...] = ()
    cached: int = 0
    pause: float = 0.0
    cut_after: int | None = None
    hold_open: float = 0.0
    coding: str = ""
    compress: Callable[[bytes], bytes] = bytes

    @property
    def reasoning(self) -> str | None:
        thoughts = [part.text for part in self.parts if isinstance(part, Thought)]
        return "".join(thoughts) if thoughts else None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(part for part in self.parts if isinstance(part, Call))


class RawAnswer(msgspec.Struct, frozen=True):
    """An answer given as bytes: chunks of a chunked body, or a plain body if there is a content-length."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    hold_open: float = 0.0
    cut: bool = False


class Piece(msgspec.Struct, frozen=True):
    """One thinking block, reasoning item or detail.

    `seal` is its signature, redacted data or encrypted content (None: the client left it out where it may),
    `before` what it must precede. `plain`: its text alone says as much.
    """

    kind: str
    text: str
    seal: str | None = None
    before: str = ""
    plain: bool = False


class Rendered(msgspec.Struct, frozen=True):
    """An answer in a dialect: its reasoning as pieces, the chunks of its body, what the server keeps."""

    pieces: tuple[Piece, ...]
    chunks: list[bytes]
    kept: tuple[str, list[Event]] | None = None


class Issued(msgspec.Struct, frozen=True):
    """One turn in the ledger: who said it, where in which conversation, and what."""

    host: str
    conversation: str
    position: int
    answer: Answer
    pieces: tuple[Piece, ...] = ()

    @property
    def reasoning(self) -> str | None:
        return self.answer.reasoning

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def calls(self) -> tuple[Call, ...]:
        return self.answer.calls


class Sent(msgspec.Struct, frozen=True):
    """One assistant turn of a request. `index` counts as the provider's refusals do.

    `reasoning` None: the field or block is not there at all. `message` is the turn as it came (of several
    messages of one turn, the first).
    """

    index: int
    texts: tuple[str, ...]
    calls: tuple[str, ...]
    reasoning: str | None
    message: Event
    pieces: tuple[Piece, ...] = ()


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(payload: Event, event: str = "") -> bytes:
    name = b"event: %s\n" % event.encode() if event else b""
    return name + b"data: " + dump(payload) + b"\n\n"


def tokens(text: str) -> list[str]:
    """Tokens, roughly: words with the white space before them, and CJK text character by character."""
    return re.findall(r"\s*[\u3000-\u9fff]|\s*[^\s\u3000-\u9fff]+|\s+", text)


def halves(arguments: str) -> tuple[str, str]:
    middle = len(arguments) // 2
    return arguments[:middle], arguments[middle:]


def counted(answer: Answer) -> tuple[int, int]:
    """Tokens of the thought, and of all else."""
    return len(tokens(answer.reasoning or "")), len(tokens(answer.text)) + 12 * len(answer.calls)


def numbered_calls(answer: Answer) -> Iterator[tuple[int, Part]]:
    """The parts, each with the number of calls before it."""
    number = 0
    for part in answer.parts:
        yield number, part
        number += isinstance(part, Call)


def visible(text: str) -> str:
    return re.sub(r"(?s)<((?:mm:)?think)>.*?</\1>", "", text).strip()
