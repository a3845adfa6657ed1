"""Run a saved flow file through recording and restoring again, offline and in an empty store.

Each chat request is restored as the client sent it, each answer recorded when it had come: what is printed is
what would be restored today from what the file itself holds. Options that were in force are in the notes of
the flows and apply again; `--fallback` overrides them.

  mitmdump -s reasoning_fix/addon.py -w flows.mitm      save a capture
  reasoning-fix replay flows.mitm                       see what would be restored
  reasoning-fix replay flows.mitm --json                the same for scripts
  reasoning-fix explain flows.mitm --flow 3             see why

Exit codes: 0 done; 2 used wrongly, or no flow file that can be read.
"""

import argparse

from reasoning_fix.captures import flow_files
from reasoning_fix.captures.replaying import Played, replay
from reasoning_fix.cli import shared
from reasoning_fix.engine import policy
from reasoning_fix.engine.policy import Preferences


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_flow_file(parser)
    parser.add_argument("--json", action="store_true", help="the same for scripts, without texts")
    parser.add_argument("--fallback", choices=policy.MODES, help="in place of the options that applied then")


def run(arguments: argparse.Namespace) -> int:
    """Replay the file; returns the exit code."""
    preferences = Preferences(arguments.fallback) if arguments.fallback else None
    played = replay(flow_files.load(arguments.file.expanduser()), shared.table(arguments), preferences)
    if arguments.json:
        for one in played.requests:
            one.explanation = one.explanation.without_texts()
        shared.print_json(played)
        return 0
    for one in played.requests:
        print("\n".join(_lines(one)))
    print(played.summary.text())
    return 0


def _lines(one: Played) -> list[str]:
    told = one.explanation
    line = f"#{one.number} {told.host} {told.model} ({told.dialect}): {told.done}; answer {one.answer}"
    reason = [f"  nothing was changed: {told.untouched}"] if told.untouched else []
    return [line, *reason, *(f"  note: {remark}" for remark in one.remarks)]
