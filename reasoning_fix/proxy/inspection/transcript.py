"""A request or an answer of any wire as one readable text: bytes in, a bounded text out, whatever the bytes.

Strategy: `requests` and `answers` say what there is, as entries that are read only when they are written;
this file writes them from both ends until the bound is reached, and says what is left out between. Content is
always indented behind a gutter (`+` put in by the addon, `|` other reasoning), so no text of a conversation
can pass for a heading. O(bytes) to decode; what is written is bounded by `LONGEST`.
"""

import re
from collections import Counter

from reasoning_fix.proxy.inspection import parts
from reasoning_fix.proxy.inspection.answers import Ended, read_answer
from reasoning_fix.proxy.inspection.parts import Members, Part, decoded, members, shortened
from reasoning_fix.proxy.inspection.pieces import Entry, Transcript
from reasoning_fix.proxy.inspection.requests import Told, read_request
from reasoning_fix.proxy.stats.tables import size

__all__ = ["LONGEST", "Ended", "Told", "answer_text", "dialect_of", "request_text"]

# Characters of a whole transcript, and of one entry in it.
LONGEST = 300_000
_LONGEST_ENTRY = 60_000
_LONGEST_PLAIN = 20_000
_LONGEST_FACT = 4_000
_MOST_PARTS = 400
_MOST_LINES = 2_000
# An empty line has no height in mitmweb: a blank stands in it.
_BETWEEN = "\n \n"
_LINE_END = re.compile(r"\r\n?|[\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
# Control characters would move a terminal's cursor, and marks of direction turn a line around.
_UNSEEN = {
    **{code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)},
    **dict.fromkeys((0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
}


def request_text(body: bytes, dialect: str = "", told: Told | None = None) -> str:
    """A request as a transcript. `dialect` "" is found out by its shape; `told`: what the addon noted."""
    try:
        top = members(decoded(body))
        wire = dialect or dialect_of(top)
        if not wire or not top:
            return _as_it_is(body, "This is not a chat request.")
        return _written(read_request(body, wire, top, told or Told()))
    except Exception as fault:
        return _as_it_is(body, _cannot(fault))


def answer_text(body: bytes, dialect: str = "", ended: Ended | None = None, snapshots: bool = False) -> str:
    """A response body, its content coding undone, as a transcript.

    `ended`: its status code and how it was cut; `snapshots`: fragments may repeat all that came before.
    """
    try:
        wire = dialect or _wire_of_answer(body)
        return _written(read_answer(body, wire, ended or Ended(), snapshots))
    except Exception as fault:
        return _as_it_is(body, _cannot(fault))


def _cannot(fault: Exception) -> str:
    known = isinstance(fault, ValueError | RecursionError) and not isinstance(fault, UnicodeError)
    return f"This cannot be shown as a conversation ({fault if known else type(fault).__name__})."


def dialect_of(top: Members) -> str:
    """The wire of a request by its shape; "" if it is not a chat request."""
    if "input" in top:
        return "responses"
    if not isinstance(top.get("messages"), list):
        return ""
    blocks = ("tool_use", "tool_result", "thinking", "redacted_thinking")
    for message in parts.array(top["messages"])[:50]:
        for block in parts.array(members(message).get("content")):
            if members(block).get("type") in blocks:
                return "messages"
    return "messages" if "system" in top else "chat_completions"


def _wire_of_answer(body: bytes) -> str:
    head = body[:4096]
    if b'"response.' in head or b'"object":"response"' in head.replace(b" ", b""):
        return "responses"
    if b'"message_start"' in head or b'"type":"message"' in head.replace(b" ", b""):
        return "messages"
    return "chat_completions"


# ---- Writing -----------------------------------------------------------------------------------------------


def _as_it_is(body: bytes, why: str) -> str:
    said = shortened(body[: 4 * _LONGEST_PLAIN].decode("utf-8", "replace"), _LONGEST_PLAIN)
    return _clean(f"{why} Its beginning, as it came ({size(len(body))}):\n\n{said}\n")


def _clean(text: str) -> str:
    """Only characters that any terminal and any encoder can take, and only one kind of line end."""
    text = _LINE_END.sub("\n", text).translate(_UNSEEN)
    return text.encode("utf-8", "replace").decode("utf-8")


def _written(transcript: Transcript) -> str:
    lines = [transcript.title]
    for name, value in transcript.facts:
        lines.append(f"{name}: {shortened(value, _LONGEST_FACT, line=True)}".replace("\n", " "))
    if transcript.notice:
        lines.append(transcript.notice)
    head = _clean("\n".join(lines))
    budget = LONGEST - len(head)
    first: list[str] = []
    last: list[str] = []
    entries = transcript.entries
    begin, end = 0, len(entries)
    # Half of the room for the beginning, the rest from the end backwards: what was asked last tells most.
    room = budget // 2
    while begin < end and (written := _entry(entries[begin])) and len(written) <= room:
        first.append(written)
        room -= len(written) + len(_BETWEEN)
        begin += 1
    room += budget // 2 - 1000
    while begin < end and (written := _entry(entries[end - 1])) and len(written) <= room:
        last.append(written)
        room -= len(written) + len(_BETWEEN)
        end -= 1
    middle = [_left_out(entries[begin:end])] if begin < end else []
    return _BETWEEN.join([head, *first, *middle, *reversed(last)]) + "\n"


def _left_out(entries: list[Entry]) -> str:
    statuses = sum((entry.statuses for entry in entries), Counter[str]())
    turns = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
    count = sum(entry.count for entry in entries)
    messages = f"{count:,} message{'' if count == 1 else 's'} left out here"
    return f"[… {messages}{f'; their turns: {turns}' if turns else ''} …]"


def _entry(entry: Entry) -> str:
    if entry.read is None:
        return entry.title or _left_out([entry])
    heading = f"{shortened(entry.title, 200, line=True)}{': ' if entry.note else ''}{entry.note}"
    lines = [_clean(heading).replace("\n", " ")]
    room = _LONGEST_ENTRY
    found = iter(entry.read())
    for index, part in enumerate(found):
        if room <= 0 or index == _MOST_PARTS:
            lines.append("    [… more parts of this message left out …]")
            break
        gutter = ("+" if entry.added else "|") if part.thought else " "
        written = _part(part, gutter)
        room -= sum(map(len, written))
        lines += written
    return "\n".join(lines)


def _part(part: Part, gutter: str) -> list[str]:
    """Lines of one part, each behind its gutter; raw text is cleaned before it is split."""
    lines = [f"{gutter}   {_clean(part.title).replace(chr(10), ' ')}"] if part.title else []
    indent = f"{gutter}     " if part.title else f"{gutter}   "
    if not part.text:
        return lines
    texts = _clean(part.text).split("\n")
    if len(texts) > _MOST_LINES:
        left_out = len(texts) - _MOST_LINES
        texts[_MOST_LINES // 2 : -_MOST_LINES // 2] = [f"[… {left_out:,} lines left out …]"]
    return lines + [f"{indent}{line}".rstrip() or " " for line in texts]
