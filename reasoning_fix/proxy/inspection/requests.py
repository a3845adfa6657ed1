"""Request bytes -> what a transcript shows of a request, and what became of the reasoning of each turn.

`Treated` values count messages as a dialect reads them; here they are brought to the messages of the body, so
that the numbers shown are the ones that a provider's error texts use (`messages[3]`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

import msgspec

from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.wire import KeptByServer, NotChatError, Request
from reasoning_fix.dialects.wire import read_request as read_by
from reasoning_fix.engine.report import Treated
from reasoning_fix.proxy.inspection import parts
from reasoning_fix.proxy.inspection.parts import Members, Part
from reasoning_fix.proxy.inspection.pieces import Entry, Transcript
from reasoning_fix.proxy.stats.tables import size

_HISTORY = {"chat_completions": "messages", "messages": "messages", "responses": "input"}
_TITLES = {"chat_completions": "Chat completions", "messages": "Anthropic messages", "responses": "Responses"}
# What tells most about a request, in the order shown; the names of all other members are listed.
_TELLING = (
    "stream",
    "thinking",
    "enable_thinking",
    "reasoning",
    "reasoning_effort",
    "reasoning_split",
    "output_config",
    "chat_template_kwargs",
    "previous_response_id",
    "conversation",
    "tool_choice",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "temperature",
    "top_p",
    "n",
)
_SHOWN_ELSEWHERE = ("model", "messages", "input", "tools", "system", "instructions")
_MOST_TOOLS = 60
_ADDED = ("restored", "filled")
# Of longer histories, messages at the beginning and as many at the end are looked at.
_MOST_AT_AN_END = 2_000

type _Note = Callable[[int, Callable[[], bool]], str]


class Told(msgspec.Struct, frozen=True):
    """What the addon noted of a request: its turns (None if it noted nothing), and what else it did."""

    turns: tuple[Treated, ...] | None = None
    thinking_off: bool = False
    changed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def title(dialect: str) -> str:
    """The name of a wire for people."""
    return _TITLES[dialect]


def read_request(body: bytes, dialect: str, top: Members, told: Told) -> Transcript:
    """What a transcript shows of this request, `top` being its body decoded."""
    transcript = Transcript(f"{_TITLES[dialect]} request, {size(len(body))}")
    history = top.get(_HISTORY[dialect])
    items = [history] if isinstance(history, str) else parts.array(history)
    treated = {turn.index: turn for turn in told.turns or ()}
    transcript.facts = [*_facts(top, len(items)), *_done(told)]
    if any(turn.status in _ADDED for turn in treated.values()):
        transcript.notice = "Lines that begin with + were put in by reasoning-fix; | is other reasoning."
    request = _as_read(body, dialect)
    places = _places(request, treated) if request is not None else {}
    continued = _positions(request, request.continued) if request and request.continued is not None else ()
    transcript.entries = _system(top)

    def note(position: int, thinks: Callable[[], bool]) -> str:
        if position in continued:
            return "to be continued by the model"
        if told.turns is not None and not told.thinking_off:
            return _words(places.get(position))
        return "with its reasoning" if thinks() else "without reasoning"

    odd = request.odd if request is not None else {}
    make = partial(_entries, dialect, items, places, note, odd)
    if len(items) <= 2 * _MOST_AT_AN_END:
        transcript.entries += make(range(len(items)))
    else:
        middle = range(_MOST_AT_AN_END, len(items) - _MOST_AT_AN_END)
        turns = Counter(places[position].status for position in middle if position in places)
        transcript.entries += make(range(middle.start))
        transcript.entries.append(Entry(count=len(middle), statuses=turns))
        transcript.entries += make(range(middle.stop, len(items)))
    return transcript


def _entries(
    dialect: str,
    items: Sequence[object],
    places: Mapping[int, Treated],
    note: _Note,
    odd: Mapping[int, str],
    wanted: range,
) -> list[Entry]:
    """An entry for each message; the items that a model says in one go (Responses) are one."""
    entries = []
    for role, run in _runs(dialect, items, wanted):
        mine = [parts.members(items[position]) for position in run]
        where = f"[{run[0]}]" if len(run) == 1 else f"[{run[0]}-{run[-1]}]"
        read = partial(_joined, _PARTS[dialect], mine) if mine[0] else partial(_odd, items[run[0]])
        entry = Entry(f"{where} {role}", read, count=len(run))
        if role == "assistant":
            entry.note = note(run[0], partial(_think, mine))
            if (turn := places.get(run[0])) is not None:
                entry.added = turn.status in _ADDED
                entry.statuses = Counter({turn.status: 1})
        strange = dict.fromkeys(odd[position] for position in run if position in odd)
        entry.note = "; ".join(filter(None, (entry.note, *strange)))
        entries.append(entry)
    return entries


def _runs(dialect: str, items: Sequence[object], wanted: range) -> Iterator[tuple[str, list[int]]]:
    """The role and the positions of each entry."""
    has_items = dialect == "responses"

    def key(position: int) -> tuple[str, int]:
        one = parts.members(items[position])
        role = _role(one) if has_items else parts.text(one.get("role")) or "?"
        return role, -1 if has_items and role == "assistant" else position

    for (role, _), run in groupby(wanted, key):
        yield role, list(run)


def _think(messages: Sequence[Members]) -> bool:
    """Whether messages have any reasoning in them, blank or not."""
    return any(
        _kind(message) == "reasoning"
        or any(message.get(name) is not None for name in parts.REASONING_FIELDS)
        or any(
            "thinking" in parts.text(parts.members(block).get("type"))
            for block in parts.array(message.get("content"))
        )
        or "think>" in parts.text(message.get("content"))
        for message in messages
    )


def _blocks(message: Members) -> Iterable[Part]:
    return parts.content_parts(message.get("content"))


_PARTS: dict[str, Callable[[Members], Iterable[Part]]] = {
    "chat_completions": parts.chat_parts,
    "messages": _blocks,
    "responses": parts.item_parts,
}


def _odd(item: object) -> list[Part]:
    return [Part("", item if isinstance(item, str) else parts.compact(item))]


def _as_read(body: bytes, dialect: str) -> Request | None:
    """The request as the dialect reads it; None if it does not."""
    try:
        return read_by(DIALECTS[dialect], body)
    except (KeptByServer, NotChatError):
        return None


def _positions(request: Request, index: int) -> tuple[int, ...]:
    return request.spans.get(index, (index,))


def _places(request: Request, treated: Mapping[int, Treated]) -> dict[int, Treated]:
    """What became of the turn at each position of the body's array."""
    found: dict[int, Treated] = {}
    for index, turn in treated.items():
        if 0 <= index < len(request.messages) and isinstance(request.messages[index], Turn):
            found |= dict.fromkeys(_positions(request, index), turn)
    return found


