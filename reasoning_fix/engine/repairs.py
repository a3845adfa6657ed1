"""Which request is sent in place of a refused one: by what the refusal says, and what was tried before.

A repair is a set of lessons that are tried: the very request that was refused is restored anew as if they had
been known. The most faithful idea that is likely to do comes first; there is one try for each request, so
what was tried in vain is remembered, and the next request of that conversation has the next idea. Where a
refusal speaks of what this addon put in, the cure goes no further than that, and a refusal that the client's
own body would have met is no business of ours. It knows no flow and no mitmproxy.
"""

import logging
import re
from collections.abc import Callable, Iterator

import msgspec

from reasoning_fix.dialects import DIALECTS, values
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import NotChatError, Request, read_request
from reasoning_fix.engine import policy
from reasoning_fix.engine.restoring import Restored, conversation_of, restore
from reasoning_fix.providers.lessons import TURN_OFF, About, Lesson
from reasoning_fix.providers.refusals import Recognised
from reasoning_fix.providers.rows import Means
from reasoning_fix.providers.table import LONGEST_MODEL_NAME, NEUTRAL

logger = logging.getLogger(__name__)

# Of what was put in and is refused, what is named goes first, then more, then all of it.
_LESS: dict[Means, tuple[Means, ...]] = {
    "item_id": ("item_id", "sealed", "block"),
    "signature": ("signature", "block"),
    "sealed": ("sealed", "block"),
    "block": ("block",),
}
OURS = tuple(_LESS)
# The least that hosts have been seen to take for reasoning.
_BLANK = " "
# A message or item that a refusal names: `messages.3.content.0`, `input[2]`, `at position 1`.
_PLACE = re.compile(
    r"(?:messages|input)\W{1,2}(\d{1,6})\b|(?:position|message index|message at index) (\d{1,6})\b"
)


class Attempt(msgspec.Struct):
    """What is sent in place of a refused request; `tried` are the lessons that made the difference."""

    restored: Restored
    tried: tuple[Lesson, ...]

    @property
    def name(self) -> str:
        """What was tried, to tell it from other ideas."""
        return ", ".join(f"{lesson.means} {lesson.detail}".rstrip() for lesson in self.tried)


def attempt(refusal: Recognised, said: str, sent: Restored) -> Attempt | None:
    """The first idea that changes the request and was not tried yet; None if there is none.

    `said` are the texts of the refusal.
    """
    try:
        conversation = conversation_of(sent.received, sent.caller)
        past = {lesson.detail for lesson in _tried(sent, conversation)}
        for tried in _ideas(refusal, said, sent, conversation):
            restored = restore(sent.received, sent.caller, sent.knowledge, taught=tried)
            found = Attempt(restored, tried)
            if restored.sent != sent.sent and found.name not in past:
                return found
    except (NotChatError, SpliceError):
        pass
    return None


def keep(attempt: Attempt) -> bool:
    """The repair was answered: what it taught holds from now on. Returns whether it taught anything."""
    report = attempt.restored.report
    kept = list(attempt.tried)
    if kept[0].means == "ignores_switch" and not (report.filled or report.moved or report.gave_way):
        # Nothing had to stand in for what is on record: that thinking is on is all there was to learn.
        kept = kept[:1]
    for lesson in kept if len(report.model) <= LONGEST_MODEL_NAME else ():
        attempt.restored.knowledge.lessons.learn(lesson)
        logger.info("learned: %s", lesson.text())
    return bool(kept)


def note_failure(attempt: Attempt, sent: Restored) -> None:
    """The repair was refused as well: another one is next."""
    if len(sent.report.model) <= LONGEST_MODEL_NAME:
        conversation = conversation_of(sent.received, sent.caller)
        sent.knowledge.lessons.learn(_lesson(sent, "tried", attempt.name, conversation))


def _tried(sent: Restored, conversation: str) -> list[Lesson]:
    about = sent.knowledge.lessons.about(sent.caller.host, sent.caller.endpoint.dialect, sent.report.family)
    return [lesson for lesson in about if lesson.means == "tried" and lesson.conversation == conversation]


def _lesson(sent: Restored, means: About, detail: str = "", conversation: str = "") -> Lesson:
    caller, report = sent.caller, sent.report
    return Lesson(
        caller.host, caller.endpoint.dialect, report.family, means, detail, conversation=conversation
    )


