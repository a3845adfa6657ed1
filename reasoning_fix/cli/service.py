"""Keep the proxy running: from login on, and again within seconds when it dies or hangs.

Linux: a systemd user unit. macOS: a launchd agent. Windows: a scheduled task at logon. All of them start
`reasoning-fix run` for this user alone and need no administrator. `install` again changes what is there;
`remove` stops the proxy and leaves the recorded turns, the CA and the log.

  reasoning-fix service install --dry-run                    what would be written and run
  reasoning-fix service install --run="--port 9090"          with options of `run`
  reasoning-fix service remove

Exit codes: 0 done; 1 a step failed; 2 used wrongly. Of `status`: 0 running; 3 installed, but not running;
4 not installed.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import msgspec

from reasoning_fix.cli import UsageError
from reasoning_fix.machine import plan
from reasoning_fix.machine.plan import StepError
from reasoning_fix.services import Platform, Program, importable_from_anywhere, this_platform

RUNNING, STOPPED, MISSING = 0, 3, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("install", "status", "remove"))
    parser.add_argument("--dry-run", action="store_true", help="print the files and commands, do nothing")
    parser.add_argument("--json", action="store_true", help="status as JSON")
    parser.add_argument(
        "--run",
        metavar="ARGUMENTS",
        default="",
        help='arguments of `reasoning-fix run` in one word, e.g. --run="--listen-port 9090"',
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        platform = this_platform()
        if arguments.action == "status":
            return _status(platform, arguments.json)
        if not arguments.dry_run:
            platform.check(plan.run)
        if arguments.action == "install":
            return _install(platform, _program(arguments.run), arguments.dry_run)
        return _remove(platform, arguments.dry_run)
    except StepError as error:
        print(f"reasoning-fix: {error}", file=sys.stderr)
        print("What was done before it can be undone with `reasoning-fix service remove`.", file=sys.stderr)
        return 1


def _program(given: str) -> Program:
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"--run: {given!r} cannot be split into arguments: {error}.") from error
    # Not resolved: a virtual environment is known by the path of its interpreter's link.
    python = Path(sys.executable).absolute()
    if not importable_from_anywhere(python):
        raise UsageError(
            f"{python} finds reasoning-fix only from this folder; install it there first: "
            f"{plan.shown((str(python), '-m', 'pip', 'install', str(Path(__file__).parents[2])))}"
        )
    return Program(python, tuple(words))


def _install(platform: Platform, program: Program, dry_run: bool) -> int:
    planned = platform.install(program)
    if not plan.carry_out(planned, dry_run):
        return 0
    print(plan.describe(planned, with_content=False))
    print(f"\nThe proxy runs now and from every login on, kept by {platform.manager}.")
    print(f"  log:    {platform.logs}")
    print("  state:  reasoning-fix service status    (or http://reasoning.fix/ through the proxy)")
    print("  undo:   reasoning-fix service remove")
    if sys.platform.startswith("linux"):
        print("  It ends when you log out; `loginctl enable-linger` keeps it running.")
    return 0


def _remove(platform: Platform, dry_run: bool) -> int:
    planned = platform.remove()
    if not plan.carry_out(planned, dry_run):
        return 0
    print(plan.describe(planned))
    print("\nThe service is gone; `reasoning-fix service install` brings it back.")
    print("What still points at the proxy finds none now: `reasoning-fix doctor` names it.")
    return 0


def _status(platform: Platform, as_json: bool) -> int:
    state = platform.state(plan.run)
    code = MISSING if not state.installed else RUNNING if state.running else STOPPED
    if as_json:
        print(json.dumps({**msgspec.structs.asdict(state), "logs": platform.logs}))
        return code
    word = {RUNNING: "running", STOPPED: "installed but not running", MISSING: "not installed"}[code]
    print(f"{word} ({state.detail})" if state.detail else word)
    if code == MISSING:
        print("  install: reasoning-fix service install")
    else:
        print(f"  log:     {platform.logs}\n  undo:    reasoning-fix service remove")
    return code
