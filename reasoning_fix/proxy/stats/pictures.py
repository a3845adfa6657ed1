"""The counts as pictures: SVG with words around it, in HTML that needs no script. Counts in, HTML out.

A bar's parts differ in pattern of brightness as well as in colour, and every number stands beside its bar, so
that nothing depends on seeing colours. Words are HTML and flow on a narrow screen; only bars are stretched.
"""

import datetime
import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from reasoning_fix.proxy.stats.book import Counts
from reasoning_fix.proxy.stats.counts import Count, Line
from reasoning_fix.proxy.stats.tables import grouped, kinds

_MOST_ROWS = 12
_DAY_WIDTH = 20

STYLE = """
:root { --good: #1f6fd0; --filled: #b86e00; --bad: #b3261e; --rest: #d5d9e0; --faint: #5b6472 }
@media (prefers-color-scheme: dark) {
  :root { --good: #6ea8fe; --filled: #f0b45a; --bad: #ff8a80; --rest: #3a404a; --faint: #9aa4b2 }
}
figure { margin: 0 0 2rem } figcaption { font-weight: 600; margin-bottom: .4rem }
.key { font-weight: 400; color: var(--faint) } .key b { font-weight: 400 }
.key b::before { content: ""; display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .6em }
.key .good::before { background: var(--good) } .key .filled::before { background: var(--filled) }
.key .bad::before { background: var(--bad) } .key .rest::before { background: var(--rest) }
.rows { display: grid; grid-template-columns: minmax(6rem, 14rem) 1fr auto; gap: .25rem .8rem }
.rows > span { overflow-wrap: anywhere; align-self: center }
.rows > svg { width: 100%; height: 1.1rem; align-self: center }
.days > svg { width: 100%; height: 7rem } .days div { display: flex; justify-content: space-between }
.days div, .none { color: var(--faint) }
rect.good { fill: var(--good) } rect.filled { fill: var(--filled) }
rect.bad { fill: var(--bad) } rect.rest { fill: var(--rest) }
"""


class Part(NamedTuple):
    """A part of a bar: how it looks (good, filled, bad, rest), what it is, and how much of it there is."""

    look: str
    name: str
    value: int


class Row(NamedTuple):
    """A bar with its name before and its number behind it."""

    name: str
    parts: Sequence[Part]
    number: str


def pictures(found: Counts, days: int, today: str) -> str:
    """All of them, of the counts of so many days up to today."""
    if not any(some[Count.REQUESTS] for some in found.values()):
        return '<p class="none">No chat request has passed yet.</p>'
    models: Callable[[Line], str] = lambda line: f"{line.provider} {line.model}"  # noqa: E731
    return "\n".join(
        (
            _days(found, days, today),
            _bars("Turns given back their reasoning, by model", _turns(found, models)),
            _bars("What clients do with reasoning (requests)", _treatments(found)),
            _bars("Tokens of prompts that came from the provider's cache, by model", _cached(found, models)),
        )
    )