def _joined(read: Callable[[Members], Iterable[Part]], messages: Sequence[Members]) -> Iterator[Part]:
    for message in messages:
        yield from read(message)


def _kind(item: Members) -> str:
    return parts.text(item.get("type")) or ("message" if "role" in item else "")


def _role(item: Members) -> str:
    kind = _kind(item)
    if kind == "message":
        return parts.text(item.get("role")) or _said_by(item)
    if kind == "reasoning" or kind.endswith("_call"):
        return "assistant"
    if not item:
        return "user"
    return "tool" if kind.endswith("_output") else kind or "?"


def _said_by(item: Members) -> str:
    """Whose a message without a role is, as the dialect reads it."""
    content = item.get("content")
    made = any(
        parts.text(parts.members(part).get("type")) in ("output_text", "refusal")
        for part in parts.array(content)
    )
    return "assistant" if "role" not in item and (made or content in (None, [])) else "?"


def _system(top: Members) -> list[Entry]:
    """A system prompt that stands beside the history."""
    return [
        Entry(f"[{name}]", partial(parts.content_parts, top[name]))
        for name in ("system", "instructions")
        if top.get(name)
    ]


def _facts(top: Members, count: int) -> list[tuple[str, str]]:
    facts = [("model", parts.text(top.get("model")) or "?")]
    facts += [(name, parts.compact(top[name])) for name in _TELLING if top.get(name) is not None]
    if tools := parts.array(top.get("tools")):
        names = [_tool(parts.members(tool)) for tool in tools[:_MOST_TOOLS]]
        more = f", and {len(tools) - _MOST_TOOLS} more" if len(tools) > _MOST_TOOLS else ""
        facts.append(("tools", f"{len(tools)}: {', '.join(names)}{more}"))
    others = [name for name in top if name not in _TELLING and name not in _SHOWN_ELSEWHERE]
    if others:
        facts.append(("also", ", ".join(parts.compact(name, 60).strip('"') for name in others[:_MOST_TOOLS])))
    facts.append(("messages", str(count)))
    return facts


def _tool(tool: Members) -> str:
    name = parts.text(tool.get("name")) or parts.text(parts.members(tool.get("function")).get("name"))
    return parts.compact(name or parts.text(tool.get("type")) or "?", 80).strip('"')


def _done(told: Told) -> list[tuple[str, str]]:
    """What the addon did to a request, in one line."""
    if told.turns is None:
        return []
    done = [*([f"changed {', '.join(told.changed)}"] if told.changed else []), *told.remarks]
    if told.thinking_off:
        return [("reasoning-fix", "; ".join(["thinking is off: no turn was touched", *done]))]
    counts = Counter(turn.status for turn in told.turns)
    ways = Counter(turn.evidence for turn in told.turns if turn.status == "restored")
    said = []
    for status, count in counts.most_common():
        how = ", ".join(f"{n} by {way}" for way, n in ways.most_common() if way)
        said.append(f"{count} {status}" + (f" ({how})" if status == "restored" and how else ""))
    turns = f"{len(told.turns)} turn" + ("" if len(told.turns) == 1 else "s")
    return [("reasoning-fix", "; ".join([f"{turns}: {', '.join(said)}" if said else turns, *done]))]


def _words(turn: Treated | None) -> str:
    """What became of the reasoning of a turn, for people."""
    if turn is None:
        return ""
    if turn.status not in _WORDS:
        return turn.status
    by = f" by {turn.evidence}" if turn.evidence else ""
    recorded = f", recorded {_time(turn.recorded)}" if turn.recorded else ""
    return _WORDS[turn.status].format(by=by, recorded=recorded)


_WORDS = {
    "sent": "reasoning sent by the client",
    "restored": "reasoning restored{by}{recorded}",
    "filled": "reasoning not on record, filled by rule",
    "moved": "reasoning sent by the client, moved to where it is read",
    "empty": "on record as having had no reasoning{recorded}",
    "part": "a piece of a turn whose reasoning goes to another piece{recorded}",
    "left out": "reasoning on record, left out{recorded}",
    "odd": "cannot be changed without doubt, left as it came",
    "absent": "reasoning absent, and not on record",
}


def _time(milliseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
