"""A refusal that is known is repaired and sent again once, so that the client sees the answer.

The repair is a lesson that is tried: the very request that was refused is restored anew as if the lesson had
been known. Where that is answered, the lesson is kept. mitmproxy itself sends the repaired request, with the
same certificate checks, over a connection of its own; its answer arrives whole.
"""

import logging
import weakref
from collections.abc import Iterator

import msgspec
from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler

from reasoning_fix import fallback, notes
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import NotChatError
from reasoning_fix.fallback import Wishes
from reasoning_fix.lessons import Lesson, Lessons
from reasoning_fix.providers import Table
from reasoning_fix.recording import Exchange
from reasoning_fix.refusals import Recognised, recognise
from reasoning_fix.reporting import Report
from reasoning_fix.restoring import Caller, Remembering, Restored, restore
from reasoning_fix.store import Store
from reasoning_fix.tapping import Tap

logger = logging.getLogger(__name__)

_WORDS = {
    "missing": "reasoning missing",
    "forbidden": "reasoning not allowed",
    "parameter": "a parameter not allowed while thinking",
    "tool_choice": "a forced tool not allowed while thinking",
    "always_thinks": "thinking cannot be turned off",
    "too_long": "too long",
}


class Sent(msgspec.Struct, weakref=True):
    """A request that is on its way: what the client sent, and what became of it.

    `refused`: what its refusal means, empty where that is not known.
    """

    caller: Caller
    body: bytes
    restored: Restored
    store: Store
    wishes: Wishes
    memory: Remembering
    refused: str = ""

    @property
    def exchange(self) -> Exchange:
        return self.restored.exchange

    @property
    def sent(self) -> bytes:
        return self.body if self.restored.body is None else self.restored.body


class Again(msgspec.Struct):
    """A request that is sent again, and the tap for its answer."""

    exchange: Exchange
    tap: Tap | None = None


class Repaired(msgspec.Struct, frozen=True):
    """What was done to a refused request, and why: in words, and as refusals are named.

    `exchange` is the one that was answered.
    """

    report: Report
    reason: str
    means: str
    only_demanded: bool
    exchange: Exchange
    taught: bool


class _Attempt(msgspec.Struct):
    body: bytes
    restored: Restored
    lesson: Lesson | None
    only_demanded: bool


# Flows of ours on their way: they are not repaired again.
resent: "weakref.WeakKeyDictionary[http.HTTPFlow, Again]" = weakref.WeakKeyDictionary()


async def repair(flow: http.HTTPFlow, sent: Sent, table: Table, lessons: Lessons) -> Repaired | None:
    """Send a refused request again where its refusal is known; the flow then has the new answer.

    None where nothing was changed: the client then sees the refusal as it came.
    """
    assert flow.response is not None
    try:
        body = flow.response.content or b""
    except ValueError:
        return None
    refusal = recognise(body, table)
    if refusal is None:
        return None
    sent.refused = refusal.means
    attempt = _attempt(refusal, sent, table, lessons)
    if attempt is None:
        logger.info("%s: refused (%s); nothing to repair", sent.caller.host, _WORDS[refusal.means])
        return None
    answer = await _send_again(flow, attempt)
    if answer is None or answer.status_code != 200:
        logger.info("%s: refused (%s), and again after a repair", sent.caller.host, _WORDS[refusal.means])
        return None
    if attempt.lesson is not None:
        lessons.learn(attempt.lesson)
        logger.info("learned: %s", attempt.lesson.text())
    flow.response = answer
    # What people see of the flow is what was answered.
    flow.request.content = attempt.body
    return Repaired(
        attempt.restored.report,
        f"refused: {_WORDS[refusal.means]}; repaired and sent again",
        refusal.means,
        attempt.only_demanded,
        attempt.restored.exchange,
        attempt.lesson is not None,
    )


def _attempt(refusal: Recognised, sent: Sent, table: Table, lessons: Lessons) -> _Attempt | None:
    """The first repair that changes the request; None where none does."""
    for lesson, only_demanded in _ideas(refusal, sent, table):
        try:
            restored = restore(
                sent.body,
                sent.caller,
                table,
                sent.store,
                sent.wishes,
                lessons,
                taught=() if lesson is None else (lesson,),
                only_demanded=only_demanded,
                memory=sent.memory,
            )
        except (NotChatError, SpliceError):
            return None
        body = sent.body if restored.body is None else restored.body
        if body != sent.sent:
            keeps = lesson is not None and lesson.detail != fallback.TURN_OFF
            return _Attempt(body, restored, lesson if keeps else None, only_demanded)
    return None


def _ideas(refusal: Recognised, sent: Sent, table: Table) -> Iterator[tuple[Lesson | None, bool]]:
    """What could help, most faithful first: a lesson to try, or leaving out what is not demanded."""
    report = sent.restored.report
    about = (sent.caller.host, sent.caller.endpoint.dialect, report.family)

    def lesson(detail: str) -> tuple[Lesson, bool]:
        return Lesson(*about, refusal.means, detail), False

    match refusal.means:
        case "missing" if sent.wishes.mode != fallback.NOTHING:
            rule = sent.caller.provider.rule_at(sent.caller.endpoint, report.model)
            if sent.wishes.mode == fallback.DISABLE:
                yield lesson(fallback.TURN_OFF)
            # Where a placeholder was in what was refused, it may itself be what was refused.
            if rule.placeholder is not None and not report.filled:
                yield lesson(rule.placeholder)
            yield lesson(table.stand_in)
            yield lesson(fallback.TURN_OFF)
        case "forbidden" | "parameter":
            yield lesson(refusal.detail)
        case "tool_choice":
            yield lesson("")
        case "always_thinks" if report.turned_off:
            yield lesson("")
        case "too_long" if report.restored:
            yield None, True


async def _send_again(flow: http.HTTPFlow, attempt: _Attempt) -> http.Response | None:
    copy: http.HTTPFlow = flow.copy()  # type: ignore[no-untyped-call]
    copy.response = copy.error = None
    copy.request.content = attempt.body
    copy.comment = "a refused request, repaired and sent again"
    copy.metadata[notes.RESENT] = True
    resent[copy] = Again(attempt.restored.exchange)
    await ReplayHandler(copy, ctx.options).replay()
    return copy.response if copy.error is None else None
