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
from pathlib import Path

from mitmproxy.utils.human import pretty_size

from reasoning_fix.cli import main, system_proxy
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
    for what, words in (
        ("The desktop's proxy", _system_proxy(arguments.port)),
        ("The service", _service()),
        ("Trust in the CA", ["ca", "uninstall"]),
    ):
        print(f"{what}:")
        if words:
            code = main([*words, *["--dry-run"] * arguments.dry_run]) or code
        else:
            print("  nothing to do")
        print()
    return _data(arguments, code)


def _system_proxy(port: int) -> list[str]:
    """The words of the command for it; none where there is no desktop that could have one."""
    try:
        this_desktop()
    except DesktopError:
        if not system_proxy.state_path().exists():
            return []
    return ["system-proxy", "off", "--port", str(port)]


def _service() -> list[str]:
    """The words of the command for it; none if none is installed."""
    try:
        is_there = this_platform().state(plan.run).installed
    except ServiceError:
        return []
    return ["service", "remove"] if is_there else []


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
    elif isinstance(running, Health) and not arguments.dry_run:
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
    found = {
        folders.logs(): "logs",
        folders.state(): "what the system proxy was before, and logs",
        folders.data(): "recorded turns, lessons and counts",
        folders.configuration(): "the CA and settings",
    }
    # On some systems they lie in one another.
    return {
        folder: what for folder, what in reversed(found.items()) if found.keys().isdisjoint(folder.parents)
    }


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _complain(_: object, path: str, error: BaseException) -> None:
    print(f"reasoning-fix: {path} cannot be deleted: {error}", file=sys.stderr)
