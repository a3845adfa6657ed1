"""What the proxy did: requests, turns restored and filled, refusals, cache hits, clients, day by day.

  reasoning-fix stats                 the last 7 days
  reasoning-fix stats --days 30       more of them
  reasoning-fix stats --json          every count, for scripts

The counts lie in a small file beside the store: numbers by day, provider, model and client, and no text. A
running proxy writes them every few seconds. "cached" is the share of prompt tokens that providers report as
read from their prompt cache.

Exit codes: 0 done; 1 the file of counts cannot be read; 2 used wrongly.
"""

import argparse
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path

from reasoning_fix.cli import shared
from reasoning_fix.proxy.stats import book, counts, tables
from reasoning_fix.proxy.stats.book import Counts
from reasoning_fix.proxy.stats.counts import Count
from reasoning_fix.store import StoreError, retention
from reasoning_fix.store.retention import Measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=shared.positive, default=7, metavar="N", help="how many days, with today (default: 7)"
    )
    parser.add_argument("--json", action="store_true", help="print every count as JSON")
    parser.add_argument("--ascii", action="store_true", help="draw bars with plain characters")
    shared.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the counts; returns the exit code."""
    store: Path = shared.store(arguments)
    path = store.with_name(book.FILE)
    try:
        found = book.since(book.read(path) if path.exists() else {}, arguments.days, time.time())
    except (sqlite3.Error, StoreError) as error:
        print(f"reasoning-fix: the counts in {path} cannot be read: {error}.", file=sys.stderr)
        return 1
    measured = _measured(store)
    if arguments.json:
        shared.print_json(_shown(found, arguments.days, measured))
        return 0
    for line in tables.report(found):
        print(line)
    if measured is not None:
        print()
        print(_described(measured, store))
    plain = arguments.ascii or not _draws_blocks()
    bars = tables.chart(found, width=shutil.get_terminal_size().columns - 30, plain=plain)
    if bars:
        print("", *bars, sep="\n")
    return 0


def _measured(store: Path) -> Measured | None:
    try:
        return retention.measure(store) if store.exists() else None
    except (sqlite3.Error, StoreError):
        return None


def _described(measured: Measured, store: Path) -> str:
    text = f"store: {measured.turns} turns, {tables.size(measured.bytes)} in {store}"
    if measured.turns:
        text += f", the oldest of {counts.day_of(measured.oldest / 1000)}"
    return text


def _shown(found: Counts, days: int, measured: Measured | None) -> dict[str, object]:
    totals = tables.totals(found)
    return {
        "days": days,
        "store": measured,
        "totals": {name: totals[name] for name in (*Count, *sorted(totals))},
        "lines": [
            line._asdict() | {"counts": dict(sorted(some.items()))} for line, some in sorted(found.items())
        ],
    }


def _draws_blocks() -> bool:
    """Whether the output is a terminal that can show block characters."""
    encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
    return sys.stdout.isatty() and encoding == "utf8" and os.environ.get("TERM") != "dumb"
