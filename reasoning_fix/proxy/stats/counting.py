"""Adds requests and their outcomes to the book. It sees counts and names, never a body."""

import time
from collections.abc import Callable

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.report import Report
from reasoning_fix.providers.refusals import STATUSES
from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Count, Line, by


def asked(book: Book, exchange: Exchange, user_agent: str, clock: Callable[[], float] = time.time) -> Line:
    """Count a chat request that goes on; returns its line in the book."""
    report = exchange.report
    line = counts.line(clock(), exchange.caller.provider.name, report.model, user_agent)
    book.add(line, {Count.REQUESTS: 1} | _treated(report))
    return line


def answered(book: Book, line: Line, exchange: Exchange, status: int) -> None:
    """Count its answer, which ended with this status (0: there was none) or was cut."""
    if status in STATUSES or exchange.refused:
        book.add(line, {by(Count.REFUSED, exchange.refused or counts.OTHER): 1})
    elif status == 200:
        avoided = int(exchange.report.demanded > 0)
        book.add(line, _came_of(exchange.recorder) | {Count.AVOIDED: avoided})


def repaired(book: Book, line: Line, refused: Exchange, again: Exchange, taught: bool) -> None:
    """Count a request that was refused, and answered when it was sent again; `taught`: that was a lesson."""
    found = {by(Count.REFUSED, again.refused or counts.OTHER): 1, Count.REPAIRED: 1}
    found[Count.LESSONS] = int(taught)
    found[Count.FILLED] = max(0, again.report.filled - refused.report.filled)
    found[Count.ADDED] = max(0, again.report.grown)
    book.add(line, found | _came_of(again.recorder))


def _treated(report: Report) -> dict[str, int]:
    found = {by(Count.RESTORED, way): count for way, count in report.evidence.items()}
    found[Count.FILLED] = report.filled
    found[Count.ADDED] = max(0, report.grown)
    # A request counts once, for the worst that happened to one of its turns.
    if worst := next((how for how in counts.TREATMENTS if report.client[how]), ""):
        found[worst] = 1
    return found


def _came_of(recorder: Recorder) -> dict[str, int]:
    cost = recorder.cost
    return {
        Count.RECORDED: recorder.recorded,
        Count.LEARNED: recorder.learned,
        Count.PROMPT: cost.prompt,
        Count.CACHED: cost.cached,
        Count.ANSWER: cost.answer,
        Count.THOUGHT: cost.thought,
    }
