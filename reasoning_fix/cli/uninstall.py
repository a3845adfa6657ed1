"""Take back what reasoning-fix put on this machine: service, system proxy and CA, and on request the data.

  reasoning-fix uninstall --dry-run      what would be done, and what would be left
  reasoning-fix uninstall                the desktop's proxy, the service, and the trust in the CA
  reasoning-fix uninstall --data         the same, and every file: the CA, recorded turns, counts, logs

It says what it leaves. The program itself goes the way it came, with `pip uninstall reasoning-fix`,
`pipx uninstall` or `uv tool uninstall`.

Exit codes: 0 done; 1 something could not be taken back, and the data was left; 2 used wrongly.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
from mitmproxy.utils.human import pretty_size

from reasoning_fix import ReasoningFixError
from reasoning_fix.cli import ca, service, system_proxy
from reasoning_fix.machine import folders, plan
from reasoning_fix.machine.system_proxy import DesktopError, this_desktop
from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.probing import ask_health
from reasoning_fix.running.command_line import LISTEN_HOST, LISTEN_PORT
from reasoning_fix.services import ServiceError, this_platform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, do nothing")
    parser.add_argument(
        "--data", action="store_true", help="also delete the CA, recorded turns, counts and logs"
    )
    parser.add_argument(
        "--port", type=int, default=LISTEN_PORT, help=f"the proxy's port (default: {LISTEN_PORT})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Take it back in the order that cuts nobody off; returns the exit code."""
    code = 0
    for what, undo in (
        ("The desktop's proxy", _system_proxy),
        ("The service", _service),
        ("Trust in the CA", _authority),
    ):
        print(f"{what}:")
        try:
            code = undo(arguments) or code
        except ReasoningFixError as error:
            print(f"  {error}")
            code = 1
        print()
    return _data(arguments, code)


def _system_proxy(arguments: argparse.Namespace) -> int:
    try:
        this_desktop()
    except DesktopError as error:
        if not system_proxy.state_path().exists():
            print(f"  nothing to do ({error})")
            return 0
    given = argparse.Namespace(
        action="off",
        dry_run=arguments.dry_run,
        json=False,
        host=LISTEN_HOST,
        port=arguments.port,
        force=False,
    )
    return system_proxy.run(given)


def _service(arguments: argparse.Namespace) -> int:
    try:
        installed = this_platform().state(plan.run).installed
    except ServiceError as error:
        print(f"  nothing to do ({error})")
        return 0
    if not installed:
        print("  none is installed")
        return 0
    return service.run(argparse.Namespace(action="remove", dry_run=arguments.dry_run, json=False, run=""))


def _authority(arguments: argparse.Namespace) -> int:
    given = argparse.Namespace(
        action="uninstall", confdir=None, user_providers=None, dry_run=arguments.dry_run, store=None
    )
    return ca.run(given)


def _data(arguments: argparse.Namespace, code: int) -> int:
    """Delete the files, or say what is left of them."""
    there = {folder: what for folder, what in _folders().items() if folder.is_dir()}
    if not there:
        print("No files are left.")
        return code
    running = ask_health(LISTEN_HOST, arguments.port, 1.0)
    why_not = ""
    if code:
        why_not = "since not all was taken back"
    elif isinstance(running, Health):
        why_not = f"since a proxy runs (process {running.pid}): end it first"
    deletes = arguments.data and not why_not
    head = (
        "These files are left" if not deletes else "These files would go" if arguments.dry_run else "Deleted"
    )
    print(f"{head}{f', {why_not}' if arguments.data and why_not else ''}:")
    for folder, what in there.items():
        print(f"  {folders.shown(folder)}  {what}, {pretty_size(_size(folder))}")
        if deletes and not arguments.dry_run:
            shutil.rmtree(folder, onexc=_complain)
    if not arguments.data:
        print("  `reasoning-fix uninstall --data` deletes them.")
    if any(folder.exists() for folder in there) and deletes and not arguments.dry_run:
        code = 1
    return 1 if arguments.data and why_not else code


def _folders() -> dict[Path, str]:
    """Every folder of ours, with what is in it."""
    directories: list[tuple[Callable[..., str], str]] = [
        (platformdirs.user_config_dir, "the CA and settings"),
        (platformdirs.user_data_dir, "recorded turns, lessons and counts"),
        (platformdirs.user_state_dir, "what the system proxy was before, and logs"),
        (platformdirs.user_log_dir, "logs"),
    ]
    found = {Path(where("reasoning-fix", appauthor=False)): what for where, what in reversed(directories)}
    # On some systems they lie in one another.
    return {
        folder: what for folder, what in reversed(found.items()) if found.keys().isdisjoint(folder.parents)
    }


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _complain(_: object, path: str, error: BaseException) -> None:
    print(f"reasoning-fix: {path} cannot be deleted: {error}", file=sys.stderr)
