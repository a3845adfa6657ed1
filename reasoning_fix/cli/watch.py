"""Follow a running proxy: each chat request as it passes, and what was done to it.

  reasoning-fix watch                 a table that follows; q ends it
  reasoning-fix watch | tee log       a line for each request that was answered
  reasoning-fix watch --json          every change as a line of JSON, for tools

It asks http://reasoning.fix/recent through the proxy twice a second. There are names and counts in it, and
no text of a conversation.

Exit codes: 0 done, 1 no proxy answers there, 2 used wrongly.
"""

import argparse
import contextlib
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import urwid

from reasoning_fix.proxy.probing import ask_recent
from reasoning_fix.proxy.stats.recent import MOST, Entry, Page
from reasoning_fix.proxy.stats.tables import LATEST, cells
from reasoning_fix.running.command_line import LISTEN_HOST, LISTEN_PORT

_SECONDS = 0.5
# The columns that are left out where a terminal is narrow, the first ones first, and the least others need.
_DISPENSABLE = (1, 6, 5)
_LEAST = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = f"where the proxy listens (default: {LISTEN_HOST})"
    parser.add_argument("--host", default=LISTEN_HOST, help=where)
    parser.add_argument(
        "-p", "--port", type=int, default=LISTEN_PORT, help=f"its port (default: {LISTEN_PORT})"
    )
    parser.add_argument("--json", action="store_true", help="print every change as a line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Follow the proxy until it is enough; returns the exit code."""
    host, port = arguments.host, arguments.port
    first = ask_recent(host, port, 0)
    if isinstance(first, str):
        said = f"no proxy answers at {host}:{port} ({first}); start it with `reasoning-fix run`"
        print(f"reasoning-fix: {said}.", file=sys.stderr)
        return 1
    pages = follow(first, lambda after: ask_recent(host, port, after))
    if sys.stdout.isatty() and sys.stdin.isatty() and not arguments.json:
        _Screen(f"{host}:{port}", pages).run()
        return 0
    for page in pages:
        if page is not None:
            for entry in page.entries:
                if arguments.json:
                    print(msgspec.json.encode(entry).decode(), flush=True)
                elif entry.is_done:
                    print("  ".join(filter(None, cells(entry))), flush=True)
        time.sleep(_SECONDS)
    return 0


def follow(first: Page, ask: Callable[[int], Page | str]) -> Iterator[Page | None]:
    """What is new, page by page; None while the proxy does not answer. A new process is followed as well."""
    yield first
    pid, after = first.pid, first.next
    while True:
        page = ask(after)
        if isinstance(page, Page) and page.pid != pid:
            page = ask(0)
        if isinstance(page, str):
            yield None
            continue
        pid, after = page.pid, page.next
        yield page


def table(entries: Iterable[Entry], width: int) -> list[str]:
    """The entries as lines that are at most so wide, under a head; narrow ones have fewer columns."""
    rows: list[Sequence[str]] = [LATEST, *map(cells, entries)]
    columns = list(range(len(LATEST)))
    for left_out in _DISPENSABLE:
        if _needed(rows, columns) <= width:
            break
        columns.remove(left_out)
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    while (over := sum(widths.values()) + 2 * (len(columns) - 1) - width) > 0:
        widest = max(columns, key=lambda column: widths[column])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= min(over, widths[widest] - _LEAST, max(1, over // 2))
    return [
        "  ".join(_fitted(row[column], widths[column]) for column in columns).rstrip()[:width] for row in rows
    ]


def _needed(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    """The width of a table in which no cell is cut to less than it can bear."""
    return sum(min(max(len(row[c]) for row in rows), 2 * _LEAST) + 2 for c in columns) - 2


def _fitted(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def summary(entries: Iterable[Entry]) -> str:
    """One line about all of them."""
    some = list(entries)
    restored, filled = sum(entry.restored for entry in some), sum(entry.filled for entry in some)
    repaired = sum(entry.is_repaired for entry in some)
    prompt, cached = sum(entry.prompt for entry in some), sum(entry.cached for entry in some)
    parts = f"{len(some)} requests, {restored} turns restored, {filled} filled, {repaired} repaired"
    return parts + (f", {100 * cached / prompt:.0f} % of prompts cached" if prompt else "")


class _Screen:
    """The table on a terminal, drawn anew when there is something new or the terminal changes its size."""

    def __init__(self, address: str, pages: Iterator[Page | None]) -> None:
        self._address = address
        self._pages = pages
        self._entries: OrderedDict[tuple[int, int], Entry] = OrderedDict()
        self._text = urwid.Text("", wrap="clip")
        self._status = urwid.Text("", wrap="clip")
        body, head = urwid.Filler(self._text, "top"), urwid.AttrMap(self._status, "status")
        frame: urwid.Frame[Any, Any, Any] = urwid.Frame(body, header=head)
        self._loop = urwid.MainLoop(frame, [("status", "standout", "")], unhandled_input=self._key)

    def run(self) -> None:
        self._poll()
        with contextlib.suppress(KeyboardInterrupt):
            self._loop.run()

    def _poll(self, *_: object) -> None:
        page = next(self._pages)
        if page is not None:
            for entry in page.entries:
                self._entries[page.pid, entry.number] = entry
            while len(self._entries) > MOST:
                self._entries.popitem(last=False)
        self._draw(is_there=page is not None)
        self._loop.set_alarm_in(_SECONDS, self._poll)

    def _draw(self, is_there: bool) -> None:
        columns, rows = self._loop.screen.get_cols_rows()
        said = summary(self._entries.values()) if is_there else "the proxy does not answer; waiting for it"
        self._status.set_text(f" {self._address}: {said} (q ends)")
        latest = list(reversed(self._entries.values()))[: max(1, rows - 3)]
        lines = table(latest, columns) if latest else ["Nothing yet. Requests appear here as they pass."]
        self._text.set_text("\n".join(lines))

    def _key(self, key: object) -> None:
        if key in ("q", "Q", "esc"):
            raise urwid.ExitMainLoop
