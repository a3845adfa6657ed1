"""The thought of an answer in front of its content, for clients that hide it; and out of requests again.

Only chat completions. A thought is shown as it comes: each event of a stream goes on with its reasoning added
to its content, and keeps it in its own field. Behind the thought stands a comment with a keyed mark of it.
When the client sends the content back, what stands before the comment is taken out if, and only if, the mark
is the one of just that thought: so the provider gets the turn as it said it, also from a proxy that was
started anew, and a text that merely looks like a shown thought stays. The key is the scope's: nobody without
the credential can make such a mark.

It knows no flow and no store. A fault in here leaves what comes as it is.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from reasoning_fix.dialects.splice import SpliceError, items, members, set_in_items, set_items, set_members
from reasoning_fix.engine.history import Fingerprints

logger = logging.getLogger(__name__)

_LONGEST_EVENT = 1024 * 1024
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_DATA = re.compile(rb"data: ?(\{.*\})\s*", re.DOTALL)
# `n` behind a mark: the answer had no content, which is not the same as an empty one.
_MARK = re.compile(r"<!-- reasoning-fix ([0-9a-f]{24})(n?) -->(?:\n\n|\s*\Z)")
# In every mark, and nothing of it is ever spelled otherwise in JSON.
_NAME = b"reasoning-fix"
_FIELDS = ("reasoning_content", "reasoning")

type Json = dict[str, Any]


class Style(msgspec.Struct, frozen=True):
    """How a thought is set off: what stands before it, in place of its line ends, and behind it."""

    opening: str
    line_end: str
    closing: str


STYLES: Mapping[str, Style] = {
    "details": Style("<details><summary>Thinking</summary>\n\n", "\n", "\n\n</details>\n"),
    "quote": Style("> ", "\n> ", "\n\n"),
}


def mark(fingerprints: Fingerprints, thought: str, is_null: bool) -> str:
    """What is written behind a shown thought."""
    found = fingerprints.of("shown", thought, is_null).hex()[:24]
    return f"<!-- reasoning-fix {found}{'n' if is_null else ''} -->\n\n"


class _Choice:
    """One choice of an answer: what it thought so far."""

    def __init__(self) -> None:
        self.thought: list[str] = []
        self.is_open = False
        self.is_over = False
        self.has_content = False


class Showing:
    """Adds the thoughts of one answer to its content: bytes of the body in, bytes of the body out."""

    def __init__(self, fingerprints: Fingerprints, style: Style) -> None:
        self._fingerprints = fingerprints
        self._style = style
        self._choices: dict[int, _Choice] = {}
        self._rest = bytearray()
        self._has_given_up = False

    def feed(self, data: bytes) -> bytes:
        """The events that are whole by now, of an event stream that is not compressed."""
        if self._has_given_up:
            return data
        pieces: list[bytes] = []
        # What came before holds no end, but for its last bytes: an event in many pieces is searched once.
        searched = max(0, len(self._rest) - 3)
        self._rest += data
        at = 0
        for end in _EVENT_END.finditer(bytes(memoryview(self._rest)[searched:])):
            first, last = searched + end.start(), searched + end.end()
            pieces += (self._event(bytes(self._rest[at:first])), end[0])
            at = last
        del self._rest[:at]
        if len(self._rest) > _LONGEST_EVENT:
            self._has_given_up = True
            pieces.append(self.end())
        return b"".join(pieces)

    def end(self) -> bytes:
        """What is left of a stream that has ended."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def whole(self, body: bytes) -> bytes:
        """An answer in one JSON document."""
        return self._changed(body)

    def _event(self, event: bytes) -> bytes:
        found = _DATA.fullmatch(event)
        return event if found is None else b"data: " + self._changed(found[1])

    def _changed(self, payload: bytes) -> bytes:
        try:
            told = msgspec.json.decode(payload)
            changed = [self._choice(n, one) for n, one in enumerate(told["choices"])]
            return msgspec.json.encode(told) if any(changed) else payload
        except Exception as fault:
            # Whatever it is: the client gets what the provider said.
            logger.debug("an answer whose thought is not shown", exc_info=fault)
            return payload

    def _choice(self, position: int, told: Json) -> bool:
        """Add to the content of a choice, or of a part of it. Returns whether there was anything to add."""
        index = told.get("index", position)
        choice = self._choices.setdefault(index if isinstance(index, int) else position, _Choice())
        is_whole = isinstance(told.get("message"), dict)
        said: Json = told["message"] if is_whole else told.get("delta") or {}
        if choice.is_over:
            return False
        added = ""
        thought = next((said[name] for name in _FIELDS if isinstance(said.get(name), str) and said[name]), "")
        if thought:
            choice.thought.append(thought)
            added = ("" if choice.is_open else self._style.opening) + thought.replace(
                "\n", self._style.line_end
            )
            choice.is_open = True
        content = said.get("content")
        choice.has_content = choice.has_content or isinstance(content, str)
        ends = bool(content or said.get("tool_calls") or told.get("finish_reason")) or is_whole
        if choice.is_open and ends:
            choice.is_over = True
            shown = mark(self._fingerprints, "".join(choice.thought), not choice.has_content)
            added += self._style.closing + shown
        if added:
            said["content"] = added + (content or "")
            told["message" if is_whole else "delta"] = said
        return bool(added)


def unshown(body: bytes, fingerprints: Fingerprints) -> bytes:
    """A request without the thoughts that were shown to its client; as it came if there are none."""
    if _NAME not in body:
        return body
    try:
        array = members(body)["messages"]
        messages = body[array.begin : array.end]
        changes = {
            index: change
            for index, message in enumerate(items(messages))
            if _NAME in message and (change := _taken_out(message, fingerprints))
        }
        if not changes:
            return body
        written = set_in_items(messages, changes)
    except (SpliceError, msgspec.MsgspecError, KeyError, UnicodeError, RecursionError):
        return body
    return b"".join((body[: array.begin], written.data, body[array.end :]))


def _taken_out(message: bytes, fingerprints: Fingerprints) -> dict[str, bytes | None]:
    """The content of an assistant message as the provider said it; empty if no thought is shown in it."""
    told = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
    if bytes(told.get("role", b"")) != b'"assistant"':
        return {}
    content = bytes(told.get("content", b""))
    if content[:1] == b'"':
        left = _without_thought(msgspec.json.decode(content, type=str), fingerprints)
        return {} if left is None else {"content": left}
    if content[:1] != b"[":
        return {}
    # A client made parts of it: the thought is in the first one that is a text.
    for at, part in enumerate(items(content)):
        text = msgspec.json.decode(part, type=dict[str, Any]).get("text")
        if isinstance(text, str):
            left = _without_thought(text, fingerprints)
            if left is None:
                return {}
            text_left = b'""' if left == b"null" else left
            return {"content": set_items(content, {}, {at: set_members(part, {"text": text_left})}).data}
    return {}


def _without_thought(text: str, fingerprints: Fingerprints) -> bytes | None:
    """The text behind a shown thought, as JSON; None if it does not begin with one of this scope."""
    for style in STYLES.values():
        if not text.startswith(style.opening):
            continue
        for found in _MARK.finditer(text):
            shown = text[len(style.opening) : found.start()].removesuffix(style.closing)
            thought, is_null = shown.replace(style.line_end, "\n"), bool(found[2])
            if mark(fingerprints, thought, is_null) == f"<!-- reasoning-fix {found[1]}{found[2]} -->\n\n":
                left = text[found.end() :]
                return b"null" if is_null and not left else msgspec.json.encode(left)
    return None
