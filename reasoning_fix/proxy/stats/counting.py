"""Follows a request to its answer, and adds both to the book. It sees counts and names, never a body."""

import time
import weakref
from collections.abc import Callable

import msgspec

from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.report import Report
from reasoning_fix.providers.refusals import STATUSES
from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Line, by


class _Asked(msgspec.Struct):
    line: Line
    report: Report
    exchange: Recorder


# Requests on their way. Kept here, so that it outlives a reload of the script.
_asked: "weakref.WeakKeyDictionary[object, _Asked]" = weakref.WeakKeyDictionary()


def asked(
    book: Book,
    flow: object,
    provider: str,
    user_agent: str,
    report: Report,
    exchange: Recorder,
    clock: Callable[[], float] = time.time,
) -> None:
    """A chat request was read, and goes on as the report says."""
    line = counts.line(clock(), provider, report.model, user_agent)
    _asked[flow] = _Asked(line, report, exchange)
    book.add(line, {counts.REQUESTS: 1} | _treated(report))


def answered(book: Book, flow: object, status: int, refused: str = "") -> None:
    """Its answer has come to its end, with this status (0: there was none), or was cut.

    `refused` is what a refusal means, as far as that is known. Called any number of times for one flow.
    """
    known = _asked.pop(flow, None)
    if known is None:
        return
    if status in STATUSES or refused:
        book.add(known.line, {by(counts.REFUSED, refused or counts.OTHER): 1})
    elif status == 200:
        avoided = int(known.report.demanded > 0)
        book.add(known.line, _came_of(known.exchange) | {counts.AVOIDED: avoided})


def repaired(
    book: Book, flow: object, refused: str, report: Report, exchange: Recorder, taught: bool
) -> None:
    """It was refused, and answered when it was sent again as this report says."""
    known = _asked.pop(flow, None)
    if known is None:
        return
    found = {by(counts.REFUSED, refused): 1, counts.REPAIRED: 1, counts.LESSONS: int(taught)}
    found[counts.FILLED] = max(0, report.filled - known.report.filled)
    found[counts.ADDED] = max(0, report.grown)
    book.add(known.line, found | _came_of(exchange))


def _treated(report: Report) -> dict[str, int]:
    found = {by(counts.RESTORED, way): count for way, count in report.evidence.items()}
    found[counts.FILLED] = report.filled
    found[counts.ADDED] = max(0, report.grown)
    # A request counts once, for the worst that happened to one of its turns.
    if worst := next((how for how in counts.TREATMENTS if report.client[how]), ""):
        found[worst] = 1
    return found


def _came_of(exchange: Recorder) -> dict[str, int]:
    cost = exchange.cost
    return {
        counts.RECORDED: exchange.recorded,
        counts.LEARNED: exchange.learned,
        counts.PROMPT: cost.prompt,
        counts.CACHED: cost.cached,
        counts.ANSWER: cost.answer,
        counts.THOUGHT: cost.thought,
    }
