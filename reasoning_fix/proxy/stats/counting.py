"""Adds requests and what came of them to the book and the latest ones. It sees counts, never a body."""

import time
from collections.abc import Callable
from typing import NamedTuple

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.report import Report
from reasoning_fix.providers.refusals import STATUSES
from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Count, Line, by
from reasoning_fix.proxy.stats.recent import Entry, recent

_RESTORED = by(Count.RESTORED, "")


class Counted(NamedTuple):
    """A request that is counted: on this line of the book, and in this entry of the latest ones."""

    line: Line
    entry: Entry


def asked(
    book: Book, exchange: Exchange, user_agent: str, delay: float, clock: Callable[[], float] = time.time
) -> Counted:
    """A chat request was read, and goes on after this `delay` (seconds). For what comes of it."""
    report, now = exchange.report, clock()
    line = counts.line(now, exchange.caller.provider.name, report.model, user_agent)
    book.add(line, {Count.REQUESTS: 1} | _treated(report))
    entry = recent.add(line, now)
    entry.delay, entry.thinking_off = delay, report.thinking_off
    _tell(entry, report)
    return Counted(line, entry)


def answered(book: Book, counted: Counted, exchange: Exchange, status: int) -> None:
    """Its answer has come to its end, with this status (0: there was none), or was cut."""
    line, entry = counted
    if status in STATUSES or exchange.refused:
        entry.refused = exchange.refused or counts.OTHER
        book.add(line, {by(Count.REFUSED, entry.refused): 1})
    elif status == 200:
        avoided = int(exchange.report.demanded > 0)
        book.add(line, _came_of(exchange.recorder) | {Count.AVOIDED: avoided})
    _end(entry, exchange, status)


def repaired(book: Book, counted: Counted, refused: Exchange, again: Exchange, taught: bool) -> None:
    """It was refused, and answered when it was sent again; whether that taught anything."""
    line, entry = counted
    entry.refused, entry.is_repaired = again.refused or counts.OTHER, True
    found = {by(Count.REFUSED, entry.refused): 1, Count.REPAIRED: 1}
    found[Count.LESSONS] = int(taught)
    found[Count.FILLED] = max(0, again.report.filled - refused.report.filled)
    found[Count.ADDED] = max(0, again.report.grown)
    book.add(line, found | _came_of(again.recorder))
    _tell(entry, again.report)
    _end(entry, again, 200)


def _tell(entry: Entry, report: Report) -> None:
    entry.turns = report.wanted + report.client["kept"]
    entry.restored, entry.filled, entry.moved = report.restored, report.filled, report.moved


def _end(entry: Entry, exchange: Exchange, status: int) -> None:
    cost = exchange.recorder.cost
    entry.is_done, entry.status, entry.prompt, entry.cached = True, status, cost.prompt, cost.cached
    recent.changes += 1
    entry.seen = recent.changes


def _treated(report: Report) -> dict[str, int]:
    found: dict[str, int] = {_RESTORED + way: count for way, count in report.evidence.items()}
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