def _days(found: Counts, days: int, today: str) -> str:
    by_day = grouped(found, lambda line: line.day)
    last = datetime.date.fromisoformat(today)
    names = [(last - datetime.timedelta(days=back)).isoformat() for back in reversed(range(days))]
    most = max((by_day[name][Count.REQUESTS] for name in names if name in by_day), default=0) or 1
    bars = []
    for number, name in enumerate(names):
        some = by_day.get(name, Counter())
        requests, spared = some[Count.REQUESTS], some[Count.AVOIDED] + some[Count.REPAIRED]
        said = f"{name}: {requests} requests, {spared} of them would have been refused"
        whole, part = (100 * min(value, requests) / most for value in (requests, spared))
        bars.append(
            f"<g><title>{said}</title>"
            f'<rect class="rest" x="{_DAY_WIDTH * number + 2}" y="{100 - whole:.2f}" '
            f'width="{_DAY_WIDTH - 4}" height="{whole:.2f}"/>'
            f'<rect class="good" x="{_DAY_WIDTH * number + 2}" y="{100 - part:.2f}" '
            f'width="{_DAY_WIDTH - 4}" height="{part:.2f}"/></g>'
        )
    spared = sum(some[Count.AVOIDED] + some[Count.REPAIRED] for some in found.values())
    total = sum(some[Count.REQUESTS] for some in found.values())
    told = f"{total} requests in {days} days; {spared} of them would have been refused, and were answered"
    key = _key([("good", "would have been refused"), ("rest", "others")])
    return (
        f"<figure><figcaption>Requests per day {key}</figcaption>"
        f'<div class="days"><svg viewBox="0 0 {_DAY_WIDTH * days} 100" '
        f'preserveAspectRatio="none" role="img" aria-label="{told}">{"".join(bars)}</svg>'
        f"<div><span>{names[0]}</span><span>at most {most} a day</span><span>{names[-1]}</span></div></div>"
        f"<p>{told}.</p></figure>"
    )


def _bars(caption: str, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    key = {part.look: part.name for row in rows for part in row.parts}
    most = max(sum(part.value for part in row.parts) for row in rows) or 1
    lines = []
    for row in rows[:_MOST_ROWS]:
        said = ", ".join(f"{part.value} {part.name}" for part in row.parts)
        at, drawn = 0.0, []
        for part in row.parts:
            width = 100 * part.value / most
            drawn.append(f'<rect class="{part.look}" x="{at:.2f}" y="0" width="{width:.2f}" height="10"/>')
            at += width
        name = html.escape(row.name)
        lines.append(
            f'<span>{name}</span><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
            f'aria-label="{name}: {said}"><title>{said}</title>{"".join(drawn)}</svg>'
            f"<span>{row.number}</span>"
        )
    left = f'<p class="none">and {len(rows) - _MOST_ROWS} more</p>' if len(rows) > _MOST_ROWS else ""
    head = f"{caption} {_key(key.items())}"
    return f'<figure><figcaption>{head}</figcaption><div class="rows">{"".join(lines)}</div>{left}</figure>'


def _key(looks: Iterable[tuple[str, str]]) -> str:
    return f'<span class="key">{"".join(f"<b class={look}>{name}</b>" for look, name in looks)}</span>'


def _turns(found: Counts, name: Callable[[Line], str]) -> list[Row]:
    rows = []
    for one, some in grouped(found, name).items():
        restored, filled = sum(kinds(some, Count.RESTORED).values()), some[Count.FILLED]
        if restored or filled:
            parts = Part("good", "restored", restored), Part("filled", "given a placeholder", filled)
            rows.append(Row(one, parts, f"{restored} + {filled}" if filled else str(restored)))
    return sorted(rows, key=_longest)


def _treatments(found: Counts) -> list[Row]:
    rows = []
    for client, some in grouped(found, lambda line: line.client).items():
        looks = (("bad", Count.DROPPED), ("filled", Count.BLANKED), ("rest", Count.KEPT))
        parts = [Part(look, f"{how} it", some[how]) for look, how in looks]
        if any(part.value for part in parts):
            rows.append(Row(client, parts, str(sum(part.value for part in parts))))
    return sorted(rows, key=_longest)


def _cached(found: Counts, name: Callable[[Line], str]) -> list[Row]:
    rows = []
    for one, some in grouped(found, name).items():
        if prompt := some[Count.PROMPT]:
            cached = min(some[Count.CACHED], prompt)
            share = round(100 * cached / prompt)
            parts = Part("good", "% cached", share), Part("rest", "% read anew", 100 - share)
            rows.append(Row(one, parts, f"{share} % of {prompt:,}"))
    return sorted(rows, key=lambda row: -row.parts[0].value)


def _longest(row: Row) -> int:
    return -sum(part.value for part in row.parts)
