"""What refusals taught: which hosts want or refuse what, of which models, where no table said so.

Each line holds for 14 days and is applied to every request.

  reasoning-fix learned                              the list
  reasoning-fix learned --json                       the same for scripts
  reasoning-fix forget --lessons api.deepseek.com    take back what was learned about a host

Exit codes: 0 done, also where nothing was learned; 2 used wrongly.
"""

import argparse
import time

from reasoning_fix.cli import shared
from reasoning_fix.providers.lessons import KEEP_DAYS, Lessons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the lessons as JSON")
    shared.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the lessons, oldest first; returns the exit code."""
    lessons = Lessons(shared.store(arguments).with_name("lessons.json")).all()
    if arguments.json:
        shared.print_json(lessons)
        return 0
    for lesson in lessons:
        since = time.strftime("%Y-%m-%d", time.localtime(lesson.learned))
        days = KEEP_DAYS - int(max(0, time.time() - lesson.learned) / 86400)
        print(f"{lesson.text()} (learned {since}, for {shared.counted(days, 'more day')})")
    if not lessons:
        print("No refusal has taught anything so far.")
    return 0
