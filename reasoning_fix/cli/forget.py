"""Erase what was recorded. It works while a proxy runs, and cannot be undone.

  reasoning-fix forget --all                 every recorded turn
  reasoning-fix forget --older-than 7        the turns recorded more than 7 days ago
  reasoning-fix forget --lessons             what refusals taught, about all hosts
  reasoning-fix forget --lessons HOST        what they taught about one
  reasoning-fix forget --counts              what `reasoning-fix stats` shows

Conversations go on without the reasoning of erased turns: where the provider demands it, a placeholder goes
in its place. Several of these may be given together.

Exit codes: 0 done; 1 a file could not be had or erased; 2 used wrongly, nothing was erased.
"""

import argparse
import sqlite3
import sys
import time
from pathlib import Path

from reasoning_fix.cli import UsageError, shared
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.proxy.stats import book
from reasoning_fix.store import StoreError, retention
from reasoning_fix.store.files import those_set_aside

_EVERY_HOST = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    turns = parser.add_mutually_exclusive_group()
    turns.add_argument("--all", action="store_true", help="erase every recorded turn")
    turns.add_argument(
        "--older-than", type=shared.positive, metavar="DAYS", help="erase turns recorded more than DAYS ago"
    )
    parser.add_argument(
        "--lessons",
        nargs="?",
        const=_EVERY_HOST,
        metavar="HOST",
        help="forget what refusals taught about this host, or about all",
    )
    parser.add_argument("--counts", action="store_true", help="erase what `stats` shows")
    shared.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Erase what was asked for; returns the exit code."""
    if not (arguments.all or arguments.older_than or arguments.counts or arguments.lessons is not None):
        raise UsageError("nothing was erased: say what, with --all, --older-than, --lessons or --counts.")
    store = shared.store(arguments)
    code = 0
    if arguments.all or arguments.older_than:
        code = _forget_turns(store, arguments.older_than)
    if arguments.lessons is not None:
        _forget_lessons(store, arguments.lessons)
    if arguments.counts:
        code = _forget_counts(store) or code
    return code


def _forget_turns(store: Path, days: int | None) -> int:
    before = None if days is None else int((time.time() - days * 86400) * 1000)
    try:
        erased = retention.erase(store, before)
    except (sqlite3.Error, StoreError, OSError) as error:
        return _failed(store, error)
    age = "" if days is None else f" older than {shared.counted(days, 'day')}"
    print(f"Erased {shared.counted(erased, 'turn')}{age} from {store}.")
    # Damaged stores hold turns too, none of them later than the file's own time.
    aside = those_set_aside(store)
    damaged = [path for path in aside if before is None or path.stat().st_mtime * 1000 < before]
    for path in damaged:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            return _failed(path, error)
    if damaged:
        print(
            f"Erased {shared.counted(len(damaged), 'file')} of damaged stores that were set aside beside it."
        )
    return 0


def _forget_lessons(store: Path, host: str) -> None:
    count = Lessons(store.with_name("lessons.json")).forget(host.lower())
    about = f" about {host}" if host else ""
    print(f"Forgot {shared.counted(count, 'lesson')}{about}.")


def _forget_counts(store: Path) -> int:
    path = store.with_name(book.FILE)
    try:
        days = book.erase(path) if path.exists() else 0
    except (sqlite3.Error, StoreError) as error:
        return _failed(path, error)
    print(f"Erased the counts of {shared.counted(days, 'day')}.")
    return 0


def _failed(path: Path, error: Exception) -> int:
    print(f"reasoning-fix: {path} cannot be erased from: {error}.", file=sys.stderr)
    return 1