def _ideas(refusal: Recognised, said: str, sent: Restored, conversation: str) -> Iterator[tuple[Lesson, ...]]:
    """What could help, the most faithful first."""
    report = sent.report
    match refusal.means:
        case "missing":
            yield from _against_missing(sent, conversation)
        case "forbidden" | "parameter":
            yield (_lesson(sent, refusal.means, refusal.detail),)
        case "tool_choice":
            yield (_lesson(sent, "tool_choice"),)
        case "always_thinks" if report.turned_off:
            yield (_lesson(sent, "always_thinks"),)
        case "too_long" if report.restored:
            yield (_lesson(sent, "too_long", conversation=conversation),)
        case "signature" | "item_id" | "sealed" | "block" if _is_about_us(refusal.means, said, sent):
            for means in _LESS[refusal.means]:
                # Claude refuses a block without its signature as well.
                if means != "signature" or _takes_unsigned(sent):
                    yield (_lesson(sent, means),)
        case _:
            pass


def _takes_unsigned(sent: Restored) -> bool:
    """Whether a model is one whose thoughts go back as plain text: no rule knows those that seal theirs."""
    return sent.caller.provider.rule(sent.report.model, sent.caller.endpoint.dialect) is not NEUTRAL


def _against_missing(sent: Restored, conversation: str) -> Iterator[tuple[Lesson, ...]]:
    """Thinking is on, whatever the request's switch and the table say: what is on record goes back.

    For what is not, words are sure to count as reasoning, a blank may do.
    """
    report, preferences, table = sent.report, sent.knowledge.preferences, sent.knowledge.table
    ignored = [report.switch] if report.switch else []
    thinks = tuple(
        Lesson(sent.caller.host, sent.caller.endpoint.dialect, report.model, "ignores_switch", name)
        for name in ignored
    )
    off = _lesson(sent, "missing", TURN_OFF, conversation)
    if preferences.mode == policy.DISABLE and not thinks:
        yield (off,)
    rule = sent.caller.provider.rule(report.model, sent.caller.endpoint.dialect)
    for text in dict.fromkeys((table.stand_in, rule.placeholder, _BLANK)):
        if text is not None:
            yield (*thinks, _lesson(sent, "missing", text))
    if preferences.mode != policy.NOTHING:
        yield (off,)


class _PutIn:
    """What of a refused request's reasoning is ours, and what the client sent itself."""

    def __init__(self, sent: Restored) -> None:
        speaks = DIALECTS[sent.caller.endpoint.dialect]
        came, went = read_request(speaks, sent.received), read_request(speaks, sent.sent)
        self.places: set[int] = set()
        self.values: list[bytes] = []
        for index, own in went.own.items():
            put = [value for name, value in own.items() if came.own.get(index, {}).get(name) != value]
            if put:
                self.values += put
                self.places.update(_span(went, index, speaks.position))
        known = {turn.index for turn in sent.report.turns if turn.recorded}
        self.foreign = [value for i, own in came.own.items() if i not in known for value in own.values()]

    def members(self, names: tuple[str, ...], values_: list[bytes]) -> list[str]:
        """The texts of these members in the items or blocks of such values."""
        found = (values.opened(item) for value in values_ for item in values.items(value))
        return [text for item in found for name in names if (text := values.string(item.get(name)))]


def _span(request: Request, index: int, position: Callable[[Request, int], int]) -> tuple[int, ...]:
    return request.spans.get(index) or (position(request, index),)


def _is_about_us(means: Means, said: str, sent: Restored) -> bool:
    """Whether a refusal speaks of something that we put in, and the client's own body has not."""
    if sent.body is None:
        return False
    put = _PutIn(sent)
    if not put.values:
        return False
    named = {int(one or other) for one, other in _PLACE.findall(said)}
    if named and named.isdisjoint(put.places):
        return False
    if means == "block":
        return bool(named) or not put.foreign
    members = values.PARTS[means]
    ours, theirs = put.members(members, put.values), put.members(members, put.foreign)
    if not ours:
        return False
    if any(text in said for text in (*ours, *put.members(("id",), put.values))):
        return True
    return bool(named) or not (theirs or _names_an_id(said))


def _names_an_id(text: str) -> bool:
    return re.search(r"\brs_\w{6,}", text) is not None
