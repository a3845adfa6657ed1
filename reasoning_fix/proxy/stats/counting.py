"""Adds requests and what came of them to the book. It sees counts and names, never a body."""

import time
from collections.abc import Callable

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.report import Report
from reasoning_fix.providers.refusals import STATUSES
from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Line, by


def asked(book: Book, exchange: Exchange, user_agent: str, clock: Callable[[], float] = time.time) -> Line:
    """A chat request was read, and goes on. Its line in the book."""
    report = exchange.report
    line = counts.line(clock(), exchange.caller.provider.name, report.model, user_agent)
    book.add(line, {counts.REQUESTS: 1} | _treated(report))
    return line


def answered(book: Book, line: Line, exchange: Exchange, status: int) -> None:
    """Its answer has come to its end, with this status (0: there was none), or was cut."""
    if status in STATUSES or exchange.refused:
        book.add(line, {by(counts.REFUSED, exchange.refused or counts.OTHER): 1})
    elif status == 200:
        avoided = int(exchange.report.demanded > 0)
        book.add(line, _came_of(exchange.recorder) | {counts.AVOIDED: avoided})


def repaired(book: Book, line: Line, refused: Exchange, again: Exchange, taught: bool) -> None:
    """It was refused, and answered when it was sent again; whether that taught anything."""
    found = {by(counts.REFUSED, again.refused or counts.OTHER): 1, counts.REPAIRED: 1}
    found[counts.LESSONS] = int(taught)
    found[counts.FILLED] = max(0, again.report.filled - refused.report.filled)
    found[counts.ADDED] = max(0, again.report.grown)
    book.add(line, found | _came_of(again.recorder))


def _treated(report: Report) -> dict[str, int]:
    found = {by(counts.RESTORED, way): count for way, count in report.evidence.items()}
    found[counts.FILLED] = report.filled
    found[counts.ADDED] = max(0, report.grown)
    # A request counts once, for the worst that happened to one of its turns.
    if worst := next((how for how in counts.TREATMENTS if report.client[how]), ""):
        found[worst] = 1
    return found


def _came_of(recorder: Recorder) -> dict[str, int]:
    cost = recorder.cost
    return {
        counts.RECORDED: recorder.recorded,
        counts.LEARNED: recorder.learned,
        counts.PROMPT: cost.prompt,
        counts.CACHED: cost.cached,
        counts.ANSWER: cost.answer,
        counts.THOUGHT: cost.thought,
    }
