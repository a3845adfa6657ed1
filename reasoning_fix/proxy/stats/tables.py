"""The counts as a person reads them: tables and bars, in lines of plain text. Counts in, lines out."""

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Counts
from reasoning_fix.proxy.stats.counts import Count, Line
from reasoning_fix.proxy.stats.recent import Entry

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LONGEST_NAME = 44
# The columns of the list of the latest requests.
LATEST = ("time", "client", "model", "what was done", "answer", "cached", "delay")


def report(found: Counts) -> list[str]:
    """What happened, by provider and model and by client."""
    if not found:
        return ["Nothing was counted yet."]
    total: Counter[str] = sum(found.values(), Counter())
    return [*_models(found), "", *_summary(total), *_clients(found)]


def totals(found: Counts) -> Counter[str]:
    """All lines together; counts by kind also under their name alone."""
    total: Counter[str] = sum(found.values(), Counter())
    for name in counts.BY_KIND:
        total[name] = sum(kinds(total, name).values())
    return total


def chart(found: Counts, *, width: int = 60, plain: bool = False) -> list[str]:
    """Requests per day as bars, in eighths of a character or, `plain`, in whole ones of ASCII."""
    by_day = grouped(found, lambda line: line.day)
    most = max((some[Count.REQUESTS] for some in by_day.values()), default=0)
    if not most:
        return []
    is_spared = any(some[Count.AVOIDED] or some[Count.REPAIRED] for some in found.values())
    lines = ["requests per day" + " (and how many of them would have been refused)" * is_spared]
    for day in _days(min(by_day), max(by_day)):
        some = by_day.get(day, Counter())
        number = some[Count.REQUESTS]
        bar = _bar(number * max(8, width) / most, plain)
        spared = some[Count.AVOIDED] + some[Count.REPAIRED]
        lines.append(f"{day}  {bar} {number}{f' ({spared})' if spared else ''}".rstrip())
    return lines


def cells(entry: Entry) -> tuple[str, ...]:
    """One request as a row of the list."""
    return (
        time.strftime("%H:%M:%S", time.localtime(entry.time)),
        entry.client,
        entry.model,
        outcome(entry),
        answer(entry),
        f"{100 * entry.cached / entry.prompt:.0f} %" if entry.prompt else "",
        f"{1e3 * entry.delay:.1f} ms",
    )


def outcome(entry: Entry) -> str:
    """What was done to a request, in a few words."""
    parts = [
        f"{how} {number}"
        for number, how in ((entry.restored, "restored"), (entry.filled, "filled"), (entry.moved, "moved"))
        if number
    ]
    if not parts:
        return "thinking is off" if entry.thinking_off else "nothing to restore"
    return ", ".join(parts) + f" of {entry.turns}"


def answer(entry: Entry) -> str:
    """What came of a request, in a few words."""
    if not entry.is_done:
        return "under way"
    if entry.is_repaired:
        return f"refused ({entry.refused}), repaired"
    if entry.refused:
        return f"refused ({entry.refused})"
    return str(entry.status) if entry.status else "cut"


def size(number: int) -> str:
    """A number of bytes in a unit of its size."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= least:
            return f"{number / least:.1f} {unit}"
    return f"{number} bytes"


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Columns of text: the first to the left, the others to the right."""
    table = [head, *body]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(widths[i]) for i, cell in enumerate(row) if i)]
        ).rstrip()
        for row in table
    ]


def grouped[Key](found: Counts, key: Callable[[Line], Key]) -> dict[Key, Counter[str]]:
    """The counts of all lines with the same key together."""
    together: dict[Key, Counter[str]] = {}
    for line, some in found.items():
        together.setdefault(key(line), Counter()).update(some)
    return together


def _models(found: Counts) -> list[str]:
    head = ("provider, model", "requests", "recorded", "restored", "filled", "refused", "repaired", "cached")
    by_model = grouped(found, lambda line: (line.provider, line.model))
    body = [
        (
            _short(f"{provider} {model}"),
            str(some[Count.REQUESTS]),
            str(some[Count.RECORDED]),
            str(sum(kinds(some, Count.RESTORED).values())),
            str(some[Count.FILLED]),
            str(sum(kinds(some, Count.REFUSED).values())),
            str(some[Count.REPAIRED]),
            f"{100 * some[Count.CACHED] / some[Count.PROMPT]:.0f} %" if some[Count.PROMPT] else "-",
        )
        for (provider, model), some in sorted(by_model.items())
    ]
    return rows(head, body)


def _summary(total: Counter[str]) -> list[str]:
    ways, means = kinds(total, Count.RESTORED), kinds(total, Count.REFUSED)
    spared = total[Count.AVOIDED] + total[Count.REPAIRED]
    lines = [f"requests that would have been refused, and were answered: {spared}"]
    if ways:
        lines.append(f"turns restored by: {_listed(ways)}")
    if means:
        lines.append(f"refusals that came: {_listed(means)}")
    if total[Count.LESSONS]:
        lines.append(f"lessons learned from them: {total[Count.LESSONS]}")
    if total[Count.LEARNED]:
        lines.append(f"turns learned from what clients sent back: {total[Count.LEARNED]}")
    if total[Count.ADDED]:
        lines.append(f"added to requests: {size(total[Count.ADDED])}")
    if total[Count.PROMPT]:
        lines.append(
            f"tokens: {total[Count.PROMPT]:,} of prompts ({total[Count.CACHED]:,} from providers' caches), "
            f"{total[Count.ANSWER]:,} of answers ({total[Count.THOUGHT]:,} thought)"
        )
    return lines


def _clients(found: Counts) -> list[str]:
    body = [
        (_short(client), *(str(some[how]) for how in counts.TREATMENTS))
        for client, some in sorted(grouped(found, lambda line: line.client).items())
        if any(some[how] for how in counts.TREATMENTS)
    ]
    if not body:
        return []
    return [
        "",
        *rows(("what clients did with reasoning (requests)", "dropped it", "blanked it", "kept it"), body),
    ]


def kinds(some: Counter[str], name: str) -> Counter[str]:
    """The counts by kind under a name: by evidence, by meaning."""
    prefix = counts.by(name, "")
    return Counter(
        {what.removeprefix(prefix): n for what, n in some.items() if n and what.startswith(prefix)}
    )


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {number}" for kind, number in kinds.most_common())


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _days(first: str, last: str) -> list[str]:
    start, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
    return [(start + datetime.timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def _bar(length: float, plain: bool) -> str:
    if plain:
        return "#" * (round(length) or (length > 0))
    whole, rest = divmod(max(round(length * 8), int(length > 0)), 8)
    return "█" * whole + _EIGHTHS[rest].strip()
