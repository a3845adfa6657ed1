"""Response bytes -> what a transcript shows of an answer: streamed or whole, complete, cut or refused.

The turns come from the dialects' own folders: what is shown is what recording understands. Usage, finish
reason and errors are gathered beside them. An event that cannot be read is counted and skipped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import msgspec

from reasoning_fix.dialects import chat_answers, message_answers, response_answers
from reasoning_fix.dialects.wire import Answered, AnswerError
from reasoning_fix.proxy.inspection import parts
from reasoning_fix.proxy.inspection.parts import Members, Part
from reasoning_fix.proxy.inspection.pieces import Entry, Transcript
from reasoning_fix.proxy.inspection.requests import title
from reasoning_fix.proxy.stats.tables import size
from reasoning_fix.streams.copies import CUT
from reasoning_fix.streams.events import EventReader

# What an event must have in it to be looked at for more than its turns; null does not count.
_TELLING = re.compile(
    rb'"(?:usage|finish_reason|stop_reason|status|error|reason)"[ ]?:[ ]?[^n ]|message_stop|response\.[cif]'
)
_STREAM = re.compile(rb"(?:\A|[\r\n])(?:data|event|id|retry)?:")
_USED = {
    "in": (("prompt_tokens",), ("input_tokens",)),
    "cached": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("prompt_cache_hit_tokens",),
        ("cached_tokens",),
    ),
    # Not counted among the input tokens: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
    "besides": (("cache_read_input_tokens",),),
    "out": (("completion_tokens",), ("output_tokens",)),
    "reasoning": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
}
_MOST_ERRORS = 5
_MOST_UNREAD = 1_000
# An event of a real answer has some hundred bytes; what is left beyond this many is not looked at.
_MOST_EVENTS = 200_000
_SLICE = 256 * 1024
_ENDS = ("message_stop", "response.completed", "response.incomplete", "response.failed")


class Ended(msgspec.Struct, frozen=True):
    """How a response ended: its status code, and where it was cut, by whom and in what words."""

    status: int = 200
    cut: str = ""


class _Gathered:
    """What stands beside the turns of an answer."""

    def __init__(self) -> None:
        self.model = ""
        self.usage: dict[str, object] = {}
        self.stops: dict[object, str] = {}
        self.errors: list[str] = []
        self.ended = False
        self.unread = 0

    def take(self, event: Members) -> None:
        response = parts.members(event.get("response"))
        for holder in (
            event,
            parts.members(event.get("message")),
            response,
            parts.members(event.get("delta")),
        ):
            self._look(holder, "")
            if holder is not event or "output" in holder:
                self._stop("", holder.get("status"))
        for choice in parts.array(event.get("choices")):
            one = parts.members(choice)
            self._look(one, one.get("index", 0))
        if parts.text(event.get("type")) in _ENDS:
            self.ended = True

    def _look(self, holder: Members, index: object) -> None:
        self.model = self.model or parts.text(holder.get("model"))
        for name, value in parts.members(holder.get("usage")).items():
            if value is not None:
                self.usage[name] = value
        self._stop(index, holder.get("finish_reason"))
        self._stop(index, holder.get("stop_reason"))
        if reason := parts.text(parts.members(holder.get("incomplete_details")).get("reason")):
            self._stop("", f"incomplete: {reason}")
        if error := holder.get("error"):
            one = parts.members(error)
            said = parts.text(one.get("message")) or (
                error if isinstance(error, str) else parts.compact(error)
            )
            if said not in self.errors and len(self.errors) < _MOST_ERRORS:
                self.errors.append(said)

    def _stop(self, index: object, reason: object) -> None:
        if parts.text(reason) and reason not in ("in_progress", "queued"):
            key = index if isinstance(index, int | str) else ""
            if not self.stops.get(key, "").startswith("incomplete: "):
                self.stops[key] = parts.compact(reason, 200).strip('"')
            self.ended = True

    def used(self) -> str:
        """Usage for people: `107 in (64 cached), 58 out (32 reasoning)`."""
        found: dict[str, object] = {}
        for name, paths in _USED.items():
            for path in paths:
                value: object = self.usage
                for key in path:
                    value = parts.members(value).get(key)
                if isinstance(value, int | float):
                    found[name] = value
                    break
        if "in" not in found and "out" not in found:
            return parts.compact(self.usage)
        came = f"{found.get('in', '?')} in" + (f" ({found['cached']} cached)" if found.get("cached") else "")
        came += f" and {found['besides']} from cache" if found.get("besides") else ""
        went = f"{found.get('out', '?')} out"
        return f"{came}, {went}" + (f" ({found['reasoning']} reasoning)" if found.get("reasoning") else "")


type _Folder = chat_answers.AnswerFolder | message_answers.AnswerFolder | response_answers.AnswerFolder


def _folder(dialect: str, snapshots: bool, limit: int) -> _Folder:
    """Reads one run of payloads that follow each other without a gap.

    Text fragments that were escaped never take more characters than bytes.
    """
    match dialect:
        case "messages":
            return message_answers.AnswerFolder(limit)
        case "responses":
            return response_answers.AnswerFolder(limit)
    return chat_answers.AnswerFolder(snapshots, limit)


def _entries(folder: _Folder) -> list[Entry]:
    if isinstance(folder, chat_answers.AnswerFolder):
        seen = folder.seen()
        return [
            Entry("[assistant]" if len(seen) == 1 else f"[choice {index}]", partial(_choice, answer))
            for index, answer in seen.items()
        ]
    pieces = folder.seen()
    read = _blocks if isinstance(folder, message_answers.AnswerFolder) else _items
    return [Entry("[assistant]", partial(read, pieces))] if pieces else []


def _choice(answer: Answered) -> Iterable[Part]:
    message: dict[str, object] = {name: parts.decoded(value) for name, value in answer.fields.items()}
    message["content"] = answer.turn.text
    message["tool_calls"] = [
        {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.turn.calls
    ]
    return parts.chat_parts(message)


def _blocks(blocks: Sequence[bytes]) -> Iterator[Part]:
    for block in blocks:
        yield from parts.content_parts([parts.decoded(block)])


def _items(items: Sequence[bytes]) -> Iterator[Part]:
    for item in items:
        yield from parts.item_parts(parts.members(parts.decoded(item)))


def read_answer(body: bytes, dialect: str, ended: Ended, snapshots: bool = False) -> Transcript:
    """What a transcript shows of this response body, its content coding undone."""
    pieces = CUT.split(body)
    whole = body.strip()[:1] in (b"{", b"[") and len(pieces) == 1
    gathered = _Gathered()
    entries: list[Entry] = []
    count = 0
    for at, piece in enumerate(pieces):
        if at % 2:  # what the pattern of the cut mark captured: the number of bytes left out
            entries.append(Entry(f"[… {size(int(piece))} of the answer were not kept …]"))
            continue
        payloads = [piece.strip()] if whole else _events(piece)
        count += len(payloads)
        entries += _folded(payloads, dialect, snapshots, gathered, len(body))
    transcript = Transcript("")
    streamed = not whole and _STREAM.search(body, 0, 65536) is not None
    manner = f"streamed in {count} event{'' if count == 1 else 's'}, " if streamed else ""
    transcript.title = f"{title(dialect)} answer, {manner}{size(len(body))}"
    transcript.facts = _facts(gathered, ended, streamed)
    transcript.entries = entries
    if not any(entry.title.startswith(("[assistant", "[choice")) for entry in entries):
        transcript.entries += [Entry("[body]", partial(_plain, body))] if body.strip() else []
    return transcript


def _events(data: bytes) -> list[bytes]:
    reader = EventReader(max_event=len(data) + 1)
    found: list[bytes] = []
    for start in range(0, len(data), _SLICE):
        found += filter(None, reader.feed(data[start : start + _SLICE]))
        if len(found) > _MOST_EVENTS:
            return found
    return found + [payload for payload in reader.end() if payload]


def _folded(
    payloads: Sequence[bytes], dialect: str, snapshots: bool, gathered: _Gathered, limit: int
) -> list[Entry]:
    folder = _folder(dialect, snapshots, limit)
    for number, payload in enumerate(payloads):
        if payload == b"[DONE]":
            gathered.ended = True
            continue
        if number < 3 or _TELLING.search(payload):
            try:
                gathered.take(parts.members(parts.decoded(payload)))
            except ValueError:
                gathered.unread += 1
                continue
        try:
            folder.feed(payload)
        except Exception:
            # If one event is wrong, the others are still shown; an error that it carries was gathered.
            gathered.unread += not gathered.errors
        if gathered.unread > _MOST_UNREAD:
            break
    try:
        return _entries(folder)
    except AnswerError:
        # Half a character at the end of what came.
        gathered.unread += 1
        return []


def _facts(gathered: _Gathered, ended: Ended, streamed: bool) -> list[tuple[str, str]]:
    facts = [("status", str(ended.status))] if ended.status != 200 else []
    if gathered.model:
        facts.append(("model", parts.compact(gathered.model, 200).strip('"')))
    if gathered.stops:
        facts.append(("finish", ", ".join(gathered.stops.values())))
    if gathered.usage:
        facts.append(("usage", gathered.used()))
    facts += [("error", parts.compact(error, 2000).strip('"')) for error in gathered.errors]
    if ended.cut:
        facts.append(("end", f"complete; after it: {ended.cut}" if gathered.ended else ended.cut))
    elif streamed and not gathered.ended and not gathered.errors:
        facts.append(("end", "provider stopped: the stream has no finish reason"))
    if gathered.unread:
        facts.append(("unread", f"{gathered.unread} events could not be read"))
    return facts


def _plain(body: bytes) -> list[Part]:
    """A body that is not an answer: an error, most of the time."""
    try:
        return [Part("", parts.pretty(parts.decoded(body)))]
    except ValueError:
        return [
            Part("", parts.shortened(body[: 4 * parts.LONGEST].decode("utf-8", "replace"), parts.LONGEST))
        ]
